//! The one place where the order of the stages is written.
//!
//! ```text
//! compile → check → shrink → check again → sign inside → pack
//! ```
//!
//! Compiling is [`crate::build`]'s; everything behind it works on bytes alone and
//! takes any binary, whatever language it came from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::cache::{Cache, Key};
use crate::cancel::Cancel;
use crate::error::Error;
use crate::finding::{Code, Finding, Severity};
use crate::oci::{Digest, tag_from_version};
use crate::output;
use crate::pack::{self, Metadata, PackError, Timestamp, Variant};
use crate::plan::Settings;
use crate::registry::layout::Layout;
use crate::report::{OciReport, PackageReport, StageReport};
use crate::shrink::{self, Level, ModuleReport, Optimizer};
use crate::sign::embedded::{self, SecretKey};
use crate::size::{self, Sizes};
use crate::validate::{self, Policy, Rejected, Validated};
use crate::wasm::Wasm;
use crate::wasm::proposals::validate_with;

/// The name of the compile stage in reports.
pub const COMPILE: &str = "compile";
const CHECK: &str = "check";
/// The name of the shrink stage in reports.
pub const SHRINK: &str = "shrink";
const CHECK_AGAIN: &str = "check again";
const SIGN_INSIDE: &str = "sign inside";
const PACK: &str = "pack";

/// Told to whoever watches.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A stage of a package has begun.
    Stage {
        /// Which package.
        package: &'a str,
        /// Which stage.
        stage: &'a str,
    },
}

/// What the stages work with.
pub struct Context<'a> {
    /// What shrinks core modules.
    pub optimizer: &'a dyn Optimizer,
    /// Where results are kept.
    pub cache: &'a Cache,
    /// Asked between stages.
    pub cancel: &'a Cancel,
    /// Whether the size after gzip is asked for where no budget needs it. `build`
    /// reports it always.
    pub gzip: bool,
    /// Told when a stage begins.
    pub on_event: &'a (dyn Fn(Event<'_>) + Sync),
}

/// A binary on its way in.
#[derive(Debug)]
pub struct Input {
    /// The binary.
    pub wasm: Wasm,
    /// What the artifact says about itself, its name and version among it.
    pub metadata: Metadata,
    /// The compile target, where there was one.
    pub target: Option<String>,
    /// How to shrink, what to allow.
    pub settings: Settings,
    /// The key that the settings name to sign inside with.
    pub embed: Option<Arc<SecretKey>>,
    /// The time that the artifact carries.
    pub created: Timestamp,
    /// Stages that came before.
    pub stages: Vec<StageReport>,
}

/// Where results go.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The folder for `NAME.wasm`.
    pub folder: PathBuf,
    /// The image layout.
    pub layout: Layout,
}

impl Destination {
    /// `edgepack` below cargo's target folder.
    #[must_use]
    pub fn below(target_dir: &Path) -> Self {
        let folder = target_dir.join("edgepack");
        Destination {
            layout: Layout::at(folder.join("oci")),
            folder,
        }
    }

    /// Where the report of a run is kept.
    #[must_use]
    pub fn report_path(&self) -> PathBuf {
        self.folder.join("report.json")
    }

    /// Where the SBOM of a package is kept: each has its own.
    #[must_use]
    pub fn sbom_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.cdx.json"))
    }

    /// Where the binary of a package is kept.
    #[must_use]
    pub fn module_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.wasm"))
    }
}

/// Takes a binary through every stage behind the compiler.
///
/// An error finding ends the way before the pack stage: the report then has no
/// artifact, and what an earlier run packed stays as it is.
///
/// # Errors
///
/// [`Error`] for what is no fault of the binary's.
pub fn run(input: Input, context: &Context<'_>, to: &Destination) -> Result<PackageReport, Error> {
    let Input {
        wasm,
        metadata,
        target,
        settings,
        embed,
        created,
        stages,
    } = input;
    let mut clock = Clock {
        context,
        package: &metadata.name,
        stages,
    };
    let before = wasm.bytes().len() as u64;
    let identity = Identity {
        name: &metadata.name,
        version: &metadata.version,
        target,
    };

    let checked = match clock.time(CHECK, || validate::validate_once(wasm, context.cache))? {
        Ok(checked) => checked,
        Err(rejected) => return Ok(report_rejected(&rejected, identity, None, clock.stages)),
    };
    settings.shrink.check()?;
    let (module, mut findings, modules) = if settings.shrink.level == Level::Off {
        (checked, Vec::new(), Vec::new())
    } else {
        shrunk(checked, &settings.shrink, context, &mut clock)?
    };
    // The last change: what is behind it is about the bytes that ship.
    let module = match &embed {
        Some(key) => {
            // Another one takes its place.
            findings.retain(|f| f.code != Code::SignatureDropped);
            clock.time(SIGN_INSIDE, || signed_inside(&module, key, context.cache))??
        }
        None => module,
    };
    let gzip = cached_gzip_size(module.wasm().bytes(), context.cache);
    let sizes = Sizes {
        before,
        after: module.wasm().bytes().len() as u64,
        gzip: Some(gzip),
    };
    findings.extend(validate::check_imports(&module, &settings.policy));
    let budgets = validate::budgets(sizes.after, sizes.gzip, &settings.policy);
    findings.extend(validate::check_budgets(&budgets));
    let variants = settings.variants.as_slice();
    findings.extend(check_variants(&module, variants));
    context.cancel.check()?;

    // Written even where a budget is exceeded: what is too large has to be looked at.
    let path = to.module_path(&metadata.name);
    output::write_into_new(&path, module.wasm().bytes())?;
    let failed = findings.iter().any(|f| f.severity == Severity::Error);
    let artifacts = if failed {
        Vec::new()
    } else {
        // One after the other: an artifact holds a copy of the module.
        clock.time(PACK, || {
            variants
                .iter()
                .map(|&variant| store(&module, &metadata, created, variant, &to.layout))
                .collect::<Result<_, _>>()
        })??
    };
    Ok(PackageReport {
        oci: artifacts.first().cloned(),
        artifacts,
        modules,
        budgets,
        embedded: embed.map(|key| key.fingerprint()),
        ..describe(&module, identity, Some(path), sizes, findings, clock.stages)
    })
}

/// The same module with a signature inside.
fn signed_inside(module: &Validated, key: &SecretKey, cache: &Cache) -> Result<Validated, Error> {
    let signed = embedded::embed(module.wasm(), key)?;
    let broken = |why: String| Error::Internal(format!("the signed bytes are not valid: {why}"));
    let signed = Wasm::new(signed).map_err(|e| broken(e.to_string()))?;
    validate::validate_once(signed, cache).map_err(|rejected| {
        let first = rejected.findings.first();
        broken(first.map_or_else(String::new, |f| f.message.clone()))
    })
}

/// The variants that do not take the binary.
fn check_variants(module: &Validated, variants: &[Variant]) -> Vec<Finding> {
    let kind = module.wasm().kind();
    variants
        .iter()
        .filter(|variant| !variant.takes(kind))
        .map(|&variant| {
            let error = PackError::Component(variant);
            Finding::new(Code::VariantNeedsModule, error.to_string()).with_hint(error.hint())
        })
        .collect()
}

/// Packs one variant into the layout.
fn store(
    module: &Validated,
    metadata: &Metadata,
    created: Timestamp,
    variant: Variant,
    layout: &Layout,
) -> Result<OciReport, Error> {
    let artifact = pack::pack(module, metadata, created, variant)
        .map_err(|error| Error::Internal(error.to_string()))?;
    let tag = format!(
        "{}:{}",
        tag_from_version(&variant.artifact_name(&metadata.name)),
        tag_from_version(&metadata.version)
    );
    layout.store(&artifact, &tag)?;
    Ok(OciReport {
        manifest_digest: artifact.digest().clone(),
        layout: layout.folder().to_owned(),
        tag,
        variant: variant.to_string(),
    })
}

/// Shrinks, and checks what came out. Should that ever not validate, the input
/// ships as it was, and a finding says so.
fn shrunk(
    checked: Validated,
    options: &shrink::Options,
    context: &Context<'_>,
    clock: &mut Clock<'_>,
) -> Result<(Validated, Vec<Finding>, Vec<ModuleReport>), Error> {
    let (mut outcome, mut again) = shrunk_once(&checked, options, context, clock)?;
    if !outcome.taken.is_empty()
        && let Some(why) = strangeness(&again, &checked, options)
    {
        // What was made here validates: it is something in the cache that does not.
        for key in &outcome.taken {
            context.cache.remove(key);
        }
        (outcome, again) = shrunk_once(&checked, options, context, clock)?;
        outcome.findings.push(shrink::mismatch(&why));
    }
    let Outcome {
        mut findings,
        modules,
        ..
    } = outcome;
    match again {
        Ok(module) => Ok((module, findings, modules)),
        Err(rejected) => {
            let why = rejected.findings.first().map_or("", |f| f.message.as_str());
            if options.change_the_interface() {
                // The input is not what was asked for.
                return Err(Error::Internal(format!(
                    "the shrunk bytes do not validate: {why}"
                )));
            }
            findings.push(
                Finding::new(
                    Code::OptimizerRejected,
                    format!("the shrunk bytes do not validate ({why}); the input is used"),
                )
                .with_hint("please report this, with the module if you can share it"),
            );
            Ok((checked, findings, modules))
        }
    }
}

/// What shrinking gave, besides the bytes.
struct Outcome {
    findings: Vec<Finding>,
    modules: Vec<ModuleReport>,
    taken: Vec<Key>,
}

fn shrunk_once(
    checked: &Validated,
    options: &shrink::Options,
    context: &Context<'_>,
    clock: &mut Clock<'_>,
) -> Result<(Outcome, Result<Validated, Rejected>), Error> {
    let shrunk = clock.time(SHRINK, || {
        shrink::shrink(checked, options, context.optimizer, context.cache)
    })??;
    if let Some(stage) = clock.stages.last_mut() {
        stage.cached = shrunk.cached();
    }
    let again = clock.time(CHECK_AGAIN, || {
        validate::validate_once(shrunk.wasm, context.cache)
    })?;
    let outcome = Outcome {
        findings: shrunk.findings,
        modules: shrunk.modules,
        taken: shrunk.taken,
    };
    Ok((outcome, again))
}

/// Why bytes that came from the cache are none that shrinking makes: it does not break
/// them, and keeps to the proposals that the input uses.
fn strangeness(
    again: &Result<Validated, Rejected>,
    checked: &Validated,
    options: &shrink::Options,
) -> Option<String> {
    let module = match again {
        Ok(module) => module,
        Err(rejected) => {
            let why = rejected.findings.first().map_or("", |f| f.message.as_str());
            return Some(format!("it does not validate: {why}"));
        }
    };
    let allowed = options.allow_proposals.iter();
    let limit = allowed.fold(checked.proposals(), |limit, allowed| limit.with(allowed.0));
    let more = module.proposals().without(limit).to_strings();
    // Of two proposals that each would do, either may be told.
    if more.is_empty() || validate_with(module.wasm().bytes(), limit).is_ok() {
        return None;
    }
    Some(format!(
        "it takes {}, as the module does not",
        more.join(", ")
    ))
}

/// Shrinks a binary that came as a file: check, shrink, check again. Returns the
/// bytes to write, or none where an error was found.
///
/// # Errors
///
/// [`Error`] for what is no fault of the binary's.
pub fn shrink_only(
    wasm: Wasm,
    to: &Path,
    metadata: &Metadata,
    options: &shrink::Options,
    context: &Context<'_>,
) -> Result<(PackageReport, Option<Vec<u8>>), Error> {
    let mut clock = Clock {
        context,
        package: &metadata.name,
        stages: Vec::new(),
    };
    let identity = Identity {
        name: &metadata.name,
        version: &metadata.version,
        target: None,
    };
    let before = wasm.bytes().len() as u64;
    let checked = match clock.time(CHECK, || validate::validate_once(wasm, context.cache))? {
        Ok(checked) => checked,
        Err(rejected) => {
            return Ok((
                report_rejected(&rejected, identity, None, clock.stages),
                None,
            ));
        }
    };
    let (module, findings, modules) = shrunk(checked, options, context, &mut clock)?;
    let bytes = module.wasm().bytes();
    let sizes = Sizes {
        before,
        after: bytes.len() as u64,
        gzip: context.gzip.then(|| cached_gzip_size(bytes, context.cache)),
    };
    let report = PackageReport {
        modules,
        ..describe(
            &module,
            identity,
            Some(to.to_owned()),
            sizes,
            findings,
            clock.stages,
        )
    };
    Ok((report, Some(module.into_wasm().into_bytes())))
}

/// Checks a binary as it is.
///
/// # Errors
///
/// [`Error::Interrupted`].
pub fn check(
    wasm: Wasm,
    path: &Path,
    metadata: &Metadata,
    policy: &Policy,
    context: &Context<'_>,
) -> Result<PackageReport, Error> {
    let mut clock = Clock {
        context,
        package: &metadata.name,
        stages: Vec::new(),
    };
    let identity = Identity {
        name: &metadata.name,
        version: &metadata.version,
        target: None,
    };
    let module = match clock.time(CHECK, || validate::validate(wasm))? {
        Ok(module) => module,
        Err(rejected) => {
            return Ok(report_rejected(
                &rejected,
                identity,
                Some(path),
                clock.stages,
            ));
        }
    };
    let size = module.wasm().bytes().len() as u64;
    let wanted = context.gzip || policy.budget_gzip.is_some();
    let sizes = Sizes {
        before: size,
        after: size,
        gzip: wanted.then(|| cached_gzip_size(module.wasm().bytes(), context.cache)),
    };
    let mut findings = validate::check_imports(&module, policy);
    let budgets = validate::budgets(sizes.after, sizes.gzip, policy);
    findings.extend(validate::check_budgets(&budgets));
    Ok(PackageReport {
        budgets,
        ..describe(
            &module,
            identity,
            Some(path.to_owned()),
            sizes,
            findings,
            clock.stages,
        )
    })
}

/// Who a report is about.
struct Identity<'a> {
    name: &'a str,
    version: &'a str,
    target: Option<String>,
}

fn describe(
    module: &Validated,
    identity: Identity<'_>,
    path: Option<PathBuf>,
    size: Sizes,
    findings: Vec<Finding>,
    stages: Vec<StageReport>,
) -> PackageReport {
    let interface = module.interface();
    PackageReport {
        name: identity.name.to_owned(),
        version: identity.version.to_owned(),
        target: identity.target,
        kind: module.wasm().kind(),
        input: None,
        wasm: path,
        sbom: None,
        embedded: None,
        sha256: module.digest().hex().to_owned(),
        size,
        budgets: Vec::new(),
        imports: interface.imports.iter().map(|i| i.name.clone()).collect(),
        exports: interface.exports.iter().map(|e| e.name.clone()).collect(),
        features: module.proposals().to_strings(),
        findings,
        oci: None,
        artifacts: Vec::new(),
        modules: Vec::new(),
        comparison: None,
        stages,
    }
}

fn report_rejected(
    rejected: &Rejected,
    identity: Identity<'_>,
    path: Option<&Path>,
    stages: Vec<StageReport>,
) -> PackageReport {
    let bytes = rejected.wasm.bytes();
    let size = bytes.len() as u64;
    PackageReport {
        name: identity.name.to_owned(),
        version: identity.version.to_owned(),
        target: identity.target,
        kind: rejected.wasm.kind(),
        input: None,
        wasm: path.map(Path::to_owned),
        sbom: None,
        embedded: None,
        sha256: Digest::of(bytes).hex().to_owned(),
        size: Sizes {
            before: size,
            after: size,
            gzip: Some(size::gzip_size(bytes)),
        },
        budgets: Vec::new(),
        imports: Vec::new(),
        exports: Vec::new(),
        features: Vec::new(),
        findings: rejected.findings.clone(),
        oci: None,
        artifacts: Vec::new(),
        modules: Vec::new(),
        comparison: None,
        stages,
    }
}

/// Compressing takes longer than all else on an unchanged project.
pub(crate) fn cached_gzip_size(bytes: &[u8], cache: &Cache) -> u64 {
    let key = Key::new("gzip-size/1", &[bytes]);
    if let Some(size) = cache
        .get(&key)
        .and_then(|entry| Some(u64::from_le_bytes(entry.try_into().ok()?)))
    {
        return size;
    }
    let size = size::gzip_size(bytes);
    cache.put(&key, &size.to_le_bytes());
    size
}

struct Clock<'a> {
    context: &'a Context<'a>,
    package: &'a str,
    stages: Vec<StageReport>,
}

impl Clock<'_> {
    fn time<T>(&mut self, stage: &str, work: impl FnOnce() -> T) -> Result<T, Error> {
        self.context.cancel.check()?;
        (self.context.on_event)(Event::Stage {
            package: self.package,
            stage,
        });
        let started = Instant::now();
        let result = work();
        self.stages.push(StageReport {
            name: stage.to_owned(),
            seconds: started.elapsed().as_secs_f64(),
            cached: false,
        });
        Ok(result)
    }
}
