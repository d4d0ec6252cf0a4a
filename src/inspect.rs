//! What a binary consists of, for people to look at.

use schemars::JsonSchema;
use serde::Serialize;

use crate::size;
use crate::validate::{Rejected, Validated, validate};
use crate::wasm::interface::{Export, Import};
use crate::wasm::metadata::{self, Metadata};
use crate::wasm::{
    COMPONENT_COMPONENT_SECTION, COMPONENT_CORE_MODULE_SECTION, Kind, Wasm, capability, sections,
};

/// A section, or one inside a module that a component holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SectionReport {
    /// How deep it stands: 0 for the binary's own sections.
    pub depth: usize,
    /// What it is.
    pub name: String,
    /// Its size in bytes, id and length included.
    pub size: u64,
    /// Where it begins in the binary.
    pub offset: u64,
}

/// Imports that let a module do one sort of thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CapabilityReport {
    /// What granting them means.
    pub capability: String,
    /// The imports.
    pub imports: Vec<String>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Inspection {
    /// Core module or component.
    pub kind: Kind,
    /// Sizes in bytes, raw and after gzip.
    pub size: InspectedSize,
    /// The sha256 of the binary, in hex.
    pub sha256: String,
    /// The sections, in order, those of inner modules behind their own.
    pub sections: Vec<SectionReport>,
    /// What it asks of its host, grouped by what that allows.
    pub capabilities: Vec<CapabilityReport>,
    /// The imports, in order.
    pub imports: Vec<Import>,
    /// The exports, in order.
    pub exports: Vec<Export>,
    /// The proposals that it takes to run it.
    pub features: Vec<String>,
    /// Producers, embedded dependencies, signature.
    #[serde(flatten)]
    pub metadata: Metadata,
}

impl Inspection {
    /// The JSON Schema of an inspection.
    #[must_use]
    pub fn schema() -> schemars::Schema {
        schemars::schema_for!(Inspection)
    }
}

/// Sizes of a binary that is looked at, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct InspectedSize {
    /// As it is.
    pub raw: u64,
    /// After gzip.
    pub gzip: u64,
}

/// Looks at a binary.
///
/// # Errors
///
/// [`Rejected`] where it does not validate.
pub fn inspect(wasm: Wasm) -> Result<Inspection, Rejected> {
    let module = validate(wasm)?;
    let bytes = module.wasm().bytes();
    let mut list = Vec::new();
    list_sections(bytes, module.wasm().kind(), 0, 0, &mut list);
    let interface = module.interface();
    Ok(Inspection {
        kind: module.wasm().kind(),
        size: InspectedSize {
            raw: bytes.len() as u64,
            gzip: size::gzip_size(bytes),
        },
        sha256: module.digest().hex().to_owned(),
        sections: list,
        capabilities: capabilities(&module),
        imports: interface.imports.clone(),
        exports: interface.exports.clone(),
        features: module.proposals().to_strings(),
        metadata: metadata::read(bytes).unwrap_or_default(),
    })
}

fn capabilities(module: &Validated) -> Vec<CapabilityReport> {
    capability::group(module.interface().imports.iter().map(|i| i.name.as_str()))
        .into_iter()
        .map(|(capability, imports)| CapabilityReport {
            capability: capability.to_owned(),
            imports,
        })
        .collect()
}

fn list_sections(
    bytes: &[u8],
    kind: Kind,
    depth: usize,
    base: usize,
    list: &mut Vec<SectionReport>,
) {
    const MAX_DEPTH: usize = 16;
    for section in sections(bytes).into_iter().flatten() {
        let offset = base + section.range.start;
        list.push(SectionReport {
            depth,
            name: section.label(kind),
            size: section.range.len() as u64,
            offset: offset as u64,
        });
        let inner = match (kind, section.id) {
            (Kind::Component, COMPONENT_CORE_MODULE_SECTION) => Kind::Core,
            (Kind::Component, COMPONENT_COMPONENT_SECTION) => Kind::Component,
            _ => continue,
        };
        if depth < MAX_DEPTH {
            let start = base + section.range.end - section.payload().len();
            list_sections(section.payload(), inner, depth + 1, start, list);
        }
    }
}
