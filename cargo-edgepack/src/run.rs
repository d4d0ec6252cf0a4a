//! Glue: from the command line to the library and back to the printer.

mod cache;
mod ci;
mod describe;
mod init;
mod plan;
mod publish;
mod registry;
mod sign;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use edgepack::build::{self, CargoConfig, Toolchains};
use edgepack::cache::Cache;
use edgepack::cancel::Cancel;
use edgepack::config::{Config, PublishConfig, SignConfig};
use edgepack::environment;
use edgepack::error::Error;
use edgepack::exit_code;
use edgepack::inspect::{self, Inspection};
use edgepack::levers::BuildSize;
use edgepack::output;
use edgepack::pack::Metadata;
use edgepack::pipeline::{self, Context, Destination, Input};
use edgepack::plan::{CargoFlags, Group, Overrides, PackagePlan, Plan, Settings};
use edgepack::project::Project;
use edgepack::report::{Outcome, PackageReport, Report, StageReport};
use edgepack::shrink::external::WasmOpt;
use edgepack::shrink::worker::{Limits, Worker};
use edgepack::source;
use edgepack::toolchain::{self, Nightly};
use edgepack::wasm::Wasm;

use crate::cli::{self, BuildFlags, Cli, Command, ReportFormat};
use crate::output::Printer;

/// What every command works with.
struct App {
    printer: Arc<Printer>,
    cancel: Arc<Cancel>,
    cache: Cache,
    worker: Worker,
    /// What the run has done so far, for the report should it end early.
    progress: ci::Progress,
}

/// Runs the tool and returns its exit code.
pub fn main() -> u8 {
    // Cargo calls `cargo-edgepack edgepack …`.
    let mut args: Vec<_> = std::env::args_os().collect();
    if args.get(1).is_some_and(|a| a == "edgepack") {
        args.remove(1);
    }
    Printer::heed_runner(false);
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => {
            Printer::heed_runner(cli.command.report_format() == ReportFormat::Github);
            cli
        }
        Err(error) => {
            Printer::usage(&error);
            return if error.use_stderr() {
                exit_code::USAGE
            } else {
                exit_code::OK
            };
        }
    };
    match cli.command {
        Command::OptimizeWorker(job) => return worker::optimize(job),
        Command::OptimizeExternal(job) => return worker::optimize_external(&job),
        _ => {}
    }
    let printer = Printer::new(cli.common.quiet, cli.common.verbose > 0, cli.common.color);
    let outcome = App::new(printer, &cli).map(|app| {
        let outcome = app.run(&cli);
        if let Err(error) = &outcome {
            app.printer.error(error);
            app.ended(error, cli.command.report_format());
        }
        outcome.unwrap_or_else(|error| error.exit_code())
    });
    outcome.unwrap_or_else(|error| {
        Printer::new(false, false, cli.common.color).error(&error);
        error.exit_code()
    })
}

impl App {
    fn new(printer: Printer, cli: &Cli) -> Result<Self, Error> {
        let cancel = Arc::new(Cancel::default());
        let handler = Arc::clone(&cancel);
        ctrlc::set_handler(move || handler.set())
            .map_err(|e| Error::Internal(format!("failed to listen for signals: {e}")))?;
        let executable =
            std::env::current_exe().map_err(Error::io("find", "the tool's own executable"))?;
        let wasm_opt = cli.command.wasm_opt()?;
        let external = wasm_opt.map(|path| WasmOpt::find(&path)).transpose()?;
        let worker =
            Worker::new(executable, Limits::default(), Arc::clone(&cancel)).with_external(external);
        Ok(App {
            printer: Arc::new(printer),
            cancel,
            cache: Cache::of_user(),
            worker,
            progress: ci::Progress::default(),
        })
    }

    fn run(&self, cli: &Cli) -> Result<u8, Error> {
        match &cli.command {
            Command::Build(flags) => {
                let cargo = flags.flags.cargo_flags(&cli.common, flags.file.is_none())?;
                self.build(flags, &cargo)
            }
            Command::Publish(flags) => {
                let cargo = flags
                    .build
                    .cargo_flags(&cli.common, flags.sources.is_empty())?;
                self.publish(flags, &cargo)
            }
            Command::Plan(flags) => self.plan(flags, &flags.cargo_flags(&cli.common)?),
            Command::Pull(flags) => self.pull(flags),
            Command::Sign(flags) => self.sign(flags),
            Command::Verify(flags) => self.verify(flags),
            Command::Keygen(flags) => self.keygen(flags),
            Command::Login(flags) => self.login(flags),
            Command::Logout(flags) => self.logout(flags),
            Command::Check(flags) => self.check(flags),
            Command::Shrink(flags) => self.shrink(flags),
            Command::Inspect(flags) => self.inspect(flags),
            Command::Cache(flags) => self.cache(flags),
            Command::Init(flags) => self.init(flags),
            Command::Schema(flags) => self.schema(flags),
            Command::Completions(flags) => self.completions(flags),
            Command::Man(flags) => self.man(flags),
            Command::OptimizeWorker(_) | Command::OptimizeExternal(_) => Ok(exit_code::USAGE),
        }
    }

    /// Lends the stages what they work with.
    fn with_context<T>(&self, gzip: bool, work: impl FnOnce(&Context<'_>) -> T) -> T {
        let on_event = |event: pipeline::Event<'_>| self.printer.event(event);
        work(&Context {
            optimizer: &self.worker,
            cache: &self.cache,
            cancel: &self.cancel,
            gzip,
            on_event: &on_event,
        })
    }

    fn build(&self, flags: &cli::Build, cargo: &CargoFlags) -> Result<u8, Error> {
        let (destination, built) = match &flags.file {
            Some(file) => self.build_file(file, &flags.flags, cargo)?,
            None => self.build_project(&flags.flags, cargo, &|_, _| Ok(()))?,
        };
        let report = Report::new(built.into_iter().map(|b| b.report).collect());
        let format = flags.flags.reporting.message_format;
        self.conclude(&report, Some(&destination), format, || {
            self.printer.paths(&report)
        })?;
        Ok(report.exit_code())
    }

    fn build_file(
        &self,
        file: &Path,
        flags: &BuildFlags,
        cargo: &CargoFlags,
    ) -> Result<(Destination, Vec<Built>), Error> {
        let epoch = source::source_date_epoch()?;
        let overrides = flags.overrides().or(environment::overrides()?);
        // A binary from elsewhere has no manifest, unless one is named for its settings.
        let config = match &cargo.manifest_path {
            Some(_) => {
                let project = Project::load(cargo, &self.cancel)?;
                match project.default[..] {
                    [only] => project.config_of(&project.metadata.packages[only])?,
                    _ => project.config,
                }
            }
            None => Config::default(),
        };
        let destination = Destination::below(&file_target_dir(cargo)?);
        ci::remove_stale(&destination)?;
        let mut metadata = file_metadata(file);
        if let Some(version) = &flags.as_version {
            metadata.version.clone_from(version);
        }
        if let Some(name) = &flags.name {
            metadata.name.clone_from(name);
        } else if file
            .file_stem()
            .is_none_or(|stem| stem != metadata.name.as_str())
        {
            self.printer.note(&format!(
                "the artifact is called `{}`: choose another name with --name",
                metadata.name
            ));
        }
        let input = Input {
            wasm: output::read_wasm(file)?,
            metadata,
            target: None,
            settings: Settings::new(&config, &overrides),
            created: epoch.unwrap_or_default(),
            stages: Vec::new(),
        };
        self.begin(&destination);
        let mut report =
            self.with_context(true, |context| pipeline::run(input, context, &destination))?;
        report.input = Some(absolute(file)?);
        self.done(&report);
        let built = Built {
            report,
            publish: config.publish,
            sign: config.sign,
            version: flags.as_version.clone(),
        };
        Ok((destination, vec![built]))
    }

    /// Builds the packages that the flags stand for. `approve` sees the configuration
    /// of each before anything is compiled.
    fn build_project(
        &self,
        flags: &BuildFlags,
        cargo: &CargoFlags,
        approve: &Approve<'_>,
    ) -> Result<(Destination, Vec<Built>), Error> {
        let epoch = source::source_date_epoch()?;
        let overrides = flags.overrides().or(environment::overrides()?);
        cargo.check_extra()?;
        let here = std::env::current_dir().map_err(Error::io("resolve", "."))?;
        let config = CargoConfig::load()?;
        // Two programs that do not wait for each other.
        let rustc = config.rustc();
        let (project, sysroot) = std::thread::scope(|scope| {
            let sysroot = scope.spawn(|| toolchain::sysroot(rustc, &here));
            let project = Project::load(cargo, &self.cancel);
            (project, sysroot.join())
        });
        let project = project?;
        let sysroot = sysroot
            .map_err(|_| Error::Internal("failed to ask rustc for its sysroot".into()))??;
        let plan = Plan::new(
            &project,
            cargo,
            &overrides,
            config.build_target().as_deref(),
        )?;
        for package in &plan.packages {
            approve(&package.publish, &package.sign)?;
        }
        for (name, why) in &plan.skipped {
            self.printer.note(&format!("`{name}` is left out: {why}"));
        }
        for (name, folder) in &project.outside {
            self.printer.note(&format!(
                "`{name}` lies outside the workspace, in {}: cargo's symbols depend on that folder, \
                 and so may the digest; a member of the workspace has no such effect",
                folder.display()
            ));
        }
        let toolchains = self.toolchains(&plan, cargo, &config, sysroot, &here)?;
        let commit = source::commit(project.metadata.workspace_root.as_std_path());
        let created = epoch
            .or(commit.as_ref().map(|c| c.time))
            .unwrap_or_default();
        let revision = commit.map(|c| c.revision);

        let destination = Destination::below(&project.target_dir);
        ci::remove_stale(&destination)?;
        self.begin(&destination);
        let mut built = Vec::new();
        for (group, members) in &plan.groups {
            let packages: Vec<_> = members.iter().map(|&i| &plan.packages[i]).collect();
            let made = self.compile(&project, &config, &toolchains, cargo, group, &packages);
            let inputs = match (made, &group.doubtful) {
                (Err(Error::Cargo { in_code: true, .. }), Some(name)) => {
                    self.printer.warning(&format!(
                        "`{name}` does not compile for {} and is left out, since it has no \
                         [package.metadata.edgepack] while others have: set skip = true there if it is no Wasm",
                        group.target
                    ));
                    continue;
                }
                (
                    Err(Error::Cargo {
                        message,
                        in_code: true,
                        ..
                    }),
                    None,
                ) if packages.len() > 1 => {
                    let hint = "a package that is no Wasm is left out with --exclude, or for good with \
                                skip = true in its [package.metadata.edgepack]";
                    return Err(Error::Cargo {
                        message,
                        hint: Some(hint.into()),
                        in_code: true,
                    });
                }
                (made, _) => made?,
            };
            for (package, name, wasm, stage) in inputs {
                let input = Input {
                    wasm,
                    metadata: Metadata {
                        name,
                        revision: revision.clone(),
                        ..package.metadata.clone()
                    },
                    target: Some(group.target.clone()),
                    settings: package.settings.clone(),
                    created,
                    stages: vec![stage],
                };
                let mut report =
                    self.with_context(true, |context| pipeline::run(input, context, &destination))?;
                let manifest = &project.metadata[&package.id].manifest_path;
                report.input = Some(manifest.clone().into_std_path_buf());
                self.done(&report);
                built.push(Built {
                    version: Some(report.version.clone()),
                    report,
                    publish: package.publish.clone(),
                    sign: package.sign.clone(),
                });
            }
        }
        Ok((destination, built))
    }

    /// Finds the toolchains that the plan takes, and installs what they lack.
    fn toolchains(
        &self,
        plan: &Plan,
        cargo: &CargoFlags,
        config: &CargoConfig,
        sysroot: PathBuf,
        here: &Path,
    ) -> Result<Toolchains, Error> {
        let std_is_built = cargo
            .extra
            .iter()
            .any(|word| word.to_string_lossy().contains("build-std"));
        let offline = cargo.offline || cargo.frozen || config.offline();
        let say = |text: &str| self.printer.note(text);
        let mut toolchains = Toolchains {
            sysroot,
            nightly: None,
        };
        if plan.groups.keys().any(|g| g.size == BuildSize::Nightly) {
            let nightly = Nightly::find(config.rustc(), &toolchains.sysroot, here)?;
            nightly.install_sources(here, offline, say)?;
            toolchains.nightly = Some(nightly);
        }
        for group in plan.groups.keys() {
            let target = &group.target;
            let custom = Path::new(target).extension().is_some_and(|e| e == "json");
            // WASI's start files and libc come with the target even where std is built.
            let std_is_built =
                std_is_built || (group.size == BuildSize::Nightly && !target.contains("wasi"));
            let sysroot = toolchains.sysroot(group);
            if !std_is_built && !custom && !toolchain::has_target(sysroot, target) {
                let toolchain = toolchains.name(group);
                toolchain::install_target(target, toolchain, sysroot, here, offline, say)?;
            }
        }
        Ok(toolchains)
    }

    /// Runs cargo and reads what it made.
    fn compile<'p>(
        &self,
        project: &Project,
        config: &CargoConfig,
        toolchains: &Toolchains,
        cargo: &CargoFlags,
        group: &Group,
        packages: &[&'p PackagePlan],
    ) -> Result<Vec<(&'p PackagePlan, String, Wasm, StageReport)>, Error> {
        self.printer.clear();
        let started = Instant::now();
        let compiled = build::compile(
            project,
            config,
            toolchains,
            cargo,
            group,
            packages,
            &self.cancel,
        )?;
        let seconds = started.elapsed().as_secs_f64();
        let mut inputs = Vec::new();
        for package in packages {
            let mut found = compiled
                .iter()
                .filter(|c| c.package == package.id)
                .peekable();
            if found.peek().is_none() {
                return Err(Error::NoOutput {
                    message: format!("cargo made no .wasm from package `{}`", package.metadata.name),
                    hint: Some("its targets may need features that are off: see required-features in its Cargo.toml".into()),
                });
            }
            for made in found {
                let wasm = output::read_wasm(&made.path)?;
                let stage = StageReport {
                    name: pipeline::COMPILE.to_owned(),
                    seconds,
                    cached: false,
                };
                inputs.push((*package, package.artifact_name(&made.target), wasm, stage));
            }
        }
        Ok(inputs)
    }

    fn check(&self, flags: &cli::Check) -> Result<u8, Error> {
        let policy = Settings::new(
            &Config::default(),
            &flags.checking.overrides().or(environment::overrides()?),
        )
        .policy;
        let format = flags.reporting.message_format;
        let measured = format == ReportFormat::Json;
        let mut reports = Vec::new();
        let mut unreadable = Vec::new();
        for file in &flags.files {
            let wasm = match output::read_wasm(file) {
                Ok(wasm) => wasm,
                Err(error) => {
                    self.printer.error(&error);
                    unreadable.push(error);
                    continue;
                }
            };
            let mut report = self.with_context(measured, |context| {
                pipeline::check(wasm, file, &file_metadata(file), &policy, context)
            })?;
            report.input = Some(absolute(file)?);
            self.printer.checked(file, &report);
            reports.push(report);
        }
        let mut report = Report::new(reports);
        for error in &unreadable {
            report.fail(error);
        }
        // The lowest code that is not 0 says most.
        let code = unreadable
            .iter()
            .map(Error::exit_code)
            .chain([report.exit_code()])
            .filter(|&c| c != 0)
            .min()
            .unwrap_or(exit_code::OK);
        report.outcome = Outcome::of(code);
        self.conclude(&report, None, format, || Ok(()))?;
        Ok(code)
    }

    fn shrink(&self, flags: &cli::Shrink) -> Result<u8, Error> {
        let overrides = flags
            .shrinking
            .overrides(Overrides::default())
            .or(environment::overrides()?);
        let options = Settings::new(&Config::default(), &overrides).shrink;
        let wasm = output::read_wasm(&flags.file)?;
        let asked = !self.printer.quiet() || flags.reporting.message_format == ReportFormat::Json;
        let (mut report, bytes) = self.with_context(asked, |context| {
            pipeline::shrink_only(
                wasm,
                &flags.output,
                &file_metadata(&flags.file),
                &options,
                context,
            )
        })?;
        let to_stdout = flags.output.as_os_str() == "-";
        if let Some(bytes) = &bytes {
            self.cancel.check()?;
            if to_stdout {
                self.printer.data(bytes)?;
            } else {
                output::write(&flags.output, bytes)?;
            }
        }
        report.input = Some(absolute(&flags.file)?);
        self.printer.package(&report);
        let report = Report::new(vec![report]);
        if !to_stdout {
            let format = flags.reporting.message_format;
            self.conclude(&report, None, format, || self.printer.paths(&report))?;
        }
        Ok(report.exit_code())
    }

    fn inspect(&self, flags: &cli::Inspect) -> Result<u8, Error> {
        if let Some(reference) = registry::reference_in(&flags.file) {
            return self.inspect_artifact(reference, flags);
        }
        let wasm = output::read_wasm(&flags.file)?;
        self.inspect_wasm(wasm, &flags.file, |found| {
            if flags.json {
                self.printer.pretty_json(found)
            } else {
                self.printer.inspection(&flags.file, found)
            }
        })
    }

    /// Looks at a binary and shows what was found, or the findings where it does not
    /// validate.
    fn inspect_wasm(
        &self,
        wasm: Wasm,
        name: &Path,
        show: impl FnOnce(&Inspection) -> Result<(), Error>,
    ) -> Result<u8, Error> {
        match inspect::inspect(wasm) {
            Ok(found) => show(&found)?,
            Err(rejected) => {
                for finding in &rejected.findings {
                    self.printer.finding(&name.display().to_string(), finding);
                }
                return Ok(edgepack::finding::exit_code_of(&rejected.findings));
            }
        }
        Ok(exit_code::OK)
    }
}

/// Sees the configuration of a package before anything is compiled.
type Approve<'a> = dyn Fn(&PublishConfig, &SignConfig) -> Result<(), Error> + 'a;

/// A module or component that went through every stage.
struct Built {
    report: PackageReport,
    /// Where the configuration wants it.
    publish: PublishConfig,
    /// How the configuration wants it signed.
    sign: SignConfig,
    /// Its version, where it has one of its own.
    version: Option<String>,
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(Error::io("resolve", path))
}

/// A name for a binary that came as a file, fit to be a file's name and a tag.
fn file_metadata(file: &Path) -> Metadata {
    let stem = file
        .file_stem()
        .map_or_else(|| "module".into(), |s| s.to_string_lossy());
    let mut name: String = stem
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '_'
            }
        })
        .collect();
    if name.starts_with('.') {
        name.insert(0, '_');
    }
    Metadata {
        name,
        version: "0.0.0".to_owned(),
        ..Metadata::default()
    }
}

/// `--target-dir`, else `CARGO_TARGET_DIR`, else `target` in the current folder.
fn file_target_dir(cargo: &CargoFlags) -> Result<PathBuf, Error> {
    let dir = cargo
        .target_dir
        .clone()
        .or_else(|| {
            std::env::var_os("CARGO_TARGET_DIR")
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        })
        .unwrap_or_else(|| "target".into());
    absolute(&dir)
}
