//! Cargo's own flags: what `build` takes under cargo's names and hands on.

use std::ffi::OsString;
use std::path::PathBuf;

use cargo_metadata::{Target, TargetKind};

use crate::error::Error;
use crate::levers::BuildSize;

/// What is handed on to cargo, under cargo's own names.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "cargo has that many switches"
)]
pub struct CargoFlags {
    /// `--manifest-path`.
    pub manifest_path: Option<PathBuf>,
    /// `--package`.
    pub packages: Vec<String>,
    /// `--workspace`.
    pub workspace: bool,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// `--lib`, `--bins`, `--bin NAME`, `--examples`, `--example NAME`.
    pub targets: TargetFlags,
    /// `--features`.
    pub features: Vec<String>,
    /// `--all-features`.
    pub all_features: bool,
    /// `--no-default-features`.
    pub no_default_features: bool,
    /// `--profile`.
    pub profile: Option<String>,
    /// `--target`.
    pub target: Option<String>,
    /// `--min-size`.
    pub size: Option<BuildSize>,
    /// `--target-dir`.
    pub target_dir: Option<PathBuf>,
    /// `--locked`.
    pub locked: bool,
    /// `--offline`.
    pub offline: bool,
    /// `--frozen`.
    pub frozen: bool,
    /// `--color`.
    pub color: Option<String>,
    /// `--quiet`.
    pub quiet: bool,
    /// `--verbose`, as often as it was given.
    pub verbose: u8,
    /// `--jobs`.
    pub jobs: Option<String>,
    /// Words after `--`.
    pub extra: Vec<OsString>,
    /// Environment variables that hold secrets of signing: build scripts and macros of
    /// whatever a project depends on do not get them.
    pub withheld: Vec<String>,
}

/// Which of a package's targets are built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetFlags {
    /// `--lib`.
    pub lib: bool,
    /// `--bins`.
    pub bins: bool,
    /// `--bin`.
    pub bin: Vec<String>,
    /// `--examples`.
    pub examples: bool,
    /// `--example`.
    pub example: Vec<String>,
}

impl TargetFlags {
    /// The words for cargo.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        let mut args = Vec::new();
        for (set, word) in [
            (self.lib, "--lib"),
            (self.bins, "--bins"),
            (self.examples, "--examples"),
        ] {
            if set {
                args.push(word.to_owned());
            }
        }
        for (names, word) in [(&self.bin, "--bin"), (&self.example, "--example")] {
            args.extend(names.iter().map(|name| format!("{word}={name}")));
        }
        args
    }

    /// Whether a target is built under these flags.
    #[must_use]
    pub fn select(&self, target: &Target) -> bool {
        let named = |names: &[String]| names.contains(&target.name);
        if *self == TargetFlags::default() {
            return is_bin(target) || is_cdylib(target);
        }
        (is_bin(target) && (self.bins || named(&self.bin)))
            || (is_cdylib(target) && self.lib)
            || (is_example(target) && (self.examples || named(&self.example)))
    }
}

impl CargoFlags {
    /// Refuses words behind `--` that decide what is built or what cargo prints:
    /// they have flags of their own, which the plan has to know.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`].
    pub fn check_extra(&self) -> Result<(), Error> {
        const OURS: &[&str] = &[
            "--target",
            "--package",
            "-p",
            "--profile",
            "--release",
            "-r",
            "--message-format",
            "--target-dir",
            "--manifest-path",
            "--workspace",
            "--all",
            "--exclude",
            "--bin",
            "--bins",
            "--lib",
            "--example",
            "--examples",
            "--tests",
            "--benches",
            "--all-targets",
            "--artifact-dir",
        ];
        // Found out before cargo sees them, from its files and variables.
        const READ: [&str; 3] = ["target-dir", "build-dir", "rustflags"];
        for (place, word) in self.extra.iter().enumerate() {
            let word = word.to_string_lossy();
            if let Some(value) = word.strip_prefix("--config") {
                let next = self.extra.get(place + 1).filter(|_| value.is_empty());
                let next = next.map(|next| next.to_string_lossy()).unwrap_or_default();
                let setting = value.strip_prefix('=').unwrap_or(&next);
                if let Some(key) = READ.iter().find(|key| sets(setting, key)) {
                    let what = if setting.contains('=') {
                        format!("`{key}`")
                    } else {
                        format!("a file, which may set `{key}`,")
                    };
                    return Err(Error::Usage {
                        message: format!("`--config` with {what} cannot stand behind `--`"),
                        hint: Some(
                            "set it in .cargo/config.toml, or by cargo's variable for it".into(),
                        ),
                    });
                }
            }
            let flag = word.split('=').next().unwrap_or_default();
            let short = word.starts_with("-p") && !word.starts_with("--");
            if OURS.contains(&flag) || short {
                return Err(Error::Usage {
                    message: format!("`{word}` cannot stand behind `--`"),
                    hint: Some(format!(
                        "write it before `--`: `{flag}` decides what is built and packed"
                    )),
                });
            }
        }
        Ok(())
    }

    /// The words for cargo about features.
    #[must_use]
    pub fn feature_args(&self) -> Vec<String> {
        let mut args: Vec<String> = self
            .features
            .iter()
            .map(|f| format!("--features={f}"))
            .collect();
        for (set, word) in [
            (self.all_features, "--all-features"),
            (self.no_default_features, "--no-default-features"),
        ] {
            if set {
                args.push(word.to_owned());
            }
        }
        args
    }

    /// `--locked`, `--offline` and `--frozen`, as far as they are set.
    #[must_use]
    pub fn lock_args(&self) -> Vec<&'static str> {
        [
            (self.locked, "--locked"),
            (self.offline, "--offline"),
            (self.frozen, "--frozen"),
        ]
        .into_iter()
        .filter_map(|(set, word)| set.then_some(word))
        .collect()
    }
}

fn has_kind(target: &Target, kind: &TargetKind) -> bool {
    target.kind.contains(kind)
}

/// Whether cargo calls it so.
pub(crate) fn is_bin(target: &Target) -> bool {
    has_kind(target, &TargetKind::Bin)
}

/// Whether cargo calls it so.
pub(crate) fn is_cdylib(target: &Target) -> bool {
    has_kind(target, &TargetKind::CDyLib)
}

/// Whether cargo calls it so.
pub(crate) fn is_example(target: &Target) -> bool {
    has_kind(target, &TargetKind::Example)
}
/// Whether what is given to cargo's `--config` sets this key, in whichever table but that of
/// variables; a file, which has no `=`, may set any.
fn sets(setting: &str, key: &str) -> bool {
    let Some((path, value)) = setting.split_once('=') else {
        return true;
    };
    let mut parts = path.split('.').map(str::trim);
    let table = value.trim_start().starts_with('{') && value.contains(key);
    parts.next() != Some("env") && (table || parts.any(|part| part == key))
}
