//! The only place that prints.
//!
//! stdout carries data alone; what people read goes to stderr.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use edgepack::cache::Contents;
use edgepack::ci::escape::without_commands;
use edgepack::error::Error;
use edgepack::finding::{Finding, Severity};
use edgepack::inspect::Inspection;
use edgepack::pipeline::{COMPILE, Event, SHRINK};
use edgepack::report::{Comparison, PackageReport, Report};
use edgepack::shrink::ModuleReport;
use edgepack::size::ByteCount;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Color;

/// A line on stderr. Where nobody can read it any more, the work goes on.
macro_rules! say {
    ($($arg:tt)*) => {
        let _ = writeln!(anstream::stderr(), "{}", $crate::output::harmless(&format!($($arg)*)));
    };
}

/// Whether GitHub's runner reads what is printed, and would obey it.
static RUNNER_LISTENS: AtomicBool = AtomicBool::new(false);

/// What is printed, without commands to GitHub's runner that came with it.
fn harmless(text: &str) -> Cow<'_, str> {
    if RUNNER_LISTENS.load(Ordering::Relaxed) {
        without_commands(text)
    } else {
        Cow::Borrowed(text)
    }
}

/// How many imports, and how many exports, `check` lists unasked.
const MAX_NAMES: usize = 20;

mod plan;
mod registry;
mod sign;

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

    /// What is printed from now on goes to GitHub's runner, if `asked` for, or where its
    /// variable says so.
    pub fn heed_runner(asked: bool) {
        let there = std::env::var_os("GITHUB_ACTIONS").is_some_and(|v| v == "true");
        RUNNER_LISTENS.store(asked || there, Ordering::Relaxed);
    }

    /// Whether only errors and results are printed.
    pub fn quiet(&self) -> bool {
        self.quiet
    }

    /// An error that ends the run, with its hint.
    pub fn error(&self, error: &Error) {
        self.clear();
        say!("{RED}error{RED:#}{BOLD}:{BOLD:#} {error}");
        if let Some(hint) = error.hint() {
            say!("{CYAN}hint{CYAN:#}: {hint}");
        }
    }

    /// Something that the tool does by itself and the user should know.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.clear();
            say!("{CYAN}note{CYAN:#}: {text}");
        }
    }

    /// A step of something longer, for logs.
    pub fn step(&self, text: &str) {
        if !self.quiet {
            say!("  {DIM}{text}{DIM:#}");
        }
    }

    /// Something that was left undone.
    pub fn warning(&self, text: &str) {
        self.clear();
        say!("{YELLOW}warning{YELLOW:#}: {text}");
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
        say!(
            "{style}{word}[{code}]{style:#}: {package}: {}",
            finding.message
        );
        if let Some(hint) = &finding.hint {
            say!("  {CYAN}hint{CYAN:#}: {hint}");
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
        say!(
            "{style}{} {}{failed}{style:#} ({}{target})",
            report.name,
            report.version,
            report.kind
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
            if self.verbose && stage.name == SHRINK {
                candidates(&report.modules);
            }
        }
        let gzip = report
            .size
            .gzip
            .map_or_else(String::new, |gzip| format!(", gzip {}", bytes(gzip)));
        row("size", &format!("{} bytes{gzip}", report.size.after));
        if let Some(comparison) = &report.comparison {
            self.comparison(comparison);
        }
        if let Some(path) = &report.wasm {
            row("wasm", &shown(path));
        }
        for oci in &report.artifacts {
            row("oci", &format!("{} in {}", oci.tag, shown(&oci.layout)));
            row("digest", oci.manifest_digest.as_str());
        }
    }

    /// What is different from an earlier one: sizes, and what it asks of its host.
    fn comparison(&self, comparison: &Comparison) {
        let raw = difference(comparison.size.raw, comparison.raw_change);
        let gzip = comparison.size.gzip.zip(comparison.gzip_change);
        let gzip = gzip.map_or_else(String::new, |(size, change)| {
            format!(", gzip {}", difference(size, change))
        });
        row("compared", &format!("{raw}{gzip}"));
        row("with", &comparison.with);
        let names = [
            ("new import", &comparison.imports.added),
            ("gone import", &comparison.imports.removed),
        ];
        for (label, names) in names {
            let shown = if self.verbose {
                names.len()
            } else {
                names.len().min(MAX_NAMES)
            };
            for name in &names[..shown] {
                row(label, &name.escape_debug().to_string());
            }
            if shown < names.len() {
                let left = names.len() - shown;
                row(label, &format!("… and {left} more: report.json lists them"));
            }
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
        say!(
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
        say!("  {DIM}proposals{DIM:#}  {}", list(&report.features));
        for (label, names) in [("import", &report.imports), ("export", &report.exports)] {
            let shown = if self.verbose {
                names.len()
            } else {
                names.len().min(MAX_NAMES)
            };
            for name in &names[..shown] {
                say!("  {DIM}{label:<9}{DIM:#}  {}", name.escape_debug());
            }
            if shown < names.len() {
                say!(
                    "  {DIM}{label:<9}{DIM:#}  … and {} more: --verbose lists them",
                    names.len() - shown
                );
            }
        }
    }

    /// A value as JSON in one line, on stdout.
    pub fn json<T: serde::Serialize>(&self, value: &T) -> Result<(), Error> {
        let mut json = serde_json::to_string(value).map_err(|e| Error::Internal(e.to_string()))?;
        if RUNNER_LISTENS.load(Ordering::Relaxed) {
            // The same JSON: these stand in strings alone.
            json = json.replace("##[", "#\\u0023[");
        }
        self.data(format!("{json}\n").as_bytes())
    }

    /// A value as indented JSON, on stdout.
    pub fn pretty_json<T: serde::Serialize>(&self, value: &T) -> Result<(), Error> {
        let json =
            serde_json::to_string_pretty(value).map_err(|e| Error::Internal(e.to_string()))?;
        self.data(format!("{json}\n").as_bytes())
    }

    /// The paths of what was made, on stdout.
    pub fn paths(&self, report: &Report) -> Result<(), Error> {
        let passed = report.packages.iter().filter(|p| p.passed());
        let lines: String =
            passed
                .filter_map(|p| p.wasm.as_deref())
                .fold(String::new(), |mut lines, path| {
                    let _ = writeln!(lines, "{}", path.display());
                    lines
                });
        self.data(lines.as_bytes())
    }

    /// Data, on stdout. A reader that has had enough is no error; a full disk is.
    pub fn data(&self, bytes: &[u8]) -> Result<(), Error> {
        self.clear();
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Error::io("write to", "stdout")(e))
            }
            _ => Ok(()),
        }
    }

    /// What `inspect` found, on stdout: it is the data that was asked for.
    pub fn inspection(&self, file: &Path, found: &Inspection) -> Result<(), Error> {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write_inspection(&mut text, file, found);
        self.data(styled(&text).as_bytes())
    }

    /// What the cache holds, or held before it was cleared, on stdout.
    pub fn cache(&self, contents: &Contents, cleared: bool) -> Result<(), Error> {
        let Some(folder) = &contents.folder else {
            return self.data(b"there is no cache: this user has no folder for it\n");
        };
        let text = format!(
            "folder   {}\nentries  {}{}\nsize     {} of at most {}\n",
            folder.display(),
            contents.entries,
            if cleared { ", removed" } else { "" },
            bytes(contents.bytes),
            bytes(contents.limit),
        );
        self.data(text.as_bytes())
    }

    /// Errors that clap words itself.
    pub fn usage(error: &clap::Error) {
        let text = error.render();
        if error.use_stderr() {
            let text = text.ansi().to_string();
            let _ = write!(anstream::stderr(), "{}", harmless(&text));
        } else {
            let _ = write!(anstream::stdout(), "{}", text.ansi());
        }
    }

    /// A line for the process that started us.
    pub fn worker(line: &str) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// With its colours, where stdout shows them.
fn styled(text: &str) -> String {
    if anstream::AutoStream::choice(&std::io::stdout()) == anstream::ColorChoice::Never {
        anstream::adapter::strip_str(text).to_string()
    } else {
        text.to_owned()
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
    say!("  {DIM}{label:<13}{DIM:#}{}", value.trim_end());
}

/// What was tried for each core module, below the line of the stage.
fn candidates(modules: &[ModuleReport]) {
    for (index, module) in modules.iter().enumerate() {
        let outcome = match (&module.recipe, module.cached) {
            (Some(recipe), true) => format!("{recipe}, cached"),
            (Some(recipe), false) => recipe.clone(),
            (None, _) => "stripped only".to_owned(),
        };
        say!(
            "    {DIM}module {index}:{DIM:#} {} → {} bytes, {}",
            module.before,
            module.after,
            outcome.escape_debug()
        );
        for tried in &module.candidates {
            let size = tried
                .size
                .map_or_else(String::new, |s| format!("{s} bytes, "));
            let message = tried
                .message
                .as_ref()
                .map_or_else(String::new, |m| format!(": {}", m.escape_debug()));
            say!(
                "      {}. {:<16} {:>9}  {size}{}{message}",
                tried.round,
                tried.recipe,
                seconds(tried.seconds),
                tried.outcome.name(),
            );
        }
    }
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
    if before == after || before == 0 {
        return "unchanged".into();
    }
    format!("{:+.1} %", (after as f64 / before as f64 - 1.0) * 100.0)
}

/// How many bytes more or less than `before` there are.
fn difference(before: u64, change: i64) -> String {
    if change == 0 {
        return "the same".into();
    }
    let after = before.saturating_add_signed(change);
    format!("{change:+} bytes ({})", self::change(before, after))
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
