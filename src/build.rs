//! (IO) The compile stage: cargo makes Wasm.
//!
//! Cargo's diagnostics and progress go to the user's stderr as cargo writes them;
//! only its list of artifacts is read. Nothing of the user's configuration is
//! replaced: rustc flags are resolved the way cargo resolves them, and ours are
//! put in front, so that the user's win.

use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::camino::Utf8PathBuf;
use cargo_metadata::{Message, PackageId, Target};

use crate::cancel::Cancel;
use crate::error::Error;
use crate::flags::is_example;
use crate::levers::{BuildSize, Levers};
use crate::plan::{CargoFlags, Group, PackagePlan};
use crate::project::{self, Project};
use crate::sbom::cargo::Units;
use crate::sign::source::secret_variables;
use crate::source;
use crate::toolchain::{self, Nightly};

mod stale;

/// A file that cargo made.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The package that it belongs to.
    pub package: PackageId,
    /// The cargo target that it was made from.
    pub target: Target,
    /// The file.
    pub path: PathBuf,
}

impl Compiled {
    /// Whether it was made from an example.
    #[must_use]
    pub fn is_example(&self) -> bool {
        is_example(&self.target)
    }
}

/// What a run of cargo made.
#[derive(Clone, Debug, Default)]
pub struct Compilation {
    /// The binaries.
    pub files: Vec<Compiled>,
    /// All that was compiled for the target, the libraries among it.
    pub units: Units,
}

/// What cargo's configuration says for this project.
#[derive(Debug)]
pub struct CargoConfig(cargo_config2::Config);

impl CargoConfig {
    /// Reads the configuration files and the environment as cargo would in the
    /// current folder.
    ///
    /// # Errors
    ///
    /// [`Error::Cargo`] where cargo would refuse them.
    pub fn load() -> Result<Self, Error> {
        let folder = std::env::current_dir().map_err(Error::io("resolve", "."))?;
        cargo_config2::Config::load_with_cwd(folder)
            .map(CargoConfig)
            .map_err(|e| Error::cargo(format!("its configuration cannot be read: {}", chain(&e))))
    }

    /// `build.target`, where it names one.
    #[must_use]
    pub fn build_target(&self) -> Option<String> {
        self.0
            .build
            .target
            .as_ref()?
            .first()
            .map(|t| t.triple().to_owned())
    }

    /// The compiler that cargo would run.
    #[must_use]
    pub fn rustc(&self) -> &Path {
        &self.0.rustc().path
    }

    /// Whether the network is off.
    #[must_use]
    pub fn offline(&self) -> bool {
        self.0.net.offline.unwrap_or(false)
    }

    /// The user's flags for a target.
    ///
    /// # Errors
    ///
    /// [`Error::Cargo`] where cargo would refuse them.
    pub fn rustflags(&self, target: &str) -> Result<Vec<String>, Error> {
        let users = self
            .0
            .rustflags(target)
            .map_err(|e| Error::cargo(format!("its rustflags cannot be read: {}", chain(&e))))?;
        Ok(users.into_iter().flat_map(|f| f.flags).collect())
    }

    /// The user's flags for a target, ours in front, in the form of
    /// `CARGO_ENCODED_RUSTFLAGS`.
    fn encoded_rustflags(&self, target: &str, ours: Vec<String>) -> Result<String, Error> {
        let mut flags = ours;
        flags.extend(self.rustflags(target)?);
        Ok(flags.join("\x1f"))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// The toolchains of a run.
#[derive(Clone, Debug)]
pub struct Toolchains {
    /// The folder of the one in use.
    pub sysroot: PathBuf,
    /// The one that compiles the standard library along, where that is asked for.
    pub nightly: Option<Nightly>,
}

impl Toolchains {
    /// The one that compiles a group.
    fn of(&self, group: &Group) -> Option<&Nightly> {
        self.nightly
            .as_ref()
            .filter(|_| group.size == BuildSize::Nightly)
    }

    /// Rustup's name for the one that compiles a group; none for the one in use.
    #[must_use]
    pub fn name(&self, group: &Group) -> Option<&'static str> {
        self.of(group)?.name
    }

    /// The folder of the one that compiles a group.
    #[must_use]
    pub fn sysroot(&self, group: &Group) -> &Path {
        self.of(group)
            .map_or(&self.sysroot, |nightly| &nightly.sysroot)
    }
}

/// Runs cargo for one group of packages.
///
/// # Errors
///
/// [`Error::Cargo`] where it fails (it has said why), [`Error::Interrupted`].
pub fn compile(
    project: &Project,
    config: &CargoConfig,
    toolchains: &Toolchains,
    flags: &CargoFlags,
    group: &Group,
    packages: &[&PackagePlan],
    cancel: &Cancel,
) -> Result<Compilation, Error> {
    let workspace = project.metadata.workspace_root.as_std_path();
    let nightly = toolchains.of(group);
    let levers = Levers::new(
        group.size,
        &group.profile,
        &group.target,
        workspace,
        nightly,
    );
    let mut command = match toolchains.name(group) {
        Some(name) => {
            let mut command = Command::new("rustup");
            command.args(["run", name, "cargo"]);
            command
        }
        None => Command::new(project::cargo()),
    };
    command.args(["build", "--message-format=json-render-diagnostics"]);
    command
        .arg("--manifest-path")
        .arg(project.metadata.workspace_root.join("Cargo.toml"));
    for package in packages {
        command.args(["--package", &package.unambiguous()]);
    }
    command.args(["--target", &group.target, "--profile", &group.profile]);
    command.arg("--target-dir").arg(&project.target_dir);
    command.args(flags.targets.args());
    command.args(flags.feature_args());
    if flags.quiet {
        command.arg("--quiet");
    }
    command.args(flags.lock_args());
    command.args(std::iter::repeat_n("--verbose", flags.verbose.into()));
    if let Some(color) = &flags.color {
        command.args(["--color", color]);
    }
    if let Some(jobs) = &flags.jobs {
        command.arg(format!("--jobs={jobs}"));
    }
    command.args(&levers.args).args(&flags.extra);
    let sysroot = toolchains.sysroot(group);
    let library = toolchain::library_sources(sysroot);
    let mut rustflags = source::remap_flags(project, sysroot, library);
    rustflags.extend(levers.rustflags);
    command.envs(levers.env).env(
        "CARGO_ENCODED_RUSTFLAGS",
        config.encoded_rustflags(&group.target, rustflags)?,
    );

    withhold(&mut command, flags, packages);
    for package in packages {
        stale::forget(
            project,
            &project.metadata[&package.id],
            &group.target,
            &group.profile,
        );
    }
    let mut compiled = Compilation::default();
    let mut in_code = false;
    let status = crate::tool::stream(&mut command, cancel, |line| {
        let artifact = match serde_json::from_str(line) {
            Ok(Message::CompilerArtifact(artifact)) => artifact,
            Ok(Message::BuildFinished(end)) => {
                in_code = !end.success;
                return;
            }
            _ => return,
        };
        let for_target =
            |file: &Utf8PathBuf| is_for_target(file.as_std_path(), &group.target, &group.profile);
        if artifact.filenames.iter().any(for_target) {
            let features = compiled.units.entry(artifact.package_id.clone());
            features
                .or_default()
                .extend(artifact.features.iter().cloned());
        }
        let ours = packages.iter().any(|p| p.id == artifact.package_id)
            && flags.targets.select(&artifact.target);
        if !ours {
            return;
        }
        for file in artifact.filenames {
            if file.extension() == Some("wasm") {
                compiled.files.push(Compiled {
                    package: artifact.package_id.clone(),
                    target: artifact.target.clone(),
                    path: file.into_std_path_buf(),
                });
            }
        }
    })?;
    if !status.success() {
        return Err(Error::Cargo {
            message: format!("`cargo build` for {} ended with {status}", group.target),
            hint: None,
            in_code,
        });
    }
    compiled.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(compiled)
}

/// Keeps secrets from build scripts.
fn withhold(command: &mut Command, flags: &CargoFlags, packages: &[&PackagePlan]) {
    let configured = packages
        .iter()
        .flat_map(|p| [&p.sign.key, &p.sign.embed, &p.settings.embed])
        .filter_map(Option::as_deref);
    for name in secret_variables(configured).iter().chain(&flags.withheld) {
        command.env_remove(name);
    }
}

/// Whether cargo made a file for the target, and not for this machine. Both may be
/// anywhere: what is made for a target is below `TARGET/PROFILE`.
fn is_for_target(file: &Path, target: &str, profile: &str) -> bool {
    let folder = profile_folder(target, profile);
    let words: Vec<_> = file.iter().collect();
    let wanted: Vec<_> = folder.iter().collect();
    words.windows(wanted.len()).any(|pair| pair == wanted)
}

/// Where cargo puts what it makes for a target: `TARGET/PROFILE`.
fn profile_folder(target: &str, profile: &str) -> PathBuf {
    // Of a specification in a file, the name counts.
    let target = match Path::new(target).extension() {
        Some(extension) if extension == "json" => Path::new(target).file_stem(),
        _ => Some(target.as_ref()),
    };
    let profile = match profile {
        "dev" | "test" => "debug",
        "bench" => "release",
        other => other,
    };
    Path::new(target.unwrap_or_default()).join(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_for_the_target_are_told_from_those_for_this_machine() {
        let wasm = "wasm32-wasip1";
        for (file, target, profile, is) in [
            (
                "/w/target/wasm32-wasip1/release/deps/liba.rlib",
                wasm,
                "release",
                true,
            ),
            (
                "/w/target/wasm32-wasip1/debug/deps/liba.rlib",
                wasm,
                "dev",
                true,
            ),
            ("/w/target/release/deps/liba.rlib", wasm, "release", false),
            (
                "/w/wasm32-wasip1/target/release/liba.so",
                wasm,
                "release",
                false,
            ),
            (
                "/w/target/mine/small/liba.rlib",
                "specs/mine.json",
                "small",
                true,
            ),
        ] {
            assert_eq!(
                is_for_target(Path::new(file), target, profile),
                is,
                "{file}"
            );
        }
    }
}
