//! The commands that describe the tool itself.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clap_complete::Shell;

/// `schema`.
#[derive(Debug, Args)]
pub struct Schema {
    /// Of what.
    #[arg(value_enum, default_value_t)]
    pub of: SchemaOf,
}

/// What has a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// report.json and `--message-format json`.
    #[default]
    Report,
    /// [package.metadata.edgepack].
    Config,
    /// `plan --message-format json`.
    Plan,
    /// `inspect --json`.
    Inspect,
    /// `inspect --json` of an artifact.
    Artifact,
    /// verify.toml.
    Policy,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Write a page for each command into this folder.
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}
