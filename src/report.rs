//! The report: what a run did, for machines.
//!
//! Its form is a contract: the action, the pipeline template and users' scripts
//! read it. `schema_version` grows with every change that could break a reader.
//! `cargo edgepack schema` prints the JSON Schema.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::exit_code;
use crate::finding::{Code, Finding, Severity};
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
    /// How the run ended.
    #[serde(default)]
    pub outcome: Outcome,
    /// The errors that ended it, or kept an artifact from being published.
    #[serde(default)]
    pub errors: Vec<ErrorReport>,
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
        let mut report = Report {
            schema_version: SCHEMA_VERSION,
            outcome: Outcome::Passed,
            errors: Vec::new(),
            packages,
            published: Vec::new(),
        };
        report.outcome = Outcome::of(report.exit_code());
        report
    }

    /// Notes an error that ended the run, or a part of it. The first problem decides
    /// the outcome.
    pub fn fail(&mut self, error: &Error) {
        let outcome = Outcome::of(error.exit_code());
        if self.outcome == Outcome::Passed {
            self.outcome = outcome;
        }
        self.errors.push(ErrorReport {
            kind: outcome,
            message: error.to_string(),
            hint: error.hint(),
        });
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

/// How a run ended. Each but the first has an exit code: `docs/exit-codes.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Without an error, and without a finding that is one.
    #[default]
    Passed,
    /// Something failed that has no word of its own.
    Error,
    /// The command line, an environment variable or the configuration is wrong.
    Usage,
    /// A binary is no Wasm, does not validate, or asks for what is not allowed.
    Validation,
    /// A size budget is exceeded.
    Budget,
    /// A signature is missing or wrong, or a key cannot be used.
    Signature,
    /// A registry or its credentials failed.
    Registry,
    /// Cargo failed.
    Cargo,
    /// A signal ended it.
    Interrupted,
}

impl Outcome {
    const CODES: [(Outcome, u8); 8] = [
        (Outcome::Passed, exit_code::OK),
        (Outcome::Usage, exit_code::USAGE),
        (Outcome::Validation, exit_code::VALIDATION),
        (Outcome::Budget, exit_code::BUDGET),
        (Outcome::Signature, exit_code::SIGNATURE),
        (Outcome::Registry, exit_code::REGISTRY),
        (Outcome::Cargo, exit_code::CARGO),
        (Outcome::Interrupted, exit_code::INTERRUPTED),
    ];

    /// The one that an exit code stands for.
    #[must_use]
    pub fn of(code: u8) -> Self {
        let known = Self::CODES.iter().find(|(_, known)| *known == code);
        known.map_or(Outcome::Error, |(outcome, _)| *outcome)
    }

    /// The exit code of a run that ends so.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        let known = Self::CODES.iter().find(|(outcome, _)| *outcome == self);
        known.map_or(exit_code::ERROR, |(_, code)| *code)
    }

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Error => "error",
            Outcome::Usage => "usage",
            Outcome::Validation => "validation",
            Outcome::Budget => "budget",
            Outcome::Signature => "signature",
            Outcome::Registry => "registry",
            Outcome::Cargo => "cargo",
            Outcome::Interrupted => "interrupted",
        }
    }
}

/// An error that ended a run, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorReport {
    /// What kind of error it is.
    pub kind: Outcome,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A budget, and what there is of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetReport {
    /// Which size it is about.
    pub kind: BudgetKind,
    /// The largest size that is allowed, in bytes.
    pub limit: u64,
    /// The size, in bytes.
    pub actual: u64,
    /// Bytes above the limit; 0 where the budget is kept.
    pub excess: u64,
}

/// Which size a budget is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BudgetKind {
    /// That of the file.
    Raw,
    /// That after gzip.
    Gzip,
}

impl BudgetKind {
    /// The word for it, which is its key in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            BudgetKind::Raw => "raw",
            BudgetKind::Gzip => "gzip",
        }
    }

    /// The code of the finding that says that it is exceeded.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            BudgetKind::Raw => Code::BudgetRaw,
            BudgetKind::Gzip => Code::BudgetGzip,
        }
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
    /// What it was made of, and findings are about: the package's `Cargo.toml`, or the
    /// file that was given.
    #[serde(default)]
    pub input: Option<PathBuf>,
    /// The file that ships; for `check`, the file that was checked. Null where
    /// nothing was written because the binary does not validate.
    pub wasm: Option<PathBuf>,
    /// The SBOM of that file, where one was asked for.
    #[serde(default)]
    pub sbom: Option<PathBuf>,
    /// The digest of the public key whose signature stands inside that file, where it was
    /// put there.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub embedded: Option<Digest>,
    /// The sha256 of that file, in hex; of the input where nothing was written.
    pub sha256: String,
    /// Sizes in bytes.
    pub size: Sizes,
    /// The budgets that are set; empty where the binary does not validate.
    #[serde(default)]
    pub budgets: Vec<BudgetReport>,
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
    /// What it is beside an earlier one; null where none was asked for, or there is none
    /// yet.
    #[serde(default)]
    pub comparison: Option<Comparison>,
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

/// What ships, beside what shipped before: `--compare-to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// What it is compared with: the path of a file or a report, or `HOST/PATH@DIGEST`.
    pub with: String,
    /// The size of that one, in bytes.
    pub size: Size,
    /// How many bytes more there are now; below 0 where there are less.
    pub raw_change: i64,
    /// The same after gzip; null where one of the two is not known.
    pub gzip_change: Option<i64>,
    /// What it asks of its host.
    pub imports: Difference,
    /// What it offers.
    pub exports: Difference,
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Size {
    /// Of the file.
    pub raw: u64,
    /// After gzip; null where it is not known.
    pub gzip: Option<u64>,
}

/// Names that are new, and names that are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// Those that were not there before.
    pub added: Vec<String>,
    /// Those that were.
    pub removed: Vec<String>,
}

impl Difference {
    /// What is different in two lists of names, each name once.
    #[must_use]
    pub fn between(before: &[String], after: &[String]) -> Self {
        let without = |list: &[String], other: &[String]| {
            let other: BTreeSet<&String> = other.iter().collect();
            let mut seen = BTreeSet::new();
            let names = list.iter().filter(|name| !other.contains(name));
            names.filter(|name| seen.insert(*name)).cloned().collect()
        };
        Difference {
            added: without(after, before),
            removed: without(before, after),
        }
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
