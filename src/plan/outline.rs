//! A plan as it is told: what `cargo edgepack plan` prints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What would be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Planned {
    /// The revision since which packages changed; null where all are meant.
    pub since: Option<String>,
    /// The packages, by name.
    pub packages: Vec<PlannedPackage>,
    /// What is left out, whether it changed or not.
    pub skipped: Vec<Skipped>,
}

impl Planned {
    /// The JSON Schema of a plan.
    #[must_use]
    pub fn schema() -> schemars::Schema {
        schemars::schema_for!(Planned)
    }
}

/// A package that would be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedPackage {
    /// Its name.
    pub name: String,
    /// The words for `-p`: its name, where no other package has it.
    pub package: String,
    /// Its version.
    pub version: String,
    /// The compile target.
    pub target: String,
    /// The cargo profile.
    pub profile: String,
    /// Why it counts as changed; null where nobody asked.
    pub changed: Option<String>,
    /// What is made of it, and where `publish` would put that.
    pub artifacts: Vec<PlannedArtifact>,
}

/// An artifact that would be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedArtifact {
    /// Its name.
    pub name: String,
    /// Its form.
    pub variant: String,
    /// `HOST/PATH`; null where nothing names one.
    pub repository: Option<String>,
    /// The tags.
    pub tags: Vec<String>,
}

/// A package that is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}
