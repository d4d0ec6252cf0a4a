//! The report: what a run did, for machines.
//!
//! Its form is a contract: the action, the pipeline template and users' scripts
//! read it. `schema_version` grows with every change that could break a reader.
//! `cargo edgepack schema` prints the JSON Schema.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::finding::{Finding, Severity};
use crate::oci::Digest;
use crate::shrink::ModuleReport;
use crate::size::Sizes;
use crate::wasm::Kind;

/// The version of the report's form.
pub const SCHEMA_VERSION: u32 = 1;

/// What a run did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of this form: 1.
    pub schema_version: u32,
    /// One entry for each module or component.
    pub packages: Vec<PackageReport>,
    /// One entry for each artifact that was published, or would be.
    #[serde(default)]
    pub published: Vec<PublishReport>,
}

impl Report {
    /// A report of these packages.
    #[must_use]
    pub fn new(packages: Vec<PackageReport>) -> Self {
        Report {
            schema_version: SCHEMA_VERSION,
            packages,
            published: Vec::new(),
        }
    }

    /// The JSON Schema of a report.
    #[must_use]
    pub fn schema() -> schemars::Schema {
        schemars::schema_for!(Report)
    }

    /// The exit code that the findings call for; 0 where none is an error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        crate::finding::exit_code_of(self.packages.iter().flat_map(|p| &p.findings))
    }
}

/// Every field is written, null or not.
fn require_all(schema: &mut schemars::Schema) {
    let names: Vec<serde_json::Value> = schema
        .get("properties")
        .and_then(serde_json::Value::as_object)
        .map(|p| p.keys().map(|k| k.clone().into()).collect())
        .unwrap_or_default();
    schema.insert("required".to_owned(), names.into());
}

/// What became of one module or component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = require_all)]
pub struct PackageReport {
    /// The name: the package's, or the target's where a package has several.
    pub name: String,
    /// The version of the package.
    pub version: String,
    /// The compile target; null where a file was given.
    pub target: Option<String>,
    /// Core module or component.
    pub kind: Kind,
    /// The file that ships; for `check`, the file that was checked. Null where
    /// nothing was written because the binary does not validate.
    pub wasm: Option<PathBuf>,
    /// The SBOM of that file, where one was asked for.
    #[serde(default)]
    pub sbom: Option<PathBuf>,
    /// The sha256 of that file, in hex; of the input where nothing was written.
    pub sha256: String,
    /// Sizes in bytes.
    pub size: Sizes,
    /// What it asks of its host: `module.field`, or WIT names with versions.
    pub imports: Vec<String>,
    /// What it offers.
    pub exports: Vec<String>,
    /// The proposals that it takes to run it.
    pub features: Vec<String>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// The artifact, in the first variant that was asked for; null where there is
    /// none because of an error finding, or because the command does not pack.
    pub oci: Option<OciReport>,
    /// The artifact in every variant, the one above among them; empty where that is
    /// null.
    #[serde(default)]
    pub artifacts: Vec<OciReport>,
    /// The core modules that were optimised, at any depth inside a component, in the
    /// order in which they stand; empty where nothing was shrunk.
    #[serde(default)]
    pub modules: Vec<ModuleReport>,
    /// The stages that were run, in order.
    pub stages: Vec<StageReport>,
}

impl PackageReport {
    /// Whether none of the findings is an error.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.findings.iter().all(|f| f.severity != Severity::Error)
    }
}

/// Where an artifact is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OciReport {
    /// The manifest's digest.
    #[schemars(with = "String", regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub manifest_digest: Digest,
    /// The folder of the image layout.
    pub layout: PathBuf,
    /// The tag in that layout.
    pub tag: String,
    /// The form of the artifact: `wasm`, `compat` or `kubewarden`.
    pub variant: String,
}

/// Where an artifact was published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublishReport {
    /// The artifact's name.
    pub name: String,
    /// Its form, where the run packed it.
    pub variant: Option<String>,
    /// `HOST/PATH`, or `oci:DIR` for a layout.
    pub repository: String,
    /// The manifest's digest.
    #[schemars(with = "String", regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digest: Digest,
    /// `repository@digest`.
    pub reference: String,
    /// Its tags there.
    pub tags: Vec<TagReport>,
    /// Its signatures by the key that this run signs with; empty where it does not.
    #[serde(default)]
    pub signatures: Vec<SignatureReport>,
    /// Its attestations by the same key; empty where it does not sign.
    #[serde(default)]
    pub attestations: Vec<AttestationReport>,
    /// Bytes of the artifact: manifest, config and layers.
    pub size: u64,
    /// Bytes of blobs that were sent; the rest was there.
    pub sent: u64,
    /// Whether it was only planned: `--dry-run`.
    pub dry_run: bool,
}

/// A signature of a published artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignatureReport {
    /// How it is kept: `bundle` or `legacy`.
    pub format: String,
    /// What became of it.
    pub state: SignatureState,
}

/// An attestation of a published artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttestationReport {
    /// The type of the predicate: a URI.
    pub predicate_type: String,
    /// What became of it.
    pub state: SignatureState,
}

/// What became of a signature or an attestation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SignatureState {
    /// It was made.
    Made,
    /// One by the same key was there.
    Unchanged,
    /// It would be made: `--dry-run`.
    Planned,
}

/// A tag of a published artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TagReport {
    /// The tag.
    pub name: String,
    /// What became of it.
    pub state: TagState,
}

/// What became of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TagState {
    /// It was set.
    Set,
    /// It named the artifact before.
    Unchanged,
    /// It names another artifact, and was left to it: `--skip-existing`.
    Skipped,
    /// It would be set: `--dry-run`.
    Planned,
}

/// How long a stage took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageReport {
    /// Its name.
    pub name: String,
    /// Wall-clock time in seconds.
    pub seconds: f64,
    /// Whether the result was there already, from an earlier run.
    #[serde(default)]
    pub cached: bool,
}
