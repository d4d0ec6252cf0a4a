//! `--message-format`, for the commands that make a report.

use clap::{Args, ValueEnum};

/// What goes to stdout.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reporting")]
pub struct Results {
    /// What goes to stdout.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub message_format: ReportFormat,
}

/// `--message-format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// Text on stderr, paths or references on stdout.
    #[default]
    Human,
    /// The report as JSON on stdout.
    Json,
    /// Annotations for GitHub's runner on stdout; the report is in report.json.
    Github,
    /// The same as human: GitLab reads gl-code-quality.json and junit.xml.
    Gitlab,
    /// SARIF 2.1.0 on stdout.
    Sarif,
}
