//! A summary in Markdown: sizes against budgets, what the modules ask of their host,
//! findings, and where the artifacts are.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use crate::ci::Problem;
use crate::ci::escape::{grouped, markdown, markdown_code, shortened};
use crate::finding::Severity;
use crate::report::{BudgetKind, BudgetReport, Outcome, Report};
use crate::size::ByteCount;
use crate::wasm::capability;

/// How many packages, and how many artifacts, are listed.
const MAX_ROWS: usize = 200;
/// How many findings are.
const MAX_FINDINGS: usize = 100;
/// How many interfaces are, for each package.
const MAX_INTERFACES: usize = 40;
/// How many bytes of a name are shown.
const MAX_NAME: usize = 200;
/// GitHub takes 1 MiB for all steps together.
const MAX_SUMMARY: usize = 128 << 10;

/// The summary.
#[must_use]
pub fn summary(report: &Report, problems: &[Problem]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_summary(&mut text, report, problems);
    if text.len() > MAX_SUMMARY {
        // Between lines: half of one may end in the middle of something escaped.
        text = shortened(&text, MAX_SUMMARY);
        text.truncate(text.rfind('\n').unwrap_or(0));
        text.push_str("\n\nThere is more than fits here: see `report.json`.\n");
    }
    text
}

fn write_summary(text: &mut String, report: &Report, problems: &[Problem]) -> fmt::Result {
    let headline = match report.outcome {
        Outcome::Passed => "passed".to_owned(),
        outcome => format!("failed ({})", outcome.name()),
    };
    writeln!(text, "## cargo edgepack: {headline}\n")?;
    sizes(text, report)?;
    comparisons(text, report)?;
    findings(text, problems)?;
    capabilities(text, report)?;
    published(text, report)
}

fn sizes(text: &mut String, report: &Report) -> fmt::Result {
    if report.packages.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "| package | target | before | after | change | gzip | budget |\n\
         | --- | --- | ---: | ---: | ---: | ---: | --- |"
    )?;
    for package in report.packages.iter().take(MAX_ROWS) {
        let size = package.size;
        writeln!(
            text,
            "| {} {} | {} | {} | {} | {} | {} | {} |",
            name(&package.name),
            markdown(&shortened(&package.version, MAX_NAME)),
            package
                .target
                .as_deref()
                .map_or_else(|| package.kind.to_string(), name),
            ByteCount(size.before),
            ByteCount(size.after),
            change(size.before, size.after),
            size.gzip
                .map_or_else(String::new, |gzip| ByteCount(gzip).to_string()),
            budgets(&package.budgets),
        )?;
    }
    more(text, report.packages.len(), MAX_ROWS)?;
    writeln!(text)
}

fn budgets(budgets: &[BudgetReport]) -> String {
    let shown: Vec<String> = budgets
        .iter()
        .map(|budget| {
            let what = match budget.kind {
                BudgetKind::Raw => "",
                BudgetKind::Gzip => "gzip ",
            };
            let limit = ByteCount(budget.limit);
            if budget.excess > 0 {
                let excess = grouped(budget.excess);
                format!("**{what}{excess} bytes over {limit}**")
            } else {
                format!(
                    "{what}{limit}, {} bytes left",
                    grouped(budget.limit - budget.actual)
                )
            }
        })
        .collect();
    shown.join("; ")
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn change(before: u64, after: u64) -> String {
    if before == after || before == 0 {
        return "none".to_owned();
    }
    format!("{:+.1} %", (after as f64 / before as f64 - 1.0) * 100.0)
}

/// Sizes and interfaces beside those of earlier ones.
fn comparisons(text: &mut String, report: &Report) -> fmt::Result {
    let compared = || {
        let packages = report.packages.iter();
        packages.filter_map(|p| p.comparison.as_ref().map(|c| (p, c)))
    };
    if compared().next().is_none() {
        return Ok(());
    }
    writeln!(
        text,
        "### Compared with an earlier one\n\n\
         | package | before | now | change | gzip before | now | change |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    )?;
    for (package, comparison) in compared().take(MAX_ROWS) {
        let raw = (comparison.size.raw, Some(comparison.raw_change));
        let gzip = (comparison.size.gzip, comparison.gzip_change);
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            name(&package.name),
            ByteCount(raw.0),
            ByteCount(package.size.after),
            difference(Some(raw.0), raw.1),
            optional(gzip.0),
            optional(package.size.gzip),
            difference(gzip.0, gzip.1),
        )?;
    }
    more(text, compared().count(), MAX_ROWS)?;
    writeln!(text)?;
    for (package, comparison) in compared().take(MAX_ROWS) {
        writeln!(
            text,
            "- {} beside {}",
            name(&package.name),
            markdown_code(&shortened(&comparison.with, 1000))
        )?;
        for (what, names) in [
            ("asks its host for more", &comparison.imports.added),
            ("no longer asks for", &comparison.imports.removed),
            ("offers more", &comparison.exports.added),
            ("no longer offers", &comparison.exports.removed),
        ] {
            if !names.is_empty() {
                writeln!(text, "  - {what}: {}", listed(names))?;
            }
        }
    }
    writeln!(text)
}

/// So many names as there is room for.
fn listed(names: &[String]) -> String {
    let mut shown: Vec<String> = names.iter().take(MAX_INTERFACES).map(|n| name(n)).collect();
    if names.len() > MAX_INTERFACES {
        let left = names.len() - MAX_INTERFACES;
        shown.push(format!("and {left} more: see `report.json`"));
    }
    shown.join(", ")
}

fn optional(size: Option<u64>) -> String {
    size.map_or_else(String::new, |size| ByteCount(size).to_string())
}

/// How many bytes more or less there are: in bytes, and in percent of `before`.
fn difference(before: Option<u64>, change: Option<i64>) -> String {
    let (Some(before), Some(change)) = (before, change) else {
        return String::new();
    };
    if change == 0 {
        return "none".to_owned();
    }
    let sign = if change < 0 { '-' } else { '+' };
    format!(
        "{sign}{} bytes ({})",
        grouped(change.unsigned_abs()),
        self::change(before, before.saturating_add_signed(change))
    )
}

fn findings(text: &mut String, problems: &[Problem]) -> fmt::Result {
    if problems.is_empty() {
        return Ok(());
    }
    writeln!(text, "### Findings\n")?;
    for problem in problems.iter().take(MAX_FINDINGS) {
        let word = match problem.severity {
            Severity::Error => "**error**",
            Severity::Warning => "**warning**",
            Severity::Note => "note",
        };
        write!(
            text,
            "- {word} {}: {}",
            name(&problem.rule),
            markdown(&problem.message)
        )?;
        if let Some(hint) = &problem.hint {
            write!(text, "; {}", markdown(hint))?;
        }
        writeln!(text)?;
    }
    more(text, problems.len(), MAX_FINDINGS)?;
    writeln!(text)
}

/// What the modules import, by what it lets them do.
fn capabilities(text: &mut String, report: &Report) -> fmt::Result {
    let packages = || {
        report
            .packages
            .iter()
            .filter(|p| !p.features.is_empty() || p.passed())
    };
    if packages().next().is_none() {
        return Ok(());
    }
    writeln!(text, "### What they ask of their host\n")?;
    for package in packages().take(MAX_ROWS) {
        if package.imports.is_empty() {
            writeln!(text, "- {}: nothing", name(&package.name))?;
            continue;
        }
        writeln!(text, "- {}", name(&package.name))?;
        let mut room = MAX_INTERFACES;
        for (capability, imports) in capability::group(package.imports.iter().map(String::as_str)) {
            let shown: Vec<String> = interfaces(&imports).into_iter().take(room).collect();
            room -= shown.len();
            if shown.is_empty() {
                writeln!(text, "  - and more: see `report.json`")?;
                break;
            }
            writeln!(text, "  - {capability}: {}", shown.join(", "))?;
        }
    }
    more(text, packages().count(), MAX_ROWS)?;
    writeln!(text)
}

/// Imports by their interface: for core modules the part before the dot, with how many
/// of its functions are imported.
fn interfaces(imports: &[String]) -> Vec<String> {
    let mut interfaces = BTreeMap::<&str, usize>::new();
    for import in imports {
        let interface = match import.split_once('.') {
            // The dots in a component's names are those of versions.
            Some((module, _)) if !module.contains(':') => module,
            _ => import,
        };
        *interfaces.entry(interface).or_default() += 1;
    }
    interfaces
        .into_iter()
        .map(|(interface, count)| match count {
            1 => name(interface),
            _ => format!("{} ({count})", name(interface)),
        })
        .collect()
}

fn published(text: &mut String, report: &Report) -> fmt::Result {
    if report.published.is_empty() {
        return Ok(());
    }
    let planned = report.published.iter().all(|p| p.dry_run);
    let title = if planned {
        "Would be published"
    } else {
        "Published"
    };
    writeln!(
        text,
        "### {title}\n\n| artifact | reference | tags |\n| --- | --- | --- |"
    )?;
    for entry in report.published.iter().take(MAX_ROWS) {
        let tags: Vec<String> = entry.tags.iter().take(20).map(|t| name(&t.name)).collect();
        writeln!(
            text,
            "| {} | {} | {} |",
            name(&entry.name),
            markdown_code(&shortened(&entry.reference, 1000)),
            tags.join(", ")
        )?;
    }
    more(text, report.published.len(), MAX_ROWS)?;
    writeln!(text)
}

fn more(text: &mut String, there: usize, shown: usize) -> fmt::Result {
    if there > shown {
        writeln!(text, "\nand {} more: see `report.json`", there - shown)?;
    }
    Ok(())
}

fn name(text: &str) -> String {
    markdown_code(&shortened(text, MAX_NAME))
}
