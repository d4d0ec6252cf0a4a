//! What a binary says about its own making: producers, embedded dependencies,
//! and whether a signature stands inside it.
//!
//! All of it is read for people to look at, none of it is trusted: sizes are
//! bounded, and what does not parse is left out.

use std::collections::BTreeMap;
use std::io::Read;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wasmparser::{KnownCustom, Parser, Payload};

use super::{CUSTOM_SECTION, sections};

/// The section that `cargo auditable` writes: zlib-compressed JSON.
/// Format: <https://github.com/rust-secure-code/cargo-auditable/blob/master/PARSING.md>
pub const DEPENDENCIES_SECTION: &str = ".dep-v0";
/// The section of a signature inside a module.
/// Format: <https://github.com/WebAssembly/tool-conventions/blob/main/Signatures.md>
pub const SIGNATURE_SECTION: &str = "signature";

/// A dependency list above this size, unpacked, is not read.
const MAX_DEPENDENCIES_JSON: u64 = 8 << 20;

/// A crate that was built into the binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dependency {
    /// The crate's name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Metadata {
    /// Fields of the `producers` section: `language`, `processed-by`, `sdk`; each
    /// with `name version` entries.
    pub producers: BTreeMap<String, Vec<String>>,
    /// Crates listed in `.dep-v0`, build dependencies left out.
    pub dependencies: Vec<Dependency>,
    /// Whether a `signature` section is there. It is not verified here.
    pub signed: bool,
    /// Whether there is a `.dep-v0` that cannot be read.
    #[serde(skip)]
    #[schemars(skip)]
    pub unreadable: bool,
    /// The same crates as the section lists them, with what depends on what.
    #[serde(skip)]
    #[schemars(skip)]
    pub crates: Vec<Crate>,
}

/// An entry of `.dep-v0`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Crate {
    /// The crate's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `crates.io`, `git`, `local`, `registry`, or something else.
    #[serde(default)]
    pub source: String,
    /// `build` for what is not in the binary.
    #[serde(default)]
    pub kind: Option<String>,
    /// The crates that it depends on: places in the list.
    #[serde(default, rename = "dependencies")]
    pub requires: Vec<usize>,
    /// Whether it is the crate that the binary was made of.
    #[serde(default)]
    pub root: bool,
}

impl Crate {
    /// Whether it is in the binary.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.kind.as_deref() != Some("build")
    }
}

#[derive(Deserialize)]
struct Auditable {
    packages: Vec<Crate>,
}

/// Collects the metadata of a binary and of every module inside it.
///
/// # Errors
///
/// The parser's, where the binary does not parse.
pub fn read(bytes: &[u8]) -> wasmparser::Result<Metadata> {
    let mut found = Metadata::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let Payload::CustomSection(section) = payload? else {
            continue;
        };
        if let KnownCustom::Producers(fields) = section.as_known() {
            for field in fields.into_iter().flatten() {
                let values = found.producers.entry(field.name.to_owned()).or_default();
                for value in field.values.into_iter().flatten() {
                    values.push(
                        format!("{} {}", value.name, value.version)
                            .trim_end()
                            .to_owned(),
                    );
                }
            }
        } else if section.name() == DEPENDENCIES_SECTION {
            let before = found.crates.len();
            let list = crates(section.data());
            found.unreadable |= list.is_none();
            for mut entry in list.unwrap_or_default() {
                for place in &mut entry.requires {
                    *place = place.saturating_add(before);
                }
                found.crates.push(entry);
            }
        }
    }
    for values in found.producers.values_mut() {
        values.sort_unstable();
        values.dedup();
    }
    let inside = found.crates.iter().filter(|c| c.is_inside());
    found.dependencies = inside
        .map(|c| Dependency {
            name: c.name.clone(),
            version: c.version.clone(),
        })
        .collect();
    found
        .dependencies
        .sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    found.dependencies.dedup();
    found.signed = sections(bytes)?
        .iter()
        .any(|s| s.id == CUSTOM_SECTION && s.name == Some(SIGNATURE_SECTION));
    Ok(found)
}

/// None where it is no such list.
fn crates(compressed: &[u8]) -> Option<Vec<Crate>> {
    let mut json = Vec::new();
    let mut unpacked = flate2::read::ZlibDecoder::new(compressed).take(MAX_DEPENDENCIES_JSON);
    unpacked.read_to_end(&mut json).ok()?;
    let list: Auditable = serde_json::from_slice(&json).ok()?;
    Some(list.packages)
}
