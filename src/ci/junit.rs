//! What was done and found, as a report of tests in `JUnit`'s form: a suite for each
//! package, with a case for each stage, each budget and each kind of finding.
//!
//! <https://docs.gitlab.com/ci/testing/unit_test_reports/>

use std::fmt::{self, Write};

use crate::ci::escape::{grouped, shortened, xml};
use crate::ci::{MAX_MESSAGE, MAX_PROBLEMS, message};
use crate::finding::{Code, Finding, Severity};
use crate::report::{PackageReport, Report};

/// How many findings of one kind a case quotes.
const MAX_QUOTED: usize = 20;

/// A case.
struct Case {
    name: String,
    seconds: f64,
    /// The element that says how it failed, and what it says.
    failure: Option<(&'static str, String)>,
    output: Option<String>,
}

/// The report as XML.
#[must_use]
pub fn report(report: &Report) -> String {
    let mut suites: Vec<(String, Vec<Case>)> = report
        .packages
        .iter()
        .take(MAX_PROBLEMS)
        .map(|package| (package.name.clone(), cases(package)))
        .collect();
    if !report.errors.is_empty() {
        let errors = report.errors.iter().take(MAX_PROBLEMS).enumerate();
        let errors = errors.map(|(index, error)| Case {
            name: format!("{} error {}", error.kind.name(), index + 1),
            seconds: 0.0,
            failure: Some(("error", with_hint(&error.message, error.hint.as_deref()))),
            output: None,
        });
        suites.push(("cargo edgepack".to_owned(), errors.collect()));
    }
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_suites(&mut text, &suites);
    text
}

fn cases(package: &PackageReport) -> Vec<Case> {
    let stages = package.stages.iter().map(|stage| Case {
        name: stage.name.clone(),
        seconds: stage.seconds,
        failure: None,
        output: None,
    });
    let budgets = package.budgets.iter().map(|budget| {
        let finding = package
            .findings
            .iter()
            .find(|f| f.code == budget.kind.code());
        Case {
            name: format!("budget {}", budget.kind.name()),
            seconds: 0.0,
            failure: finding.map(|f| {
                (
                    "failure",
                    with_hint(&message(package, f), f.hint.as_deref()),
                )
            }),
            output: Some(format!(
                "{} of {} bytes",
                grouped(budget.actual),
                grouped(budget.limit)
            )),
        }
    });
    let has_budget = |code: Code| package.budgets.iter().any(|b| b.kind.code() == code);
    let codes = Code::ALL.into_iter().filter(|code| !has_budget(*code));
    let findings = codes.filter_map(|code| {
        let of_code: Vec<&Finding> = package.findings.iter().filter(|f| f.code == code).collect();
        let severity = of_code.first()?.severity;
        let mut said: Vec<String> = of_code
            .iter()
            .take(MAX_QUOTED)
            .map(|f| with_hint(&f.message, f.hint.as_deref()))
            .collect();
        if of_code.len() > MAX_QUOTED {
            said.push(format!("and {} more", of_code.len() - MAX_QUOTED));
        }
        let said = said.join("\n");
        let (failure, output) = match severity {
            Severity::Error => (Some(("failure", said)), None),
            Severity::Warning | Severity::Note => (None, Some(said)),
        };
        Some(Case {
            name: code.name().to_owned(),
            seconds: 0.0,
            failure,
            output,
        })
    });
    stages.chain(budgets).chain(findings).collect()
}

fn with_hint(message: &str, hint: Option<&str>) -> String {
    let message = shortened(message, MAX_MESSAGE);
    match hint {
        Some(hint) => format!("{message}\nhint: {}", shortened(hint, MAX_MESSAGE)),
        None => message,
    }
}

fn write_suites(text: &mut String, suites: &[(String, Vec<Case>)]) -> fmt::Result {
    let count = |cases: &[Case], element: &str| {
        let is = |case: &&Case| case.failure.as_ref().is_some_and(|(e, _)| *e == element);
        cases.iter().filter(is).count()
    };
    let sum = |element: &str| -> usize { suites.iter().map(|(_, c)| count(c, element)).sum() };
    let tests: usize = suites.iter().map(|(_, cases)| cases.len()).sum();
    writeln!(text, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(
        text,
        "<testsuites name=\"cargo edgepack\" tests=\"{tests}\" failures=\"{}\" errors=\"{}\">",
        sum("failure"),
        sum("error")
    )?;
    for (name, cases) in suites {
        let seconds: f64 = cases.iter().map(|c| c.seconds).sum();
        writeln!(
            text,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{seconds:.3}\">",
            xml(name),
            cases.len(),
            count(cases, "failure"),
            count(cases, "error"),
        )?;
        for case in cases {
            write!(
                text,
                "    <testcase name=\"{}\" classname=\"{}\" time=\"{:.3}\"",
                xml(&case.name),
                xml(name),
                case.seconds
            )?;
            if case.failure.is_none() && case.output.is_none() {
                writeln!(text, "/>")?;
                continue;
            }
            writeln!(text, ">")?;
            if let Some((element, said)) = &case.failure {
                let first = said.lines().next().unwrap_or_default();
                writeln!(
                    text,
                    "      <{element} message=\"{}\" type=\"{}\">{}</{element}>",
                    xml(first),
                    xml(&case.name),
                    xml(said)
                )?;
            }
            if let Some(output) = &case.output {
                writeln!(text, "      <system-out>{}</system-out>", xml(output))?;
            }
            writeln!(text, "    </testcase>")?;
        }
        writeln!(text, "  </testsuite>")?;
    }
    writeln!(text, "</testsuites>")
}
