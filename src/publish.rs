//! The publish stage: what a layout holds goes to a registry, or to another layout.
//!
//! The order is what makes it safe: every blob, then the manifest by its digest,
//! then its referrers, and the tags last. Until a tag is set nobody sees anything,
//! and whatever is there already is not sent again, so that a run which was cut
//! short is finished by running it once more.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#push>.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::cache::Cache;
use crate::error::Error;
use crate::oci::{
    Descriptor, Digest, Index, MAX_INDEX_DEPTH, MEDIA_TYPE_DOCKER_LIST, MEDIA_TYPE_INDEX, Manifest,
};
use crate::registry::http::Client;
use crate::registry::layout::{Layout, Subjects, tag_of};
use crate::registry::reference::Repository;
use crate::registry::remote::upload::Uploaded;
use crate::report::TagState;
use crate::sign::attach::{self, Signed, Signing};
use crate::sign::attestation::Attestation;
use crate::sign::place::Place;
use crate::tags::Tag;

mod push;

pub use push::publish_all;

/// A manifest in a layout with all that belongs to it.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The manifest.
    pub manifest: Descriptor,
    bytes: Bytes,
    /// The blobs that it refers to, each once.
    pub blobs: Vec<Descriptor>,
    /// Manifests that it lists, where it is an index.
    children: Vec<Bundle>,
    /// Manifests whose subject it is.
    pub referrers: Vec<Bundle>,
    subject: Option<Digest>,
    /// How a referrer is listed, where the registry does not do so by itself.
    listed_as: Descriptor,
}

impl Bundle {
    /// Reads a manifest of a layout and all that belongs to it, and checks that the
    /// layout holds it all. Blobs are not read yet.
    ///
    /// # Errors
    ///
    /// [`Error::Registry`] where the layout is damaged.
    pub fn read(
        layout: &Layout,
        subjects: &Subjects,
        manifest: &Descriptor,
    ) -> Result<Self, Error> {
        Self::read_at(layout, subjects, manifest, 0)
    }

    fn read_at(
        layout: &Layout,
        subjects: &Subjects,
        manifest: &Descriptor,
        depth: usize,
    ) -> Result<Self, Error> {
        let no_manifest = |why: String| Error::Usage {
            message: format!("{} in the layout is no manifest: {why}", manifest.digest),
            hint: None,
        };
        if depth > MAX_INDEX_DEPTH {
            return Err(no_manifest("it is nested too deeply".into()));
        }
        let bytes = layout.read(manifest)?;
        let mut blobs = Vec::new();
        let mut children = Vec::new();
        let mut listed_as =
            Descriptor::plain(&manifest.media_type, manifest.digest.clone(), manifest.size);
        let subject;
        if matches!(
            manifest.media_type.as_str(),
            MEDIA_TYPE_INDEX | MEDIA_TYPE_DOCKER_LIST
        ) {
            let mut index: Index =
                serde_json::from_slice(&bytes).map_err(|e| no_manifest(e.to_string()))?;
            let mut says = |key| index.rest.remove(key);
            listed_as.artifact_type =
                says("artifactType").and_then(|t| serde_json::from_value(t).ok());
            listed_as.annotations = says("annotations")
                .and_then(|a| serde_json::from_value(a).ok())
                .unwrap_or_default();
            subject = says("subject")
                .and_then(|s| serde_json::from_value::<Descriptor>(s).ok())
                .map(|s| s.digest);
            if !index.others.is_empty() {
                return Err(no_manifest(
                    "it lists others by digests that are no sha256".into(),
                ));
            }
            for child in &index.manifests {
                children.push(Self::read_at(layout, subjects, child, depth + 1)?);
            }
        } else {
            let parsed: Manifest =
                serde_json::from_slice(&bytes).map_err(|e| no_manifest(e.to_string()))?;
            let mut seen = BTreeSet::new();
            for blob in std::iter::once(&parsed.config).chain(&parsed.layers) {
                layout.require(blob)?;
                if seen.insert(&blob.digest) {
                    blobs.push(blob.clone());
                }
            }
            listed_as.artifact_type =
                Some(parsed.artifact_type.unwrap_or(parsed.config.media_type));
            listed_as.annotations = parsed.annotations;
            subject = parsed.subject.map(|s| s.digest);
        }
        let referrers = subjects
            .get(&manifest.digest)
            .into_iter()
            .flatten()
            .map(|referrer| Self::read_at(layout, subjects, referrer, depth + 1))
            .collect::<Result<_, _>>()?;
        Ok(Bundle {
            manifest: manifest.clone(),
            bytes: bytes.into(),
            blobs,
            children,
            referrers,
            subject,
            listed_as,
        })
    }

    /// The bytes of all blobs and manifests.
    #[must_use]
    pub fn size(&self) -> u64 {
        let below = self
            .children
            .iter()
            .chain(&self.referrers)
            .map(Bundle::size)
            .sum::<u64>();
        self.blobs.iter().map(|b| b.size).sum::<u64>() + self.manifest.size + below
    }
}

/// An artifact and where it goes.
#[derive(Clone, Debug)]
pub struct Item {
    /// What people call it.
    pub name: String,
    /// The layout that holds it.
    pub layout: Layout,
    /// The artifact.
    pub bundle: Bundle,
    /// The repository that it goes to.
    pub repository: Repository,
    /// The tags that it gets.
    pub tags: Vec<Tag>,
    /// How it is signed, where it is.
    pub signing: Option<Arc<Signing>>,
    /// What is attested about it, where it is signed.
    pub attestations: Vec<Attestation>,
}

impl Item {
    /// Signs it where it is now, and attests what there is to attest. Both are `expected` to
    /// be there where the artifact was.
    async fn sign(
        &self,
        place: Place<'_>,
        expected: bool,
    ) -> Result<(Vec<Signed>, Vec<bool>), Error> {
        let Some(signing) = &self.signing else {
            return Ok((Vec::new(), Vec::new()));
        };
        let Bundle {
            manifest, bytes, ..
        } = &self.bundle;
        let Signing { formats, epoch, .. } = &**signing;
        let ready = attach::prepare(place, manifest, bytes, formats, *epoch, expected).await?;
        let signed = attach::sign(place, manifest, signing, &ready).await?;
        let mut attested = Vec::new();
        for attestation in &self.attestations {
            attested.push(attach::attest(place, manifest, attestation, signing, &ready).await?);
        }
        Ok((signed, attested))
    }

    /// What a tag names, by what is there; an error where it must not be set anew.
    fn found(
        &self,
        tag: &Tag,
        there: Option<&Digest>,
        rules: Rules,
        place: impl Fn() -> String,
    ) -> Result<Found, Error> {
        let digest = &self.bundle.manifest.digest;
        match there {
            None => Ok(Found::Nothing),
            Some(there) if there == digest => Ok(Found::This),
            Some(there) if !tag.moving && !rules.force => Err(taken(&place(), there, digest)),
            Some(_) => Ok(Found::Other),
        }
    }
}

/// What becomes of tags. Published once more, an old version does not take `latest` back
/// where the rules say so.
fn settle(tags: &[Tag], found: &[Found], rules: Rules) -> Vec<(String, TagState)> {
    let mut both = tags.iter().zip(found);
    let settled = both.any(|(tag, state)| !tag.moving && *state == Found::This);
    let keep = rules.skip_existing && settled;
    let state = |found: Found| match found {
        Found::This => TagState::Unchanged,
        Found::Other if keep => TagState::Skipped,
        Found::Nothing | Found::Other => TagState::Set,
    };
    let both = tags.iter().zip(found);
    both.map(|(tag, found)| (tag.name.clone(), state(*found)))
        .collect()
}

/// What to do about what is there already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Set tags anew that name another artifact.
    pub force: bool,
    /// Where an artifact is there under a tag that does not move, leave those alone
    /// that do and name another one.
    pub skip_existing: bool,
}

/// What became of an artifact.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its tags.
    pub tags: Vec<(String, TagState)>,
    /// Its signatures by the key it was to be signed with.
    pub signatures: Vec<Signed>,
    /// Its attestations, in their order: whether each had to be made.
    pub attested: Vec<bool>,
    /// Bytes of blobs that were sent.
    pub sent: u64,
}

/// Told to whoever watches; items are numbered in the order in which they came.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A blob is on its way.
    Progress {
        /// Which item.
        item: usize,
        /// Which blob.
        blob: &'a Descriptor,
        /// How many bytes of it the registry has.
        done: u64,
    },
    /// A blob is there.
    Blob {
        /// Which item.
        item: usize,
        /// Which blob.
        blob: &'a Descriptor,
        /// How it came there.
        how: Uploaded,
    },
    /// An item is done, or has failed.
    Done {
        /// Which item.
        item: usize,
    },
}

/// What pushing works with.
pub struct Context<'a> {
    /// The client.
    pub client: &'a Arc<Client>,
    /// Remembers where blobs are, and uploads that were cut short.
    pub cache: &'a Cache,
    /// What to do about what is there already.
    pub rules: Rules,
    /// Told what happens.
    pub on_event: &'a (dyn Fn(Event<'_>) + Send + Sync),
}

/// What a tag names before it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    This,
    Other,
}

fn taken(tag: &str, there: &Digest, digest: &Digest) -> Error {
    Error::Registry {
        message: format!("{tag} names another artifact already, {there}; this one is {digest}"),
        hint: Some("raise the version, choose another --tag, or move the tag with --force".into()),
    }
}

/// Copies an artifact into another layout, in place of pushing it.
///
/// # Errors
///
/// [`Error::Io`], or [`Error::Registry`] where the first layout is damaged and for a tag
/// that must not be moved.
pub async fn copy_to_layout(item: &Item, to: &Layout, rules: Rules) -> Result<Published, Error> {
    let tags = tags_in_layout(item, to, rules)?;
    copy_bundle(&item.layout, &item.bundle, to)?;
    let (signatures, attested) = Box::pin(item.sign(Place::Layout(to), false)).await?;
    if item.tags.is_empty() {
        to.tag(&item.bundle.manifest, None)?;
    }
    for (name, state) in &tags {
        if *state == TagState::Set {
            to.tag(&item.bundle.manifest, Some(name))?;
        }
    }
    Ok(Published {
        tags,
        signatures,
        attested,
        sent: 0,
    })
}

/// What becomes of the tags of an artifact that is copied into another layout.
///
/// # Errors
///
/// [`Error::Io`], or [`Error::Registry`] for a tag that must not be moved.
pub fn tags_in_layout(
    item: &Item,
    to: &Layout,
    rules: Rules,
) -> Result<Vec<(String, TagState)>, Error> {
    let index = to.index()?;
    let mut states = Vec::new();
    for tag in &item.tags {
        let entry = index
            .manifests
            .iter()
            .find(|there| tag_of(there) == Some(tag.name.as_str()));
        let place = || format!("oci:{}:{}", to.folder().display(), tag.name);
        if index.other(&tag.name).is_some() {
            return Err(Error::Registry {
                message: format!(
                    "{} names an artifact by another digest than sha256",
                    place()
                ),
                hint: Some("choose another --tag, or another layout".into()),
            });
        }
        states.push(item.found(tag, entry.map(|e| &e.digest), rules, place)?);
    }
    Ok(settle(&item.tags, &states, rules))
}

fn copy_bundle(from: &Layout, bundle: &Bundle, to: &Layout) -> Result<(), Error> {
    for child in &bundle.children {
        copy_bundle(from, child, to)?;
    }
    for blob in bundle.blobs.iter().chain([&bundle.manifest]) {
        to.copy_blob(from, blob)?;
    }
    for referrer in &bundle.referrers {
        copy_bundle(from, referrer, to)?;
        to.tag(&referrer.manifest, None)?;
    }
    Ok(())
}
