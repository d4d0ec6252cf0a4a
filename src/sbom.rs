//! SBOMs: which packages are in a module, as CycloneDX.
//!
//! The types are ours, since so few of the format's are needed. Fields have a fixed
//! order and lists are sorted; nothing of the machine goes in, so that the same build
//! gives the same bytes anywhere. `docs/attestations.md` says what is in it and what
//! is not.
//!
//! Spec: <https://cyclonedx.org/docs/1.5/json/>.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::error::Error;
use crate::oci::Digest;
use crate::pack::Timestamp;
use crate::wasm::metadata::{Crate, Metadata};

pub mod cargo;
pub mod purl;

use purl::Origin;

/// The predicate type of an SBOM that is attested.
/// <https://github.com/in-toto/attestation/blob/main/spec/predicates/cyclonedx.md>
pub const PREDICATE_TYPE: &str = "https://cyclonedx.org/bom";
const FORMAT: &str = "CycloneDX";
const SPEC_VERSION: &str = "1.5";
const SCHEMA: &str = "http://cyclonedx.org/schema/bom-1.5.schema.json";
const SHA256: &str = "SHA-256";
const MIME_TYPE: &str = "application/wasm";
/// Properties have names with a namespace.
/// <https://github.com/CycloneDX/cyclonedx-property-taxonomy>
const PROPERTY_PREFIX: &str = "edgepack:";

/// A package that is in a module.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it comes from.
    pub origin: Origin,
    /// The sha256 of its archive, in hex, as `Cargo.lock` has it.
    pub checksum: Option<String>,
    /// Its licence, as its manifest has it.
    pub license: Option<String>,
    /// The file that holds its licence, where the manifest names no other.
    pub license_file: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Where its source is.
    pub repository: Option<String>,
    /// Its home page.
    pub homepage: Option<String>,
    /// The features that it was compiled with.
    pub features: Vec<String>,
}

/// Packages and what depends on what; the first one is what the module was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// The packages.
    pub packages: Vec<Package>,
    /// For each, the numbers of those that it depends on.
    pub edges: Vec<Vec<usize>>,
    /// What else is known of the module: names and values.
    pub facts: Vec<(String, String)>,
}

impl Graph {
    /// What a binary says of itself, which may be nothing: the crates in `.dep-v0`, and
    /// who made it.
    #[must_use]
    pub fn of_binary(name: &str, version: &str, metadata: &Metadata) -> Self {
        let crates = &metadata.crates;
        let mut roots = crates.iter().filter(|c| c.root);
        let only_root = roots.next().filter(|_| roots.next().is_none());
        let mut packages = vec![Package {
            name: name.to_owned(),
            version: version.to_owned(),
            ..Package::default()
        }];
        // The same crate may be in several modules of a component.
        let mut known = BTreeMap::new();
        let numbers: Vec<Option<usize>> = crates
            .iter()
            .map(|listed| {
                if only_root.is_some() && listed.root {
                    return Some(0);
                }
                let number = |package: Package| {
                    *known.entry(package.clone()).or_insert_with(|| {
                        packages.push(package);
                        packages.len() - 1
                    })
                };
                listed.is_inside().then(|| package_of(listed)).map(number)
            })
            .collect();
        let mut edges = vec![BTreeSet::new(); packages.len()];
        for (listed, number) in crates.iter().zip(&numbers) {
            let Some(number) = *number else { continue };
            let required = listed.requires.iter();
            let required = required
                .filter_map(|&n| *numbers.get(n)?)
                .filter(|&n| n != number);
            edges[number].extend(required);
            if only_root.is_none() && (listed.root || crates.iter().all(|c| !c.root)) {
                edges[0].insert(number);
            }
        }
        let edges = edges.into_iter().map(|e| e.into_iter().collect()).collect();
        let facts = metadata
            .producers
            .iter()
            .flat_map(|(field, values)| values.iter().map(move |v| (field, v)))
            .map(|(field, value)| (format!("producers:{field}"), value.clone()))
            .collect();
        Graph {
            packages,
            edges,
            facts,
        }
    }
}

fn package_of(listed: &Crate) -> Package {
    Package {
        name: listed.name.clone(),
        version: listed.version.clone(),
        origin: if listed.source == "crates.io" {
            Origin::CratesIo
        } else {
            Origin::Unknown
        },
        ..Package::default()
    }
}

/// The module that an SBOM is about.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Its sha256, in hex.
    pub sha256: &'a str,
    /// The compile target, where it is known.
    pub target: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the format's own name")]
struct Bom {
    #[serde(rename = "$schema")]
    schema: &'static str,
    bom_format: &'static str,
    spec_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<String>,
    version: u32,
    metadata: BomMetadata,
    components: Vec<Component>,
    dependencies: Vec<DependencyEntry>,
}

#[derive(Serialize)]
struct BomMetadata {
    timestamp: String,
    lifecycles: [Lifecycle; 1],
    tools: Tools,
    component: Component,
}

#[derive(Serialize)]
struct Lifecycle {
    phase: &'static str,
}

#[derive(Serialize)]
struct Tools {
    components: [Tool; 1],
}

#[derive(Serialize)]
struct Tool {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "mime-type", skip_serializing_if = "Option::is_none")]
    mime_type: Option<&'static str>,
    #[serde(rename = "bom-ref")]
    bom_ref: String,
    name: String,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<License>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(rename = "externalReferences", skip_serializing_if = "Vec::is_empty")]
    references: Vec<Reference>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum License {
    Expression(String),
    License { name: String },
}

#[derive(Serialize)]
struct Reference {
    #[serde(rename = "type")]
    kind: &'static str,
    url: String,
}

#[derive(Serialize)]
struct Property {
    name: String,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DependencyEntry {
    #[serde(rename = "ref")]
    bom_ref: String,
    depends_on: Vec<String>,
}

/// Makes the SBOM of a module: JSON, as it is written into files.
///
/// # Errors
///
/// [`Error::Internal`].
pub fn make(graph: &Graph, subject: &Subject<'_>, created: Timestamp) -> Result<Vec<u8>, Error> {
    let failed = |e: serde_json::Error| Error::Internal(e.to_string());
    let refs = bom_refs(&graph.packages);
    let mut components: Vec<Component> = graph
        .packages
        .iter()
        .zip(&refs)
        .map(|(package, bom_ref)| component(package, bom_ref))
        .collect();
    let mut dependencies: Vec<DependencyEntry> = graph
        .edges
        .iter()
        .zip(&refs)
        .map(|(edges, bom_ref)| {
            let mut depends_on: Vec<String> = edges.iter().map(|&n| refs[n].clone()).collect();
            depends_on.sort_unstable();
            DependencyEntry {
                bom_ref: bom_ref.clone(),
                depends_on,
            }
        })
        .collect();
    dependencies.sort_by(|a, b| a.bom_ref.cmp(&b.bom_ref));
    let mut root = components.remove(0);
    components.sort_by(|a, b| a.bom_ref.cmp(&b.bom_ref));
    subject.name.clone_into(&mut root.name);
    subject.version.clone_into(&mut root.version);
    root.kind = "application";
    root.mime_type = Some(MIME_TYPE);
    root.scope = None;
    root.hashes = vec![Hash {
        alg: SHA256,
        content: subject.sha256.to_owned(),
    }];
    let target = subject
        .target
        .map(|t| ("cargo:target".to_owned(), t.to_owned()));
    let facts = target.into_iter().chain(graph.facts.iter().cloned());
    root.properties
        .extend(facts.map(|(name, value)| property(&name, value)));
    root.properties
        .sort_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
    let mut bom = Bom {
        schema: SCHEMA,
        bom_format: FORMAT,
        spec_version: SPEC_VERSION,
        serial_number: None,
        version: 1,
        metadata: BomMetadata {
            timestamp: created.to_rfc3339(),
            lifecycles: [Lifecycle { phase: "build" }],
            tools: Tools {
                components: [Tool {
                    kind: "application",
                    name: "cargo-edgepack",
                    version: env!("CARGO_PKG_VERSION"),
                }],
            },
            component: root,
        },
        components,
        dependencies,
    };
    let content = serde_json::to_vec(&bom).map_err(failed)?;
    bom.serial_number = Some(serial_number(&Digest::of(&content)));
    let mut json = serde_json::to_vec_pretty(&bom).map_err(failed)?;
    json.push(b'\n');
    Ok(json)
}

/// The sha256 of the module that an SBOM is about, in hex, where it is about one and says
/// so.
#[must_use]
pub fn module_of(sbom: &Value) -> Option<&str> {
    let component = sbom.pointer("/metadata/component")?;
    if component["mime-type"] != MIME_TYPE {
        return None;
    }
    let mut hashes = component["hashes"].as_array()?.iter();
    hashes.find(|hash| hash["alg"] == SHA256)?["content"].as_str()
}

/// A UUID of version 8 that follows from the content.
/// <https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-8>
fn serial_number(content: &Digest) -> String {
    let hex = content.hex();
    format!(
        "urn:uuid:{}-{}-8{}-a{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..32]
    )
}

/// A name for each package that is the only one of its kind.
fn bom_refs(packages: &[Package]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    packages
        .iter()
        .map(|package| {
            let plain = package
                .purl()
                .unwrap_or_else(|| format!("{}@{}", package.name, package.version));
            let mut name = plain.clone();
            for n in 2.. {
                if seen.insert(name.clone()) {
                    break;
                }
                name = format!("{plain}#{n}");
            }
            name
        })
        .collect()
}

impl Package {
    fn purl(&self) -> Option<String> {
        purl::cargo(&self.name, &self.version, &self.origin)
    }
}

fn component(package: &Package, bom_ref: &str) -> Component {
    let references = [("vcs", &package.repository), ("website", &package.homepage)];
    Component {
        kind: "library",
        mime_type: None,
        bom_ref: bom_ref.to_owned(),
        name: package.name.clone(),
        version: package.version.clone(),
        description: package
            .description
            .as_deref()
            .map(|d| d.split_whitespace().collect::<Vec<_>>().join(" ")),
        scope: Some("required"),
        hashes: package
            .checksum
            .iter()
            .map(|content| Hash {
                alg: SHA256,
                content: content.clone(),
            })
            .collect(),
        licenses: license(package).into_iter().collect(),
        purl: package.purl(),
        references: references
            .into_iter()
            .filter_map(|(kind, url)| {
                Some(Reference {
                    kind,
                    url: purl::public_url(url.as_deref()?)?,
                })
            })
            .collect(),
        properties: (!package.features.is_empty())
            .then(|| property("cargo:features", package.features.join(",")))
            .into_iter()
            .collect(),
    }
}

fn property(name: &str, value: String) -> Property {
    Property {
        name: format!("{PROPERTY_PREFIX}{name}"),
        value,
    }
}

/// An SPDX expression where it is one; older manifests have a `/` for `OR`.
/// <https://doc.rust-lang.org/cargo/reference/manifest.html#the-license-and-license-file-fields>
fn license(package: &Package) -> Option<License> {
    let Some(text) = package.license.as_deref().map(str::trim) else {
        let file = package.license_file.as_ref()?;
        return Some(License::License {
            name: format!("see {file}"),
        });
    };
    let canonical = match spdx::Expression::canonicalize(text) {
        Ok(Some(canonical)) => canonical,
        _ => text.to_owned(),
    };
    if spdx::Expression::parse(&canonical).is_ok() {
        Some(License::Expression(canonical))
    } else {
        (!text.is_empty()).then(|| License::License {
            name: text.to_owned(),
        })
    }
}
