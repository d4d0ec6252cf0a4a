//! What later steps and jobs are told: a few values by name, for GitHub's step outputs
//! and for GitLab's dotenv reports.
//!
//! Values hold names and paths from elsewhere: each form is written so that none of them
//! can end its value and begin another.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::report::{PublishReport, Report};

/// The most that GitLab takes as a dotenv report.
/// <https://docs.gitlab.com/ci/yaml/artifacts_reports/#artifactsreportsdotenv>
const MAX_DOTENV: usize = 5 * 1024;
/// What stays longest where not all of it fits.
const NEEDED: [&str; 3] = ["ref", "digest", "repository"];
/// How many links GitLab is given.
const MAX_LINKS: usize = 20;

/// A value that later steps may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name, in lower case with `-` between words.
    pub name: &'static str,
    /// One item for each module or artifact, in the order of the report.
    pub items: Vec<String>,
}

/// The values that a report holds, and the files beside it, in a fixed order. All are
/// there, also those that are empty.
#[must_use]
pub fn outputs(report: &Report, folder: Option<&Path>) -> Vec<Output> {
    let packages = &report.packages;
    let of_packages = |value: &dyn Fn(usize) -> String| (0..packages.len()).map(value).collect();
    let published: Vec<&PublishReport> = report.published.iter().collect();
    let of_published =
        |value: &dyn Fn(&PublishReport) -> String| published.iter().map(|p| value(p)).collect();
    let beside = |name: &str| -> Vec<String> {
        folder
            .map(|folder| folder.join(name).display().to_string())
            .into_iter()
            .collect()
    };
    // What was published, else what would be: the digest is known beforehand.
    let digests: Vec<String> = if published.is_empty() {
        packages
            .iter()
            .filter_map(|p| Some(p.oci.as_ref()?.manifest_digest.to_string()))
            .collect()
    } else {
        of_published(&|p| p.digest.to_string())
    };
    let mut layouts: Vec<String> = packages
        .iter()
        .filter_map(|p| Some(p.oci.as_ref()?.layout.display().to_string()))
        .collect();
    layouts.dedup();
    [
        ("wasm", of_packages(&|i| path(packages[i].wasm.as_deref()))),
        ("kind", of_packages(&|i| packages[i].kind.name().to_owned())),
        ("sha256", of_packages(&|i| packages[i].sha256.clone())),
        ("size", of_packages(&|i| packages[i].size.after.to_string())),
        (
            "size-before",
            of_packages(&|i| packages[i].size.before.to_string()),
        ),
        (
            "size-gzip",
            of_packages(&|i| {
                packages[i]
                    .size
                    .gzip
                    .map_or_else(String::new, |size| size.to_string())
            }),
        ),
        // Empty where it is only planned: a later step must not take it for there.
        (
            "ref",
            published
                .iter()
                .filter(|p| !p.dry_run)
                .map(|p| p.reference.clone())
                .collect(),
        ),
        ("digest", digests),
        (
            "tags",
            of_published(&|p| {
                let tags: Vec<&str> = p.tags.iter().map(|t| t.name.as_str()).collect();
                tags.join(",")
            }),
        ),
        // Several in one repository too: later steps pair it with the digest.
        ("repository", of_published(&|p| p.repository.clone())),
        (
            "signature",
            of_published(&|p| {
                let formats: Vec<&str> = p.signatures.iter().map(|s| s.format.as_str()).collect();
                formats.join(",")
            }),
        ),
        ("sbom", of_packages(&|i| path(packages[i].sbom.as_deref()))),
        ("report", beside("report.json")),
        ("summary", beside("summary.md")),
        ("sarif", beside("results.sarif")),
        ("oci-layout", layouts),
    ]
    .map(|(name, items)| Output { name, items })
    .into()
}

fn path(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |p| p.display().to_string())
}

/// Lines for the file that `GITHUB_OUTPUT` names. A value of several items has one in
/// each line; `random` gives words that no value can foresee.
///
/// <https://docs.github.com/actions/reference/workflow-commands-for-github-actions#multiline-strings>
#[must_use]
pub fn github(outputs: &[Output], mut random: impl FnMut() -> u64) -> String {
    let mut text = String::new();
    for Output { name, items } in outputs {
        let value = items
            .iter()
            .map(|item| item.replace(['\r', '\n'], " "))
            .collect::<Vec<_>>()
            .join("\n");
        let mut end = String::new();
        while end.is_empty() || value.contains(&end) {
            end = format!("edgepack_{:016x}{:016x}", random(), random());
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}<<{end}\n{value}\n{end}");
    }
    text
}

/// A dotenv report: `EDGEPACK_REF=…` and so on, items separated by commas. Files below
/// `root`, the folder of the project, are told relative to it: another job has it
/// elsewhere. What would take a second line is left out, and what does not fit any more:
/// first of all what later jobs can do without.
#[must_use]
pub fn dotenv(outputs: &[Output], root: Option<&Path>) -> String {
    let relative = |item: &String| {
        let inside = root.and_then(|root| Path::new(item).strip_prefix(root).ok());
        inside.map_or_else(|| item.clone(), |path| path.display().to_string())
    };
    let line = |output: &Output| {
        let value = output.items.iter().map(relative).collect::<Vec<_>>();
        // Of several packages none has it.
        let none = value.iter().all(String::is_empty);
        let value = if none { String::new() } else { value.join(",") };
        let name = output.name.replace('-', "_").to_uppercase();
        let plain = !value.contains(|c: char| c.is_control());
        plain.then(|| format!("EDGEPACK_{name}={value}\n"))
    };
    let mut lines: Vec<Option<String>> = outputs.iter().map(line).collect();
    let mut order: Vec<usize> = (0..outputs.len()).collect();
    order.sort_by_key(|&i| !NEEDED.contains(&outputs[i].name));
    let mut left = MAX_DOTENV;
    for i in order {
        match left.checked_sub(lines[i].as_ref().map_or(0, String::len)) {
            Some(rest) => left = rest,
            None => lines[i] = None,
        }
    }
    lines.into_iter().flatten().collect()
}

/// GitLab's report of links that a job shows: one to each artifact. `project` is the
/// address of the project, where its registry is the one that was published to.
///
/// <https://docs.gitlab.com/ci/yaml/artifacts_reports/#artifactsreportsannotations>
#[must_use]
pub fn links(report: &Report, registry: Option<&str>, project: Option<&str>) -> Value {
    let in_registry = |published: &PublishReport| {
        published.repository.split('/').next() == registry && registry.is_some()
    };
    let links: Vec<Value> = report
        .published
        .iter()
        .filter(|p| !p.dry_run && !p.repository.starts_with("oci:"))
        .take(MAX_LINKS)
        .map(|p| {
            let url = match project {
                Some(project) if in_registry(p) => format!("{project}/container_registry"),
                _ => format!("https://{}", p.repository),
            };
            json!({"external_link": {"label": p.reference, "url": url}})
        })
        .collect();
    json!({"cargo edgepack": links})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(name: &'static str, items: &[&str]) -> Output {
        Output {
            name,
            items: items.iter().map(|&i| i.to_owned()).collect(),
        }
    }

    #[test]
    fn no_value_ends_itself() {
        let one = "edgepack_00000000000000010000000000000001";
        let values = [output("wasm", &["a\nref=b", one]), output("ref", &[])];
        // The first word is in the value: the next one is taken.
        let mut words = [1, 1, 2, 3, 4, 5].into_iter();
        let text = github(&values, || words.next().unwrap_or(9));
        assert_eq!(
            text,
            format!(
                "wasm<<edgepack_00000000000000020000000000000003\na ref=b\n{one}\n\
                 edgepack_00000000000000020000000000000003\n\
                 ref<<edgepack_00000000000000040000000000000005\n\n\
                 edgepack_00000000000000040000000000000005\n"
            )
        );
    }

    #[test]
    fn a_dotenv_report_keeps_what_is_needed() {
        let half = "x".repeat(MAX_DOTENV / 2);
        let values = [
            output("wasm", &[&half]),
            output("signature", &["", ""]),
            output("digest", &[&half]),
        ];
        let text = dotenv(&values, None);
        assert!(text.contains("EDGEPACK_DIGEST=") && text.len() <= MAX_DOTENV);
        assert!(text.starts_with("EDGEPACK_SIGNATURE=\n"), "{text}");
    }

    #[test]
    fn a_dotenv_report_has_a_line_for_each_and_an_end() {
        let long = "x".repeat(MAX_DOTENV);
        let values = [
            output("size-gzip", &["1", "2"]),
            output("wasm", &["a\nEDGEPACK_REF=evil"]),
            output("report", &[&long]),
            output("ref", &[]),
        ];
        assert_eq!(
            dotenv(&values, None),
            "EDGEPACK_SIZE_GZIP=1,2\nEDGEPACK_REF=\n"
        );
        let values = [output(
            "wasm",
            &["/builds/a/target/a.wasm", "/builds/ab.wasm"],
        )];
        assert_eq!(
            dotenv(&values, Some(Path::new("/builds/a"))),
            "EDGEPACK_WASM=target/a.wasm,/builds/ab.wasm\n"
        );
    }
}
