//! The shrink stage: strips what hosts do not read and optimises every core
//! module, alone or at any depth inside components.
//!
//! Each core module is taken out of its wrapping, handed to the optimiser bare,
//! with only the proposals that it already uses, and put back with the custom
//! sections that are kept. Whatever the optimiser does — refuse, crash, hang,
//! write something larger, invalid, or with new proposals — costs no more than
//! its own work: the stripped module is then what ships, and a finding says so.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cache::{Cache, Key};
use crate::error::{Error, did_you_mean};
use crate::finding::{Code, Finding};
use crate::wasm::interface::Patterns;
use crate::wasm::metadata::SIGNATURE_SECTION;
use crate::wasm::proposals::{self, Proposals};
use crate::wasm::segments;
use crate::wasm::{
    COMPONENT_COMPONENT_SECTION, COMPONENT_CORE_MODULE_SECTION, CUSTOM_SECTION, DATA_COUNT_SECTION,
    Edit, Kind, Section, Wasm, append_section, rewrite, sections,
};

#[cfg(feature = "binaryen")]
pub mod binaryen;
pub mod worker;

/// How much effort goes into shrinking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The bytes stay as they are.
    Off,
    /// Strip, and one quick optimisation: for inner loops.
    Fast,
    /// At least what `wasm-opt -Oz` does.
    #[default]
    Default,
    /// The same, over and over until it gains nothing more.
    Max,
}

impl Level {
    /// Every level with its name.
    pub const ALL: [(&'static str, Level); 4] = [
        ("off", Level::Off),
        ("fast", Level::Fast),
        ("default", Level::Default),
        ("max", Level::Max),
    ];

    /// The name, as it is written in config and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Off => "off",
            Level::Fast => "fast",
            Level::Default => "default",
            Level::Max => "max",
        }
    }
}

impl std::str::FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, level)) = Self::ALL.iter().find(|(name, _)| *name == text) {
            return Ok(*level);
        }
        let names = Self::ALL.map(|(name, _)| name);
        let near = did_you_mean(text, names)
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Err(format!(
            "unknown level `{text}`, expected one of {}{near}",
            names.join(", ")
        ))
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Custom sections that are kept where the configuration names none: what hosts,
/// linkers and scanners read. A `*` stands for any run of characters.
pub const DEFAULT_KEEP_SECTIONS: &[&str] = &[
    // Who made it, and from which crates: scanners read these.
    "producers",
    ".dep-v0",
    // What a core module needs to become a component.
    "component-type",
    "component-type:*",
    // Dynamic linking.
    "dylink.0",
    // Read by the hosts that contracts and canisters run on.
    "contractspecv0",
    "contractmetav0",
    "contractenvmetav0",
    "icp:*",
    "runtime_version",
    "runtime_apis",
    // Read by Kubewarden: which requests a policy is for.
    "io.kubewarden.metadata",
];

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

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much effort.
    pub level: Level,
    /// Names of the custom sections to keep.
    pub keep_sections: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            level: Level::Default,
            keep_sections: DEFAULT_KEEP_SECTIONS
                .iter()
                .map(|s| (*s).to_owned())
                .collect(),
        }
    }
}

/// Why the optimiser gave nothing back.
#[derive(Debug)]
pub enum OptimizeError {
    /// It cannot read this module, and never will: the module uses something newer.
    Unreadable(String),
    /// It crashed or met a limit.
    Failed(String),
    /// It could not be run at all, which is no fault of the module's.
    Fatal(Error),
}

/// Something that makes a core module smaller.
pub trait Optimizer: Sync {
    /// Name and version: results of different optimisers do not share a cache entry.
    fn identity(&self) -> String;

    /// Optimises one core module that validates with `proposals`.
    ///
    /// # Errors
    ///
    /// [`OptimizeError`]; all but `Fatal` leave the module stripped only.
    fn optimize(
        &self,
        module: &[u8],
        proposals: Proposals,
        level: Level,
    ) -> Result<Vec<u8>, OptimizeError>;
}

/// What became of a binary.
#[derive(Debug)]
pub struct Shrunk {
    /// The new bytes: to be validated again.
    pub wasm: Wasm,
    /// What was left undone or dropped.
    pub findings: Vec<Finding>,
    /// How many core modules were in it.
    pub modules: usize,
    /// How many of them came from the cache.
    pub cached: usize,
}

/// Makes a binary smaller. The result is never larger than the input.
///
/// # Errors
///
/// Where the optimiser cannot be run at all, or the run was interrupted. Not for
/// anything that the module holds.
pub fn shrink(
    wasm: &Wasm,
    options: &Options,
    optimizer: &dyn Optimizer,
    cache: &Cache,
) -> Result<Shrunk, Error> {
    if options.level == Level::Off {
        return Ok(Shrunk {
            wasm: wasm.clone(),
            findings: Vec::new(),
            modules: 0,
            cached: 0,
        });
    }
    let mut run = Run {
        options,
        optimizer,
        cache,
        keep: Patterns::new(&options.keep_sections),
        silent: Patterns::new(SILENTLY_DROPPED),
        dropped: Vec::new(),
        signature: false,
        findings: Vec::new(),
        modules: 0,
        cached: 0,
    };
    let bytes = run.binary(wasm.bytes(), wasm.kind(), 0)?;
    let Run {
        mut findings,
        mut dropped,
        modules,
        cached,
        signature,
        ..
    } = run;
    if bytes.len() > wasm.bytes().len() {
        return Ok(Shrunk {
            wasm: wasm.clone(),
            findings,
            modules,
            cached,
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
        cached,
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
    options: &'a Options,
    optimizer: &'a dyn Optimizer,
    cache: &'a Cache,
    keep: Patterns,
    silent: Patterns,
    dropped: Vec<String>,
    signature: bool,
    findings: Vec<Finding>,
    modules: usize,
    cached: usize,
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
        self.modules += 1;
        let stripped = rewrite::<Stop>(bytes, |section| {
            Ok(if section.id == CUSTOM_SECTION {
                self.custom(section)
            } else {
                Edit::Keep
            })
        })?;
        let bare = rewrite::<Stop>(&stripped, |section| {
            Ok(if section.id == CUSTOM_SECTION {
                Edit::Drop
            } else {
                Edit::Keep
            })
        })?;
        if let Some(why) = segments::out_of_bounds(&bare)? {
            self.findings.push(
                Finding::new(
                    Code::TrapsAtInstantiation,
                    format!("the module traps when it is instantiated: {why}; it was stripped only"),
                )
                .with_hint("unless a host gives it more than it asks for, it never runs: check how it was linked"),
            );
            return Ok(stripped);
        }
        let proposals = match proposals::used_by(&bare, Kind::Core) {
            Ok(proposals) => proposals,
            Err(invalid) => {
                let problem = invalid
                    .problems
                    .first()
                    .map_or_else(String::new, ToString::to_string);
                return Err(Error::Internal(format!(
                    "a validated module does not validate alone: {problem}"
                ))
                .into());
            }
        };
        let Some(optimized) = self.optimized(&bare, proposals)? else {
            return Ok(stripped);
        };
        let wrapped = with_custom_sections(&optimized, &stripped)?;
        Ok(if wrapped.len() < stripped.len() {
            wrapped
        } else {
            stripped
        })
    }

    /// The optimised form of a bare module, or `None` where there is none to use.
    fn optimized(&mut self, bare: &[u8], proposals: Proposals) -> Result<Option<Vec<u8>>, Error> {
        let key = Key::new(
            "shrink",
            &[
                self.optimizer.identity().as_bytes(),
                self.options.level.name().as_bytes(),
                &proposals.bits().to_le_bytes(),
                bare,
            ],
        );
        if let Some(entry) = self.cache.get(&key).and_then(|bytes| Entry::decode(&bytes)) {
            self.cached += 1;
            return Ok(match entry {
                Entry::Module(bytes) => Some(bytes),
                Entry::Unreadable(message) => {
                    self.unreadable(&message);
                    None
                }
            });
        }
        match self.optimizer.optimize(bare, proposals, self.options.level) {
            Ok(bytes) => {
                let bytes = without_new_data_count(bytes, bare);
                if let Err(invalid) = proposals::validate_with(&bytes, proposals) {
                    let problem = invalid
                        .problems
                        .first()
                        .map_or_else(String::new, ToString::to_string);
                    if invalid
                        .problems
                        .iter()
                        .all(|p| p.missing_wasm_feature().is_some())
                    {
                        self.unreadable(&format!(
                            "it cannot keep to the module's own proposals: {problem}"
                        ));
                        return Ok(None);
                    }
                    self.findings.push(
                        Finding::new(
                            Code::OptimizerRejected,
                            format!("what the optimiser wrote was dropped: {problem}; the module was stripped only"),
                        )
                        .with_hint("please report this, with the module if you can share it"),
                    );
                    return Ok(None);
                }
                self.cache.put(&key, &Entry::Module(bytes.clone()).encode());
                Ok(Some(bytes))
            }
            Err(OptimizeError::Unreadable(message)) => {
                self.cache
                    .put(&key, &Entry::Unreadable(message.clone()).encode());
                self.unreadable(&message);
                Ok(None)
            }
            Err(OptimizeError::Failed(message)) => {
                self.findings.push(
                    Finding::new(
                        Code::OptimizerFailed,
                        format!("the optimiser failed ({message}); the module was stripped only"),
                    )
                    .with_hint(
                        "the module is sound and can ship; a lower shrink.level may get further",
                    ),
                );
                Ok(None)
            }
            Err(OptimizeError::Fatal(error)) => Err(error),
        }
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

/// Binaryen writes a data count section wherever bulk memory is in play. A module
/// that had none needs none, and without it loads on hosts that know only
/// `memory.copy` and `memory.fill` of that proposal.
fn without_new_data_count(optimized: Vec<u8>, input: &[u8]) -> Vec<u8> {
    let has_one = |bytes: &[u8]| {
        sections(bytes).is_ok_and(|all| all.iter().any(|s| s.id == DATA_COUNT_SECTION))
    };
    if has_one(input) {
        return optimized;
    }
    let without = rewrite::<wasmparser::Error>(&optimized, |section| {
        Ok(if section.id == DATA_COUNT_SECTION {
            Edit::Drop
        } else {
            Edit::Keep
        })
    });
    without.unwrap_or(optimized)
}

/// Puts the custom sections of `donor` around `module`: those that stood before
/// every other section in front (`dylink.0` has to be first), the rest behind.
fn with_custom_sections(module: &[u8], donor: &[u8]) -> Result<Vec<u8>, wasmparser::Error> {
    let (header, body) = module.split_at(module.len().min(8));
    let mut out = header.to_vec();
    let donated = sections(donor)?;
    let front = donated
        .iter()
        .take_while(|s| s.id == CUSTOM_SECTION)
        .count();
    for section in &donated[..front] {
        append_section(&mut out, section.id, section.payload());
    }
    out.extend_from_slice(body);
    for section in donated[front..].iter().filter(|s| s.id == CUSTOM_SECTION) {
        append_section(&mut out, section.id, section.payload());
    }
    Ok(out)
}

/// What the cache holds for a bare module.
enum Entry {
    Module(Vec<u8>),
    Unreadable(String),
}

impl Entry {
    fn encode(&self) -> Vec<u8> {
        let (tag, data): (u8, &[u8]) = match self {
            Entry::Module(bytes) => (0, bytes),
            Entry::Unreadable(message) => (1, message.as_bytes()),
        };
        let mut out = Vec::with_capacity(data.len() + 1);
        out.push(tag);
        out.extend_from_slice(data);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (0, module) => Some(Entry::Module(module.to_vec())),
            (1, message) => Some(Entry::Unreadable(
                String::from_utf8_lossy(message).into_owned(),
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
