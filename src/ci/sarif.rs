//! SARIF 2.1.0, as code scanners exchange it.
//!
//! Findings are results; errors of the run are notifications, since they are about no
//! place in the code.
//!
//! Spec: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::ci::Problem;
use crate::ci::quality::NO_FILE;
use crate::finding::{Code, Severity};
use crate::report::{Outcome, Report};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// One run with its rules and results.
#[must_use]
pub fn log(report: &Report, problems: &[Problem]) -> Value {
    let rules: Vec<Value> = Code::ALL
        .iter()
        .map(|code| {
            json!({
                "id": code.name(),
                "shortDescription": { "text": code.title() },
                "defaultConfiguration": { "level": level(code.severity()) },
            })
        })
        .collect();
    let results: Vec<Value> = problems.iter().filter(|p| !p.of_run).map(result).collect();
    let notifications: Vec<Value> = problems
        .iter()
        .filter(|p| p.of_run)
        .map(|problem| {
            json!({
                "level": level(problem.severity),
                "message": { "text": problem.text() },
                "descriptor": { "id": problem.rule },
            })
        })
        .collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "cargo-edgepack",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "invocations": [{
                "executionSuccessful": report.outcome == Outcome::Passed,
                "exitCode": report.outcome.exit_code(),
                "toolExecutionNotifications": notifications,
            }],
            "results": results,
        }],
    })
}

fn result(problem: &Problem) -> Value {
    json!({
        "ruleId": problem.rule,
        "ruleIndex": Code::ALL.iter().position(|c| c.name() == problem.rule),
        "level": level(problem.severity),
        "message": { "text": problem.text() },
        "locations": [{ "physicalLocation": {
            "artifactLocation": {
                "uri": uri(problem.file.as_deref().unwrap_or(NO_FILE)),
                "uriBaseId": "%SRCROOT%",
            },
            "region": { "startLine": problem.line },
        } }],
        "partialFingerprints": { "edgepack/v1": problem.fingerprint },
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// A path as a relative reference.
/// <https://www.rfc-editor.org/rfc/rfc3986#section-4.2>
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => uri.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => uri.push(byte.into()),
            // Writing to a string cannot fail.
            byte => _ = write!(uri, "%{byte:02X}"),
        }
    }
    uri
}
