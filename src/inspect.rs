//! What a binary consists of, for people to look at.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::oci::annotation;
use crate::pull::Resolved;
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

/// An artifact, as its manifest and its config describe it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ArtifactInspection {
    /// `HOST/PATH@DIGEST`, or `oci:DIR@DIGEST`.
    pub reference: String,
    /// The manifest's digest.
    pub digest: String,
    /// The manifest's artifact type, where it has one.
    pub artifact_type: Option<String>,
    /// The media type of the config.
    pub config_type: String,
    /// When it was made, as the config says.
    pub created: Option<String>,
    /// The architecture, as the config says.
    pub architecture: Option<String>,
    /// The system, as the config says.
    pub os: Option<String>,
    /// The layers.
    pub layers: Vec<LayerReport>,
    /// Notes in the manifest.
    pub annotations: BTreeMap<String, String>,
    /// What a component exports and imports, where the config says so.
    pub component: Option<ComponentReport>,
    /// The module itself, which is fetched where the config does not say enough.
    pub module: Option<Inspection>,
}

/// A layer of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LayerReport {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its title: a file's name.
    pub title: Option<String>,
}

/// What the config of a component says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentReport {
    /// What it offers.
    #[serde(default)]
    pub exports: Vec<String>,
    /// What it asks of its host.
    #[serde(default)]
    pub imports: Vec<String>,
    /// The world that it is for.
    #[serde(default)]
    pub target: Option<String>,
}

/// The keys of a config that are shown; each kind of config has some of them.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AnyConfig {
    created: Option<String>,
    architecture: Option<String>,
    os: Option<String>,
    component: Option<ComponentReport>,
}

impl ArtifactInspection {
    /// What a manifest and its config say. A config that is no JSON says nothing.
    #[must_use]
    pub fn new(resolved: &Resolved) -> Self {
        let config: AnyConfig = serde_json::from_slice(&resolved.config).unwrap_or_default();
        let manifest = &resolved.manifest;
        ArtifactInspection {
            reference: resolved.reference.clone(),
            digest: resolved.descriptor.digest.to_string(),
            artifact_type: manifest.artifact_type.clone(),
            config_type: manifest.config.media_type.clone(),
            created: config.created,
            architecture: config.architecture,
            os: config.os,
            layers: manifest
                .layers
                .iter()
                .map(|layer| LayerReport {
                    media_type: layer.media_type.clone(),
                    digest: layer.digest.to_string(),
                    size: layer.size,
                    title: layer.annotations.get(annotation::TITLE).cloned(),
                })
                .collect(),
            annotations: manifest.annotations.clone(),
            component: config.component,
            module: None,
        }
    }

    /// The JSON Schema of an artifact's inspection.
    #[must_use]
    pub fn schema() -> schemars::Schema {
        schemars::schema_for!(ArtifactInspection)
    }
}

fn capabilities(module: &Validated) -> Vec<CapabilityReport> {
    group(module.interface().imports.iter().map(|i| i.name.as_str()))
}

/// Imports by what granting them means.
pub fn group<'a>(imports: impl Iterator<Item = &'a str>) -> Vec<CapabilityReport> {
    capability::group(imports)
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
