//! The shrink stage: strips what hosts do not read and optimises every core
//! module, alone or at any depth inside components.
//!
//! Each core module is taken out of its wrapping, handed to the optimiser bare,
//! with only the proposals that it already uses, and put back with the custom
//! sections that are kept. Whatever the optimiser does — refuse, crash, hang,
//! write something larger, invalid, or with new proposals — costs no more than
//! its own work: the stripped module is then what ships, and a finding says so.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cache::{Cache, Key};
use crate::error::Error;
use crate::finding::{Code, Finding};
use crate::oci::Digest;
use crate::validate::{self, Validated};
use crate::wasm::interface::Patterns;
use crate::wasm::metadata::SIGNATURE_SECTION;
use crate::wasm::proposals::{self, Proposals};
use crate::wasm::segments;
use crate::wasm::{
    COMPONENT_COMPONENT_SECTION, COMPONENT_CORE_MODULE_SECTION, CUSTOM_SECTION, Edit, Kind,
    Section, Wasm, rewrite,
};

#[cfg(feature = "binaryen")]
pub mod binaryen;
mod custom;
pub mod dispatch;
mod distrust;
pub(crate) mod entry;
pub mod external;
mod level;
pub mod limits;
pub mod lower;
mod options;
pub mod recipe;
pub mod search;
mod transform;
pub mod worker;

use custom::{NAMES, with_custom_sections, without};
use entry::Entry;
pub(crate) use entry::mismatch;
pub use level::{Level, Measure};
pub use options::{Answer, Assumption, DEFAULT_KEEP_SECTIONS, Lowering, Options, Proposal, Stub};
pub use search::{Attempt, Candidate, Goal, OptimizeError, Optimizer, Outcome, Producer};

/// Sections that no host reads: they go without a word.
const SILENTLY_DROPPED: &[&str] = &[
    "name",
    "component-name",
    ".debug_*",
    "sourceMappingURL",
    "external_debug_info",
    "build_id",
    "target_features",
    "linking",
    "reloc.*",
    // Points at code offsets, which no longer hold.
    "metadata.code.*",
];

/// Components nested deeper than this are carried over as they are.
const MAX_DEPTH: usize = 100;

/// What became of one core module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModuleReport {
    /// Its size, stripped of custom sections.
    pub before: u64,
    /// Its size as it ships, without the custom sections that are kept.
    pub after: u64,
    /// Whether the result was there from an earlier run: then nothing was tried.
    pub cached: bool,
    /// The recipe that won; null where the module was only stripped.
    pub recipe: Option<String>,
    /// What was tried, in order.
    pub candidates: Vec<Candidate>,
    /// Exports that went because `shrink.keep-exports` does not name them.
    pub removed_exports: Vec<String>,
    /// Imports that are answered inside: `shrink.stub-imports`.
    pub stubbed_imports: Vec<String>,
    /// Imports that went because nothing reached them once the exports were gone.
    pub removed_imports: Vec<String>,
}

/// What became of a binary.
#[derive(Debug)]
pub struct Shrunk {
    /// The new bytes: to be validated again.
    pub wasm: Wasm,
    /// What was left undone or dropped.
    pub findings: Vec<Finding>,
    /// The core modules in it, in the order in which they stand.
    pub modules: Vec<ModuleReport>,
    /// What was taken from the cache: to be forgotten where the new bytes turn out to be
    /// no form of the input.
    pub taken: Vec<Key>,
}

impl Shrunk {
    /// Whether there was nothing to optimise that was not in the cache.
    #[must_use]
    pub fn cached(&self) -> bool {
        !self.modules.is_empty() && self.modules.iter().all(|module| module.cached)
    }
}

/// Makes a binary smaller. The result is never larger than the input.
///
/// # Errors
///
/// Where the optimiser cannot be run at all, or the run was interrupted. Not for
/// anything that the module holds.
pub fn shrink(
    whole: &Validated,
    options: &Options,
    optimizer: &dyn Optimizer,
    cache: &Cache,
) -> Result<Shrunk, Error> {
    let wasm = whole.wasm();
    options.check()?;
    if options.level == Level::Off {
        return Ok(Shrunk {
            wasm: wasm.clone(),
            findings: Vec::new(),
            modules: Vec::new(),
            taken: Vec::new(),
        });
    }
    if wasm.kind() == Kind::Component
        && (options.keep_exports.is_some() || !options.stub_imports.is_empty())
    {
        return Err(Error::Usage {
            message: "shrink.keep-exports and shrink.stub-imports work on core modules, and this is a component".into(),
            hint: Some("what a component offers and asks for is in its WIT world: change it there".into()),
        });
    }
    let mut run = Run {
        whole,
        options,
        optimizer,
        cache,
        keep: Patterns::new(&options.keep_sections),
        silent: Patterns::new(SILENTLY_DROPPED),
        dropped: Vec::new(),
        signature: false,
        findings: Vec::new(),
        modules: Vec::new(),
        taken: Vec::new(),
    };
    let bytes = run.binary(wasm.bytes(), wasm.kind(), 0)?;
    let Run {
        mut findings,
        mut dropped,
        modules,
        taken,
        signature,
        ..
    } = run;
    if bytes.len() > wasm.bytes().len() && !options.change_the_interface() {
        return Ok(Shrunk {
            wasm: wasm.clone(),
            findings,
            modules,
            taken,
        });
    }
    if signature {
        findings.push(
            Finding::new(
                Code::SignatureDropped,
                "the signature inside the module was dropped: it does not cover the new bytes",
            )
            .with_hint("sign the result again, or build with --no-shrink to ship the signed bytes"),
        );
    }
    if !dropped.is_empty() {
        dropped.sort_unstable();
        dropped.dedup();
        findings.push(
            Finding::new(
                Code::SectionsDropped,
                format!("dropped custom sections: {}", dropped.join(", ")),
            )
            .with_hint("if your host reads one of them, name it in shrink.keep-sections"),
        );
    }
    let wasm = Wasm::new(bytes)
        .map_err(|e| Error::Internal(format!("shrinking broke the header: {e}")))?;
    Ok(Shrunk {
        wasm,
        findings,
        modules,
        taken,
    })
}

/// A parse error cannot come from a validated binary, but is no reason to panic.
enum Stop {
    Parse(wasmparser::Error),
    Error(Error),
}

impl From<wasmparser::Error> for Stop {
    fn from(error: wasmparser::Error) -> Self {
        Stop::Parse(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error)
    }
}

struct Run<'a> {
    whole: &'a Validated,
    options: &'a Options,
    optimizer: &'a dyn Optimizer,
    cache: &'a Cache,
    keep: Patterns,
    silent: Patterns,
    dropped: Vec<String>,
    signature: bool,
    findings: Vec<Finding>,
    modules: Vec<ModuleReport>,
    taken: Vec<Key>,
}

impl Run<'_> {
    fn binary(&mut self, bytes: &[u8], kind: Kind, depth: usize) -> Result<Vec<u8>, Error> {
        let outcome = match kind {
            Kind::Core => self.core_module(bytes),
            Kind::Component => self.component(bytes, depth),
        };
        match outcome {
            Ok(bytes) => Ok(bytes),
            Err(Stop::Error(error)) => Err(error),
            Err(Stop::Parse(error)) => Err(Error::Internal(format!(
                "a validated binary does not parse: {error}"
            ))),
        }
    }

    fn component(&mut self, bytes: &[u8], depth: usize) -> Result<Vec<u8>, Stop> {
        rewrite(bytes, |section| {
            Ok(match section.id {
                COMPONENT_CORE_MODULE_SECTION => {
                    Edit::Replace(self.binary(section.data, Kind::Core, depth)?)
                }
                COMPONENT_COMPONENT_SECTION if depth < MAX_DEPTH => {
                    Edit::Replace(self.binary(section.data, Kind::Component, depth + 1)?)
                }
                CUSTOM_SECTION => self.custom(section),
                _ => Edit::Keep,
            })
        })
    }

    fn custom(&mut self, section: &Section<'_>) -> Edit {
        let name = section.name.unwrap_or_default();
        if self.keep.cover(name) {
            return Edit::Keep;
        }
        if name == SIGNATURE_SECTION || name == "signature_delimiter" {
            self.signature = true;
        } else if !self.silent.cover(name) {
            self.dropped.push(format!(
                "`{}` ({} bytes)",
                name.escape_debug(),
                section.data.len()
            ));
        }
        Edit::Drop
    }

    fn core_module(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Stop> {
        let stripped = without(bytes, |section| matches!(self.custom(section), Edit::Keep))?;
        // Names have to follow the functions that they are for.
        let bare = without(&stripped, |section| section.name == Some(NAMES))?;
        let mut report = ModuleReport::default();
        if self.options.keep_exports.is_none() && self.options.stub_imports.is_empty() {
            return self.smaller(&stripped, &bare, report);
        }
        let (stripped, bare) = self.changed(&stripped, &bare, &mut report)?;
        self.smaller(&stripped, &bare, report)
    }

    /// The smallest form of a module, which is given with and without its custom
    /// sections.
    fn smaller(
        &mut self,
        stripped: &[u8],
        bare: &[u8],
        mut report: ModuleReport,
    ) -> Result<Vec<u8>, Stop> {
        report.before = bare.len() as u64;
        report.after = report.before;
        let is_whole = std::ptr::eq(bare, self.whole.wasm().bytes());
        let (out_of_bounds, mut digest) = rayon::join(
            || segments::out_of_bounds(bare),
            || {
                if is_whole {
                    self.whole.digest().clone()
                } else {
                    Digest::of(bare)
                }
            },
        );
        if let Some(why) = out_of_bounds? {
            self.findings.push(
                Finding::new(
                    Code::TrapsAtInstantiation,
                    format!("the module traps when it is instantiated: {why}; it was stripped only"),
                )
                .with_hint("unless a host gives it more than it asks for, it never runs: check how it was linked"),
            );
            self.modules.push(report);
            return Ok(stripped.to_vec());
        }
        let mut proposals = if is_whole {
            self.whole.proposals()
        } else {
            known(validate::used_once(bare, Kind::Core, &digest, self.cache))?
        };
        let (mut stripped, mut bare) = (Cow::Borrowed(stripped), Cow::Borrowed(bare));
        for lowering in &self.options.lower {
            if !proposals.uses_any(lowering.proposal()) {
                continue;
            }
            proposals = proposals.without(lowering.proposal());
            bare = self.lowered(&bare, *lowering, proposals)?.into();
            digest = Digest::of(&bare);
            stripped = with_custom_sections(bare.to_vec(), &stripped, &mut self.dropped)?.into();
        }
        for allowed in &self.options.allow_proposals {
            proposals = proposals.with(allowed.0);
        }
        let Some(optimized) = self.optimized(&bare, &digest, proposals, report)? else {
            return Ok(stripped.into_owned());
        };
        Ok(with_custom_sections(
            optimized,
            &stripped,
            &mut self.dropped,
        )?)
    }

    /// The module with the interface that is asked for, with and without its custom
    /// sections.
    fn changed(
        &mut self,
        stripped: &[u8],
        bare: &[u8],
        report: &mut ModuleReport,
    ) -> Result<(Vec<u8>, Vec<u8>), Stop> {
        let limit = known(proposals::used_by(bare, Kind::Core))?;
        let made = transform::transform(bare, self.options)?;
        let bytes = search::without_new_data_count(made.bytes, bare);
        if let Err(invalid) = proposals::validate_with(&bytes, limit) {
            return Err(Error::Internal(format!(
                "with other exports and imports the module does not validate: {}",
                problem(&invalid)
            ))
            .into());
        }
        report.removed_exports = made.removed_exports;
        report.stubbed_imports = made.stubbed_imports;
        report.removed_imports = made.removed_imports;
        Ok((
            with_custom_sections(bytes.clone(), stripped, &mut self.dropped)?,
            bytes,
        ))
    }

    /// The module without a proposal, checked against the rest of them.
    fn lowered(&self, bare: &[u8], lowering: Lowering, rest: Proposals) -> Result<Vec<u8>, Error> {
        let failed = |message: String| Error::Tool {
            program: "the optimiser".into(),
            message: format!("`{}` cannot be lowered: {message}", lowering.name()),
            hint: Some("leave it out of shrink.lower".into()),
        };
        // What the module has is beyond it, which is nobody's failure.
        let refused = |message: String| Error::Usage {
            message: format!("`{}` cannot be lowered: {message}", lowering.name()),
            hint: Some("leave it out of shrink.lower".into()),
        };
        let bytes = match lowering.recipe() {
            None => lower::lower(bare, lowering).map_err(refused)?,
            Some(recipe) => {
                let attempt = Attempt {
                    producer: 0,
                    recipe,
                    proposals: rest.with(lowering.proposal()),
                    assume: &[],
                    threads: 0,
                };
                match self.optimizer.optimize(bare, &attempt) {
                    Ok(bytes) => search::without_new_data_count(bytes, bare),
                    Err(OptimizeError::Fatal(error)) => return Err(error),
                    Err(
                        OptimizeError::Unreadable(message)
                        | OptimizeError::Nothing(message)
                        | OptimizeError::Failed(message)
                        | OptimizeError::Limit(message),
                    ) => return Err(failed(message)),
                }
            }
        };
        match proposals::validate_with(&bytes, rest) {
            Ok(()) => Ok(bytes),
            Err(invalid) if lowering.recipe().is_none() => Err(refused(problem(&invalid))),
            Err(invalid) => Err(failed(problem(&invalid))),
        }
    }

    /// The optimised form of a bare module, or `None` where there is none to use.
    fn optimized(
        &mut self,
        bare: &[u8],
        digest: &Digest,
        proposals: Proposals,
        mut report: ModuleReport,
    ) -> Result<Option<Vec<u8>>, Error> {
        let goal = Goal {
            level: self.options.level,
            measure: self.options.optimize_for,
            proposals,
            assume: &self.options.assume,
        };
        let mut parts = vec![goal.level.name().as_bytes(), goal.measure.name().as_bytes()];
        let bits = proposals.bits().to_le_bytes();
        let producers = self.optimizer.producers();
        let assume = goal
            .assume
            .iter()
            .map(|a| a.name())
            .collect::<Vec<_>>()
            .join(",");
        parts.extend([&bits[..], digest.as_str().as_bytes(), assume.as_bytes()]);
        parts.extend(producers.iter().map(|p| p.name.as_bytes()));
        let key = Key::new("shrink/3", &parts);
        let entry = if let Some(entry) = self.kept(&key, bare) {
            report.cached = true;
            entry
        } else {
            let found = search::search(bare, &goal, self.optimizer)?;
            report.candidates.clone_from(&found.candidates);
            let (entry, keep) = self.concluded(found);
            if keep {
                self.cache.put(&key, &entry.encode());
            }
            entry
        };
        let module = match entry {
            Entry::Module { recipe, bytes } => {
                report.recipe = Some(recipe);
                report.after = bytes.len() as u64;
                Some(bytes)
            }
            Entry::Unreadable(message) => {
                self.unreadable(&message);
                None
            }
            Entry::Nothing => None,
        };
        self.modules.push(report);
        Ok(module)
    }

    /// What the cache holds, where it can have come of the module.
    fn kept(&mut self, key: &Key, bare: &[u8]) -> Option<Entry> {
        let entry = self.cache.get(key).and_then(Entry::decode)?;
        if let Some(why) = entry.departure(bare) {
            self.cache.remove(key);
            self.findings.push(mismatch(&why));
            return None;
        }
        if matches!(entry, Entry::Module { .. }) {
            self.taken.push(key.clone());
        }
        Some(entry)
    }

    /// What a search comes to, and whether another run would come to the same:
    /// limits and rejections are not for the cache.
    fn concluded(&mut self, found: search::Found) -> (Entry, bool) {
        let first = |outcome| {
            let mut with = found.candidates.iter().filter(|c| c.outcome == outcome);
            with.next().map(|c| c.message.clone().unwrap_or_default())
        };
        let again = first(Outcome::Limit).is_some();
        if let Some(winner) = found.winner() {
            let recipe = winner.recipe.clone();
            let bytes = found.module.unwrap_or_default();
            return (Entry::Module { recipe, bytes }, !again);
        }
        if found.candidates.iter().any(|c| c.size.is_some()) {
            return (Entry::Nothing, !again);
        }
        if let Some(problem) = first(Outcome::Rejected) {
            self.findings.push(
                Finding::new(
                    Code::OptimizerRejected,
                    format!("what the optimiser wrote was dropped: {problem}; the module was stripped only"),
                )
                .with_hint("please report this, with the module if you can share it"),
            );
        } else if let Some(message) = first(Outcome::Limit).or_else(|| first(Outcome::Failed)) {
            self.findings.push(
                Finding::new(
                    Code::OptimizerFailed,
                    format!("the optimiser failed ({message}); the module was stripped only"),
                )
                .with_hint(
                    "the module is sound and can ship; a lower shrink.level may get further",
                ),
            );
        } else if let Some(message) = first(Outcome::Unreadable) {
            return (Entry::Unreadable(message), true);
        }
        (Entry::Nothing, false)
    }

    fn unreadable(&mut self, message: &str) {
        self.findings.push(
            Finding::new(
                Code::OptimizerUnreadable,
                format!("the optimiser cannot read the module ({message}); it was stripped only"),
            )
            .with_hint("the module is sound and can ship; it uses something newer than the optimiser knows"),
        );
    }
}

/// The proposals of a core module that was validated as part of a binary.
fn known(used: Result<Proposals, proposals::Invalid>) -> Result<Proposals, Error> {
    used.map_err(|invalid| {
        Error::Internal(format!(
            "a validated module does not validate alone: {}",
            problem(&invalid)
        ))
    })
}

fn problem(invalid: &proposals::Invalid) -> String {
    let first = invalid.problems.first();
    first.map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests;
