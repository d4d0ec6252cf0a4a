//! The report, as CI systems read it: annotations on a change, a summary, reports of
//! tests and of code quality.
//!
//! All of them show the same list of [`Problem`]s. What is in it came from elsewhere in
//! part (names of packages, of imports, messages of cargo and of registries): each form
//! escapes it, and is bounded in length and number.

pub mod escape;
pub mod junit;
pub mod locate;
pub mod matrix;
pub mod origin;
pub mod outputs;
pub mod pin;
pub mod quality;
pub mod sarif;
pub mod starter;
pub mod summary;
pub mod workflow;

use crate::ci::escape::{grouped, shortened};
use crate::ci::locate::Roots;
use crate::finding::{Code, Finding, Severity};
use crate::oci::Digest;
use crate::report::{PackageReport, Report};
use crate::size::ByteCount;

/// How many problems a file lists.
const MAX_PROBLEMS: usize = 1000;
/// How many bytes of a message are shown.
const MAX_MESSAGE: usize = 2000;

/// A finding or an error, and where it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How much it weighs.
    pub severity: Severity,
    /// The code of the finding, or the kind of the error.
    pub rule: String,
    /// Whether it is an error of the run, and no finding.
    pub of_run: bool,
    /// Which package it is about.
    pub package: Option<String>,
    /// What it is, in a sentence that names the package.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The file, relative to the root of the repository, with `/` between its parts.
    pub file: Option<String>,
    /// The line in the file, from 1.
    pub line: u32,
    /// The same for the same problem in another run, and for no other in this one.
    pub fingerprint: String,
}

impl Problem {
    /// The message with the hint behind it.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}\nhint: {hint}", self.message),
            None => self.message.clone(),
        }
    }
}

/// What is wrong or worth knowing, the worst first; within one weight in the order of
/// the report. The first thousand are kept.
#[must_use]
pub fn problems(report: &Report, roots: &Roots) -> Vec<Problem> {
    let mut problems: Vec<Problem> = report
        .errors
        .iter()
        .map(|error| Problem {
            severity: Severity::Error,
            rule: error.kind.name().to_owned(),
            of_run: true,
            package: None,
            message: shortened(&error.message, MAX_MESSAGE),
            hint: error.hint.as_ref().map(|h| shortened(h, MAX_MESSAGE)),
            file: None,
            line: 1,
            fingerprint: fingerprint(&["error", error.kind.name(), &error.message]),
        })
        .collect();
    for package in &report.packages {
        let manifest = locate::Manifest::of(package, roots);
        for finding in &package.findings {
            problems.push(problem(package, finding, &manifest));
        }
    }
    problems.sort_by_key(|p| std::cmp::Reverse(p.severity));
    problems.truncate(MAX_PROBLEMS);
    tell_apart(&mut problems);
    problems
}

fn problem(package: &PackageReport, finding: &Finding, manifest: &locate::Manifest) -> Problem {
    let code = finding.code;
    let is_budget = matches!(code, Code::BudgetRaw | Code::BudgetGzip);
    // Sizes differ from run to run, and it is the same budget that is exceeded.
    let what = if is_budget { "" } else { &finding.message };
    Problem {
        severity: finding.severity,
        rule: code.name().to_owned(),
        of_run: false,
        package: Some(package.name.clone()),
        message: shortened(&message(package, finding), MAX_MESSAGE),
        hint: finding.hint.as_ref().map(|h| shortened(h, MAX_MESSAGE)),
        file: manifest.file.clone(),
        line: manifest.line_of(code),
        fingerprint: fingerprint(&[code.name(), &package.name, what]),
    }
}

/// A finding as a sentence that can stand by itself.
fn message(package: &PackageReport, finding: &Finding) -> String {
    let budget = package
        .budgets
        .iter()
        .find(|b| b.kind.code() == finding.code && b.excess > 0);
    match budget {
        Some(budget) => format!(
            "{} is {} bytes over its {}budget of {} bytes ({}): it has {}",
            package.name,
            grouped(budget.excess),
            if finding.code == Code::BudgetGzip {
                "gzip "
            } else {
                ""
            },
            grouped(budget.limit),
            ByteCount(budget.limit),
            grouped(budget.actual),
        ),
        None => format!("{}: {}", package.name, finding.message),
    }
}

fn fingerprint(parts: &[&str]) -> String {
    Digest::of(parts.join("\0").as_bytes()).hex().to_owned()
}

/// Equal problems are listed once by those who read the fingerprints.
fn tell_apart(problems: &mut [Problem]) {
    let mut seen = std::collections::HashMap::<String, usize>::new();
    for problem in problems {
        let times = seen.entry(problem.fingerprint.clone()).or_default();
        *times += 1;
        if *times > 1 {
            problem.fingerprint = fingerprint(&[&problem.fingerprint, &times.to_string()]);
        }
    }
}

#[cfg(test)]
mod tests;
