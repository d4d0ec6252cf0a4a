//! What is told about artifacts besides their signatures.

use std::path::PathBuf;

use clap::Args;

use super::BuildFlags;
use super::cargo::OF_A_PROJECT;

/// `sbom`.
#[derive(Debug, Args)]
pub struct Sbom {
    /// A module or component: the SBOM says what it says of itself, and nothing is built.
    #[arg(conflicts_with_all = OF_A_PROJECT)]
    pub file: Option<PathBuf>,
    /// Where the SBOM goes; `-` stands for stdout.
    #[arg(short, long, value_name = "OUT", default_value = "-")]
    pub output: PathBuf,
    /// How to build.
    #[command(flatten)]
    pub flags: BuildFlags,
}

/// `--sbom`, `--no-sbom`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Attestations")]
pub struct SbomSwitch {
    /// Write an SBOM beside the module; `publish` attests it to what it signs.
    #[arg(long, overrides_with = "no_sbom")]
    sbom: bool,
    /// Make no SBOM.
    #[arg(long)]
    no_sbom: bool,
}

impl SbomSwitch {
    /// What was said.
    pub fn wish(&self) -> Option<bool> {
        wish(self.sbom, self.no_sbom)
    }
}

/// `--provenance`, `--no-provenance`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Attestations")]
pub struct ProvenanceSwitch {
    /// Attest from what and how it was made to what is signed: SLSA provenance; the default.
    #[arg(long, overrides_with = "no_provenance")]
    provenance: bool,
    /// Attest no provenance.
    #[arg(long)]
    no_provenance: bool,
}

impl ProvenanceSwitch {
    /// What was said.
    pub fn wish(&self) -> Option<bool> {
        wish(self.provenance, self.no_provenance)
    }
}

fn wish(yes: bool, no: bool) -> Option<bool> {
    match (yes, no) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}
