//! Annotations on GitHub, as commands to the runner of a workflow.
//!
//! <https://docs.github.com/actions/reference/workflow-commands-for-github-actions>

use std::fmt::Write;

use crate::ci::Problem;
use crate::ci::escape::{command_data, command_property};
use crate::finding::Severity;

/// GitHub keeps so many of a kind for each step, and drops the rest without a word.
const MAX_OF_A_KIND: usize = 10;

/// A line for each problem, the worst first, at most ten of a kind; the last notice
/// says how many are not shown.
#[must_use]
pub fn commands(problems: &[Problem]) -> String {
    let of = |severity| problems.iter().filter(move |p| p.severity == severity);
    let mut lines = String::new();
    let mut left = 0;
    for severity in [Severity::Error, Severity::Warning] {
        left += of(severity).count().saturating_sub(MAX_OF_A_KIND);
        for problem in of(severity).take(MAX_OF_A_KIND) {
            command(&mut lines, problem);
        }
    }
    let notes = of(Severity::Note).count();
    // The one that tells of the rest is a notice itself.
    let room = if left > 0 || notes > MAX_OF_A_KIND {
        MAX_OF_A_KIND - 1
    } else {
        MAX_OF_A_KIND
    };
    left += notes.saturating_sub(room);
    for problem in of(Severity::Note).take(room) {
        command(&mut lines, problem);
    }
    if left > 0 {
        // Writing to a string cannot fail.
        let _ = writeln!(
            lines,
            "::notice title=cargo edgepack::{left} more: report.json lists them all"
        );
    }
    lines
}

fn command(lines: &mut String, problem: &Problem) {
    let kind = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let mut properties = String::new();
    if let Some(file) = &problem.file {
        let _ = write!(
            properties,
            "file={},line={},",
            command_property(file),
            problem.line
        );
    }
    let title = match &problem.package {
        Some(package) => format!("{package}: {}", problem.rule),
        None => format!("cargo edgepack: {}", problem.rule),
    };
    let _ = writeln!(
        lines,
        "::{kind} {properties}title={}::{}",
        command_property(&title),
        command_data(&problem.text())
    );
}
