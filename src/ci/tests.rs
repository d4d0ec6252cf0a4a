//! Every form, on a report of hostile names.

use std::path::PathBuf;

use serde_json::Value;

use super::locate::Roots;
use super::*;
use crate::error::Error;
use crate::report::{BudgetKind, BudgetReport, Outcome, StageReport};
use crate::size::Sizes;
use crate::wasm::Kind;

const HOSTILE: &str =
    "x\n::error::forged\r##[error]forged%0A::set-output name=a::b</testcase>|`<b>";

fn package(name: &str, findings: Vec<Finding>) -> PackageReport {
    PackageReport {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        target: None,
        kind: Kind::Core,
        input: None,
        wasm: None,
        embedded: None,
        sha256: String::new(),
        size: Sizes {
            before: 2000,
            after: 1500,
            gzip: Some(700),
        },
        budgets: vec![BudgetReport {
            kind: BudgetKind::Raw,
            limit: 1000,
            actual: 1500,
            excess: 500,
        }],
        imports: vec![format!("env.{name}")],
        exports: Vec::new(),
        features: Vec::new(),
        findings,
        oci: None,
        artifacts: Vec::new(),
        sbom: None,
        modules: Vec::new(),
        comparison: None,
        stages: vec![StageReport {
            name: "check".to_owned(),
            seconds: 0.5,
            cached: false,
        }],
    }
}

fn hostile() -> Report {
    let mut report = Report::new(vec![package(
        HOSTILE,
        vec![
            Finding::new(Code::SectionsDropped, HOSTILE),
            Finding::new(Code::BudgetRaw, "").with_hint(HOSTILE),
            Finding::new(Code::ImportNotAllowed, HOSTILE),
        ],
    )]);
    report.fail(&Error::usage(HOSTILE));
    report
}

#[test]
fn the_worst_comes_first_and_a_budget_says_by_how_much() {
    let report = hostile();
    assert_eq!(
        report.outcome,
        Outcome::Validation,
        "the first problem decides"
    );
    let problems = problems(&report, &Roots::default());
    let rules: Vec<&str> = problems.iter().map(|p| p.rule.as_str()).collect();
    assert_eq!(
        rules,
        [
            "usage",
            "budget-raw",
            "import-not-allowed",
            "sections-dropped"
        ]
    );
    assert!(
        problems[1]
            .message
            .ends_with(" is 500 bytes over its budget of 1,000 bytes (1000 B): it has 1,500"),
        "{}",
        problems[1].message
    );
}

#[test]
fn annotations_are_one_line_each_and_ten_of_a_kind() {
    let report = hostile();
    let lines = workflow::commands(&problems(&report, &Roots::default()));
    let begins: Vec<&str> = lines
        .split(['\n', '\r'])
        .filter(|l| !l.is_empty())
        .map(|l| l.split(' ').next().unwrap())
        .collect();
    assert_eq!(begins, ["::error", "::error", "::error", "::notice"]);
    assert!(!lines.contains("%0A::set-output"), "{lines}");
    assert!(lines.contains("%250A::set-output"), "{lines}");

    let many = |code| (0..12).map(move |i| Finding::new(code, i.to_string()));
    let report = Report::new(vec![package(
        "a",
        many(Code::SectionsDropped)
            .chain(many(Code::InvalidWasm))
            .collect(),
    )]);
    let lines = workflow::commands(&problems(&report, &Roots::default()));
    let count = |kind: &str| lines.lines().filter(|l| l.starts_with(kind)).count();
    assert_eq!((count("::error"), count("::notice")), (10, 10));
    assert!(
        lines.ends_with("::5 more: report.json lists them all\n"),
        "{lines}"
    );
}

#[test]
fn fingerprints_stay_and_differ() {
    let of = |report: &Report| -> Vec<String> {
        let listed = quality::report(&problems(report, &Roots::default()));
        let listed = listed.as_array().unwrap();
        listed
            .iter()
            .map(|p| p["fingerprint"].as_str().unwrap().to_owned())
            .collect()
    };
    let note = || Finding::new(Code::SectionsDropped, "the same");
    let report = Report::new(vec![package("a", vec![note(), note()])]);
    let prints = of(&report);
    assert_ne!(prints[0], prints[1]);
    assert_eq!(prints, of(&report));
    let grown = |size| {
        let finding = Finding::new(Code::BudgetRaw, format!("{size} bytes"));
        of(&Report::new(vec![package("a", vec![finding])]))
    };
    assert_eq!(grown(1500), grown(1600));
}

#[test]
fn the_summary_has_no_markup_from_elsewhere() {
    let mut report = hostile();
    let text = summary::summary(&report, &problems(&report, &Roots::default()));
    assert!(
        text.starts_with("## cargo edgepack: failed (validation)\n"),
        "{text}"
    );
    assert!(text.contains("**500 bytes over 1000 B**"), "{text}");
    assert!(!text.contains("\n::"), "{text}");
    let row = text.lines().find(|l| l.contains("1.0.0")).unwrap();
    let cells = row.replace("\\|", "").matches('|').count();
    assert_eq!(cells, 8, "{row}");
    // Outside code no tag is left.
    let plain: Vec<&str> = text.split("``").step_by(2).collect();
    assert!(!plain.concat().contains("<b>"), "{text}");

    report.packages = vec![report.packages[0].clone(); 1000];
    let long = summary::summary(&report, &problems(&report, &Roots::default()));
    assert!(long.len() < 150 << 10, "{}", long.len());
}

#[test]
fn junit_is_xml_with_a_case_for_each_thing() {
    let text = junit::report(&hostile());
    assert!(
        text.contains(
            "<testsuites name=\"cargo edgepack\" tests=\"5\" failures=\"2\" errors=\"1\">"
        ),
        "{text}"
    );
    assert_eq!(text.matches("</testcase>").count(), 4, "{text}");
    assert!(!text.contains("<b>"), "{text}");
    assert!(text.contains("<testcase name=\"check\""), "{text}");
}

#[test]
fn sarif_holds_findings_as_results_and_errors_as_notifications() {
    let report = hostile();
    let log = sarif::log(&report, &problems(&report, &Roots::default()));
    let run = &log["runs"][0];
    assert_eq!(run["results"].as_array().map(Vec::len), Some(3));
    for result in run["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(
            run["tool"]["driver"]["rules"][index]["id"],
            result["ruleId"]
        );
    }
    assert_eq!(
        run["invocations"][0]["executionSuccessful"],
        Value::Bool(false)
    );
    assert_eq!(run["invocations"][0]["exitCode"], 3);
    let notes = &run["invocations"][0]["toolExecutionNotifications"];
    assert_eq!(notes[0]["descriptor"]["id"], "usage");
}

#[test]
fn findings_are_shown_at_the_table_that_they_follow_from() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("a b/Cargo.toml");
    crate::output::write_into_new(
        &path,
        b"[package]\nname = \"a\"\n\n[package.metadata.edgepack]\n[package.metadata.edgepack.budget]\nraw = 1\n",
    )
    .unwrap();
    let mut package = package(
        "a",
        vec![
            Finding::new(Code::BudgetRaw, ""),
            Finding::new(Code::InvalidWasm, ""),
        ],
    );
    package.input = Some(path);
    let roots = Roots::new([folder.path().to_owned()]);
    let report = Report::new(vec![package]);
    let found = problems(&report, &roots);
    let places: Vec<_> = found.iter().map(|p| (p.file.as_deref(), p.line)).collect();
    assert_eq!(
        places,
        [(Some("a b/Cargo.toml"), 5), (Some("a b/Cargo.toml"), 4)]
    );
    let log = sarif::log(&report, &found);
    assert_eq!(
        log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
        "a%20b/Cargo.toml"
    );
    // A file elsewhere has no place in the repository.
    let elsewhere = problems(&report, &Roots::default());
    assert_eq!(elsewhere[0].file, None);
}
