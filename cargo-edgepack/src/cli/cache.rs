//! `cache`.

use clap::Args;

use super::{Access, Reporting};

/// `cache`.
#[derive(Debug, Args)]
pub struct Cache {
    /// Remove every result that is kept.
    #[arg(long, conflicts_with_all = ["to", "from"])]
    pub clear: bool,
    /// Send the results to `oci:HOST/PATH:TAG`, beside those that are there, for other runners;
    /// to a folder with `oci:./DIR:TAG`.
    #[arg(long, value_name = "REF", conflicts_with = "from")]
    pub to: Option<String>,
    /// Take the results from there. Whoever can write to REF can change what you ship: let
    /// CI of protected branches alone do so.
    #[arg(long, value_name = "REF")]
    pub from: Option<String>,
    /// How to speak to the registry.
    #[command(flatten)]
    pub access: Access,
    /// What is reported.
    #[command(flatten)]
    pub reporting: Reporting,
}
