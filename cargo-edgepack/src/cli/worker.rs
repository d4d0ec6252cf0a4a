//! The hidden commands: what the tool calls itself with.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use edgepack::shrink::Assumption;

/// `optimize-worker`.
#[derive(Debug, Args)]
pub struct OptimizeWorker {
    /// Which passes are run.
    #[arg(long)]
    pub recipe: String,
    /// The proposals that the module uses, as a number.
    #[arg(long)]
    pub proposals: u64,
    /// What is taken for granted.
    #[arg(long)]
    pub assume: Vec<Assumption>,
    /// Address space in bytes.
    #[arg(long)]
    pub memory: u64,
    /// Seconds.
    #[arg(long)]
    pub time: u64,
    /// The module.
    pub input: PathBuf,
    /// Where the result goes.
    pub output: PathBuf,
}

/// `optimize-external`.
#[derive(Debug, Args)]
pub struct OptimizeExternal {
    /// Address space in bytes.
    #[arg(long)]
    pub memory: u64,
    /// Seconds.
    #[arg(long)]
    pub time: u64,
    /// What this process becomes.
    pub program: OsString,
    /// Its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<OsString>,
}
