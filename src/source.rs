//! (IO) Where the source comes from: the commit, its time, and the paths that
//! must not leave this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::pack::Timestamp;
use crate::project::Project;
use crate::tool;

/// A commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Its hash.
    pub revision: String,
    /// When it was committed.
    pub time: Timestamp,
}

/// The commit that is checked out in `folder`; `None` without git or a repository.
#[must_use]
pub fn commit(folder: &Path) -> Option<Commit> {
    let out = tool::capture(Command::new("git").arg("-C").arg(folder).args([
        "log",
        "-1",
        "--no-show-signature",
        "--format=%H %ct",
    ]))
    .ok()?;
    let (revision, time) = out.trim().split_once(' ')?;
    Some(Commit {
        revision: revision.to_owned(),
        time: Timestamp::from_seconds(time.parse().ok()?)?,
    })
}

/// The folder of the repository that `folder` is in; `None` without git or a repository.
#[must_use]
pub fn repository(folder: &Path) -> Option<PathBuf> {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder);
    let out = tool::capture(git.args(["rev-parse", "--show-toplevel"])).ok()?;
    Some(PathBuf::from(out.trim_end_matches(['\r', '\n']))).filter(|top| top.is_absolute())
}

/// `SOURCE_DATE_EPOCH`, where it is set.
/// Spec: <https://reproducible-builds.org/specs/source-date-epoch/>.
///
/// # Errors
///
/// [`Error::Usage`] where it is no number of seconds before the year 10000.
pub fn source_date_epoch() -> Result<Option<Timestamp>, Error> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH").filter(|v| !v.is_empty()) else {
        return Ok(None);
    };
    let parsed = text
        .to_str()
        .and_then(|t| t.parse().ok())
        .and_then(Timestamp::from_seconds);
    parsed.map(Some).ok_or_else(|| Error::Usage {
        message: format!(
            "SOURCE_DATE_EPOCH is `{}`, which is no time in seconds since 1970",
            text.display()
        ),
        hint: Some("for example: SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)".into()),
    })
}

/// Rustc flags that replace this machine's paths by names that are the same on
/// every machine, so that neither panic messages nor debug information differ.
/// The most specific ones come last, which is the one that rustc takes. `library` is
/// from [`crate::toolchain::library_sources`].
#[must_use]
pub fn remap_flags(
    project: &Project,
    sysroot: &Path,
    library: Option<(PathBuf, String)>,
) -> Vec<String> {
    let root = project.metadata.workspace_root.as_std_path();
    let mut pairs: Vec<(PathBuf, String)> = vec![(sysroot.to_owned(), "/rust".to_owned())];
    pairs.extend(library);
    if let Some(home) = cargo_home() {
        pairs.push((home, "/cargo".to_owned()));
    }
    pairs.push((root.to_owned(), "/src".to_owned()));
    pairs.push((project.target_dir.clone(), "/target".to_owned()));
    // Packages outside the workspace are compiled under their full paths.
    for (name, folder) in &project.outside {
        pairs.push((folder.clone(), format!("/path/{name}")));
    }
    let mut flags: Vec<String> = pairs
        .iter()
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .collect();
    let mut seen = std::collections::HashSet::new();
    flags.retain(|flag| seen.insert(flag.clone()));
    flags
}

/// `CARGO_HOME`, else `.cargo` in the home folder.
#[must_use]
pub fn cargo_home() -> Option<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
        .or_else(|| etcetera::home_dir().ok().map(|home| home.join(".cargo")))
}
