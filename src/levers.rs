//! (IO) Build-time levers: what makes a Rust program small before any pass runs.
//!
//! They are cargo's own settings, set through the environment for the run of cargo
//! alone. What the user's profile says, in the manifest, in cargo's configuration or
//! in the environment, stays as it is.
//!
//! Spec: <https://doc.rust-lang.org/cargo/reference/profiles.html>.
#![expect(
    clippy::disallowed_methods,
    reason = "reads the profile in the manifest and in cargo's configuration"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::did_you_mean;
use crate::source;
use crate::toolchain::Nightly;

/// How far the compiler goes for a small binary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BuildSize {
    /// As the profile says.
    #[default]
    Off,
    /// For size, with link-time optimisation, where the profile says nothing else.
    Stable,
    /// The same, and the standard library is compiled along, for size too: this
    /// takes a nightly toolchain.
    Nightly,
}

impl BuildSize {
    /// Every value with its name.
    pub const ALL: [(&'static str, BuildSize); 3] = [
        ("off", BuildSize::Off),
        ("stable", BuildSize::Stable),
        ("nightly", BuildSize::Nightly),
    ];

    /// The name, as it is written in config and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            BuildSize::Off => "off",
            BuildSize::Stable => "stable",
            BuildSize::Nightly => "nightly",
        }
    }
}

impl std::str::FromStr for BuildSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, value)) = Self::ALL.iter().find(|(name, _)| *name == text) {
            return Ok(*value);
        }
        let names = Self::ALL.map(|(name, _)| name);
        let near = did_you_mean(text, names)
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Err(format!(
            "unknown build size `{text}`, expected one of {}{near}",
            names.join(", ")
        ))
    }
}

impl<'de> Deserialize<'de> for BuildSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What is set where the profile says nothing. Names and debug information go when
/// the module is shrunk: `strip = true` would take the `producers` section too.
const STABLE: [(&str, &str); 5] = [
    ("opt-level", "z"),
    ("lto", "fat"),
    ("codegen-units", "1"),
    ("panic", "abort"),
    ("strip", "debuginfo"),
];

/// What a run of cargo is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levers {
    /// `CARGO_PROFILE_*`.
    pub env: Vec<(String, String)>,
    /// Words for `cargo build`.
    pub args: Vec<String>,
    /// Flags for rustc.
    pub rustflags: Vec<String>,
}

impl Levers {
    /// What `size` comes to for a profile and a target. `nightly` is the toolchain
    /// that compiles the standard library along.
    #[must_use]
    pub fn new(
        size: BuildSize,
        profile: &str,
        target: &str,
        workspace: &Path,
        nightly: Option<&Nightly>,
    ) -> Self {
        let mut levers = Levers::default();
        if size == BuildSize::Off {
            return levers;
        }
        let prefix = format!("CARGO_PROFILE_{}_", screaming(profile));
        let said = said_by_user(&tables(workspace), profile);
        for (key, value) in STABLE {
            let name = format!("{prefix}{}", screaming(key));
            if !said.contains(key) && std::env::var_os(&name).is_none() {
                levers.env.push((name, value.to_owned()));
            }
        }
        if let (BuildSize::Nightly, Some(nightly)) = (size, nightly) {
            levers.rebuild_std(target, nightly);
        }
        levers
    }

    fn rebuild_std(&mut self, target: &str, nightly: &Nightly) {
        let crates = if target.ends_with("-none") {
            "core,alloc"
        } else {
            "std,panic_abort"
        };
        let mut features = "optimize_for_size".to_owned();
        if nightly.has_immediate_abort() {
            self.rustflags.push("-Cpanic=immediate-abort".to_owned());
            self.rustflags.push("-Zunstable-options".to_owned());
        } else {
            features += ",panic_immediate_abort";
        }
        self.rustflags.push("-Zlocation-detail=none".to_owned());
        self.args.push(format!("-Zbuild-std={crates}"));
        self.args.push(format!("-Zbuild-std-features={features}"));
    }
}

/// A name as it stands in `CARGO_PROFILE_*`.
fn screaming(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

/// The manifest and the configuration files that cargo would read, as far as they
/// are there and can be read: cargo says what is wrong with the others.
fn tables(workspace: &Path) -> Vec<toml::Table> {
    let here = std::env::current_dir().unwrap_or_default();
    let mut files: Vec<PathBuf> = vec![workspace.join("Cargo.toml")];
    for folder in here.ancestors() {
        files.push(folder.join(".cargo/config.toml"));
        files.push(folder.join(".cargo/config"));
    }
    if let Some(home) = source::cargo_home() {
        files.push(home.join("config.toml"));
        files.push(home.join("config"));
    }
    files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok()?.parse().ok())
        .collect()
}

/// Keys that one of the tables sets for the profile, or for one that it inherits.
fn said_by_user(tables: &[toml::Table], profile: &str) -> BTreeSet<String> {
    let mut said = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut next = vec![profile.to_owned()];
    while let Some(name) = next.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        for table in tables {
            let profile = table
                .get("profile")
                .and_then(|profiles| profiles.get(&name))
                .and_then(toml::Value::as_table);
            for (key, value) in profile.into_iter().flatten() {
                match value.as_str() {
                    Some(parent) if key == "inherits" => next.push(parent.to_owned()),
                    _ => {
                        said.insert(key.clone());
                    }
                }
            }
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> toml::Table {
        text.parse().unwrap()
    }

    #[test]
    fn what_the_user_says_is_found_through_inheritance_and_configuration() {
        let manifest = table(
            "[profile.release]\nlto = false\n[profile.small]\ninherits = \"release\"\nstrip = true\n\
             [profile.dev]\npanic = \"unwind\"",
        );
        let config = table("[profile.small]\ncodegen-units = 4");
        let said = |profile| -> Vec<String> {
            let tables = [manifest.clone(), config.clone()];
            said_by_user(&tables, profile).into_iter().collect()
        };
        assert_eq!(said("release"), ["lto"]);
        assert_eq!(said("small"), ["codegen-units", "lto", "strip"]);
        assert!(said("other").is_empty());
        let circle = table("[profile.a]\ninherits = \"b\"\n[profile.b]\ninherits = \"a\"");
        assert!(said_by_user(&[circle], "a").is_empty());
    }

    #[test]
    fn levers_leave_what_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = "[profile.tiny-one]\ninherits = \"release\"\nopt-level = 3\n";
        std::fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
        let of = |size| Levers::new(size, "tiny-one", "wasm32-wasip1", folder.path(), None);
        assert_eq!(of(BuildSize::Off), Levers::default());
        let stable = of(BuildSize::Stable);
        let names: Vec<&str> = stable.env.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "CARGO_PROFILE_TINY_ONE_LTO",
                "CARGO_PROFILE_TINY_ONE_CODEGEN_UNITS",
                "CARGO_PROFILE_TINY_ONE_PANIC",
                "CARGO_PROFILE_TINY_ONE_STRIP"
            ]
        );
        assert!(stable.args.is_empty() && stable.rustflags.is_empty());
    }

    #[test]
    fn names_read_back() {
        for (name, size) in BuildSize::ALL {
            assert_eq!(name.parse(), Ok(size));
        }
        let error = "nigthly".parse::<BuildSize>().unwrap_err();
        assert!(error.contains("did you mean `nightly`?"), "{error}");
    }
}
