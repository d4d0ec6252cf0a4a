//! SLSA provenance: from what, with what and where an artifact was made.
//!
//! It is what the run that signs says of itself, and worth as much as whoever signs it.
//! No clock takes part, and nothing of the environment is copied: each value that goes in
//! is named below.
//!
//! Spec: <https://slsa.dev/spec/v1.0/provenance>.
#![doc = include_str!("../docs/provenance.md")]

use serde_json::{Map, Value, json};

use crate::flags::CargoFlags;
use crate::oci::Digest;
use crate::plan::PackagePlan;
use crate::shrink::{self, Answer};
use crate::sign::attestation::Attestation;

/// The type of the predicate.
/// <https://slsa.dev/provenance/v1>
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// The types of build are described at the top of this module.
const PAGE: &str = "https://docs.rs/edgepack/latest/edgepack/provenance/index.html";
const TOOL: &str = "cargo-edgepack";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Whether two predicates say the same of a build, whichever run of it they name: what
/// tells runs apart is left out.
/// <https://slsa.dev/spec/v1.0/provenance#buildmetadata>
#[must_use]
pub fn is_same_build(one: &Value, other: &Value) -> bool {
    let without_run = |predicate: &Value| {
        let mut predicate = predicate.clone();
        let details = predicate.get_mut("runDetails");
        if let Some(details) = details.and_then(Value::as_object_mut)
            && let Some(metadata) = details.get_mut("metadata").and_then(Value::as_object_mut)
        {
            for name in ["invocationId", "startedOn", "finishedOn"] {
                metadata.remove(name);
            }
            if metadata.is_empty() {
                details.remove("metadata");
            }
        }
        predicate
    };
    without_run(one) == without_run(other)
}

/// The source, as version control knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The repository, where others can reach it.
    pub repository: Option<String>,
    /// The commit.
    pub revision: Option<String>,
    /// The branch or the tag, where the CI names it.
    pub reference: Option<String>,
    /// The project's folder in it, where it is not the root.
    pub folder: Option<String>,
    /// Whether files differ from the commit.
    pub dirty: bool,
}

impl Source {
    fn uri(&self) -> Option<String> {
        let repository = self.repository.as_ref()?;
        let reference = self.reference.as_ref();
        let reference = reference.map_or_else(String::new, |r| format!("@{r}"));
        Some(format!("git+{repository}{reference}"))
    }

    fn digest(&self) -> Option<Value> {
        self.revision
            .as_ref()
            .map(|commit| json!({"gitCommit": commit}))
    }

    fn to_json(&self) -> Value {
        object([
            ("uri", self.uri().map(Value::from)),
            ("digest", self.digest()),
            ("path", self.folder.clone().map(Value::from)),
            ("dirty", self.revision.as_ref().map(|_| self.dirty.into())),
        ])
    }
}

/// Who runs the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Builder {
    /// Its URI.
    pub id: String,
    /// This run of it.
    pub invocation: Option<String>,
}

impl Default for Builder {
    /// Some machine: nothing is claimed of it.
    fn default() -> Self {
        Builder {
            id: format!("{PAGE}#local"),
            invocation: None,
        }
    }
}

/// The programs that compile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toolchain {
    /// What `rustc -vV` says: names and values.
    pub rustc: Vec<(String, String)>,
    /// What `cargo -V` says.
    pub cargo: Option<String>,
}

impl Toolchain {
    fn rustc(&self, name: &str) -> Option<&str> {
        let mut found = self.rustc.iter().filter(|(n, _)| n == name);
        found.next().map(|(_, value)| value.as_str())
    }
}

/// What one run has in common for all that it builds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The source.
    pub source: Source,
    /// Who runs it.
    pub builder: Builder,
    /// The digest of `Cargo.lock`.
    pub lock: Option<Digest>,
    /// What optimises: names with versions.
    pub optimizers: Vec<String>,
}

/// A package that was compiled.
#[derive(Clone, Copy, Debug)]
pub struct Compiled<'a> {
    /// The artifact's name.
    pub artifact: &'a str,
    /// How it was planned.
    pub plan: &'a PackagePlan,
    /// What was handed on to cargo.
    pub flags: &'a CargoFlags,
    /// The user's own flags for rustc.
    pub rustflags: &'a [String],
    /// The features that the package was compiled with.
    pub features: &'a [String],
    /// With what it was compiled.
    pub toolchain: &'a Toolchain,
}

/// The provenance of what cargo compiled.
#[must_use]
pub fn of_package(run: &Run, compiled: &Compiled<'_>) -> Attestation {
    let Compiled {
        artifact,
        plan,
        flags,
        rustflags,
        features,
        toolchain,
    } = compiled;
    let external = object([
        ("source", Some(run.source.to_json())),
        ("package", Some(plan.metadata.name.clone().into())),
        ("version", Some(plan.metadata.version.clone().into())),
        ("artifact", Some((*artifact).into())),
        ("target", Some(plan.target.clone().into())),
        ("profile", Some(plan.profile.clone().into())),
        ("features", Some(scrubbed(&flags.features))),
        ("allFeatures", Some(flags.all_features.into())),
        ("defaultFeatures", Some((!flags.no_default_features).into())),
        ("locked", Some((flags.locked || flags.frozen).into())),
        ("buildSize", Some(plan.size.name().into())),
        ("rustflags", Some(scrubbed(rustflags))),
        ("cargoArgs", Some(scrubbed(&cargo_args(flags)))),
        ("shrink", Some(shrinking(&plan.settings.shrink))),
    ]);
    let internal = object([
        ("features", Some((*features).into())),
        ("rustc", toolchain.rustc("release").map(Value::from)),
        ("host", toolchain.rustc("host").map(Value::from)),
        ("cargo", toolchain.cargo.clone().map(Value::from)),
        ("optimizers", Some(run.optimizers.clone().into())),
    ]);
    let mut dependencies = source_dependency(&run.source);
    if let Some(lock) = &run.lock {
        dependencies.push(json!({"name": "Cargo.lock", "digest": {"sha256": lock.hex()}}));
    }
    if let Some(release) = toolchain.rustc("release") {
        let commit = toolchain.rustc("commit-hash").filter(|c| *c != "unknown");
        dependencies.push(object([
            ("name", Some("rustc".into())),
            (
                "uri",
                Some(format!("git+https://github.com/rust-lang/rust@{release}").into()),
            ),
            ("digest", commit.map(|commit| json!({"gitCommit": commit}))),
        ]));
    }
    predicate("cargo-v1", &external, &internal, &dependencies, run)
}

/// The provenance of what came as a file.
#[must_use]
pub fn of_file(
    run: &Run,
    artifact: &str,
    file: &str,
    input: &Digest,
    options: &shrink::Options,
) -> Attestation {
    let external = object([
        ("artifact", Some(artifact.into())),
        ("file", Some(file.into())),
        ("shrink", Some(shrinking(options))),
    ]);
    let internal = object([("optimizers", Some(run.optimizers.clone().into()))]);
    let input = json!({"name": file, "digest": {"sha256": input.hex()}});
    predicate("file-v1", &external, &internal, &[input], run)
}

fn predicate(
    build_type: &str,
    external: &Value,
    internal: &Value,
    dependencies: &[Value],
    run: &Run,
) -> Attestation {
    let invocation = run.builder.invocation.as_ref();
    Attestation {
        predicate_type: PREDICATE_TYPE.to_owned(),
        predicate: json!({
            "buildDefinition": {
                "buildType": format!("{PAGE}#{build_type}"),
                "externalParameters": external,
                "internalParameters": internal,
                "resolvedDependencies": dependencies,
            },
            "runDetails": object([
                ("builder", Some(json!({"id": run.builder.id, "version": {TOOL: VERSION}}))),
                ("metadata", invocation.map(|id| json!({"invocationId": id}))),
            ]),
        }),
    }
}

fn source_dependency(source: &Source) -> Vec<Value> {
    let uri = source.uri();
    if uri.is_none() && source.revision.is_none() {
        return Vec::new();
    }
    vec![object([
        ("name", Some("source".into())),
        ("uri", uri.map(Value::from)),
        ("digest", source.digest()),
    ])]
}

fn shrinking(options: &shrink::Options) -> Value {
    let stub = |stub: &shrink::Stub| match stub.answer {
        Answer::Trap => format!("{}=trap", stub.import),
        Answer::Value(value) => format!("{}={value}", stub.import),
    };
    let names = |list: Vec<String>| (!list.is_empty()).then(|| list.into());
    object([
        ("level", Some(options.level.name().into())),
        ("optimizeFor", Some(options.optimize_for.name().into())),
        ("keepSections", Some(options.keep_sections.clone().into())),
        ("keepExports", options.keep_exports.clone().map(Value::from)),
        (
            "stubImports",
            names(options.stub_imports.iter().map(stub).collect()),
        ),
        (
            "lower",
            names(options.lower.iter().map(|l| l.name().to_owned()).collect()),
        ),
        (
            "allowProposals",
            names(
                options
                    .allow_proposals
                    .iter()
                    .flat_map(|p| p.0.to_strings())
                    .collect(),
            ),
        ),
        (
            "assume",
            names(options.assume.iter().map(|a| a.name().to_owned()).collect()),
        ),
    ])
}

/// The words behind `--`. What `--config` sets may be a token: its name is enough.
fn cargo_args(flags: &CargoFlags) -> Vec<String> {
    let mut args = Vec::new();
    let mut words = flags.extra.iter().map(|w| w.to_string_lossy());
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--config") {
            Some("") => words.next(),
            Some(rest) => rest.strip_prefix('=').map(|value| value.to_owned().into()),
            None => None,
        };
        match value {
            Some(value) => {
                let key = value.split('=').next().unwrap_or_default().trim();
                args.push(format!("--config={key}"));
            }
            None => args.push(word.into_owned()),
        }
    }
    args
}

/// Without users and passwords in URLs, and what stands behind a URL's path.
fn scrubbed(words: &[String]) -> Value {
    words.iter().map(|word| scrub(word)).collect()
}

/// A word may hold several URLs, none of which need parse.
fn scrub(word: &str) -> String {
    let parts: Vec<_> = word.split("://").collect();
    let (first, rest) = parts.split_first().unwrap_or((&"", &[]));
    let mut clean = (*first).to_owned();
    for (n, part) in rest.iter().enumerate() {
        // No host stands here: it is the beginning of a password that goes on behind.
        if !begins_with_host(part) && rest[n + 1..].iter().any(|later| later.contains('@')) {
            continue;
        }
        clean.push_str("://");
        let part = without_user(part);
        if let Some(end) = part.find(['?', '#']) {
            clean.push_str(&part[..end]);
            break;
        }
        clean.push_str(part);
    }
    clean
}

/// What stands behind the `://` of a URL, without the user and the password, whatever signs
/// these hold. A part of the path may begin with an `@`.
fn without_user(rest: &str) -> &str {
    let plain = begins_with_host(rest);
    let mut signs = rest.rmatch_indices('@');
    let end = signs.find(|(at, _)| !(plain && rest[..*at].ends_with('/')));
    end.map_or(rest, |(at, _)| &rest[at + 1..])
}

/// Whether what stands behind the `://` of a URL is a host, and a port or none.
fn begins_with_host(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let port = authority[bracket..].rfind(':').map(|at| bracket + at);
    let (host, port) = authority.split_at(port.unwrap_or(authority.len()));
    let is_port = port.is_empty() || port[1..].bytes().all(|b| b.is_ascii_digit());
    let of_host = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let of_address = |c: char| c.is_ascii_hexdigit() || "[:.]".contains(c);
    is_port && (host.chars().all(of_host) || (bracket > 0 && host.chars().all(of_address)))
}

/// An object of what is there.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let there = fields
        .into_iter()
        .filter_map(|(k, v)| Some((k.to_owned(), v?)));
    Value::Object(there.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_build_say_the_same() {
        let of = |run: Value, kind: &str| {
            json!({
                "buildDefinition": {"buildType": kind},
                "runDetails": {"builder": {"id": "b"}, "metadata": run},
            })
        };
        let first = of(json!({"invocationId": "1"}), "t");
        let later = of(json!({"invocationId": "2", "startedOn": "x"}), "t");
        assert!(is_same_build(&first, &later));
        let local = json!({
            "buildDefinition": {"buildType": "t"},
            "runDetails": {"builder": {"id": "b"}},
        });
        assert!(is_same_build(&first, &local));
        assert!(!is_same_build(&first, &of(json!({}), "u")));
        assert!(!is_same_build(&first, &of(json!({"more": 1}), "t")));
        assert!(!is_same_build(&first, &json!("runDetails")));
        assert!(!is_same_build(
            &first,
            &json!({"runDetails": {"metadata": 3}})
        ));
    }

    #[test]
    fn no_secret_goes_in() {
        let flags = CargoFlags {
            extra: [
                "--config",
                "registries.a.token=\"hidden\"",
                "--config=net.x='hidden'",
                "--timings",
            ]
            .map(Into::into)
            .to_vec(),
            ..CargoFlags::default()
        };
        assert_eq!(
            cargo_args(&flags),
            ["--config=registries.a.token", "--config=net.x", "--timings"]
        );
        for (word, clean) in [
            (
                "-Clink-arg=https://me:hidden@x.example/a?hidden",
                "-Clink-arg=https://x.example/a",
            ),
            (
                "--remap=https://a.example/=https://me:hidden@b.example/c#hidden",
                "--remap=https://a.example/=https://b.example/c",
            ),
            (
                "http::https://me:hid?den@[fe80::1%25a]:x/",
                "http::https://[fe80::1%25a]:x/",
            ),
            (
                "https://x.example:8080/@v1/x",
                "https://x.example:8080/@v1/x",
            ),
            ("https://[::1]:80/@v1", "https://[::1]:80/@v1"),
            ("https://me:hid/den@x.example/a", "https://x.example/a"),
            ("https://me:1234/hidden@x.example/a", "https://x.example/a"),
            ("https://hidden/x@x.example/a", "https://x.example/a"),
            ("https://me:p@ss/hidden@x.example/a", "https://x.example/a"),
            ("https://me:hid://den@x.example/a", "https://x.example/a"),
            ("a@b?c", "a@b?c"),
        ] {
            assert_eq!(scrub(word), clean);
        }
    }

    #[test]
    fn a_file_has_its_provenance_too() {
        let made = of_file(
            &Run::default(),
            "app",
            "app.wasm",
            &Digest::of(b"x"),
            &shrink::Options::default(),
        );
        let kind = crate::sign::attestation::Kind::Provenance;
        assert_eq!(kind.check(&made.predicate), Ok(()));
        let id = &made.predicate["runDetails"]["builder"]["id"];
        assert!(id.as_str().unwrap().ends_with("#local"));
        assert!(made.predicate["runDetails"].get("metadata").is_none());
    }
}
