//! `init`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Write a workflow for GitHub, a pipeline for GitLab, or both.
    #[arg(long, value_name = "CI", value_enum, value_delimiter = ',')]
    pub ci: Vec<Ci>,
    /// The action, pinned to a commit: OWNER/REPOSITORY/PATH@SHA, which ` # VERSION` may
    /// follow [default: that of this release].
    #[arg(long, value_name = "ACTION", requires = "ci")]
    pub action: Option<String>,
    /// What the pipeline includes, as GitLab writes it: `component: …`, `local: …` or
    /// `remote: …` [default: the component of this release].
    #[arg(long, value_name = "INCLUDE", requires = "ci")]
    pub template: Option<String>,
    /// Replace files that were changed.
    #[arg(long)]
    pub force: bool,
    /// Path of the Cargo.toml.
    #[arg(long, value_name = "PATH")]
    pub manifest_path: Option<PathBuf>,
}

/// `--ci`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ci {
    /// .github/workflows/edgepack.yml
    Github,
    /// .gitlab-ci.yml
    Gitlab,
}
