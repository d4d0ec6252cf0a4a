//! (IO) Where the source comes from: the commit, its time, and the paths that
//! must not leave this machine.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::pack::Timestamp;
use crate::project::Project;
use crate::provenance;
use crate::sbom::purl::without_secrets;
use crate::tool;

pub mod ci;

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

/// Why git does not say which commit is checked out in `folder`, where there is a repository
/// that belongs to another user; then it says nothing for safety.
#[must_use]
pub fn refused(folder: &Path) -> Option<String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).args(["rev-parse", "--git-dir"]);
    // Its words are looked at.
    let error = tool::capture(git.env("LC_ALL", "C")).err()?;
    error.to_string().contains("dubious ownership").then(|| {
        format!(
            "git does not say which commit is in `{}`, since another user owns it: the artifact names none              (git config --global --add safe.directory would let it)",
            folder.display()
        )
    })
}

/// What version control and the CI say about the source in `folder`. `ignored` is where
/// builds write to.
#[must_use]
pub fn describe(folder: &Path, revision: Option<String>, ignored: &Path) -> provenance::Source {
    let git = |args: &[&OsStr]| {
        let out = tool::capture(Command::new("git").arg("-C").arg(folder).args(args)).ok()?;
        Some(out.trim().to_owned()).filter(|out| !out.is_empty())
    };
    if revision.is_none() {
        return provenance::Source::default();
    }
    let words = |text: &'static str| text.split(' ').map(OsStr::new).collect::<Vec<_>>();
    let remote = git(&words("config --get remote.origin.url"));
    let mut exclude = OsString::from(":(exclude)");
    exclude.push(ignored);
    let mut status = words("status --porcelain -- :/");
    if ignored.starts_with(folder) {
        status.push(&exclude);
    }
    provenance::Source {
        repository: remote
            .as_deref()
            .and_then(repository)
            .or_else(ci::repository),
        revision,
        reference: ci::reference(),
        folder: git(&words("rev-parse --show-prefix"))
            .map(|prefix| prefix.trim_end_matches('/').to_owned()),
        dirty: git(&status).is_some(),
    }
}

/// A repository's address as its owner wrote it down for others, without secrets.
#[must_use]
pub fn address(text: &str) -> Option<String> {
    let odd = |c: char| !(c.is_alphanumeric() || "-._~/".contains(c));
    let plain = !text.is_empty() && !text.starts_with(['/', '.']) && !text.contains(odd);
    repository(text).or_else(|| plain.then(|| text.to_owned()))
}

/// The address of a remote that others can reach, without secrets; `HOST:PATH` is the
/// other way to write ssh.
fn repository(remote: &str) -> Option<String> {
    if remote.contains("://") {
        return without_secrets(remote).filter(|_| !remote.starts_with("file:"));
    }
    let (host, path) = remote.split_once(':')?;
    let host = host.rsplit('@').next().unwrap_or_default();
    // `C:\…` is no host, `PROGRAM::…` is git's way to name a helper, and in `USER:PASSWORD@…`
    // the host stands elsewhere.
    if host.len() < 2 || host.contains('/') || path.contains([':', '@', '%']) {
        return None;
    }
    without_secrets(&format!("ssh://{host}/{}", path.trim_start_matches('/')))
}

/// The folder of the repository that `folder` is in; `None` without git or a repository.
#[must_use]
pub fn top(folder: &Path) -> Option<PathBuf> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_packages_hold_no_secrets() {
        for (text, shown) in [
            (
                "https://me:token@git.example/a?b",
                Some("https://git.example/a"),
            ),
            ("git@git.example:a/b.git", Some("ssh://git.example/a/b.git")),
            ("git.example/a/b", Some("git.example/a/b")),
            ("git.example/a?token=x", None),
            ("git.example/a#x", None),
            ("git.example/a;x", None),
            ("hg::https://h/a?token=x", None),
            ("https://git example/a", None),
            ("file:///home/me/app", None),
            ("/home/me/app", None),
            ("../app", None),
            ("", None),
        ] {
            assert_eq!(address(text).as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn remotes_lose_their_secrets() {
        for (remote, address) in [
            (
                "https://ci:token@git.example/a/b.git",
                Some("https://git.example/a/b.git"),
            ),
            ("git@git.example:a/b.git", Some("ssh://git.example/a/b.git")),
            ("ssh://git@git.example:22/a", Some("ssh://git.example:22/a")),
            ("/home/me/repository", None),
            ("../other", None),
            ("file:///home/me/repository", None),
            ("C:\\repository", None),
            ("hg::https://user:token@git.example/a", None),
            ("https://user:token@git.example:99999/a", None),
            ("https://user:token@git example/a", None),
            ("https:/user:token@git.example/a", None),
            ("user:token@git.example:a/b", None),
            ("user:token%40git.example:a/b", None),
            ("ssh://user%3Atoken%40git.example/a", None),
            ("ext::sh -c token", None),
            ("https://me:1234/token@git.example/a", None),
            ("https://me:pass@word/token@git.example/a", None),
            ("https://git.example/a;token=x", None),
            ("https://git.example/@a/b", Some("https://git.example/@a/b")),
        ] {
            assert_eq!(repository(remote).as_deref(), address, "{remote}");
        }
    }
}
