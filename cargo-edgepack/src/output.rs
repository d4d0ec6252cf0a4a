//! The only place that prints.
//!
//! stdout carries data alone; what people read goes to stderr.
#![expect(clippy::print_stderr, reason = "the only place that prints")]

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use anstream::{eprint, eprintln};
use anstyle::{AnsiColor, Style};
use edgepack::error::Error;
use edgepack::finding::{Finding, Severity};
use edgepack::inspect::Inspection;
use edgepack::pipeline::{COMPILE, Event, SHRINK};
use edgepack::report::{PackageReport, Report};
use edgepack::size::ByteCount;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Color;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default().bold();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default().bold();

/// Prints, as loudly as it was asked to.
pub struct Printer {
    quiet: bool,
    verbose: bool,
    spinner: Mutex<Option<ProgressBar>>,
}

impl Printer {
    /// A printer for this run.
    pub fn new(quiet: bool, verbose: bool, color: Option<Color>) -> Self {
        match color {
            Some(Color::Always) => anstream::ColorChoice::Always.write_global(),
            Some(Color::Never) => anstream::ColorChoice::Never.write_global(),
            Some(Color::Auto) => {}
            None => match std::env::var("CARGO_TERM_COLOR").as_deref() {
                Ok("always") => anstream::ColorChoice::Always.write_global(),
                Ok("never") => anstream::ColorChoice::Never.write_global(),
                _ => {}
            },
        }
        Printer {
            quiet,
            verbose,
            spinner: Mutex::new(None),
        }
    }

    /// Whether only errors and results are printed.
    pub fn quiet(&self) -> bool {
        self.quiet
    }

    /// An error that ends the run, with its hint.
    pub fn error(&self, error: &Error) {
        self.clear();
        eprintln!("{RED}error{RED:#}{BOLD}:{BOLD:#} {error}");
        if let Some(hint) = error.hint() {
            eprintln!("{CYAN}hint{CYAN:#}: {hint}");
        }
    }

    /// Something that the tool does by itself and the user should know.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.clear();
            eprintln!("{CYAN}note{CYAN:#}: {text}");
        }
    }

    /// What the pipeline is at, where somebody is watching.
    pub fn event(&self, event: Event<'_>) {
        let Event::Stage { package, stage } = event;
        if self.quiet || !std::io::stderr().is_terminal() || std::env::var_os("CI").is_some() {
            return;
        }
        let Ok(mut slot) = self.spinner.lock() else {
            return;
        };
        let bar = slot.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        bar.set_message(format!("{package}: {stage}"));
    }

    /// Takes what is in progress off the screen.
    pub fn clear(&self) {
        if let Ok(mut slot) = self.spinner.lock()
            && let Some(bar) = slot.take()
        {
            bar.finish_and_clear();
        }
    }

    /// One finding.
    pub fn finding(&self, package: &str, finding: &Finding) {
        let (style, word) = match finding.severity {
            Severity::Error => (RED, "error"),
            Severity::Warning => (YELLOW, "warning"),
            Severity::Note if self.quiet => return,
            Severity::Note => (CYAN, "note"),
        };
        self.clear();
        let code = finding.code.name();
        eprintln!(
            "{style}{word}[{code}]{style:#}: {package}: {}",
            finding.message
        );
        if let Some(hint) = &finding.hint {
            eprintln!("  {CYAN}hint{CYAN:#}: {hint}");
        }
    }

    /// The findings of a package and the table of its stages.
    pub fn package(&self, report: &PackageReport) {
        self.clear();
        for finding in &report.findings {
            self.finding(&report.name, finding);
        }
        if self.quiet {
            return;
        }
        let target = report
            .target
            .as_deref()
            .map_or_else(String::new, |t| format!(", {t}"));
        let (style, failed) = if report.passed() {
            (GREEN, "")
        } else {
            (RED, " failed")
        };
        eprintln!(
            "{style}{} {}{failed}{style:#} ({}{target})",
            report.name, report.version, report.kind
        );
        for stage in &report.stages {
            let result = match stage.name.as_str() {
                COMPILE => bytes(report.size.before),
                SHRINK => format!(
                    "{} → {} ({}){}",
                    bytes(report.size.before),
                    bytes(report.size.after),
                    change(report.size.before, report.size.after),
                    if stage.cached { ", cached" } else { "" },
                ),
                _ => String::new(),
            };
            row(
                &stage.name,
                &format!("{:>9}  {result}", seconds(stage.seconds)),
            );
        }
        let gzip = report
            .size
            .gzip
            .map_or_else(String::new, |gzip| format!(", gzip {}", bytes(gzip)));
        row("size", &format!("{} bytes{gzip}", report.size.after));
        if let Some(path) = &report.wasm {
            row("wasm", &shown(path));
        }
        if let Some(oci) = &report.oci {
            row("oci", &format!("{} in {}", oci.tag, shown(&oci.layout)));
            row("digest", oci.manifest_digest.as_str());
        }
    }

    /// What `check` learned about a file.
    pub fn checked(&self, file: &Path, report: &PackageReport) {
        self.clear();
        for finding in &report.findings {
            self.finding(&file.display().to_string(), finding);
        }
        if self.quiet {
            return;
        }
        let failed = !report.passed();
        let (style, word) = if failed {
            (RED, "failed")
        } else {
            (GREEN, "ok")
        };
        eprintln!(
            "{style}{word}{style:#} {} ({}, {}{}, {}, {})",
            file.display(),
            report.kind,
            bytes(report.size.after),
            report
                .size
                .gzip
                .map_or_else(String::new, |gzip| format!(", gzip {}", bytes(gzip))),
            count(report.imports.len(), "import"),
            count(report.exports.len(), "export"),
        );
        eprintln!("  {DIM}proposals{DIM:#}  {}", list(&report.features));
        if self.verbose {
            for import in &report.imports {
                eprintln!("  {DIM}import{DIM:#}     {}", import.escape_debug());
            }
            for export in &report.exports {
                eprintln!("  {DIM}export{DIM:#}     {}", export.escape_debug());
            }
        }
    }

    /// The report as JSON, on stdout.
    pub fn json<T: serde::Serialize>(&self, value: &T) {
        self.clear();
        if let Ok(json) = serde_json::to_string(value) {
            self.data(&json);
        }
    }

    /// Indented JSON, on stdout.
    pub fn pretty_json<T: serde::Serialize>(&self, value: &T) {
        if let Ok(json) = serde_json::to_string_pretty(value) {
            self.data(&json);
        }
    }

    /// The paths of what was made, on stdout.
    pub fn paths(&self, report: &Report) {
        for path in report
            .packages
            .iter()
            .filter(|p| p.passed())
            .filter_map(|p| p.wasm.as_deref())
        {
            self.data(&path.display().to_string());
        }
    }

    /// A line for stdout. A reader that has gone away is no error.
    fn data(&self, line: &str) {
        self.clear();
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}");
        let _ = out.flush();
    }

    /// What `inspect` found, on stdout: it is the data that was asked for.
    pub fn inspection(file: &Path, found: &Inspection) {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write_inspection(&mut text, file, found);
        let mut out = anstream::stdout().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }

    /// Errors that clap words itself.
    pub fn usage(error: &clap::Error) {
        let text = error.render();
        if error.use_stderr() {
            eprint!("{}", text.ansi());
        } else {
            let _ = write!(anstream::stdout(), "{}", text.ansi());
        }
    }

    /// A line for the process that started us.
    pub fn worker(line: &str) {
        std::eprintln!("{line}");
    }
}

fn write_inspection(text: &mut String, file: &Path, found: &Inspection) -> std::fmt::Result {
    writeln!(text, "{BOLD}{}{BOLD:#}: {}", file.display(), found.kind)?;
    writeln!(
        text,
        "  size       {} bytes, gzip {} bytes",
        found.size.raw, found.size.gzip
    )?;
    writeln!(text, "  sha256     {}", found.sha256)?;
    writeln!(text, "  proposals  {}", list(&found.features))?;
    writeln!(
        text,
        "  signature  {}",
        if found.metadata.signed {
            "there is one (not verified)"
        } else {
            "none"
        }
    )?;
    writeln!(text, "{BOLD}sections{BOLD:#}")?;
    for section in &found.sections {
        let indent = "  ".repeat(section.depth + 1);
        writeln!(text, "{:>12}  {indent}{}", section.size, section.name)?;
    }
    writeln!(text, "{BOLD}imports{BOLD:#} (what it asks of its host)")?;
    if found.capabilities.is_empty() {
        writeln!(text, "  none")?;
    }
    for group in &found.capabilities {
        writeln!(text, "  {}", group.capability)?;
        for import in &group.imports {
            writeln!(text, "    {}", import.escape_debug())?;
        }
    }
    writeln!(text, "{BOLD}exports{BOLD:#}")?;
    for export in &found.exports {
        writeln!(
            text,
            "  {} {DIM}{}{DIM:#}",
            export.name.escape_debug(),
            export.kind.name()
        )?;
    }
    writeln!(text, "{BOLD}producers{BOLD:#}")?;
    if found.metadata.producers.is_empty() {
        writeln!(text, "  none")?;
    }
    for (field, values) in &found.metadata.producers {
        writeln!(
            text,
            "  {}: {}",
            field.escape_debug(),
            values.join(", ").escape_debug()
        )?;
    }
    writeln!(text, "{BOLD}dependencies{BOLD:#} (.dep-v0)")?;
    if found.metadata.dependencies.is_empty() {
        writeln!(text, "  none embedded")?;
    }
    for dependency in &found.metadata.dependencies {
        writeln!(
            text,
            "  {} {}",
            dependency.name.escape_debug(),
            dependency.version.escape_debug()
        )?;
    }
    Ok(())
}

/// A line of the table.
fn row(label: &str, value: &str) {
    eprintln!("  {DIM}{label:<13}{DIM:#}{}", value.trim_end());
}

fn bytes(size: u64) -> String {
    ByteCount(size).to_string()
}

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else {
        format!("{seconds:.2} s")
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn change(before: u64, after: u64) -> String {
    if before == 0 {
        return "±0 %".into();
    }
    format!("{:+.1} %", (after as f64 / before as f64 - 1.0) * 100.0)
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".into();
    }
    let mut text = String::new();
    for (i, name) in names.iter().enumerate() {
        let _ = write!(text, "{}{name}", if i == 0 { "" } else { ", " });
    }
    text
}

/// A path as the user would write it from here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here)
        .unwrap_or(path)
        .display()
        .to_string()
}
