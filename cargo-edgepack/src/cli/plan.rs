//! `plan`.

use clap::{Args, ValueEnum};
use edgepack::ci::matrix::Input;
use edgepack::error::Error;
use edgepack::plan::CargoFlags;

use super::{Common, Compilation, Reporting, Selection, cargo_flags};

/// `plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// Only what changed since this revision of git: packages with changed files, and
    /// those that depend on them. Nothing but zeros, or nothing at all, stands for a
    /// branch that is new: everything.
    #[arg(long, value_name = "REV", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Print what CI spreads over its runners: for github one line of JSON for
    /// strategy.matrix, for gitlab a child pipeline.
    #[arg(long, value_name = "CI", value_enum, conflicts_with = "message_format")]
    pub matrix: Option<MatrixFor>,
    /// What the child pipeline includes for each package, as GitLab writes it:
    /// `component: …`, `local: …` or `remote: …` [default: the released component].
    #[arg(long, value_name = "INCLUDE", requires = "matrix")]
    pub template: Option<String>,
    /// An input of the template, for each package; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", requires = "matrix")]
    pub input: Vec<Input>,
    /// Which packages.
    #[command(flatten)]
    pub selection: Selection,
    /// How they are compiled.
    #[command(flatten)]
    pub compilation: Compilation,
    /// What is reported.
    #[command(flatten)]
    pub reporting: Reporting,
}

impl Plan {
    /// What is handed on to cargo.
    pub fn cargo_flags(&self, common: &Common) -> Result<CargoFlags, Error> {
        cargo_flags(&self.selection, &self.compilation, &[], common, true)
    }
}

/// `--matrix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MatrixFor {
    /// A matrix.
    Github,
    /// A child pipeline.
    Gitlab,
}
