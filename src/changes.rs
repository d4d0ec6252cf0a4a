//! (IO) Which packages changed since a revision of git, so that CI builds no others.
//!
//! A package changed where a file of its folder did, where one did that it depends on
//! by its path, or where `Cargo.lock` gives it other dependencies. What concerns the
//! whole workspace (its `Cargo.toml`, the toolchain, cargo's configuration) changes all
//! of them. In doubt a package counts as changed.

#![expect(clippy::disallowed_methods, reason = "reads Cargo.lock")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, Package, PackageId};

use crate::error::Error;
use crate::project::Project;
use crate::tool;

mod lockfile;

use lockfile::Lockfile;

/// What changed, and why it counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Why every package counts as changed, where that is so.
    pub all: Option<String>,
    packages: BTreeMap<PackageId, String>,
}

impl Changes {
    /// Everything changed, for this reason.
    #[must_use]
    pub fn everything(why: &str) -> Self {
        Changes {
            all: Some(why.to_owned()),
            packages: BTreeMap::new(),
        }
    }

    /// Why a package counts as changed; none where it does not.
    #[must_use]
    pub fn reason(&self, package: &PackageId) -> Option<&str> {
        self.all
            .as_deref()
            .or_else(|| self.packages.get(package).map(String::as_str))
    }
}

/// Compares the files that git tracks, as they are now, with those of a revision. A
/// revision of zeros, as GitHub and GitLab give it for a branch that is new, stands for
/// nothing: everything changed.
///
/// # Errors
///
/// [`Error::Usage`] where there is no such revision, [`Error::Tool`] where git fails.
pub fn since(revision: &str, project: &Project) -> Result<Changes, Error> {
    if revision.is_empty() {
        return Ok(Changes::everything("no revision is given"));
    }
    if matches!(revision.len(), 40 | 64) && revision.bytes().all(|b| b == b'0') {
        return Ok(Changes::everything("the revision is that of a new branch"));
    }
    if revision.starts_with('-') {
        return Err(Error::Usage {
            message: format!("`{revision}` is no revision"),
            hint: Some("no revision begins with `-`: write a commit, a branch or a tag".into()),
        });
    }
    let root = project.metadata.workspace_root.as_std_path();
    let top = git(root, &["rev-parse", "--show-toplevel"]).map_err(|e| Error::Usage {
        message: format!(
            "`{}` is not in a repository of git that can be read: {e}",
            root.display()
        ),
        hint: Some("--since compares with a revision of git".into()),
    })?;
    let top = real(Path::new(top.trim_end_matches(['\r', '\n'])));
    let commit = match commit(root, revision) {
        Err(_) if is_forgotten(root, revision) => {
            return Ok(Changes::everything(
                "the revision is a commit that is not here, as after a forced push",
            ));
        }
        found => found?,
    };
    let names = git(
        &top,
        &[
            "diff",
            "--name-only",
            "-z",
            "--no-renames",
            "--no-ext-diff",
            "--ignore-submodules=untracked",
            &commit,
            "--",
        ],
    )?;
    // Tracked by accident; cargo itself has changed it a moment ago.
    let made = real(project.metadata.target_directory.as_std_path());
    let files: Vec<&str> = names
        .split('\0')
        .filter(|name| !name.is_empty() && !top.join(name).starts_with(&made))
        .collect();
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).ok();
    let comparison = Comparison {
        project,
        root: real(root),
        folders: folders(project),
        lock: lock.and_then(|text| Lockfile::parse(&text)),
        top,
    };
    Ok(comparison.judge(files.into_iter(), || {
        let old = git(root, &["show", &format!("{commit}:./Cargo.lock")]).ok()?;
        Lockfile::parse(&old)
    }))
}

/// Whether a revision is a whole commit id that a complete clone does not have: CI names what
/// a branch was before, and nothing leads there once it was pushed over.
fn is_forgotten(root: &Path, revision: &str) -> bool {
    let whole =
        matches!(revision.len(), 40 | 64) && revision.bytes().all(|b| b.is_ascii_hexdigit());
    let shallow = || git(root, &["rev-parse", "--is-shallow-repository"]);
    whole && shallow().is_ok_and(|answer| answer.trim() == "false")
}

/// The commit that a revision stands for.
fn commit(root: &Path, revision: &str) -> Result<String, Error> {
    let peeled = format!("{revision}^{{commit}}");
    let found = git(root, &["rev-parse", "--verify", "--quiet", &peeled]);
    found.map(|id| id.trim().to_owned()).map_err(|_| {
        let shallow = git(root, &["rev-parse", "--is-shallow-repository"]);
        let hint = if shallow.is_ok_and(|answer| answer.trim() == "true") {
            "this clone is shallow and may lack it: set fetch-depth: 0 for actions/checkout, \
             GIT_DEPTH: 0 on GitLab, or run git fetch --unshallow"
        } else {
            "check it with git log, and fetch it where it is on another branch; clones on CI need \
             fetch-depth: 0 (GitHub) or GIT_DEPTH: 0 (GitLab)"
        };
        Error::Usage {
            message: format!("there is no commit `{revision}` in this repository"),
            hint: Some(hint.into()),
        }
    })
}

fn git(folder: &Path, args: &[&str]) -> Result<String, Error> {
    tool::capture(
        Command::new("git")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .arg("-C")
            .arg(folder)
            .args(args),
    )
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn folders(project: &Project) -> Vec<(PathBuf, PackageId)> {
    let folder = |p: &Package| Some(real(p.manifest_path.parent()?.as_std_path()));
    project
        .metadata
        .packages
        .iter()
        .filter_map(|p| Some((folder(p)?, p.id.clone())))
        .collect()
}

/// Files in one folder or another.
struct Comparison<'a> {
    project: &'a Project,
    /// The repository's folder.
    top: PathBuf,
    /// The workspace's folder.
    root: PathBuf,
    /// The packages' folders.
    folders: Vec<(PathBuf, PackageId)>,
    /// `Cargo.lock` as it is now.
    lock: Option<Lockfile>,
}

impl Comparison<'_> {
    fn judge<'f>(
        &self,
        files: impl Iterator<Item = &'f str>,
        old_lock: impl FnOnce() -> Option<Lockfile>,
    ) -> Changes {
        let mut own = BTreeMap::<PackageId, String>::new();
        let mut lock_changed = false;
        let foreign = self.has_foreign();
        for name in files {
            let file = self.top.join(name);
            if file == self.root.join("Cargo.lock") {
                lock_changed = true;
                continue;
            }
            if self.concerns_all(&file) {
                return Changes::everything(&format!("{name} changed"));
            }
            // Of a submodule, git names the folder alone.
            let within = self.folders.iter().filter(|(f, _)| f.starts_with(&file));
            let within: Vec<&PackageId> = within.map(|(_, package)| package).collect();
            let submodule = file.is_dir() && within.is_empty();
            let owner = self.owner(&file);
            // What lies below the workspace's own package may be anything.
            let loose = owner.is_none_or(|(folder, _)| *folder == self.root);
            if loose
                && (submodule || self.is_interface(&file) || (foreign && self.is_foreign(&file)))
            {
                return Changes::everything(&format!(
                    "{name} changed, which several packages may use"
                ));
            }
            let owner = owner.map(|(_, package)| package);
            for package in owner.into_iter().chain(within) {
                own.entry(package.clone())
                    .or_insert_with(|| format!("{name} changed"));
            }
        }
        if lock_changed {
            let (Some(old), Some(new)) = (old_lock(), &self.lock) else {
                return Changes::everything("Cargo.lock changed");
            };
            for package in &self.project.metadata.packages {
                let version = package.version.to_string();
                if old.closure(&package.name, &version) != new.closure(&package.name, &version) {
                    own.entry(package.id.clone())
                        .or_insert_with(|| "Cargo.lock gives it other dependencies".to_owned());
                }
            }
        }
        Changes {
            all: None,
            packages: self.with_dependents(&own),
        }
    }

    /// Whether a file has a say in how every package is built.
    fn concerns_all(&self, file: &Path) -> bool {
        const ABOVE: &[&str] = &[
            "rust-toolchain",
            "rust-toolchain.toml",
            ".cargo/config",
            ".cargo/config.toml",
        ];
        let mut above = self
            .root
            .ancestors()
            .take_while(|f| f.starts_with(&self.top));
        file == self.root.join("Cargo.toml")
            || above.any(|folder| ABOVE.iter().any(|name| file == folder.join(name)))
    }

    /// The package whose folder holds a file: the innermost.
    fn owner(&self, file: &Path) -> Option<&(PathBuf, PackageId)> {
        self.folders
            .iter()
            .filter(|(folder, _)| file.starts_with(folder))
            .max_by_key(|(folder, _)| folder.components().count())
    }

    /// Whether a file describes interfaces that packages beside it are generated from.
    fn is_interface(&self, file: &Path) -> bool {
        let below = file.strip_prefix(&self.root).unwrap_or(file);
        below.extension().is_some_and(|e| e == "wit")
            || below.components().any(|part| part.as_os_str() == "wit")
    }

    /// Whether a package depends on a folder that is no member of the workspace: by its
    /// path, or because it stands for a package from elsewhere.
    fn has_foreign(&self) -> bool {
        let members = &self.project.metadata.packages;
        let members = members.iter().map(|p| p.name.as_str()).collect();
        if self.lock.as_ref().is_none_or(|l| l.has_foreign(&members)) {
            return true;
        }
        let is_member = |path: &Path| self.folders.iter().any(|(f, _)| *f == real(path));
        let mut dependencies = self.project.metadata.packages.iter().flat_map(paths);
        !self.project.outside.is_empty() || dependencies.any(|path| !is_member(&path))
    }

    /// Whether a file belongs to a package that is no member of the workspace.
    fn is_foreign(&self, file: &Path) -> bool {
        // The file itself is a folder where it is a submodule.
        let mut folders = file
            .ancestors()
            .take_while(|f| f.starts_with(&self.top) && *f != self.root);
        folders.any(|folder| folder.join("Cargo.toml").is_file())
    }

    /// The packages that changed by themselves, and those that depend on one of them.
    fn with_dependents(&self, own: &BTreeMap<PackageId, String>) -> BTreeMap<PackageId, String> {
        let packages = &self.project.metadata.packages;
        let name = |id: &PackageId| {
            let package = packages.iter().find(|p| p.id == *id);
            package.map_or_else(String::new, |p| p.name.to_string())
        };
        let mut changed = own.clone();
        loop {
            let mut more = BTreeMap::new();
            for package in packages.iter().filter(|p| !changed.contains_key(&p.id)) {
                let on: BTreeSet<PathBuf> = paths(package).map(|path| real(&path)).collect();
                let reason = self
                    .folders
                    .iter()
                    .find(|(folder, id)| on.contains(folder) && changed.contains_key(id));
                if let Some((_, id)) = reason {
                    more.insert(package.id.clone(), format!("it depends on {}", name(id)));
                }
            }
            if more.is_empty() {
                return changed;
            }
            changed.extend(more);
        }
    }
}

/// The folders that a package depends on. What only its tests need does not ship.
fn paths(package: &Package) -> impl Iterator<Item = PathBuf> + use<'_> {
    package
        .dependencies
        .iter()
        .filter(|d| d.kind != DependencyKind::Development)
        .filter_map(|d| Some(d.path.as_ref()?.as_std_path().to_owned()))
}
