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
}

#[derive(Deserialize)]
struct Auditable {
    packages: Vec<AuditablePackage>,
}

#[derive(Deserialize)]
struct AuditablePackage {
    name: String,
    version: String,
    #[serde(default)]
    kind: Option<String>,
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
            found.dependencies.extend(dependencies(section.data()));
        }
    }
    for values in found.producers.values_mut() {
        values.sort_unstable();
        values.dedup();
    }
    found
        .dependencies
        .sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    found.dependencies.dedup();
    found.signed = sections(bytes)?
        .iter()
        .any(|s| s.id == CUSTOM_SECTION && s.name == Some(SIGNATURE_SECTION));
    Ok(found)
}

fn dependencies(compressed: &[u8]) -> Vec<Dependency> {
    let mut json = Vec::new();
    let mut unpacked = flate2::read::ZlibDecoder::new(compressed).take(MAX_DEPENDENCIES_JSON);
    if unpacked.read_to_end(&mut json).is_err() {
        return Vec::new();
    }
    let Ok(list) = serde_json::from_slice::<Auditable>(&json) else {
        return Vec::new();
    };
    list.packages
        .into_iter()
        .filter(|p| p.kind.as_deref() != Some("build"))
        .map(|p| Dependency {
            name: p.name,
            version: p.version,
        })
        .collect()
}
