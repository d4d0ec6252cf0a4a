//! What an import lets a module do, in words that people use.
//!
//! A name says what is asked of the host; this table says what granting it means.
//! The first row that covers a name decides, so narrow rows stand above wide ones.

use super::interface::Patterns;

/// Pattern over an import's name, and the capability that it stands for.
const TABLE: &[(&str, &str)] = &[
    // WASI 0.1: one module, so the function tells.
    ("wasi_*.path_*", "files"),
    ("wasi_*.fd_prestat*", "files"),
    ("wasi_*.fd_readdir", "files"),
    ("wasi_*.fd_filestat*", "files"),
    ("wasi_*.fd_allocate", "files"),
    ("wasi_*.fd_advise", "files"),
    ("wasi_*.fd_*sync", "files"),
    ("wasi_*.fd_renumber", "files"),
    ("wasi_*.fd_p*", "files"),
    ("wasi_*.fd_*", "standard streams and open files"),
    ("wasi_*.clock_*", "clocks"),
    ("wasi_*.poll_*", "clocks"),
    ("wasi_*.random_*", "randomness"),
    ("wasi_*.sock_*", "sockets"),
    ("wasi_*.environ_*", "environment"),
    ("wasi_*.args_*", "arguments"),
    ("wasi_*.proc_*", "exit"),
    ("wasi_*.sched_*", "threads"),
    ("wasi.thread*", "threads"),
    // WASI 0.2 and later: one interface for each.
    ("wasi:filesystem/*", "files"),
    ("wasi:clocks/*", "clocks"),
    ("wasi:random/*", "randomness"),
    ("wasi:sockets/*", "sockets"),
    ("wasi:tls/*", "sockets"),
    ("wasi:http/*", "http"),
    ("wasi:cli/environment*", "environment"),
    ("wasi:cli/exit*", "exit"),
    ("wasi:cli/std*", "standard streams and open files"),
    ("wasi:cli/terminal*", "standard streams and open files"),
    ("wasi:io/*", "streams and polling"),
    ("wasi:config/*", "configuration"),
    ("wasi:keyvalue/*", "key-value stores"),
    ("wasi:blobstore/*", "blob stores"),
    ("wasi:logging/*", "logging"),
    ("wasi:messaging/*", "messaging"),
    ("wasi:nn/*", "machine learning"),
    ("wasi_ephemeral_nn.*", "machine learning"),
    // Hosts with an interface of their own.
    ("fermyon:spin/*", "Spin host interfaces"),
    ("spin:*", "Spin host interfaces"),
    ("wasmcloud:*", "wasmCloud host interfaces"),
    ("fastly*.*", "Fastly host calls"),
    ("env.xqd_*", "Fastly host calls"),
    ("env.proxy_*", "proxy-wasm host calls"),
    ("extism:host/*", "Extism host calls"),
    ("shopify_function*.*", "Shopify Functions host calls"),
    ("wapc.*", "waPC host calls"),
    ("wbg.*", "JavaScript glue"),
    ("__wbindgen*", "JavaScript glue"),
    ("./*", "JavaScript glue"),
    ("gojs.*", "JavaScript glue"),
    ("go.*", "JavaScript glue"),
];

/// What stands for an import that no row covers.
pub const OTHER: &str = "host functions";

/// The capability that an import's name stands for, [`OTHER`] where none is known.
#[must_use]
pub fn of_import(name: &str) -> &'static str {
    TABLE
        .iter()
        .find(|(pattern, _)| Patterns::new(&[pattern]).cover(name))
        .map_or(OTHER, |(_, capability)| capability)
}

/// Import names grouped by capability, both sorted.
#[must_use]
pub fn group<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<(&'static str, Vec<String>)> {
    let mut groups = std::collections::BTreeMap::<_, Vec<String>>::new();
    for name in names {
        groups
            .entry(of_import(name))
            .or_default()
            .push(name.to_owned());
    }
    groups
        .into_iter()
        .map(|(capability, mut names)| {
            names.sort_unstable();
            names.dedup();
            (capability, names)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_granted() {
        for (name, capability) in [
            ("wasi_snapshot_preview1.path_open", "files"),
            ("wasi_snapshot_preview1.fd_pread", "files"),
            (
                "wasi_snapshot_preview1.fd_write",
                "standard streams and open files",
            ),
            ("wasi_unstable.random_get", "randomness"),
            ("wasi:sockets/tcp@0.2.3", "sockets"),
            ("wasi:cli/stdout@0.2.3", "standard streams and open files"),
            ("wasi:http/types@0.3.0-rc-2025-09-16", "http"),
            ("env.emscripten_resize_heap", OTHER),
        ] {
            assert_eq!(of_import(name), capability, "{name}");
        }
    }
}
