//! Configuration, flags and the project become a plan: every decision is made
//! here, and nothing is done.

mod outline;

use std::collections::BTreeMap;

use cargo_metadata::{Package, PackageId, Target};
use wildmatch::WildMatch;

use crate::config::{Config, PublishConfig, SignConfig};
use crate::error::{Error, WASM_TARGETS, did_you_mean};
pub use crate::flags::{CargoFlags, TargetFlags};
use crate::flags::{is_bin, is_cdylib, is_example};
use crate::levers::BuildSize;
use crate::pack::{Metadata, Variants};
use crate::project::Project;
use crate::shrink::{self, Assumption, Level, Lowering, Measure, Proposal, Stub};
use crate::size::ByteCount;
use crate::source;
use crate::validate::Policy;

pub use outline::{Planned, PlannedArtifact, PlannedPackage, Skipped};

/// Settings from flags and the environment, which come before any configuration.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--level`, `--no-shrink`.
    pub level: Option<Level>,
    /// `--optimize-for`.
    pub optimize_for: Option<Measure>,
    /// `--keep-section`.
    pub keep_sections: Option<Vec<String>>,
    /// `--keep-export`.
    pub keep_exports: Option<Vec<String>>,
    /// `--stub-import`.
    pub stub_imports: Option<Vec<Stub>>,
    /// `--lower`.
    pub lower: Option<Vec<Lowering>>,
    /// `--allow-proposal`.
    pub allow_proposals: Option<Vec<Proposal>>,
    /// `--assume`.
    pub assume: Option<Vec<Assumption>>,
    /// `--allow-import`.
    pub allow_imports: Option<Vec<String>>,
    /// `--budget-raw`.
    pub budget_raw: Option<ByteCount>,
    /// `--budget-gzip`.
    pub budget_gzip: Option<ByteCount>,
    /// `--variant`.
    pub variants: Option<Variants>,
    /// `--embed`, `--no-embed`.
    pub embed: Option<Embed>,
}

impl Overrides {
    /// The flags that these settings come from, for messages.
    #[must_use]
    pub fn flags(&self) -> Vec<&'static str> {
        [
            ("--level", self.level.is_some()),
            ("--optimize-for", self.optimize_for.is_some()),
            ("--keep-section", self.keep_sections.is_some()),
            ("--keep-export", self.keep_exports.is_some()),
            ("--stub-import", self.stub_imports.is_some()),
            ("--lower", self.lower.is_some()),
            ("--allow-proposal", self.allow_proposals.is_some()),
            ("--assume", self.assume.is_some()),
            ("--allow-import", self.allow_imports.is_some()),
            ("--budget-raw", self.budget_raw.is_some()),
            ("--budget-gzip", self.budget_gzip.is_some()),
            ("--variant", self.variants.is_some()),
            ("--embed", matches!(self.embed, Some(Embed::With(_)))),
        ]
        .into_iter()
        .filter_map(|(flag, given)| given.then_some(flag))
        .collect()
    }
}

/// Whether, and with which key, a module is signed inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Embed {
    /// It is not.
    No,
    /// With this one: a path, or `env:NAME`.
    With(String),
}

impl Overrides {
    /// These, and where they say nothing, those.
    #[must_use]
    pub fn or(self, those: Overrides) -> Overrides {
        Overrides {
            level: self.level.or(those.level),
            optimize_for: self.optimize_for.or(those.optimize_for),
            keep_sections: self.keep_sections.or(those.keep_sections),
            keep_exports: self.keep_exports.or(those.keep_exports),
            stub_imports: self.stub_imports.or(those.stub_imports),
            lower: self.lower.or(those.lower),
            allow_proposals: self.allow_proposals.or(those.allow_proposals),
            assume: self.assume.or(those.assume),
            allow_imports: self.allow_imports.or(those.allow_imports),
            budget_raw: self.budget_raw.or(those.budget_raw),
            budget_gzip: self.budget_gzip.or(those.budget_gzip),
            variants: self.variants.or(those.variants),
            embed: self.embed.or(those.embed),
        }
    }
}

/// What the stages after the compiler go by.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How to shrink.
    pub shrink: shrink::Options,
    /// What is allowed.
    pub policy: Policy,
    /// Which forms of the artifact are made.
    pub variants: Variants,
    /// The key to sign inside with: a path, or `env:NAME`.
    pub embed: Option<String>,
}

impl Settings {
    /// Flags over configuration over defaults.
    #[must_use]
    pub fn new(config: &Config, overrides: &Overrides) -> Self {
        fn pick<T: Clone>(flag: Option<&Vec<T>>, config: Option<&Vec<T>>) -> Option<Vec<T>> {
            flag.or(config).cloned()
        }
        let defaults = shrink::Options::default();
        Settings {
            shrink: shrink::Options {
                level: overrides
                    .level
                    .or(config.shrink.level)
                    .unwrap_or(defaults.level),
                optimize_for: overrides
                    .optimize_for
                    .or(config.shrink.optimize_for)
                    .unwrap_or(defaults.optimize_for),
                keep_sections: pick(
                    overrides.keep_sections.as_ref(),
                    config.shrink.keep_sections.as_ref(),
                )
                .unwrap_or(defaults.keep_sections),
                keep_exports: pick(
                    overrides.keep_exports.as_ref(),
                    config.shrink.keep_exports.as_ref(),
                ),
                stub_imports: pick(
                    overrides.stub_imports.as_ref(),
                    config.shrink.stub_imports.as_ref(),
                )
                .unwrap_or_default(),
                lower: pick(overrides.lower.as_ref(), config.shrink.lower.as_ref())
                    .unwrap_or_default(),
                allow_proposals: pick(
                    overrides.allow_proposals.as_ref(),
                    config.shrink.allow_proposals.as_ref(),
                )
                .unwrap_or_default(),
                assume: pick(overrides.assume.as_ref(), config.shrink.assume.as_ref())
                    .unwrap_or_default(),
            },
            policy: Policy {
                allow_imports: pick(
                    overrides.allow_imports.as_ref(),
                    config.check.allow_imports.as_ref(),
                ),
                budget_raw: overrides.budget_raw.or(config.budget.raw),
                budget_gzip: overrides.budget_gzip.or(config.budget.gzip),
            },
            variants: overrides
                .variants
                .clone()
                .or_else(|| config.publish.variants.clone())
                .unwrap_or_default(),
            embed: match &overrides.embed {
                Some(Embed::No) => None,
                Some(Embed::With(key)) => Some(key.clone()),
                None => config.sign.embed.clone(),
            },
        }
    }
}

/// One package that is built.
#[derive(Clone, Debug)]
pub struct PackagePlan {
    /// Cargo's id for it.
    pub id: PackageId,
    /// The words for cargo's `-p`.
    pub spec: String,
    /// The compile target.
    pub target: String,
    /// The cargo profile.
    pub profile: String,
    /// How far the compiler goes for a small binary.
    pub size: BuildSize,
    /// What comes after the compiler.
    pub settings: Settings,
    /// Where it is to be published, as far as the configuration says.
    pub publish: PublishConfig,
    /// How it is to be signed, as far as the configuration says.
    pub sign: SignConfig,
    /// What is said about the artifact; the name is that of the package.
    pub metadata: Metadata,
    /// Whether artifacts are named after cargo's targets, because there are several.
    pub name_by_target: bool,
}

impl PackagePlan {
    /// The words for cargo's `-p` that no dependency of the same name fits too.
    pub(crate) fn unambiguous(&self) -> String {
        // Cargo does not take back every id: in one, letters of a folder may be escaped.
        if self.spec == self.metadata.name {
            format!("{}@{}", self.spec, self.metadata.version)
        } else {
            self.spec.clone()
        }
    }

    /// The name under which the artifact of one of cargo's targets ships.
    #[must_use]
    pub fn artifact_name(&self, target: &Target) -> String {
        if self.name_by_target || is_example(target) {
            target.name.clone()
        } else {
            self.metadata.name.clone()
        }
    }
}

/// Packages that one run of cargo builds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The compile target.
    pub target: String,
    /// The cargo profile.
    pub profile: String,
    /// How far the compiler goes for a small binary.
    pub size: BuildSize,
    /// The name of a package that may turn out to be no Wasm: it is built by
    /// itself, and left out should it not compile.
    pub doubtful: Option<String>,
}

/// What `build` is going to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Runs of cargo, each with indices into `packages`.
    pub groups: BTreeMap<Group, Vec<usize>>,
    /// What is built.
    pub packages: Vec<PackagePlan>,
    /// What is not, each with the reason.
    pub skipped: Vec<(String, &'static str)>,
}

impl Plan {
    /// Decides what to build.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`], [`Error::Config`] or [`Error::NoOutput`]: nothing has been
    /// done yet.
    pub fn new(
        project: &Project,
        flags: &CargoFlags,
        overrides: &Overrides,
        configured_target: Option<&str>,
    ) -> Result<Self, Error> {
        let mut plan = Plan {
            groups: BTreeMap::new(),
            packages: Vec::new(),
            skipped: Vec::new(),
        };
        let chosen = selected(project, flags)?;
        // Where some packages are set up for this tool, one that is not may well be
        // meant for another machine.
        let has_table = |p: &Package| p.metadata.get(crate::config::TABLE).is_some();
        let some_are_set_up = chosen.iter().any(|(p, _)| has_table(p));
        for (package, named) in chosen {
            let config = project.config_of(package)?;
            if config.skip == Some(true) && !named {
                plan.skipped.push((package.name.to_string(), "skip = true"));
                continue;
            }
            let targets: Vec<&Target> = package
                .targets
                .iter()
                .filter(|t| flags.targets.select(t))
                .collect();
            if targets.is_empty() {
                plan.skipped.push((
                    package.name.to_string(),
                    "it has no bin and no cdylib to build",
                ));
                continue;
            }
            let built = package_plan(
                project,
                package,
                &targets,
                config,
                flags,
                overrides,
                configured_target,
            )?;
            let group = Group {
                target: built.target.clone(),
                profile: built.profile.clone(),
                size: built.size,
                doubtful: (some_are_set_up && !named && !has_table(package))
                    .then(|| package.name.to_string()),
            };
            plan.groups
                .entry(group)
                .or_default()
                .push(plan.packages.len());
            plan.packages.push(built);
        }
        unknown_targets(project, flags)?;
        if plan.packages.is_empty() {
            let skipped: Vec<_> = plan
                .skipped
                .iter()
                .map(|(name, why)| format!("`{name}`: {why}"))
                .collect();
            return Err(Error::NoOutput {
                message: format!("there is nothing to build ({})", skipped.join("; ")),
                hint: Some(
                    "a Wasm package has a src/main.rs, or a library with crate-type = [\"cdylib\"] under [lib]".into(),
                ),
            });
        }
        plan.refuse_equal_names(project, flags)?;
        Ok(plan)
    }

    /// The names of the artifacts that each package is sure to have: a package that may
    /// turn out to be no Wasm has none, nor has a target whose features may be off.
    #[must_use]
    pub fn sure_artifacts(&self, project: &Project, flags: &CargoFlags) -> Vec<Vec<String>> {
        let mut names = vec![Vec::new(); self.packages.len()];
        let groups = self.groups.iter().filter(|(g, _)| g.doubtful.is_none());
        for &index in groups.flat_map(|(_, members)| members) {
            let built = &self.packages[index];
            let targets = &project.metadata[&built.id].targets;
            names[index] = targets
                .iter()
                .filter(|t| flags.targets.select(t) && t.required_features.is_empty())
                .map(|t| built.artifact_name(t))
                .collect();
        }
        names
    }

    /// Two artifacts of one name would overwrite each other.
    fn refuse_equal_names(&self, project: &Project, flags: &CargoFlags) -> Result<(), Error> {
        let mut seen = BTreeMap::<String, String>::new();
        for built in &self.packages {
            let package = &project.metadata[&built.id];
            for target in package.targets.iter().filter(|t| flags.targets.select(t)) {
                let what = format!("{} of package `{}`", describe(target), package.name);
                let name = built.artifact_name(target);
                let variants = built.settings.variants.as_slice().iter();
                let mut names: Vec<_> = variants.map(|v| v.artifact_name(&name)).collect();
                // The file is called so whatever is packed.
                if !names.contains(&name) {
                    names.push(name);
                }
                for name in names {
                    if let Some(other) = seen.insert(name.clone(), what.clone()) {
                        return Err(Error::Usage {
                            message: format!(
                                "two artifacts are called `{name}`: the {other} and the {what}"
                            ),
                            hint: Some("build one of them: choose with -p, --lib, --bin NAME or --exclude, or rename one".into()),
                        });
                    }
                }
            }
        }
        Ok(())
    }
}

fn package_plan(
    project: &Project,
    package: &Package,
    targets: &[&Target],
    config: Config,
    flags: &CargoFlags,
    overrides: &Overrides,
    configured_target: Option<&str>,
) -> Result<PackagePlan, Error> {
    let settings = Settings::new(&config, overrides);
    let target = flags
        .target
        .clone()
        .or(config.target)
        .or_else(|| {
            configured_target
                .filter(|t| t.starts_with("wasm"))
                .map(str::to_owned)
        })
        .unwrap_or_else(|| default_target(package, targets).to_owned());
    check_target(&target)?;
    let candidates = package
        .targets
        .iter()
        .filter(|t| is_bin(t) || is_cdylib(t))
        .count();
    let authors = package.authors.clone();
    Ok(PackagePlan {
        id: package.id.clone(),
        spec: if project
            .metadata
            .packages
            .iter()
            .filter(|p| p.name == package.name)
            .count()
            > 1
        {
            package.id.repr.clone()
        } else {
            package.name.to_string()
        },
        target,
        profile: flags
            .profile
            .clone()
            .or(config.profile)
            .unwrap_or_else(|| "release".to_owned()),
        size: flags.size.or(config.build.size).unwrap_or_default(),
        settings,
        publish: config.publish,
        sign: config.sign,
        metadata: Metadata {
            name: package.name.to_string(),
            version: package.version.to_string(),
            description: package
                .description
                .as_deref()
                .map(|d| d.split_whitespace().collect::<Vec<_>>().join(" ")),
            licenses: package.license.clone(),
            source: package.repository.as_deref().and_then(source::address),
            url: package.homepage.clone(),
            authors,
            revision: None,
        },
        name_by_target: candidates > 1,
    })
}

/// A binary or an example that was named and that no package has.
fn unknown_targets(project: &Project, flags: &CargoFlags) -> Result<(), Error> {
    type Is = fn(&Target) -> bool;
    let kinds: [(&str, &[String], Is); 2] = [
        ("binary", &flags.targets.bin, is_bin),
        ("example", &flags.targets.example, is_example),
    ];
    for (kind, names, is) in kinds {
        for name in names {
            let all = selected(project, flags)?
                .into_iter()
                .flat_map(|(p, _)| &p.targets)
                .filter(|t| is(t));
            let known: Vec<&str> = all.map(|t| t.name.as_str()).collect();
            if !known.contains(&name.as_str()) {
                return Err(Error::Usage {
                    message: format!("there is no {kind} `{name}`"),
                    hint: did_you_mean(name, known.iter().copied())
                        .map(|near| format!("did you mean `{near}`?"))
                        .or_else(|| {
                            (!known.is_empty()).then(|| format!("there is {}", known.join(", ")))
                        }),
                });
            }
        }
    }
    Ok(())
}

/// The target for a package that names none: a program is a WASI command, a
/// library with WIT bindings is a component, any other a plain module.
fn default_target(package: &Package, targets: &[&Target]) -> &'static str {
    const BINDINGS: &[&str] = &[
        "wit-bindgen",
        "wit-bindgen-rt",
        "wasip2",
        "wstd",
        "spin-sdk",
        "wasmcloud-component",
    ];
    if targets.iter().any(|t| !is_cdylib(t)) {
        "wasm32-wasip1"
    } else if package
        .dependencies
        .iter()
        .any(|d| BINDINGS.contains(&d.name.as_str()))
    {
        "wasm32-wasip2"
    } else {
        "wasm32-unknown-unknown"
    }
}

fn check_target(target: &str) -> Result<(), Error> {
    let custom = std::path::Path::new(target)
        .extension()
        .is_some_and(|e| e == "json");
    if target.starts_with("wasm") || custom {
        return Ok(());
    }
    Err(Error::Usage {
        message: format!("`{target}` is no Wasm target"),
        hint: Some(match did_you_mean(target, WASM_TARGETS.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("use one of {}", WASM_TARGETS[..3].join(", ")),
        }),
    })
}

/// The packages that the flags stand for, each with whether it was named.
fn selected<'p>(
    project: &'p Project,
    flags: &CargoFlags,
) -> Result<Vec<(&'p Package, bool)>, Error> {
    let all = &project.metadata.packages;
    if !flags.exclude.is_empty() && !flags.workspace {
        return Err(Error::Usage {
            message: "--exclude goes with --workspace".into(),
            hint: Some("add --workspace, or name packages with -p".into()),
        });
    }
    for spec in flags.packages.iter().chain(&flags.exclude) {
        if !all.iter().any(|p| matches_spec(p, spec)) {
            let names: Vec<&str> = all.iter().map(|p| p.name.as_str()).collect();
            return Err(Error::Usage {
                message: format!("there is no package `{spec}` in this workspace"),
                hint: Some(match did_you_mean(spec, names.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("it has {}", names.join(", ")),
                }),
            });
        }
    }
    if flags.workspace {
        return Ok(all
            .iter()
            .filter(|p| !flags.exclude.iter().any(|spec| matches_spec(p, spec)))
            .map(|p| (p, flags.packages.iter().any(|spec| matches_spec(p, spec))))
            .collect());
    }
    if !flags.packages.is_empty() {
        return Ok(all
            .iter()
            .filter(|p| flags.packages.iter().any(|spec| matches_spec(p, spec)))
            .map(|p| (p, true))
            .collect());
    }
    Ok(project.default.iter().map(|&i| (&all[i], false)).collect())
}

/// Whether a package is meant by `NAME`, `NAME@VERSION`, a glob, or its id.
fn matches_spec(package: &Package, spec: &str) -> bool {
    if package.id.repr == spec {
        return true;
    }
    let (name, version) = spec
        .split_once(['@', ':'])
        .map_or((spec, None), |(n, v)| (n, Some(v)));
    let version_matches = version.is_none_or(|v| {
        let full = package.version.to_string();
        full == v || full.starts_with(&format!("{v}."))
    });
    version_matches && WildMatch::new(name).matches(package.name.as_str())
}

fn describe(target: &Target) -> String {
    let kind = if is_bin(target) {
        "bin"
    } else if is_example(target) {
        "example"
    } else {
        "cdylib"
    };
    format!("{kind} `{}`", target.name)
}
