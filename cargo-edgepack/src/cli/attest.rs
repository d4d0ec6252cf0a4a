//! What is told about artifacts besides their signatures.

use clap::Args;

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
    /// Attest from what and how it was made to what is signed: SLSA provenance [default].
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
