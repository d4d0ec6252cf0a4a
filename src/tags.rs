//! Tags from patterns: what a version is called in a registry.
//!
//! Some tags stay (`1.2.3` is one artifact for good), others move along with each
//! release (`1.2`, `latest`). Which is which decides whether one that names another
//! artifact may be set anew.

use cargo_metadata::semver::Version;

use crate::error::Error;
use crate::oci::tag_from_version;
use crate::registry::reference::{LATEST, is_tag};

/// The pattern that is used where none is given.
pub const DEFAULT_PATTERN: &str = "{version}";
/// What a version is but for what comes behind a `-` or a `+`.
const NUMBERS: [&str; 3] = ["{major}", "{minor}", "{patch}"];
const PLACEHOLDERS: &[&str] = &["version", "major", "minor", "patch", "name"];

/// A tag that is going to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The tag.
    pub name: String,
    /// Whether it may name another artifact before.
    pub moving: bool,
}

/// Patterns for tags, and where they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns {
    /// The patterns.
    pub patterns: Vec<String>,
    /// Whether they stand in the configuration, and so hold for every release.
    pub configured: bool,
}

/// Whether a tag that stands in a layout is one that moves with each release: `latest`,
/// or the beginning of the version that the artifact says it has. Others, such as a word
/// of somebody's configuration, cannot be told from those that stay.
#[must_use]
pub fn moves_with(tag: &str, version: Option<&str>) -> bool {
    let version = version.and_then(|v| Version::parse(v).ok());
    tag == LATEST
        || version.is_some_and(|v| {
            tag == v.major.to_string() || tag == format!("{}.{}", v.major, v.minor)
        })
}

/// The tags for a version, and what to tell the user about those left out.
///
/// # Errors
///
/// [`Error::Usage`] for a pattern that makes no tag.
pub fn expand(
    patterns: &Patterns,
    name: &str,
    version: Option<&str>,
) -> Result<(Vec<Tag>, Vec<String>), Error> {
    let parsed = version.and_then(|v| Version::parse(v).ok());
    let prerelease = parsed.as_ref().is_some_and(|v| !v.pre.is_empty());
    let mut tags: Vec<Tag> = Vec::new();
    let mut notes = Vec::new();
    for pattern in &patterns.patterns {
        let text = fill(pattern, name, version, parsed.as_ref())?;
        if !is_tag(&text) {
            return Err(Error::Usage {
                message: if text == *pattern {
                    format!("`{text}` is no tag")
                } else {
                    format!("the tag pattern `{pattern}` makes `{text}`, which is no tag")
                },
                hint: Some("a tag has letters, digits, `.`, `_` and `-`, 128 at most, and does not begin with `.` or `-`".into()),
            });
        }
        // Several versions make the same of it: a word, or a part of the version.
        let shared =
            !pattern.contains("{version}") && (patterns.configured || pattern.contains('{'));
        let whole = NUMBERS.iter().all(|number| pattern.contains(number));
        let moving = shared && !whole || text == LATEST;
        if shared && prerelease {
            notes.push(format!(
                "{} is a prerelease: the tag `{text}` stays where it is",
                version.unwrap_or_default()
            ));
        } else if !tags.iter().any(|t| t.name == text) {
            tags.push(Tag { name: text, moving });
        }
    }
    Ok((tags, notes))
}

fn fill(
    pattern: &str,
    name: &str,
    version: Option<&str>,
    parsed: Option<&Version>,
) -> Result<String, Error> {
    let mut text = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let wrong = |message: String| Error::Usage {
            message,
            hint: Some(format!(
                "tag patterns know {{{}}}",
                PLACEHOLDERS.join("}, {")
            )),
        };
        let (placeholder, after) = after.split_once('}').ok_or_else(|| {
            wrong(format!(
                "the tag pattern `{pattern}` has a `{{` without its `}}`"
            ))
        })?;
        let required = || {
            version.ok_or_else(|| Error::Usage {
                message: format!(
                    "there is no version for the {{{placeholder}}} of the tag pattern `{pattern}`"
                ),
                hint: Some("a file gets its version with --as-version VERSION; without one, write the tag out".into()),
            })
        };
        let number = |part: fn(&Version) -> u64| {
            let version = required()?;
            parsed.map(|v| part(v).to_string()).ok_or_else(|| Error::Usage {
                message: format!("the version `{version}` has no {{{placeholder}}} for the tag pattern `{pattern}`"),
                hint: Some("use a semantic version, such as 1.2.3".into()),
            })
        };
        text.push_str(&match placeholder {
            "version" => tag_from_version(required()?),
            "name" => tag_from_version(name),
            "major" => number(|v| v.major)?,
            "minor" => number(|v| v.minor)?,
            "patch" => number(|v| v.patch)?,
            other => {
                return Err(wrong(format!(
                    "the tag pattern `{pattern}` has an unknown `{{{other}}}`"
                )));
            }
        });
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(patterns: &[&str], configured: bool, version: &str) -> Vec<(String, bool)> {
        let patterns = Patterns {
            patterns: patterns.iter().map(|&p| p.to_owned()).collect(),
            configured,
        };
        let (tags, _) = expand(&patterns, "demo", Some(version)).unwrap();
        tags.into_iter().map(|t| (t.name, t.moving)).collect()
    }

    fn is(name: &str, moving: bool) -> (String, bool) {
        (name.to_owned(), moving)
    }

    #[test]
    fn versions_stay_and_the_rest_moves() {
        let all = ["{version}", "{major}.{minor}", "latest", "edge"];
        assert_eq!(
            tags(&all, true, "1.2.3+b"),
            [
                is("1.2.3_b", false),
                is("1.2", true),
                is("latest", true),
                is("edge", true)
            ]
        );
        assert_eq!(
            tags(&["v1", "latest"], false, "1.2.3"),
            [is("v1", false), is("latest", true)]
        );
        assert_eq!(
            tags(&["v{major}.{minor}.{patch}", "{patch}"], true, "1.2.3"),
            [is("v1.2.3", false), is("3", true)]
        );
        assert_eq!(
            tags(&["{name}-{version}", "x", "x"], false, "1.2.3").len(),
            2
        );
    }

    #[test]
    fn prereleases_move_nothing() {
        assert_eq!(
            tags(&["{version}", "{major}", "latest"], true, "1.2.3-rc.1"),
            [is("1.2.3-rc.1", false)]
        );
        assert_eq!(tags(&["{major}"], false, "1.2.3-rc.1"), []);
        assert_eq!(tags(&["v{major}.{minor}.{patch}"], false, "1.2.3-rc.1"), []);
        // A word on the command line is meant.
        assert_eq!(tags(&["latest"], false, "1.2.3-rc.1"), [is("latest", true)]);
    }

    #[test]
    fn tags_of_a_layout_move_as_they_did() {
        for (tag, version, moves) in [
            ("latest", None, true),
            ("1.2", Some("1.2.3"), true),
            ("1", Some("1.2.3"), true),
            ("1.2.3", Some("1.2.3"), false),
            ("1.3", Some("1.2.3"), false),
            ("1.2", None, false),
            ("edge", Some("1.2.3"), false),
        ] {
            assert_eq!(moves_with(tag, version), moves, "{tag} {version:?}");
        }
    }

    #[test]
    fn what_makes_no_tag_is_an_error() {
        for (pattern, version) in [
            ("{versoin}", "1.0.0"),
            ("{version", "1.0.0"),
            ("a b", "1.0.0"),
            ("", "1.0.0"),
            ("{major}", "one"),
        ] {
            let patterns = Patterns {
                patterns: vec![pattern.to_owned()],
                configured: true,
            };
            let error = expand(&patterns, "demo", Some(version)).unwrap_err();
            assert!(error.hint().is_some(), "{error}");
        }
    }
}
