//! (IO) What the CI says about a run: its own variables, each named here, and no others.
//!
//! They are claims, and whoever writes the pipeline can set them: a signature over them is
//! worth as much as whoever signs.
//!
//! Specs: <https://docs.github.com/en/actions/reference/workflows-and-actions/variables>,
//! <https://docs.gitlab.com/ci/variables/predefined_variables/>.

use crate::provenance::Builder;
use crate::sbom::purl::without_secrets;

fn variable(name: &str) -> Option<String> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.trim().is_empty())
}

fn is_on(name: &str) -> bool {
    variable(name).is_some_and(|value| value == "true")
}

/// Who runs the build: a workflow of GitHub, a runner of GitLab, or some machine.
#[must_use]
pub fn builder() -> Builder {
    github().or_else(gitlab).unwrap_or_default()
}

fn github() -> Option<Builder> {
    let server = github_server()?;
    let workflow = variable("GITHUB_WORKFLOW_REF")?;
    let run = || {
        let repository = variable("GITHUB_REPOSITORY")?;
        let id = variable("GITHUB_RUN_ID")?;
        let attempt = variable("GITHUB_RUN_ATTEMPT").unwrap_or_else(|| "1".into());
        Some(format!(
            "{server}/{repository}/actions/runs/{id}/attempts/{attempt}"
        ))
    };
    Some(Builder {
        id: format!("{server}/{workflow}"),
        invocation: run(),
    })
}

fn github_server() -> Option<String> {
    if !is_on("GITHUB_ACTIONS") {
        return None;
    }
    let server = without_secrets(&variable("GITHUB_SERVER_URL")?)?;
    Some(server.trim_end_matches('/').to_owned())
}

fn gitlab() -> Option<Builder> {
    let project = gitlab_project()?;
    Some(Builder {
        // As GitLab's own provenance has it.
        id: format!("{project}/-/runners/{}", variable("CI_RUNNER_ID")?),
        invocation: variable("CI_JOB_URL").and_then(|url| without_secrets(&url)),
    })
}

fn gitlab_project() -> Option<String> {
    if !is_on("GITLAB_CI") {
        return None;
    }
    variable("CI_PROJECT_URL").and_then(|url| without_secrets(&url))
}

/// The repository that the run is for.
#[must_use]
pub fn repository() -> Option<String> {
    match github_server() {
        Some(server) => Some(format!("{server}/{}", variable("GITHUB_REPOSITORY")?)),
        None => gitlab_project(),
    }
}

/// The branch or the tag that the run is for.
#[must_use]
pub fn reference() -> Option<String> {
    if is_on("GITHUB_ACTIONS") {
        return variable("GITHUB_REF");
    }
    if !is_on("GITLAB_CI") {
        return None;
    }
    match variable("CI_COMMIT_TAG") {
        Some(tag) => Some(format!("refs/tags/{tag}")),
        None => variable("CI_COMMIT_BRANCH").map(|branch| format!("refs/heads/{branch}")),
    }
}
