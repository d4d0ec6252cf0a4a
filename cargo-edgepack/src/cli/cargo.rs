//! Cargo's own flags, under its own names.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use edgepack::environment;
use edgepack::error::Error;
use edgepack::levers::BuildSize;
use edgepack::plan::{CargoFlags, TargetFlags};
use edgepack::sign::source::secret_variables;

use super::Common;

/// Flags that say which part of a project is compiled, and how: nothing is where a file is
/// given.
pub(super) const OF_A_PROJECT: [&str; 16] = [
    "package",
    "workspace",
    "exclude",
    "lib",
    "bins",
    "bin",
    "examples",
    "example",
    "features",
    "all_features",
    "no_default_features",
    "profile",
    "release",
    "target",
    "min_size",
    "cargo_args",
];

/// Which packages and targets.
#[derive(Debug, Args)]
#[command(next_help_heading = "Package selection")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "cargo has that many switches"
)]
pub struct Selection {
    /// Build this package; may be repeated.
    #[arg(short, long, value_name = "SPEC")]
    pub package: Vec<String>,
    /// Build every package of the workspace that is Wasm.
    #[arg(long, visible_alias = "all")]
    pub workspace: bool,
    /// Leave this package out; may be repeated.
    #[arg(long, value_name = "SPEC")]
    pub exclude: Vec<String>,
    /// Build the library.
    #[arg(long)]
    pub lib: bool,
    /// Build every binary.
    #[arg(long)]
    pub bins: bool,
    /// Build this binary; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub bin: Vec<String>,
    /// Build every example.
    #[arg(long)]
    pub examples: bool,
    /// Build this example; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub example: Vec<String>,
}

/// How cargo compiles.
#[derive(Debug, Args)]
#[command(next_help_heading = "Compilation")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "cargo has that many switches"
)]
pub struct Compilation {
    /// Features to turn on, separated by spaces or commas.
    #[arg(short = 'F', long, value_name = "FEATURES")]
    pub features: Vec<String>,
    /// Turn every feature on.
    #[arg(long)]
    pub all_features: bool,
    /// Leave the default features off.
    #[arg(long)]
    pub no_default_features: bool,
    /// Build with this cargo profile [default: release].
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Build with the release profile, which is the default.
    #[arg(short, long, conflicts_with = "profile")]
    pub release: bool,
    /// Build for this target, such as wasm32-wasip1, wasm32-wasip2 or
    /// wasm32-unknown-unknown.
    #[arg(long, value_name = "TRIPLE")]
    pub target: Option<String>,
    /// Compile for size, where the profile says nothing else: opt-level z, fat LTO, one codegen
    /// unit, panic=abort. With `=nightly` the standard library is compiled along, for size too;
    /// a panic then ends the program without a message.
    #[arg(
        long,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "stable"
    )]
    pub min_size: Option<BuildSize>,
    /// The folder for all that is made.
    #[arg(long, value_name = "DIRECTORY")]
    pub target_dir: Option<PathBuf>,
    /// Number of parallel jobs.
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<String>,
    /// Path of the Cargo.toml.
    #[arg(long, value_name = "PATH")]
    pub manifest_path: Option<PathBuf>,
    /// Refuse to change Cargo.lock.
    #[arg(long)]
    pub locked: bool,
    /// Do without the network.
    #[arg(long)]
    pub offline: bool,
    /// The same as --locked and --offline together.
    #[arg(long)]
    pub frozen: bool,
}

/// What is handed on to cargo. Where nothing is compiled, the variables for compiling
/// do not count.
pub(super) fn flags(
    selection: &Selection,
    compilation: &Compilation,
    extra: &[OsString],
    common: &Common,
    compiles: bool,
) -> Result<CargoFlags, Error> {
    let variable = |name| {
        if compiles {
            environment::text(name)
        } else {
            Ok(None)
        }
    };
    let profile = if compilation.release {
        Some("release".to_owned())
    } else {
        compilation.profile.clone()
    };
    Ok(CargoFlags {
        manifest_path: compilation.manifest_path.clone(),
        packages: selection.package.clone(),
        workspace: selection.workspace,
        exclude: selection.exclude.clone(),
        targets: TargetFlags {
            lib: selection.lib,
            bins: selection.bins,
            bin: selection.bin.clone(),
            examples: selection.examples,
            example: selection.example.clone(),
        },
        features: compilation.features.clone(),
        all_features: compilation.all_features,
        no_default_features: compilation.no_default_features,
        profile: match profile {
            Some(profile) => Some(profile),
            None => variable(environment::PROFILE)?,
        },
        target: match &compilation.target {
            Some(target) => Some(target.clone()),
            None => variable(environment::TARGET)?,
        },
        size: match compilation.min_size {
            Some(size) => Some(size),
            None if compiles => environment::parsed(environment::BUILD_SIZE)?,
            None => None,
        },
        target_dir: compilation.target_dir.clone(),
        locked: compilation.locked,
        offline: compilation.offline,
        frozen: compilation.frozen,
        color: common.color.map(|color| color.name().to_owned()),
        quiet: common.quiet,
        verbose: common.verbose,
        jobs: compilation.jobs.clone(),
        extra: extra.to_vec(),
        withheld: withheld()?,
    })
}

/// Variables that are kept from what is built.
fn withheld() -> Result<Vec<String>, Error> {
    let key = environment::text(environment::SIGNING_KEY)?;
    let embed = environment::text(environment::SIGN_EMBED)?;
    Ok(secret_variables(
        [&key, &embed].into_iter().filter_map(Option::as_deref),
    ))
}
