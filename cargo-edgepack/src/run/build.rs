//! Glue for `build`, and for the commands that build first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use edgepack::build::{self, CargoConfig, Compilation, Toolchains};
use edgepack::config::{Config, PublishConfig, SignConfig};
use edgepack::environment;
use edgepack::error::Error;
use edgepack::levers::BuildSize;
use edgepack::output;
use edgepack::pack::{Metadata, Timestamp};
use edgepack::pipeline::{self, Destination, Input};
use edgepack::plan::{CargoFlags, Group, PackagePlan, Plan, Settings};
use edgepack::project::{PackageId, Project};
use edgepack::report::{PackageReport, Report, StageReport};
use edgepack::sbom::cargo::Units;
use edgepack::sign::embedded::SecretKey;
use edgepack::sign::source::KeySource;
use edgepack::source;
use edgepack::toolchain::{self, Nightly};
use edgepack::wasm::Wasm;

use super::attest::{Attested, Compiled, File, Wishes, attest_package};
use super::compare::Earlier;
use super::place::Asked;
use super::{App, ci};
use crate::cli::{self, BuildFlags};

/// Sees all packages before anything is compiled, and says what is to be told about each.
pub(super) type Approve<'a> = dyn Fn(&[Asked<'_>]) -> Result<Vec<Wishes>, Error> + 'a;

/// A module or component that went through every stage.
pub(super) struct Built {
    pub report: PackageReport,
    /// Where the configuration wants it.
    pub publish: PublishConfig,
    /// How the configuration wants it signed.
    pub sign: SignConfig,
    /// Its version, where it has one of its own.
    pub version: Option<String>,
    /// What is told about it.
    pub attested: Attested,
}

/// What a build goes by.
struct Job<'a> {
    project: &'a Project,
    config: &'a CargoConfig,
    toolchains: &'a Toolchains,
    flags: &'a CargoFlags,
    here: &'a Path,
    destination: &'a Destination,
    earlier: &'a Earlier,
    created: Timestamp,
    /// What modules are signed inside with, by what the settings call it.
    keys: &'a BTreeMap<String, Arc<SecretKey>>,
    revision: Option<String>,
}

/// A run of cargo.
struct Compiling {
    stage: StageReport,
    units: Units,
}

/// What cargo made of one target of a package.
struct Made<'p> {
    package: &'p PackagePlan,
    name: String,
    wasm: Wasm,
    example: bool,
}

pub(super) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(Error::io("resolve", path))
}

/// A key to sign inside with: opened before anything is built.
fn key_inside(key: &str) -> Result<Arc<SecretKey>, Error> {
    let opened = KeySource::parse(key).and_then(|source| SecretKey::open(&source));
    opened.map(Arc::new).map_err(|error| match error {
        Error::Usage { message, hint } => {
            let without = "--no-embed leaves the signature inside the module out";
            let hint = hint.map_or_else(|| without.to_owned(), |h| format!("{h}; {without}"));
            Error::Usage {
                message,
                hint: Some(hint),
            }
        }
        other => other,
    })
}

/// A name for a binary that came as a file, fit to be a file's name and a tag.
pub(super) fn file_metadata(file: &Path) -> Metadata {
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
pub(super) fn file_target_dir(cargo: &CargoFlags) -> Result<PathBuf, Error> {
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

impl App {
    pub(super) fn build(&self, flags: &cli::Build, cargo: &CargoFlags) -> Result<u8, Error> {
        let asked = flags
            .sbom
            .wish()
            .or(environment::switch(environment::PUBLISH_SBOM)?);
        let approve = |packages: &[Asked<'_>]| {
            let wishes = packages.iter().map(|package| Wishes {
                sbom: asked.or(package.publish.sbom) == Some(true),
                provenance: false,
            });
            Ok(wishes.collect())
        };
        let earlier = self.earlier(flags)?;
        let (destination, built) = match &flags.file {
            Some(file) => {
                let config = self.file_config(cargo)?;
                self.build_file(file, &config, &flags.flags, cargo, &approve, &earlier)?
            }
            None => self.build_project(&flags.flags, cargo, &approve, &earlier)?,
        };
        let report = Report::new(built.into_iter().map(|b| b.report).collect());
        let format = flags.reporting.message_format;
        self.conclude(&report, Some(&destination), format, || {
            self.printer.paths(&report)
        })?;
        Ok(report.exit_code())
    }

    fn earlier(&self, flags: &cli::Build) -> Result<Earlier, Error> {
        let access = &flags.access;
        let text = flags.comparing.compare_to.as_deref();
        if text.is_none() && access.username.is_some() {
            return Err(Error::Usage {
                message: "--username is for the registry that --compare-to names".into(),
                hint: Some("build asks no other one: leave it out, or publish".into()),
            });
        }
        let options = match text {
            Some(_) => self.options(access)?,
            None => return Ok(Earlier::none()),
        };
        let earlier = Earlier::new(text, options, access.transport.plain_http, 1);
        if let Some(host) = earlier.host() {
            earlier.trust(host);
        }
        Ok(earlier)
    }

    /// The configuration of a binary from elsewhere: it has no manifest, unless one is
    /// named for its settings.
    pub(super) fn file_config(&self, cargo: &CargoFlags) -> Result<Config, Error> {
        if cargo.manifest_path.is_none() {
            return Ok(Config::default());
        }
        let project = Project::load(cargo, &self.cancel)?;
        match project.default[..] {
            [only] => project.config_of(&project.metadata.packages[only]),
            _ => Ok(project.config),
        }
    }

    pub(super) fn build_file(
        &self,
        file: &Path,
        config: &Config,
        flags: &BuildFlags,
        cargo: &CargoFlags,
        approve: &Approve<'_>,
        earlier: &Earlier,
    ) -> Result<(Destination, Vec<Built>), Error> {
        let epoch = source::source_date_epoch()?;
        let overrides = flags.overrides().or(environment::overrides()?);
        let asked = Asked {
            publish: &config.publish,
            sign: &config.sign,
            artifacts: Vec::new(),
        };
        let wishes = approve(&[asked])?.first().copied().unwrap_or_default();
        self.read_earlier(earlier, 1)?;
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
        let settings = Settings::new(config, &overrides);
        let embed = settings.embed.as_deref().map(key_inside).transpose()?;
        let wasm = output::read_wasm(file)?;
        let made_of = File::new(file, &wasm, wishes);
        let created = epoch.unwrap_or_default();
        let input = Input {
            wasm,
            metadata,
            target: None,
            settings,
            embed,
            created,
            stages: Vec::new(),
        };
        let options = input.settings.shrink.clone();
        self.begin(&destination);
        let mut report =
            self.with_context(true, |context| pipeline::run(input, context, &destination))?;
        report.input = Some(absolute(file)?);
        self.compare(earlier, &mut report);
        let attested = self.attest_file(&made_of, &mut report, &options, created, &destination)?;
        self.done(&report);
        let built = Built {
            report,
            attested,
            publish: config.publish.clone(),
            sign: config.sign.clone(),
            version: flags.as_version.clone(),
        };
        Ok((destination, vec![built]))
    }

    /// Builds the packages that the flags stand for. `approve` sees the configuration
    /// of each before anything is compiled.
    pub(super) fn build_project(
        &self,
        flags: &BuildFlags,
        cargo: &CargoFlags,
        approve: &Approve<'_>,
        earlier: &Earlier,
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
        let mut keys = BTreeMap::new();
        for package in &plan.packages {
            if let Some(key) = &package.settings.embed
                && !keys.contains_key(key)
            {
                keys.insert(key.clone(), key_inside(key)?);
            }
        }
        let asked: Vec<_> = plan
            .packages
            .iter()
            .zip(plan.sure_artifacts(&project, cargo))
            .map(|(package, names)| Asked::of_package(package, &names))
            .collect();
        let ids = plan.packages.iter().map(|p| &p.id);
        let wishes: BTreeMap<_, _> = ids.zip(approve(&asked)?).collect();
        self.announce(&plan, &project);
        self.read_earlier(earlier, plan.packages.len())?;
        let toolchains = self.toolchains(&plan, cargo, &config, sysroot, &here)?;
        let root = project.metadata.workspace_root.as_std_path();
        let commit = source::commit(root);
        if let Some(why) = commit.is_none().then(|| source::refused(root)).flatten() {
            self.printer.warning(&why);
        }
        let created = epoch
            .or(commit.as_ref().map(|c| c.time))
            .unwrap_or_default();
        let destination = Destination::below(&project.target_dir);
        ci::remove_stale(&destination)?;
        self.begin(&destination);
        let job = Job {
            project: &project,
            config: &config,
            toolchains: &toolchains,
            flags: cargo,
            here: &here,
            destination: &destination,
            earlier,
            created,
            keys: &keys,
            revision: commit.map(|c| c.revision),
        };
        let mut built = Vec::new();
        for (group, members) in &plan.groups {
            let packages: Vec<_> = members.iter().map(|&i| &plan.packages[i]).collect();
            let (made, compiling) = match (self.compile(&job, group, &packages), &group.doubtful) {
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
            self.read_earlier(earlier, built.len() + made.len())?;
            built.extend(self.finish_group(&job, group, made, &compiling, &wishes)?);
        }
        Ok((destination, built))
    }

    /// What the user should know before it begins.
    fn announce(&self, plan: &Plan, project: &Project) {
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
    }

    /// Takes what a run of cargo made through the other stages.
    fn finish_group(
        &self,
        job: &Job<'_>,
        group: &Group,
        made: Vec<Made<'_>>,
        compiling: &Compiling,
        wishes: &BTreeMap<&PackageId, Wishes>,
    ) -> Result<Vec<Built>, Error> {
        let some = |pick: fn(&Wishes) -> bool| made.iter().any(|m| pick(&wishes[&m.package.id]));
        let asked = Wishes {
            sbom: some(|w| w.sbom),
            provenance: some(|w| w.provenance),
        };
        let known = self.run_of(job.project, job.revision.as_ref(), asked)?;
        let toolchain = if asked.provenance {
            let sysroot = job.toolchains.sysroot(group);
            Some(toolchain::describe(sysroot, job.config.rustc(), job.here)?)
        } else {
            None
        };
        let rustflags = job.config.rustflags(&group.target)?;
        let cancel = &*self.cancel;
        // Cargo tells what depends on what while the modules shrink.
        let (graph, reports) = std::thread::scope(|scope| {
            let ask = || job.project.graph(job.flags, &group.target, cancel);
            let graph = asked.sbom.then(|| scope.spawn(ask));
            let reports: Result<Vec<_>, Error> = made
                .into_iter()
                .map(|made| {
                    let (package, example) = (made.package, made.example);
                    let report = self.run_stages(job, group, compiling, made)?;
                    Ok((package, example, report))
                })
                .collect();
            (graph.map(std::thread::ScopedJoinHandle::join), reports)
        });
        let reports = reports?;
        let graph = match graph {
            Some(Ok(graph)) => Some(graph?),
            Some(Err(_)) => {
                let message = "failed to ask cargo what depends on what";
                return Err(Error::Internal(message.into()));
            }
            None => None,
        };
        let finish = |(package, example, mut report): (&PackagePlan, bool, PackageReport)| {
            let wishes = wishes[&package.id];
            let compiled = Compiled {
                package,
                example,
                units: &compiling.units,
                graph: graph.as_ref().filter(|_| wishes.sbom),
                flags: job.flags,
                rustflags: &rustflags,
                toolchain: toolchain.as_ref().filter(|_| wishes.provenance),
                created: job.created,
            };
            let attested = attest_package(&known, &compiled, &mut report, job.destination)?;
            Ok(Built {
                version: Some(report.version.clone()),
                report,
                publish: package.publish.clone(),
                sign: package.sign.clone(),
                attested,
            })
        };
        reports.into_iter().map(finish).collect()
    }

    /// The stages behind the compiler.
    fn run_stages(
        &self,
        job: &Job<'_>,
        group: &Group,
        compiling: &Compiling,
        made: Made<'_>,
    ) -> Result<PackageReport, Error> {
        let manifest = &job.project.metadata[&made.package.id].manifest_path;
        let input = Input {
            wasm: made.wasm,
            metadata: Metadata {
                name: made.name,
                revision: job.revision.clone(),
                ..made.package.metadata.clone()
            },
            target: Some(group.target.clone()),
            embed: made
                .package
                .settings
                .embed
                .as_ref()
                .and_then(|key| job.keys.get(key).cloned()),
            settings: made.package.settings.clone(),
            created: job.created,
            stages: vec![compiling.stage.clone()],
        };
        let mut report = self.with_context(true, |context| {
            pipeline::run(input, context, job.destination)
        })?;
        report.input = Some(manifest.clone().into_std_path_buf());
        self.compare(job.earlier, &mut report);
        self.done(&report);
        Ok(report)
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
        job: &Job<'_>,
        group: &Group,
        packages: &[&'p PackagePlan],
    ) -> Result<(Vec<Made<'p>>, Compiling), Error> {
        self.printer.clear();
        let started = Instant::now();
        let Compilation { files, units } = build::compile(
            job.project,
            job.config,
            job.toolchains,
            job.flags,
            group,
            packages,
            &self.cancel,
        )?;
        let stage = StageReport {
            name: pipeline::COMPILE.to_owned(),
            seconds: started.elapsed().as_secs_f64(),
            cached: false,
        };
        let mut made = Vec::new();
        for package in packages {
            let mut found = files.iter().filter(|c| c.package == package.id).peekable();
            if found.peek().is_none() {
                return Err(Error::NoOutput {
                    message: format!("cargo made no .wasm from package `{}`", package.metadata.name),
                    hint: Some("its targets may need features that are off: see required-features in its Cargo.toml".into()),
                });
            }
            for file in found {
                made.push(Made {
                    package,
                    name: package.artifact_name(&file.target),
                    wasm: output::read_wasm(&file.path)?,
                    example: file.is_example(),
                });
            }
        }
        Ok((made, Compiling { stage, units }))
    }
}
