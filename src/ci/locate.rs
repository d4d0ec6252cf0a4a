//! (IO) Where in the repository a finding is shown: a finding about a module is about
//! the package that it was built from, and the table that sets its limits.
#![expect(
    clippy::disallowed_methods,
    reason = "looks for the line of a table in a manifest"
)]

use std::path::{Component, Path, PathBuf};

use crate::finding::Code;
use crate::report::PackageReport;

/// A manifest that is larger is not looked at.
const MAX_MANIFEST: u64 = 1 << 20;

/// Folders that paths are told relative to: that of the repository, as CI names it, and
/// the current one.
#[derive(Clone, Debug, Default)]
pub struct Roots(Vec<PathBuf>);

impl Roots {
    /// The checkout's folder on GitHub or GitLab, then the current folder.
    #[must_use]
    pub fn of_run() -> Self {
        let named = ["GITHUB_WORKSPACE", "CI_PROJECT_DIR"]
            .iter()
            .filter_map(std::env::var_os)
            .filter(|folder| !folder.is_empty())
            .map(PathBuf::from);
        Self::new(named.chain(std::env::current_dir()))
    }

    /// These folders; the first that holds a file counts.
    #[must_use]
    pub fn new(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut roots = Vec::new();
        for folder in folders {
            roots.extend(folder.canonicalize().ok().filter(|real| *real != folder));
            roots.push(folder);
        }
        Roots(roots)
    }

    /// The path of a file as readers of reports take it; none where it lies elsewhere.
    #[must_use]
    pub fn relative(&self, path: &Path) -> Option<String> {
        let whole = std::path::absolute(path).ok()?;
        let real = path.canonicalize().unwrap_or_else(|_| whole.clone());
        let below = |root: &PathBuf| {
            let rest = whole
                .strip_prefix(root)
                .or_else(|_| real.strip_prefix(root));
            let parts: Option<Vec<&str>> = rest
                .ok()?
                .components()
                .map(|part| match part {
                    Component::Normal(name) => name.to_str(),
                    _ => None,
                })
                .collect();
            parts.filter(|p| !p.is_empty()).map(|p| p.join("/"))
        };
        self.0.iter().find_map(below)
    }
}

/// The file that the findings about a package are shown at.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// Its path in the repository.
    pub file: Option<String>,
    text: String,
}

impl Manifest {
    /// The manifest of a package, or the file that was given. It is read only where
    /// there is something to show.
    #[must_use]
    pub fn of(package: &PackageReport, roots: &Roots) -> Self {
        let Some(input) = package
            .input
            .as_deref()
            .filter(|_| !package.findings.is_empty())
        else {
            return Manifest::default();
        };
        let is_manifest = input.extension().is_some_and(|e| e == "toml");
        let small = is_manifest && input.metadata().is_ok_and(|m| m.len() <= MAX_MANIFEST);
        Manifest {
            file: roots.relative(input),
            text: small
                .then(|| std::fs::read_to_string(input).ok())
                .flatten()
                .unwrap_or_default(),
        }
    }

    /// The line of the table that a finding follows from, else that of the tool's own
    /// table, else the first.
    #[must_use]
    pub fn line_of(&self, code: Code) -> u32 {
        const TABLE: &str = "[package.metadata.edgepack";
        let table = match code {
            Code::BudgetRaw | Code::BudgetGzip => ".budget]",
            Code::ImportNotAllowed => ".check]",
            Code::VariantNeedsModule => ".publish]",
            _ => ".shrink]",
        };
        let line_with = |begin: &str| {
            let line = self
                .text
                .lines()
                .position(|l| l.trim_start().starts_with(begin))?;
            u32::try_from(line + 1).ok()
        };
        line_with(&format!("{TABLE}{table}"))
            .or_else(|| line_with(&format!("{TABLE}]")))
            .or_else(|| line_with("[package]"))
            .unwrap_or(1)
    }
}
