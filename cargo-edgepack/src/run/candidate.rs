//! Glue for `publish`: artifacts in layouts that have to find their places.

use edgepack::config::{PublishConfig, SignConfig};
use edgepack::destination::Place;
use edgepack::error::Error;
use edgepack::oci::Descriptor;
use edgepack::registry::layout::{Layout, LayoutReference, tag_of};
use edgepack::report::OciReport;
use edgepack::sign::attestation::Attestation;
use edgepack::tags;

use super::build::Built;
use super::place::Foreseen;

/// An artifact in a layout that has to find its place.
pub(super) struct Candidate {
    pub artifact: Foreseen,
    pub layout: Layout,
    pub manifest: Descriptor,
    pub publish: PublishConfig,
    pub sign: SignConfig,
    pub attestations: Vec<Attestation>,
}

/// One artifact for each place, whatever number of tags a layout has it under: which of them
/// are set depends on all of them.
pub(super) fn merged(
    candidates: Vec<Candidate>,
    placed: Vec<Place>,
) -> (Vec<Candidate>, Vec<Place>) {
    let mut all: Vec<(Candidate, Place)> = Vec::new();
    for (candidate, place) in candidates.into_iter().zip(placed) {
        let same = all.iter_mut().find(|(other, there)| {
            other.manifest.digest == candidate.manifest.digest
                && other.layout.folder() == candidate.layout.folder()
                && there.repository == place.repository
        });
        match same {
            Some((_, there)) => {
                for tag in place.tags {
                    if !there.tags.contains(&tag) {
                        there.tags.push(tag);
                    }
                }
            }
            None => all.push((candidate, place)),
        }
    }
    all.into_iter().unzip()
}

/// What the pack stage made of a module.
pub(super) fn packed(built: &Built) -> Result<Vec<Candidate>, Error> {
    let several = built.report.artifacts.len() > 1;
    let candidate = |artifact: &OciReport| {
        let layout = Layout::at(artifact.layout.clone());
        Ok(Candidate {
            artifact: Foreseen {
                name: built.report.name.clone(),
                version: built.version.clone(),
                variant: artifact.variant.parse().ok(),
                one_of_several: several,
                moves: false,
            },
            manifest: layout.resolve(Some(artifact.manifest_digest.as_str()))?,
            layout,
            publish: built.publish.clone(),
            sign: built.sign.clone(),
            attestations: built.attested.attestations()?,
        })
    };
    built.report.artifacts.iter().map(candidate).collect()
}

/// What a reference to a layout stands for: one artifact, or all that have a tag.
pub(super) fn in_layout(reference: &LayoutReference) -> Result<Vec<Candidate>, Error> {
    let LayoutReference { layout, version } = reference;
    let mut entries = Vec::new();
    if version.is_none() {
        entries = layout.index()?.manifests;
        entries.retain(|m| tag_of(m).is_some());
    }
    if entries.is_empty() {
        entries.push(layout.resolve(version.as_deref())?);
    }
    let candidate = |entry: Descriptor| {
        // Some are called NAME:VERSION, the others have the version alone.
        let tag = tag_of(&entry).map(str::to_owned);
        let said = layout.says(&entry)?;
        let (name, version) = match tag.as_deref().and_then(|t| t.rsplit_once(':')) {
            Some((name, version)) => (name.to_owned(), Some(version.to_owned())),
            None => (said.name.unwrap_or_else(|| "artifact".into()), tag),
        };
        Ok(Candidate {
            artifact: Foreseen {
                name: name.rsplit('/').next().unwrap_or(&name).to_owned(),
                moves: version
                    .as_deref()
                    .is_some_and(|tag| tags::moves_with(tag, said.version.as_deref())),
                version,
                variant: None,
                one_of_several: false,
            },
            layout: layout.clone(),
            manifest: entry,
            publish: PublishConfig::default(),
            sign: SignConfig::default(),
            attestations: Vec::new(),
        })
    };
    entries.into_iter().map(candidate).collect()
}
