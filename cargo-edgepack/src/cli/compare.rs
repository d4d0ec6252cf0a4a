//! `--compare-to`, for the commands that build.

use clap::Args;

/// What is compared with.
#[derive(Debug, Args)]
#[command(next_help_heading = "Comparing")]
pub struct Comparing {
    /// Show sizes and imports beside those of an earlier one: a .wasm file, an earlier
    /// report.json, or an artifact as HOST/PATH:TAG or `oci:DIR:TAG`. A tag that is not
    /// there yet is no error.
    #[arg(long, value_name = "FILE|REF|REPORT")]
    pub compare_to: Option<String>,
}
