//! Glue: the report of a run becomes the files and the lines that CI systems read.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use edgepack::ci::locate::Roots;
use edgepack::ci::{self, Problem, junit, outputs, quality, sarif, summary, workflow};
use edgepack::error::Error;
use edgepack::output;
use edgepack::pipeline::Destination;
use edgepack::report::{PackageReport, Report};

use super::App;
use crate::cli::ReportFormat;
use crate::output::Printer;

/// Where the files of a run go, and the packages that are done.
pub(super) type Progress = Mutex<Option<(Destination, Vec<PackageReport>)>>;

/// What is written beside the report, all of it made from the report.
const BESIDE: [&str; 6] = [
    "summary.md",
    "gl-code-quality.json",
    "junit.xml",
    "results.sarif",
    "gl-dotenv.env",
    "gl-annotations.json",
];

fn paths(to: &Destination) -> [PathBuf; 6] {
    BESIDE.map(|name| to.folder.join(name))
}

/// Removes what an earlier run told, before this one contradicts it.
pub(super) fn remove_stale(to: &Destination) -> Result<(), Error> {
    output::remove_stale(&to.report_path())?;
    paths(to)
        .iter()
        .try_for_each(|path| output::remove_stale(path))
}

impl App {
    /// From here on the run has a report, however it ends.
    pub(super) fn begin(&self, destination: &Destination) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.is_none() {
            *progress = Some((destination.clone(), Vec::new()));
        }
    }

    /// A package went through every stage.
    pub(super) fn done(&self, report: &PackageReport) {
        self.printer.package(report);
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, packages)) = progress.as_mut() {
            packages.push(report.clone());
        }
    }

    /// Writes the report and what belongs to it, and prints what goes to stdout: for
    /// people, what `human` prints.
    pub(super) fn conclude(
        &self,
        report: &Report,
        destination: Option<&Destination>,
        format: ReportFormat,
        human: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let problems = ci::problems(report, &Roots::of_run());
        if let Some(destination) = destination {
            write(report, &problems, destination)?;
        }
        if format == ReportFormat::Github {
            tell_runner(report, &problems, destination)?;
        }
        match format {
            ReportFormat::Human | ReportFormat::Gitlab => human(),
            ReportFormat::Json => self.printer.json(report),
            ReportFormat::Github => self.printer.data(workflow::commands(&problems).as_bytes()),
            ReportFormat::Sarif => self.printer.json(&sarif::log(report, &problems)),
        }
    }

    /// The run ends with an error: the report says so, with what was done before.
    /// Nothing more can be said where that fails too.
    pub(super) fn ended(&self, error: &Error, format: ReportFormat) {
        let begun = self
            .progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if matches!(error, Error::Interrupted) {
            return;
        }
        let (destination, packages) = begun.unzip();
        let mut report = Report::new(packages.unwrap_or_default());
        report.fail(error);
        // Scripts that read JSON know by an empty stdout that there was an error.
        let format = match format {
            ReportFormat::Json => ReportFormat::Human,
            other => other,
        };
        let _ = self.conclude(&report, destination.as_ref(), format, || Ok(()));
    }
}

/// The run ended before there was anything to work with: what is wrong is said where it
/// is looked for. Nothing more can be said where that fails too.
pub(super) fn refused(error: &Error, format: ReportFormat) {
    let mut report = Report::new(Vec::new());
    report.fail(error);
    let problems = ci::problems(&report, &Roots::of_run());
    let printer = Printer::new(false, false, None);
    let _ = match format {
        ReportFormat::Github => tell_runner(&report, &problems, None)
            .and_then(|()| printer.data(workflow::commands(&problems).as_bytes())),
        ReportFormat::Sarif => printer.json(&sarif::log(&report, &problems)),
        ReportFormat::Human | ReportFormat::Gitlab | ReportFormat::Json => Ok(()),
    };
}

fn write(report: &Report, problems: &[Problem], to: &Destination) -> Result<(), Error> {
    let internal = |e: serde_json::Error| Error::Internal(e.to_string());
    let json = serde_json::to_vec_pretty(report).map_err(internal)?;
    output::write_into_new(&to.report_path(), &json)?;
    let contents = [
        summary::summary(report, problems).into_bytes(),
        serde_json::to_vec(&quality::report(problems)).map_err(internal)?,
        junit::report(report).into_bytes(),
        serde_json::to_vec(&sarif::log(report, problems)).map_err(internal)?,
        dotenv(report, to).into_bytes(),
        serde_json::to_vec(&links(report)).map_err(internal)?,
    ];
    paths(to)
        .iter()
        .zip(contents)
        .try_for_each(|(path, contents)| output::write(path, &contents))
}

fn dotenv(report: &Report, to: &Destination) -> String {
    let values = outputs::outputs(report, Some(&to.folder));
    let root = std::env::var_os("CI_PROJECT_DIR").map(PathBuf::from);
    outputs::dotenv(&values, root.as_deref())
}

fn links(report: &Report) -> serde_json::Value {
    let variable = |name| std::env::var(name).ok();
    outputs::links(
        report,
        variable("CI_REGISTRY").as_deref(),
        variable("CI_PROJECT_URL").as_deref(),
    )
}

/// The hasher's keys come from the system's source of random numbers.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Adds to the files that GitHub's runner reads after a step, where it names them.
fn tell_runner(
    report: &Report,
    problems: &[Problem],
    to: Option<&Destination>,
) -> Result<(), Error> {
    let file = |name| {
        std::env::var_os(name)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    };
    if let Some(path) = file("GITHUB_OUTPUT") {
        let values = outputs::outputs(report, to.map(|to| to.folder.as_path()));
        let lines = outputs::github(&values, random);
        output::append(&path, lines.as_bytes())?;
    }
    if let Some(path) = file("GITHUB_STEP_SUMMARY") {
        output::append(&path, summary::summary(report, problems).as_bytes())?;
    }
    Ok(())
}
