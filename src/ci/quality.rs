//! Code quality as GitLab reads it.
//!
//! <https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format>

use serde_json::{Value, json};

use crate::ci::Problem;
use crate::finding::Severity;

/// What a problem without a file is shown at: GitLab wants one.
pub(super) const NO_FILE: &str = "Cargo.toml";

/// A list of problems.
#[must_use]
pub fn report(problems: &[Problem]) -> Value {
    let entry = |problem: &Problem| {
        json!({
            "description": problem.text(),
            "check_name": format!("edgepack/{}", problem.rule),
            "fingerprint": problem.fingerprint,
            "severity": match problem.severity {
                Severity::Error => "critical",
                Severity::Warning => "minor",
                Severity::Note => "info",
            },
            "location": {
                "path": problem.file.as_deref().unwrap_or(NO_FILE),
                "lines": { "begin": problem.line },
            },
        })
    };
    problems.iter().map(entry).collect()
}
