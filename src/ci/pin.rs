//! (IO) Which commit of the action a release pins.
//!
//! The commit that knows the sums of a release's archives comes after they are built: no
//! binary can hold it. The release's tag for the action says which one it is, and it is
//! looked up when it is written down; from then on the commit counts, and not the tag.

use std::process::Command;

use crate::ci::origin;
use crate::ci::starter::Action;
use crate::error::Error;
use crate::tool;

/// The action of this release; that of a build that is no release is a placeholder.
///
/// # Errors
///
/// [`Error::Tool`] where git cannot say which commit it is.
pub fn action() -> Result<Action, Error> {
    if origin::ACTION.contains('@') {
        return Ok(Action::default());
    }
    let mut parts = origin::ACTION.splitn(3, '/');
    let (owner, repository) = (parts.next(), parts.next());
    let (owner, repository) = (owner.unwrap_or_default(), repository.unwrap_or_default());
    let url = format!("https://github.com/{owner}/{repository}");
    let commit = look_up(&url, &format!("action-v{}", origin::VERSION))?;
    Action::parse(&format!(
        "{}@{commit} # v{}",
        origin::ACTION,
        origin::VERSION
    ))
}

/// The commit that a tag of a repository names.
fn look_up(url: &str, tag: &str) -> Result<String, Error> {
    let failed = |message: String| Error::Tool {
        program: "git".into(),
        message: format!("the commit of the action of this release is not known: {message}"),
        hint: Some("name it with --action 'OWNER/REPOSITORY/PATH@SHA # VERSION'".into()),
    };
    let name = format!("refs/tags/{tag}");
    // An annotated tag has a name of its own; the commit has this one.
    let peeled = format!("{name}^{{}}");
    let mut git = Command::new("git");
    git.args(["-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=20"])
        .args(["ls-remote", "--", url, &name, &peeled])
        .env("GIT_TERMINAL_PROMPT", "0");
    let lines = tool::capture(&mut git).map_err(|e| failed(e.to_string()))?;
    let find = |wanted: &str| {
        let mut named = lines.lines().filter_map(|l| l.split_once('\t'));
        named.find(|(_, n)| *n == wanted).map(|(id, _)| id)
    };
    let found = find(&peeled).or_else(|| find(&name));
    found
        .map(str::to_owned)
        .ok_or_else(|| failed(format!("{url} has no tag {tag}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_stand_for_commits() {
        let folder = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=t", "-c", "user.email=t@localhost"])
                .args(["-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"])
                .args(args)
                .current_dir(folder.path());
            tool::capture(&mut git).unwrap().trim().to_owned()
        };
        git(&["init", "-q"]);
        git(&["commit", "-q", "--allow-empty", "-m", "one"]);
        let one = git(&["rev-parse", "HEAD"]);
        git(&["tag", "action-v1.0.0"]);
        git(&["commit", "-q", "--allow-empty", "-m", "two"]);
        let two = git(&["rev-parse", "HEAD"]);
        git(&["tag", "-m", "the second", "action-v2.0.0"]);
        // What is the end of another name is not it.
        git(&["tag", "x/action-v3.0.0"]);
        let url = folder.path().display().to_string();
        assert_eq!(look_up(&url, "action-v1.0.0").unwrap(), one);
        assert_eq!(look_up(&url, "action-v2.0.0").unwrap(), two);
        for (url, said) in [
            (url.as_str(), "has no tag action-v3.0.0"),
            ("/nowhere", "nowhere"),
        ] {
            let error = look_up(url, "action-v3.0.0").unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
