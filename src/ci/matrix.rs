//! What is planned, as CI systems spread it over their runners: a matrix for GitHub, a
//! child pipeline for GitLab.

use std::fmt::{self, Write};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ci::origin;
use crate::error::Error;

/// GitHub runs so many jobs of one matrix.
/// <https://docs.github.com/actions/reference/limits>
pub const MAX_GITHUB: usize = 256;
/// GitLab includes so many files in one pipeline, unless its administrator says else.
/// <https://docs.gitlab.com/administration/settings/continuous_integration/>
pub const MAX_GITLAB: usize = 150;

/// A package that is going to be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// The package, as `-p` takes it.
    pub package: String,
    /// Its version.
    pub version: String,
    /// The compile target.
    pub target: String,
}

/// One line for `strategy.matrix: ${{ fromJSON(…) }}`.
/// <https://docs.github.com/actions/reference/workflow-syntax-for-github-actions#jobsjob_idstrategymatrix>
#[derive(Clone, Debug, Serialize)]
pub struct Matrix<'a> {
    /// The jobs.
    pub include: &'a [Job],
}

/// How a pipeline includes the template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    kind: &'static str,
    value: String,
}

impl Default for Template {
    fn default() -> Self {
        Template {
            kind: "component",
            value: origin::COMPONENT.to_owned(),
        }
    }
}

impl Template {
    /// Whether it is that of a build that is no release.
    #[must_use]
    pub fn is_placeholder(&self) -> bool {
        self.value.contains(origin::PLACEHOLDER)
    }

    /// The entry of `include`, without what stands before it.
    #[must_use]
    pub fn entry(&self) -> String {
        format!("{}: {}", self.kind, yaml(&self.value))
    }
}

impl FromStr for Template {
    type Err = Error;

    /// `component: TEXT`, `local: TEXT` or `remote: TEXT`, as GitLab writes it.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::Usage {
            message: format!("`{}` is no template", text.escape_debug()),
            hint: Some(
                "write it as GitLab does: component: HOST/GROUP/PROJECT/NAME@VERSION, local: /PATH.yml \
                 or remote: https://…"
                    .into(),
            ),
        }
        };
        let (kind, value) = text.split_once(':').ok_or_else(wrong)?;
        let kinds = ["component", "local", "remote"];
        let kind = kinds.into_iter().find(|k| *k == kind.trim());
        let value = value.trim();
        match kind {
            Some(kind) if !value.is_empty() && !value.contains(char::is_control) => Ok(Template {
                kind,
                value: value.to_owned(),
            }),
            _ => Err(wrong()),
        }
    }
}

/// An input of the template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    name: String,
    value: String,
}

impl FromStr for Input {
    type Err = String;

    /// `NAME=VALUE`; `true`, `false` and numbers are such for GitLab too, and are words in
    /// double quotes.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is no input: write NAME=VALUE"))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || !name.chars().all(plain) {
            return Err(format!("`{name}` is no name of an input"));
        }
        if matches!(name, PACKAGE | PREFIX) {
            return Err(format!("`{name}` is set for each package"));
        }
        let is_value = matches!(value, "true" | "false") || is_number(value);
        let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
        Ok(Input {
            name: name.to_owned(),
            value: match quoted {
                _ if is_value => value.to_owned(),
                Some(inner) => yaml(inner),
                None => yaml(value),
            },
        })
    }
}

/// Plain decimal numbers alone: `1e3`, `0x1` and `012` are words.
fn is_number(text: &str) -> bool {
    let digits = !text.is_empty() && text.len() < 16 && text.bytes().all(|b| b.is_ascii_digit());
    digits && (text == "0" || !text.starts_with('0'))
}

const PACKAGE: &str = "package";
const PREFIX: &str = "job-prefix";
const FOLDER: &str = "working-directory";

/// That no input is given twice: YAML has each key once.
///
/// # Errors
///
/// [`Error::Usage`].
pub fn distinct(inputs: &[Input]) -> Result<(), Error> {
    for (index, input) in inputs.iter().enumerate() {
        if inputs[..index].iter().any(|other| other.name == input.name) {
            return Err(Error::Usage {
                message: format!("the input `{}` is given twice", input.name),
                hint: None,
            });
        }
    }
    Ok(())
}

/// What the names of a package's jobs begin with. The template lets in no other letters;
/// theirs are told apart by their numbers.
fn prefix(package: &str) -> String {
    let mut text = String::new();
    for c in package.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '.' | ':' => text.push(c),
            // Writing to a string cannot fail.
            _ => _ = write!(text, "_{:x}_", u32::from(c)),
        }
    }
    text + "-"
}

/// A child pipeline that includes the template once for each job. GitLab refuses a
/// pipeline without jobs, so there is one that says that there is nothing to do. `folder`
/// is that of the workspace in the repository, empty for the repository's own.
#[must_use]
pub fn child_pipeline(jobs: &[Job], folder: &str, template: &Template, inputs: &[Input]) -> String {
    let mut text = String::from("# Made by `cargo edgepack plan --matrix gitlab`.\n");
    // Writing to a string cannot fail.
    let _ = write_pipeline(&mut text, jobs, folder, template, inputs);
    text
}

fn write_pipeline(
    text: &mut String,
    jobs: &[Job],
    folder: &str,
    template: &Template,
    inputs: &[Input],
) -> fmt::Result {
    let given = |name: &str| inputs.iter().any(|i| i.name == name);
    let says_folder = !folder.is_empty() && !given(FOLDER) && !given("manifest-path");
    if jobs.is_empty() {
        return text.write_str(
            "nothing-changed:\n  variables:\n    GIT_STRATEGY: none\n  script:\n    - echo \"No package changed.\"\n",
        );
    }
    writeln!(text, "include:")?;
    for job in jobs {
        writeln!(text, "  - {}", template.entry())?;
        writeln!(text, "    inputs:")?;
        writeln!(text, "      {PREFIX}: {}", yaml(&prefix(&job.package)))?;
        if says_folder {
            writeln!(text, "      {FOLDER}: {}", yaml(folder))?;
        }
        writeln!(text, "      {PACKAGE}: {}", yaml(&job.package))?;
        for input in inputs {
            writeln!(text, "      {}: {}", input.name, input.value)?;
        }
    }
    Ok(())
}

/// A string as a double-quoted scalar, in ASCII, which every YAML reads alike.
/// <https://yaml.org/spec/1.2.2/#731-double-quoted-style>
#[must_use]
pub fn yaml(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            ' '..='~' => quoted.push(c),
            c if u32::from(c) <= 0xffff => _ = write!(quoted, "\\u{:04x}", u32::from(c)),
            c => _ = write!(quoted, "\\U{:08x}", u32::from(c)),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_written_as_gitlab_does() {
        let entry = |text: &str| text.parse::<Template>().map(|t| t.entry());
        assert_eq!(
            entry("component: $CI_SERVER_FQDN/a/b/c@1").unwrap(),
            "component: \"$CI_SERVER_FQDN/a/b/c@1\""
        );
        assert_eq!(
            entry("local:/x \"y\".yml").unwrap(),
            "local: \"/x \\\"y\\\".yml\""
        );
        assert_eq!(
            entry("remote: https://x/y").unwrap(),
            "remote: \"https://x/y\""
        );
        for wrong in ["", "x", "local:", "project: a/b", "local: a\nscript: b"] {
            assert!(entry(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(yaml("é\n\u{1f600}"), "\"\\u00e9\\u000a\\U0001f600\"");
    }

    #[test]
    fn job_names_hold_what_the_template_lets_in() {
        assert_eq!(prefix("a_b-1"), "a_b-1-");
        assert_eq!(prefix("gr-öße_x"), "gr-_f6__df_e_x-");
        assert_eq!(prefix("a@1.2.3"), "a_40_1.2.3-");
        assert_ne!(prefix("ä"), prefix("ö"));
    }

    #[test]
    fn inputs_keep_their_types() {
        let value = |text: &str| text.parse::<Input>().map(|i| i.value);
        assert_eq!(value("publish=true").as_deref(), Ok("true"));
        assert_eq!(value("n=10").as_deref(), Ok("10"));
        assert_eq!(value("n=012").as_deref(), Ok("\"012\""));
        assert_eq!(
            value("r=$CI_REGISTRY_IMAGE").as_deref(),
            Ok("\"$CI_REGISTRY_IMAGE\"")
        );
        assert_eq!(value("a=").as_deref(), Ok("\"\""));
        assert_eq!(value("a=\"true\"").as_deref(), Ok("\"true\""));
        assert_eq!(value("a=\"").as_deref(), Ok("\"\\\"\""));
        for wrong in ["a", "=b", "a b=c", "package=x"] {
            assert!(value(wrong).is_err(), "{wrong}");
        }
    }
}
