//! What `init` writes: a workflow, a pipeline, a table of settings. They are the user's
//! from then on.

use std::fmt::Write;

use crate::ci::matrix::{Template, yaml};
use crate::ci::origin;
use crate::error::Error;

/// What files of ours begin with.
pub const MARK: &str = "# Made by `cargo edgepack init`";
/// Where the workflow is, in a repository.
pub const WORKFLOW: &str = ".github/workflows/edgepack.yml";
/// Where the pipeline is.
pub const PIPELINE: &str = ".gitlab-ci.yml";
/// Where it is beside a pipeline that is there.
pub const INCLUDED: &str = ".gitlab/edgepack.yml";

/// <https://github.com/actions/checkout/releases/tag/v4.2.2>
const CHECKOUT: &str = "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2";

/// The action, as a workflow uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    uses: String,
    version: Option<String>,
}

impl Default for Action {
    fn default() -> Self {
        Action {
            uses: origin::ACTION.to_owned(),
            version: Some(format!("v{}", origin::VERSION)),
        }
    }
}

impl Action {
    /// Whether it is that of a build that is no release.
    #[must_use]
    pub fn is_placeholder(&self) -> bool {
        self.uses.starts_with(origin::PLACEHOLDER)
    }

    /// Parses `OWNER/REPOSITORY/PATH@SHA`, which ` # VERSION` may follow, or `./PATH` of the
    /// same repository.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`], also where it is pinned to a name: those can be moved.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (uses, version) = match text.split_once(" # ") {
            Some((uses, version)) => (uses.trim(), Some(version.trim())),
            None => (text, None),
        };
        let plain = |text: &str| {
            let is_plain =
                |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
            !text.is_empty() && text.chars().all(is_plain)
        };
        let local = uses.starts_with("./") && plain(uses);
        let pinned = uses.split_once('@').is_some_and(|(path, sha)| {
            let is_sha =
                sha.len() == 40 && sha.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            plain(path) && path.contains('/') && !path.starts_with(['/', '.']) && is_sha
        });
        if (local || pinned) && version.is_none_or(plain) {
            return Ok(Action {
                uses: uses.to_owned(),
                version: version.map(str::to_owned),
            });
        }
        Err(Error::Usage {
            message: format!("`{}` is no action that is pinned", text.escape_debug()),
            hint: Some(
                "write OWNER/REPOSITORY/PATH@SHA with the 40 hex digits of a commit: tags and branches can be moved"
                    .into(),
            ),
        })
    }

    fn line(&self) -> String {
        match &self.version {
            Some(version) => format!("{} # {version}", self.uses),
            None => self.uses.clone(),
        }
    }
}

/// What is known of the project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The folder of the workspace in the repository, with `/` between its parts; empty
    /// for the repository's own.
    pub folder: String,
    /// Whether more than one artifact is published.
    pub several: bool,
}

impl Surroundings {
    /// What keeps several artifacts apart in one registry.
    fn suffix(&self) -> &'static str {
        if self.several { "/{name}" } else { "" }
    }

    /// What tells one release from another. A version names one artifact for good: of
    /// several packages not each has a new one whenever a tag is pushed.
    fn tags(&self) -> &'static str {
        if self.several {
            "          tags: ${{ github.ref_name }}\n"
        } else {
            ""
        }
    }
}

/// A workflow that builds on pull requests, and publishes and signs on tags.
#[must_use]
pub fn workflow(action: &Action, project: &Surroundings) -> String {
    let mut text = format!(
        "{MARK}. It is yours: a second run leaves what you change.\n\
         name: edgepack\n\
         \n\
         on:\n  pull_request:\n  push:\n    tags: [\"v*\"]\n\
         \n\
         permissions: {{}}\n\
         \n\
         concurrency:\n  group: ${{{{ github.workflow }}}}-${{{{ github.ref }}}}\n  \
         cancel-in-progress: ${{{{ github.event_name == 'pull_request' }}}}\n\
         \n\
         jobs:\n"
    );
    let rights = "      packages: write # to publish to ghcr.io\n      id-token: write # to sign without a key\n";
    // Two jobs: what runs a stranger's change gets no right to publish or to sign.
    for (job, name, when, rights) in [
        ("build", "Build", "==", ""),
        ("publish", "Build, sign and publish", "!=", rights),
    ] {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "  {job}:\n    name: {name}\n    if: github.event_name {when} 'pull_request'\n    \
             runs-on: ubuntu-latest\n    permissions:\n      contents: read # to check the code out\n{rights}    \
             steps:\n      - uses: {CHECKOUT}\n        with:\n          persist-credentials: false\n      \
             - uses: {}\n",
            action.line()
        );
        if job == "publish" || !project.folder.is_empty() {
            text.push_str("        with:\n");
        }
        if !project.folder.is_empty() {
            let folder = yaml(&project.folder);
            let _ = writeln!(text, "          working-directory: {folder}");
        }
        if job == "publish" {
            let _ = write!(
                text,
                "          publish: true\n          repository: ghcr.io/${{{{ github.repository }}}}{}\n{}          \
                 sign: keyless\n",
                project.suffix(),
                project.tags()
            );
        }
    }
    text
}

/// Whether a pipeline says this, not counting comments.
#[must_use]
pub fn says(pipeline: &str, what: &str) -> bool {
    pipeline
        .lines()
        .any(|line| without_comment(line).contains(what))
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with('#') {
        return "";
    }
    line.split_once(" #").map_or(line, |(before, _)| before)
}

/// A stage of a pipeline that has stages of its own and none called `build`: the first.
/// None where `build` is there, and where it is not clear.
#[must_use]
pub fn other_stage(pipeline: &str) -> Option<String> {
    let mut lines = pipeline.lines().map(without_comment);
    let first = lines.find_map(|l| l.strip_prefix("stages:"))?.trim();
    let items: Vec<String> = if let Some(list) = first.strip_prefix('[') {
        let rest = lines.fold(list.to_owned(), |all, line| all + " " + line);
        let (list, _) = rest.split_once(']')?;
        list.split(',').map(str::to_owned).collect()
    } else {
        lines
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .map_while(|l| l.strip_prefix("- ").map(str::to_owned))
            .collect()
    };
    let mut names = items
        .iter()
        .map(|i| i.trim().trim_matches(['"', '\'']))
        .filter(|i| !i.is_empty());
    // What the template lets in.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ' ' | '.' | '-');
    let stage = names.clone().next()?;
    (names.all(|n| n != "build") && stage.chars().all(plain)).then(|| stage.to_owned())
}

/// A pipeline that includes the component, with its job in this stage, or its own.
#[must_use]
pub fn pipeline(template: &Template, project: &Surroundings, stage: Option<&str>) -> String {
    let mut text = format!(
        "{MARK}. It is yours: a second run leaves what you change.\n\
         include:\n  - {}\n    inputs:\n",
        template.entry()
    );
    if !project.folder.is_empty() {
        let _ = writeln!(text, "      working-directory: {}", yaml(&project.folder));
    }
    if let Some(stage) = stage {
        let _ = writeln!(text, "      stage: {}", yaml(stage));
    }
    let _ = write!(
        text,
        "      publish: true\n      repository: {}\n      \
         # A version names one artifact for good; each commit is one.\n      tags: {}\n",
        yaml(&format!("$CI_REGISTRY_IMAGE{}", project.suffix())),
        yaml("$CI_COMMIT_SHA")
    );
    text
}

/// The settings to begin with, to be put at the end of a manifest: those of a package
/// that is built for `target`, or those of a workspace.
#[must_use]
pub fn settings(target: Option<&str>) -> String {
    let table = match target {
        Some(_) => "package.metadata.edgepack",
        None => "workspace.metadata.edgepack",
    };
    let mut text = format!("\n[{table}]\n");
    if let Some(target) = target {
        let _ = writeln!(text, "target = {}", serde_json::Value::from(target));
    }
    let _ = write!(
        text,
        "# More of it: cargo edgepack schema config\n\
         #\n\
         # [{table}.budget]           # what is larger does not ship\n\
         # raw = \"1 MiB\"\n\
         # gzip = \"400 KiB\"\n\
         #\n\
         # [{table}.check]            # nothing else may be imported\n\
         # allow-imports = [\"wasi:cli/*\", \"wasi:io/*\"]\n\
         #\n\
         # [{table}.publish]\n\
         # repository = \"ghcr.io/acme/demo\"\n\
         # tags = [\"{{version}}\", \"{{major}}.{{minor}}\"]\n"
    );
    text
}

/// A manifest with these settings at its end. None where its form does not allow for it.
#[must_use]
pub fn with_settings(manifest: &str, settings: &str) -> Option<String> {
    let end = if manifest.is_empty() || manifest.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let text = format!("{manifest}{end}{settings}");
    // A table that is written in one line cannot be gone on with.
    let new: toml::Table = toml::from_str(&text).ok()?;
    let old: toml::Table = toml::from_str(manifest).ok()?;
    old.keys().all(|key| new.contains_key(key)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn actions_are_pinned() {
        let line = |text: &str| Action::parse(text).map(|a| a.line());
        let pinned = format!("acme/edgepack/action@{SHA}");
        assert_eq!(line(&pinned).unwrap(), pinned);
        let with_version = format!("{pinned} # v1.2.3");
        assert_eq!(line(&with_version).unwrap(), with_version);
        assert_eq!(line("./action").unwrap(), "./action");
        for wrong in [
            "",
            "acme/edgepack/action@v1",
            "acme/edgepack/action",
            "acme@0123456789abcdef0123456789abcdef01234567",
            "docker://x",
            "./a b",
            "acme/x\n      - run: evil@0123456789abcdef0123456789abcdef01234567",
        ] {
            assert!(line(wrong).is_err(), "{wrong:?}");
        }
        assert!(line(&format!("{pinned} # v1\nx: y")).is_err());
        assert!(Action::parse(origin::ACTION).is_ok());
    }

    #[test]
    fn stages_of_a_pipeline() {
        let stage = |text: &str| other_stage(text);
        for (text, expected) in [
            ("test:\n  script: [x]\n", None),
            ("stages: [x]\n", Some("x")),
            (
                "stages:   # all\n  - \"compile it\" # first\n\n  - test\nbuild:\n  x: y\n",
                Some("compile it"),
            ),
            ("stages:\n- test\n- build\n", None),
            ("stages: [\n  test,\n  'build'\n]\n", None),
            ("stages: [\n  test,\n  deploy\n]\n", Some("test")),
            ("# stages: [x]\n", None),
            ("stages: []\n", None),
            ("stages: [$X]\n", None),
            ("stages: !reference [a, b]\n", None),
            ("job:\n  stages: [x]\n", None),
        ] {
            assert_eq!(stage(text).as_deref(), expected, "{text:?}");
        }
        assert!(says(
            "include:\n  - component: x/edgepack@1 # it\n",
            "/edgepack@"
        ));
        assert!(!says(
            "# of x/edgepack@1\nx: y # /edgepack@\n",
            "/edgepack@"
        ));
    }

    #[test]
    fn settings_are_such() {
        for (settings, table) in [
            (settings(Some("wasm32-wasip2")), "package"),
            (settings(None), "workspace"),
        ] {
            let text = with_settings("[package]\nname = \"x\"", &settings).unwrap();
            let parsed: toml::Table = toml::from_str(&text).unwrap();
            let metadata = serde_json::to_value(&parsed[table]["metadata"]).unwrap();
            Config::from_metadata(&metadata, std::path::Path::new("Cargo.toml")).unwrap();
            // What is commented out holds as well.
            let all: String = settings
                .lines()
                .map(|l| {
                    l.strip_prefix("# ")
                        .unwrap_or(l)
                        .trim_start_matches("More of it: ")
                        .to_owned()
                        + "\n"
                })
                .filter(|l| !l.starts_with("cargo") && !l.starts_with('#'))
                .collect();
            let parsed: toml::Table = toml::from_str(&all).unwrap();
            let metadata = serde_json::to_value(&parsed[table]["metadata"]).unwrap();
            let config =
                Config::from_metadata(&metadata, std::path::Path::new("Cargo.toml")).unwrap();
            assert!(config.budget.raw.is_some() && config.publish.repository.is_some());
        }
        assert_eq!(
            with_settings("[package]\nmetadata = {}\n", &settings(Some("x"))),
            None
        );
    }
}
