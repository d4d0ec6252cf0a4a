//! Where artifacts go: flags, variables and configuration become a repository and
//! tags for each, before anything is built or sent.

use std::collections::BTreeMap;

use crate::config::PublishConfig;
use crate::error::Error;
use crate::oci::tag_from_version;
use crate::pack::Variant;
use crate::registry::reference::{LATEST, Repository, refuse_credentials};
use crate::tags::{self, Patterns, Tag};

const NAME: &str = "{name}";
const VARIANT: &str = "{variant}";

/// What flags and variables say, before the configuration has its say.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--repository`.
    pub repository: Option<String>,
    /// `--tag`.
    pub tags: Option<Vec<String>>,
}

/// Who needs a repository, and so where one may be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nobody: a layout takes its place.
    None,
    /// What has a configuration: a package, or a file with a manifest.
    Configured,
    /// A file without a manifest.
    File,
    /// What a layout holds.
    Layout,
}

impl Need {
    fn hint(self) -> &'static str {
        match self {
            Need::None | Need::Configured => {
                "name one with --repository HOST/PATH, with EDGEPACK_PUBLISH_REPOSITORY, or in Cargo.toml: \
                 [package.metadata.edgepack.publish] repository = \"ghcr.io/acme/demo\""
            }
            Need::File => {
                "name one with --repository HOST/PATH or with EDGEPACK_PUBLISH_REPOSITORY; a file goes by \
                 the settings in a Cargo.toml where --manifest-path names it"
            }
            Need::Layout => {
                "name one with --repository HOST/PATH or with EDGEPACK_PUBLISH_REPOSITORY: what is in a \
                 layout has no Cargo.toml"
            }
        }
    }
}

/// Where the artifacts of a package go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// A pattern for the repository; none where a layout takes its place.
    repository: Option<String>,
    /// Patterns for the tags; none for the default.
    tags: Option<Patterns>,
}

/// An artifact that needs a place.
#[derive(Clone, Copy, Debug)]
pub struct Artifact<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version, where it has one.
    pub version: Option<&'a str>,
    /// Its form, where this is known.
    pub variant: Option<Variant>,
    /// Whether the same run publishes it in other forms too.
    pub one_of_several: bool,
    /// Whether its version is the name of a tag that moves, as in a layout.
    pub moves: bool,
}

/// The place of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The repository; none where a layout takes its place.
    pub repository: Option<Repository>,
    /// The tags.
    pub tags: Vec<Tag>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// What the user should change.
    pub warnings: Vec<String>,
}

impl Destination {
    /// Flags over configuration. A repository is needed, unless a layout takes its place.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] that says how to name a repository.
    pub fn new(overrides: &Overrides, config: &PublishConfig, need: Need) -> Result<Self, Error> {
        let repository = overrides
            .repository
            .clone()
            .or_else(|| config.repository.clone());
        if repository.is_none() && need != Need::None {
            return Err(Error::Usage {
                message: "no repository to publish to".into(),
                hint: Some(need.hint().into()),
            });
        }
        if let Some(pattern) = &repository {
            // What is wrong with it is said before minutes of building.
            refuse_credentials(pattern)?;
            let filled = pattern.replace(NAME, "x").replace(VARIANT, "x");
            if filled.contains(['{', '}']) {
                return Err(Error::Usage {
                    message: format!("the repository `{pattern}` has an unknown placeholder"),
                    hint: Some(format!("a repository knows {NAME} and {VARIANT}")),
                });
            }
            Repository::parse(&filled)?;
        }
        let tags = match (&overrides.tags, &config.tags) {
            (Some(patterns), _) => Some(Patterns {
                patterns: patterns.clone(),
                configured: false,
            }),
            (None, Some(patterns)) => Some(Patterns {
                patterns: patterns.clone(),
                configured: true,
            }),
            (None, None) => None,
        };
        if let Some(patterns) = &tags {
            tags::expand(patterns, "x", Some("1.0.0"))?;
        }
        Ok(Destination { repository, tags })
    }

    /// The registry, where there is one.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.repository.as_deref()?.split('/').next()
    }

    /// Where one artifact goes.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a repository or a tag that is none.
    pub fn place(&self, artifact: Artifact<'_>) -> Result<Place, Error> {
        let mut warnings = Vec::new();
        let repository = match &self.repository {
            Some(pattern) => Some(repository(pattern, artifact, &mut warnings)?),
            None => None,
        };
        let patterns = self.tags.clone().unwrap_or_else(|| Patterns {
            patterns: vec![
                artifact
                    .version
                    .map_or(LATEST, |_| tags::DEFAULT_PATTERN)
                    .to_owned(),
            ],
            configured: false,
        });
        let (mut tags, notes) = tags::expand(&patterns, artifact.name, artifact.version)?;
        for tag in &mut tags {
            tag.moving |= artifact.moves && Some(tag.name.as_str()) == artifact.version;
        }
        Ok(Place {
            repository,
            tags,
            notes,
            warnings,
        })
    }
}

fn repository(
    pattern: &str,
    artifact: Artifact<'_>,
    warnings: &mut Vec<String>,
) -> Result<Repository, Error> {
    let variant = artifact.variant.unwrap_or_default();
    let text = pattern
        .replace(NAME, &artifact.name.to_ascii_lowercase())
        .replace(VARIANT, variant.name());
    let mut repository = Repository::parse(&text)?;
    let path = text.split_once('/').map_or("", |(_, path)| path);
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        warnings.push(format!(
            "`{text}` becomes {repository}: registries take repository names in lower case alone"
        ));
    }
    // Each variant has a repository of its own: see `Variant::artifact_name`.
    if artifact.one_of_several && variant != Variant::Wasm && !pattern.contains(VARIANT) {
        repository = repository.with_suffix(&format!("-{variant}"));
    }
    Ok(repository)
}

/// Names the entries of a layout. All that a run writes goes into one layout, whatever
/// their repositories: where that is artifacts of several names, each entry is called
/// `NAME:TAG`, as `build` calls its own; else it is the tag alone.
pub fn name_entries<'a>(placed: impl IntoIterator<Item = (Artifact<'a>, &'a mut Place)>) {
    let mut named: Vec<_> = placed
        .into_iter()
        .map(|(artifact, place)| {
            place.repository = None;
            let variant = artifact.variant.unwrap_or_default();
            (variant.artifact_name(artifact.name), place)
        })
        .collect();
    if named.windows(2).all(|pair| pair[0].0 == pair[1].0) {
        return;
    }
    for (name, place) in &mut named {
        let name = tag_from_version(name);
        for tag in &mut place.tags {
            tag.name = format!("{name}:{}", tag.name);
        }
    }
}

/// Refuses two artifacts that would take a tag from each other. What is equal is one
/// artifact: its digest, or before that is known where it comes from.
///
/// # Errors
///
/// [`Error::Usage`].
pub fn refuse_collisions<'a, T: PartialEq + Clone>(
    placed: impl IntoIterator<Item = (&'a str, &'a Place, T)>,
) -> Result<(), Error> {
    let mut seen = BTreeMap::new();
    for (name, place, this) in placed {
        for tag in &place.tags {
            let key = (place.repository.as_ref(), tag.name.as_str());
            let (other, there) = seen.entry(key).or_insert((name, this.clone()));
            if *there == this {
                continue;
            }
            let (to, hint) = match &place.repository {
                Some(repository) => (
                    format!("{repository}:{}", tag.name),
                    "put {name} into the repository, such as ghcr.io/acme/{name}, or into the tag",
                ),
                None => (
                    format!("`{}` in the layout", tag.name),
                    "give them tags of their own, or publish them into two layouts",
                ),
            };
            return Err(Error::Usage {
                message: if *other == name {
                    format!("two artifacts called `{name}` would both become {to}")
                } else {
                    format!("`{other}` and `{name}` would both become {to}")
                },
                hint: Some(hint.into()),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    fn place(
        repository: &str,
        tags: Option<&[&str]>,
        artifact: Artifact<'_>,
    ) -> (String, Vec<String>) {
        let overrides = Overrides {
            repository: Some(repository.to_owned()),
            tags: tags.map(|t| t.iter().map(|&t| t.to_owned()).collect()),
        };
        let destination =
            Destination::new(&overrides, &PublishConfig::default(), Need::Configured).unwrap();
        let place = destination.place(artifact).unwrap();
        (
            place.repository.unwrap().to_string(),
            place.tags.into_iter().map(|t| t.name).collect(),
        )
    }

    const DEMO: Artifact<'_> = Artifact {
        name: "Demo",
        version: Some("1.2.3"),
        variant: Some(Variant::Wasm),
        one_of_several: false,
        moves: false,
    };

    #[test]
    fn patterns_are_filled() {
        assert_eq!(
            place("ghcr.io/acme/{name}", None, DEMO),
            ("ghcr.io/acme/demo".into(), vec!["1.2.3".into()])
        );
        assert_eq!(
            place("ghcr.io/Acme/x", Some(&["a"]), DEMO),
            ("ghcr.io/acme/x".into(), vec!["a".into()])
        );
        let unversioned = Artifact {
            version: None,
            ..DEMO
        };
        assert_eq!(place("ghcr.io/a/x", None, unversioned).1, ["latest"]);
    }

    #[test]
    fn variants_keep_apart() {
        let compat = Artifact {
            variant: Some(Variant::Compat),
            one_of_several: true,
            ..DEMO
        };
        assert_eq!(place("ghcr.io/a/x", None, compat).0, "ghcr.io/a/x-compat");
        assert_eq!(
            place("ghcr.io/a/{variant}/x", None, compat).0,
            "ghcr.io/a/compat/x"
        );
        let alone = Artifact {
            one_of_several: false,
            ..compat
        };
        assert_eq!(place("ghcr.io/a/x", None, alone).0, "ghcr.io/a/x");
    }

    #[test]
    fn a_repository_is_needed_and_no_tag_is_shared() {
        let error = Destination::new(
            &Overrides::default(),
            &PublishConfig::default(),
            Need::Configured,
        )
        .unwrap_err();
        assert!(error.hint().unwrap().contains("--repository"));
        let nowhere =
            Destination::new(&Overrides::default(), &PublishConfig::default(), Need::None).unwrap();
        let place = nowhere.place(DEMO).unwrap();
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        assert!(refuse_collisions([("a", &place, &one), ("b", &place, &one)]).is_ok());
        assert!(refuse_collisions([("a", &place, &one), ("b", &place, &two)]).is_err());
    }
    #[test]
    fn entries_of_a_layout_keep_apart() {
        let config = PublishConfig::default();
        let nowhere = Destination::new(&Overrides::default(), &config, Need::None).unwrap();
        let entries = |artifacts: &[Artifact<'_>]| {
            let mut places: Vec<_> = artifacts
                .iter()
                .map(|&a| nowhere.place(a).unwrap())
                .collect();
            name_entries(artifacts.iter().copied().zip(&mut places));
            places
                .into_iter()
                .flat_map(|p| p.tags)
                .map(|t| t.name)
                .collect::<Vec<_>>()
        };
        let compat = Artifact {
            variant: Some(Variant::Compat),
            one_of_several: true,
            ..DEMO
        };
        let older = Artifact {
            version: Some("1.2.2"),
            ..DEMO
        };
        assert_eq!(entries(&[compat]), ["1.2.3"]);
        assert_eq!(entries(&[DEMO, older]), ["1.2.3", "1.2.2"]);
        assert_eq!(
            entries(&[compat, DEMO]),
            ["Demo-compat:1.2.3", "Demo:1.2.3"]
        );
        let odd = Artifact {
            name: "an app",
            ..DEMO
        };
        assert_eq!(entries(&[DEMO, odd]), ["Demo:1.2.3", "an_app:1.2.3"]);
    }
}
