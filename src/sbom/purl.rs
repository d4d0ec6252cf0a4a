//! Package URLs of cargo's packages, and URLs that may be shown.
//!
//! Spec: <https://github.com/package-url/purl-spec/blob/main/types-doc/cargo-definition.md>.

use std::fmt::Write;

use reqwest::Url;

/// The index that a purl without qualifiers stands for.
const CRATES_IO: &str = "https://github.com/rust-lang/crates.io-index";

/// Where a package comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// crates.io.
    CratesIo,
    /// Another registry, by the URL of its index.
    Registry(String),
    /// A commit of a repository.
    Git {
        /// The repository.
        url: String,
        /// The commit.
        revision: String,
    },
    /// A folder, from the root of the workspace.
    Path(String),
    /// Not known.
    #[default]
    Unknown,
}

impl Origin {
    /// Reads what `Cargo.lock` and cargo call a source.
    #[must_use]
    pub fn of_source(source: &str) -> Self {
        if let Some(git) = source.strip_prefix("git+") {
            let (url, revision) = git.split_once('#').unwrap_or((git, ""));
            if is_local(url) {
                return Origin::Unknown;
            }
            return without_secrets(url).map_or(Origin::Unknown, |url| Origin::Git {
                url,
                revision: revision.to_owned(),
            });
        }
        let registry = source.strip_prefix("registry+");
        match registry.or_else(|| source.strip_prefix("sparse+")) {
            Some(CRATES_IO | "https://index.crates.io/") => Origin::CratesIo,
            Some(url) if !is_local(url) => {
                without_secrets(url).map_or(Origin::Unknown, Origin::Registry)
            }
            _ => Origin::Unknown,
        }
    }
}

/// Whether it names a folder of this machine, which nobody else can look at.
fn is_local(url: &str) -> bool {
    url.starts_with("file:")
}

/// The purl of a package; none where it is not known which package of that name it is.
#[must_use]
pub fn cargo(name: &str, version: &str, origin: &Origin) -> Option<String> {
    let (key, value) = match origin {
        Origin::CratesIo => ("", String::new()),
        Origin::Registry(index) => ("repository_url", index.clone()),
        Origin::Git { url, revision } => ("vcs_url", format!("git+{url}@{revision}")),
        Origin::Path(folder) => ("download_url", format!("file://{folder}")),
        Origin::Unknown => return None,
    };
    let mut purl = format!("pkg:cargo/{}@{}", encode(name, ""), encode(version, ""));
    if !key.is_empty() {
        purl.push('?');
        purl.push_str(key);
        purl.push('=');
        purl.push_str(&encode(&value, "/"));
    }
    Some(purl)
}

/// Percent-encodes all but what a purl has as it is, and `more`.
/// <https://github.com/package-url/purl-spec/blob/main/docs/standard/characters-and-encoding.md>
fn encode(text: &str, more: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || ".-_~:".contains(c) || more.contains(c) {
            encoded.push(c);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// A URL without a user, a password, a query and a fragment: any of them may be a secret.
/// None where nobody knows what is one in it: it does not parse, or names no
/// plain host.
#[must_use]
pub fn without_secrets(url: &str) -> Option<String> {
    let mut parsed = Url::parse(url).ok()?;
    // A host that is escaped may be more than a host, and a path with such signs the end of a
    // password.
    let path = parsed.path().replace("/@", "/");
    if parsed.host_str()?.contains('%') || path.contains(['@', ';']) {
        return None;
    }
    parsed.set_query(None);
    parsed.set_fragment(None);
    parsed.set_username("").ok()?;
    parsed.set_password(None).ok()?;
    Some(parsed.to_string())
}

/// A URL that people can open, without secrets; none where it is no such thing.
#[must_use]
pub fn public_url(text: &str) -> Option<String> {
    let url = Url::parse(text.trim()).ok()?;
    match url.scheme() {
        "http" | "https" => without_secrets(url.as_str()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purls_say_where_a_package_comes_from() {
        for (source, purl) in [
            (
                "registry+https://github.com/rust-lang/crates.io-index",
                "pkg:cargo/a-b@1.0.0%2Bx",
            ),
            (
                "sparse+https://user:secret@crates.example.com/index/",
                "pkg:cargo/a-b@1.0.0%2Bx?repository_url=https://crates.example.com/index/",
            ),
            (
                "git+https://secret@example.com/a/b.git?branch=main#0123abcd",
                "pkg:cargo/a-b@1.0.0%2Bx?vcs_url=git%2Bhttps://example.com/a/b.git%400123abcd",
            ),
            (
                "git+ssh://git@example.com/a/b.git#0123abcd",
                "pkg:cargo/a-b@1.0.0%2Bx?vcs_url=git%2Bssh://example.com/a/b.git%400123abcd",
            ),
        ] {
            let origin = Origin::of_source(source);
            assert_eq!(cargo("a-b", "1.0.0+x", &origin).as_deref(), Some(purl));
        }
        let path = Origin::Path("./crates/ü".into());
        assert_eq!(
            cargo("a", "1.0.0", &path).as_deref(),
            Some("pkg:cargo/a@1.0.0?download_url=file://./crates/%C3%BC")
        );
        for local in [
            "x",
            "git+file:///home/me/a?branch=b#0123abcd",
            "registry+file:///home/me/index",
        ] {
            assert_eq!(cargo("a", "1.0.0", &Origin::of_source(local)), None);
        }
    }

    #[test]
    fn no_secret_is_shown() {
        for (url, shown) in [
            (
                "https://me:token@example.com/a?key=token#token",
                Some("https://example.com/a"),
            ),
            ("ssh://git@example.com/a", None),
            ("not a url", None),
        ] {
            assert_eq!(public_url(url).as_deref(), shown);
        }
    }
}
