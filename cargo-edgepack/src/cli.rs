//! The command line: parsing flags, and nothing else.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use edgepack::environment;
use edgepack::error::Error;
use edgepack::pack::{Variant, Variants};
use edgepack::plan::{CargoFlags, Embed, Overrides};
use edgepack::shrink::{Assumption, Level, Lowering, Measure, Proposal, Stub};
use edgepack::sign::source::secret_variables;
use edgepack::size::ByteCount;

mod attest;
mod cache;
mod cargo;
mod ci;
mod compare;
mod init;
mod plan;
mod registry;
mod schema;
mod sign;
mod worker;

use self::cargo::OF_A_PROJECT;

pub use attest::{ProvenanceSwitch, Sbom, SbomSwitch};
pub use cache::Cache;
pub use cargo::{Compilation, Selection};
pub use ci::{ReportFormat, Results};
pub use compare::Comparing;
pub use init::{Ci, Init};
pub use plan::{MatrixFor, Plan};
pub use registry::{Access, Login, Logout, Publish, Pull, Transport};
pub use schema::{Completions, Man, Schema, SchemaOf};
pub use sign::{
    Demands, FormatArg, Keygen, KeylessFlags, Sign, SignMode, Signing, TrustFlags, Verify,
};
pub use worker::{OptimizeExternal, OptimizeWorker};

const AFTER_HELP: &str = "\
Exit codes: 0 ok, 1 error, 2 usage or configuration, 3 validation, 4 budget, 5 signature or
key, 6 registry or credentials, 101 cargo failed, 130 interrupted.
Settings come from flags, then EDGEPACK_* variables, then [package.metadata.edgepack],
then [workspace.metadata.edgepack]; docs/config.md lists them.";

/// Builds, validates, shrinks, packs and publishes Wasm modules and components.
#[derive(Debug, Parser)]
#[command(name = "cargo-edgepack", bin_name = "cargo edgepack", version, after_help = AFTER_HELP)]
#[command(propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Flags that every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compile, check, shrink, check again and pack, in one go.
    ///
    /// The module ends up at target/edgepack/NAME.wasm, the OCI image layout at
    /// target/edgepack/oci, the report at target/edgepack/report.json. With FILE,
    /// nothing is compiled: any module or component will do, from any language.
    #[command(visible_alias = "b")]
    Build(Box<Build>),
    /// Show what would be built, and where it would be published.
    ///
    /// With --since, only what changed; with --matrix, as CI spreads it over its runners.
    Plan(Box<Plan>),
    /// Build, and print which packages are in the module: CycloneDX 1.5, as JSON.
    ///
    /// The packages are those that cargo compiled for the target with the features in use,
    /// without build scripts and procedural macros.
    Sbom(Box<Sbom>),
    /// Validate binaries; enforce allowed imports and budgets.
    Check(Check),
    /// Make a module or component smaller.
    Shrink(Shrink),
    /// Show what a module or component consists of and what it asks of its host.
    Inspect(Inspect),
    /// Build, push to a registry, and print HOST/PATH@DIGEST.
    ///
    /// Blobs that the registry has are not sent again, and tags are set last: a run
    /// that was cut short is finished by running it once more.
    Publish(Box<Publish>),
    /// Fetch a module or component from a registry or an OCI image layout.
    ///
    /// FILE appears once every digest was checked, and not before.
    Pull(Box<Pull>),
    /// Sign an artifact that is published, and print HOST/PATH@DIGEST; or a file.
    ///
    /// The digest that REF stands for is signed. cosign verifies what is written.
    Sign(Box<Sign>),
    /// Check that artifacts are signed by whom you trust, and what is attested of them.
    Verify(Box<Verify>),
    /// Make a key pair: NAME.key, encrypted with a password, and NAME.pub.
    Keygen(Keygen),
    /// Store credentials for a registry, where docker or podman keeps them.
    Login(Login),
    /// Forget the credentials for a registry.
    Logout(Logout),
    /// Show where results of shrinking are kept and how much there is, clear it, or share it
    /// through a registry.
    Cache(Cache),
    /// Write what a project begins with: a table of settings, or a workflow and a pipeline.
    ///
    /// A file that was changed stays as it is: a second run changes nothing.
    Init(Init),
    /// Print the JSON Schema of what the tool reads or writes.
    Schema(Schema),
    /// Print completions for a shell.
    Completions(Completions),
    /// Print the manual as a page for man, or write a page for each command.
    Man(Man),
    /// Runs the optimiser on one core module; the tool starts itself with this.
    #[command(name = edgepack::shrink::worker::COMMAND, hide = true)]
    OptimizeWorker(OptimizeWorker),
    /// Becomes another program that optimises, within limits; the tool starts itself with this.
    #[command(name = edgepack::shrink::external::COMMAND, hide = true)]
    OptimizeExternal(OptimizeExternal),
}

impl Command {
    /// What goes to stdout, for the commands that make a report.
    pub fn report_format(&self) -> ReportFormat {
        match self {
            Command::Build(build) => build.reporting.message_format,
            Command::Publish(publish) => publish.reporting.message_format,
            Command::Check(check) => check.reporting.message_format,
            Command::Shrink(shrink) => shrink.reporting.message_format,
            _ => ReportFormat::Human,
        }
    }

    /// The `wasm-opt` to try beside the one that is built in, for commands that shrink.
    pub fn wasm_opt(&self) -> Result<Option<PathBuf>, Error> {
        let flag = match self {
            Command::Build(build) => &build.flags.shrinking.wasm_opt,
            Command::Publish(publish) => &publish.build.shrinking.wasm_opt,
            Command::Shrink(shrink) => &shrink.shrinking.wasm_opt,
            _ => return Ok(None),
        };
        match flag {
            Some(path) => Ok(Some(path.clone())),
            None => Ok(environment::text(environment::WASM_OPT)?.map(PathBuf::from)),
        }
    }
}

/// Flags that every command takes.
#[derive(Debug, Args)]
pub struct Common {
    /// Print errors and results only.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more; handed on to cargo.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to use colour.
    #[arg(long, global = true, value_name = "WHEN", value_enum)]
    pub color: Option<Color>,
}

/// `--color`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// `--message-format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum MessageFormat {
    /// Text on stderr, paths on stdout.
    #[default]
    Human,
    /// The report as JSON on stdout.
    Json,
}

/// `--message-format`, for the commands that report.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reporting")]
pub struct Reporting {
    /// What goes to stdout.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub message_format: MessageFormat,
}

/// `--level` and what goes with it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Shrinking")]
pub struct Shrinking {
    /// How much effort goes into shrinking: off, fast, default or max.
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<Level>,
    /// Which size counts: raw, gzip or zstd [default: raw].
    #[arg(long, value_name = "MEASURE")]
    pub optimize_for: Option<Measure>,
    /// Keep this custom section, in place of the default list; `*` matches any
    /// run of characters; may be repeated.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub keep_section: Option<Vec<String>>,
    /// Keep this export and remove all that are not named, with what only they reach; `*` matches
    /// any run of characters; may be repeated; core modules only.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub keep_export: Option<Vec<String>>,
    /// Answer this import inside the module: MODULE.FIELD traps when it is called,
    /// MODULE.FIELD=NUMBER returns the number; may be repeated; core modules only.
    #[arg(long, value_name = "IMPORT", value_delimiter = ',')]
    pub stub_import: Option<Vec<Stub>>,
    /// Do without this proposal, for hosts that lack it: sign-ext, saturating-float-to-int or
    /// bulk-memory; may be repeated.
    #[arg(long, value_name = "PROPOSAL", value_delimiter = ',')]
    pub lower: Option<Vec<Lowering>>,
    /// Let the result use this proposal although the input does not; hosts that lack it then refuse
    /// the result; may be repeated.
    #[arg(long, value_name = "PROPOSAL", value_delimiter = ',')]
    pub allow_proposal: Option<Vec<Proposal>>,
    /// Take something for granted that cannot be known; where it does not hold, the result does
    /// something else than the input; may be repeated. traps-never-happen: code that would trap
    /// may go on with any value, or be gone. low-memory-unused: reads and writes below address
    /// 1024 may go elsewhere. fast-math: floating-point results may differ, NaN among them.
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub assume: Option<Vec<Assumption>>,
    /// Try this wasm-opt too, beside the Binaryen that is built in; the smaller result counts.
    #[arg(long, value_name = "PATH")]
    pub wasm_opt: Option<PathBuf>,
}

/// What is allowed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Checking")]
pub struct Checking {
    /// Allow imports that match this pattern and no others; `*` matches any run
    /// of characters; may be repeated.
    #[arg(
        long = "allow-import",
        visible_alias = "allow-imports",
        value_name = "PATTERN",
        value_delimiter = ','
    )]
    pub allow_imports: Option<Vec<String>>,
    /// The largest size of the module, such as `1 MiB`.
    #[arg(long, value_name = "SIZE")]
    pub budget_raw: Option<ByteCount>,
    /// The largest size of the module after gzip.
    #[arg(long, value_name = "SIZE")]
    pub budget_gzip: Option<ByteCount>,
}

/// `--variant`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Packing")]
pub struct Packing {
    /// Pack in this form: wasm (for most), compat (a container image, for Istio,
    /// crun, podman and Docker) or kubewarden; may be repeated [default: wasm].
    #[arg(long, value_name = "VARIANT", value_delimiter = ',')]
    pub variant: Vec<Variant>,
}

/// `--embed`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Signing")]
pub struct Embedding {
    /// Put a signature into the module itself, with this key from keygen --embed: a path,
    /// or env:NAME for a variable that holds it in PEM or Base64.
    #[arg(long, value_name = "PATH|env:NAME", allow_hyphen_values = true)]
    pub embed: Option<String>,
    /// Put no signature into the module, whatever the configuration says.
    #[arg(long, conflicts_with = "embed")]
    pub no_embed: bool,
}

/// `build`.
#[derive(Debug, Args)]
pub struct Build {
    /// A .wasm file to take in place of a Rust project.
    #[arg(conflicts_with_all = OF_A_PROJECT)]
    pub file: Option<PathBuf>,
    /// How to build.
    #[command(flatten)]
    pub flags: BuildFlags,
    /// Whether there is an SBOM.
    #[command(flatten)]
    pub sbom: SbomSwitch,
    /// What it is compared with.
    #[command(flatten)]
    pub comparing: Comparing,
    /// How to speak to the registry that has it.
    #[command(flatten)]
    pub access: Access,
    /// What is reported.
    #[command(flatten)]
    pub reporting: Results,
}

/// How to build, for the commands that do.
#[derive(Debug, Args)]
pub struct BuildFlags {
    /// The artifact's name, where FILE is given [default: the file's name].
    #[arg(long, value_name = "NAME", requires = "file", value_parser = artifact_name)]
    pub name: Option<String>,
    /// The artifact's version, where FILE is given [default: none; in a layout 0.0.0].
    #[arg(long, value_name = "VERSION", requires = "file", value_parser = artifact_version)]
    pub as_version: Option<String>,
    /// What to build.
    #[command(flatten)]
    pub selection: Selection,
    /// How to compile.
    #[command(flatten)]
    pub compilation: Compilation,
    /// How to shrink.
    #[command(flatten)]
    pub shrinking: Shrinking,
    /// Leave the bytes as they are: the same as `--level off`.
    #[arg(long, conflicts_with = "level", help_heading = "Shrinking")]
    pub no_shrink: bool,
    /// What is allowed.
    #[command(flatten)]
    pub checking: Checking,
    /// How to pack.
    #[command(flatten)]
    pub packing: Packing,
    /// Whether it is signed inside.
    #[command(flatten)]
    pub embedding: Embedding,
    /// Words for `cargo build`.
    #[arg(last = true, value_name = "CARGO ARGS")]
    pub cargo_args: Vec<OsString>,
}

/// `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Modules or components.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What is allowed.
    #[command(flatten)]
    pub checking: Checking,
    /// What is reported.
    #[command(flatten)]
    pub reporting: Results,
}

/// `shrink`.
#[derive(Debug, Args)]
pub struct Shrink {
    /// A module or component.
    pub file: PathBuf,
    /// Where the result goes; may be FILE itself; `-` stands for stdout.
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// How to shrink.
    #[command(flatten)]
    pub shrinking: Shrinking,
    /// What is reported.
    #[command(flatten)]
    pub reporting: Results,
}

/// `inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// A module or component; or an artifact, as HOST/PATH:TAG or `oci:DIR:TAG`.
    #[arg(value_name = "FILE|REF")]
    pub file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// How to speak to the registry.
    #[command(flatten)]
    pub access: Access,
}

impl BuildFlags {
    /// What is handed on to cargo. Where nothing is compiled, the variables for
    /// compiling do not count.
    pub fn cargo_flags(&self, common: &Common, compiles: bool) -> Result<CargoFlags, Error> {
        let mut flags = cargo::flags(
            &self.selection,
            &self.compilation,
            &self.cargo_args,
            common,
            compiles,
        )?;
        let key = self.embedding.embed.as_deref();
        flags.withheld.extend(secret_variables(key));
        Ok(flags)
    }

    /// Settings that come before the configuration.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            level: if self.no_shrink {
                Some(Level::Off)
            } else {
                self.shrinking.level
            },
            variants: self.packing.variants(),
            embed: match &self.embedding.embed {
                _ if self.embedding.no_embed => Some(Embed::No),
                key => key.clone().map(Embed::With),
            },
            ..self.shrinking.overrides(self.checking.overrides())
        }
    }
}

impl Shrinking {
    /// These settings, over those about something else.
    pub fn overrides(&self, others: Overrides) -> Overrides {
        Overrides {
            level: self.level,
            optimize_for: self.optimize_for,
            keep_sections: self.keep_section.clone(),
            keep_exports: self.keep_export.clone(),
            stub_imports: self.stub_import.clone(),
            lower: self.lower.clone(),
            allow_proposals: self.allow_proposal.clone(),
            assume: self.assume.clone(),
            ..others
        }
    }
}

impl Packing {
    /// The variants; `None` where the flag was not given.
    pub fn variants(&self) -> Option<Variants> {
        Variants::try_from(self.variant.clone()).ok()
    }
}

impl Checking {
    /// Settings that come before the configuration.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            allow_imports: self.allow_imports.clone(),
            budget_raw: self.budget_raw,
            budget_gzip: self.budget_gzip,
            ..Overrides::default()
        }
    }
}

impl Color {
    fn name(self) -> &'static str {
        match self {
            Color::Auto => "auto",
            Color::Always => "always",
            Color::Never => "never",
        }
    }
}

/// Versions become tags, with `_` for `+`.
fn artifact_version(text: &str) -> Result<String, String> {
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+'));
    if plain && text.len() <= 100 {
        Ok(text.to_owned())
    } else {
        Err("a version is something like 1.2.3: letters, digits, `.`, `_`, `-` and `+`".into())
    }
}

/// Names become file names: one path component, no more.
fn artifact_name(text: &str) -> Result<String, String> {
    let plain = !text.is_empty()
        && !text.starts_with('.')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if plain {
        Ok(text.to_owned())
    } else {
        Err(
            "a name consists of letters, digits, `.`, `_` and `-`, and does not begin with `.`"
                .into(),
        )
    }
}
