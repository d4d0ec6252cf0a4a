//! The publish stage: what a layout holds goes to a registry, or to another layout.
//!
//! The order is what makes it safe: every blob, then the manifest by its digest,
//! then its referrers, and the tags last. Until a tag is set nobody sees anything,
//! and whatever is there already is not sent again, so that a run which was cut
//! short is finished by running it once more.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#push>.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::cache::{Cache, Key};
use crate::error::Error;
use crate::oci::{Descriptor, Digest, Index, MEDIA_TYPE_INDEX, Manifest};
use crate::registry::failure::Failure;
use crate::registry::http::Client;
use crate::registry::layout::{Layout, Subjects, tag_of};
use crate::registry::reference::Repository;
use crate::registry::remote::upload::{Bookmark, Upload, Uploaded};
use crate::registry::remote::{Remote, Rights};
use crate::report::TagState;
use crate::sign::attach::{self, Signed, Signing};
use crate::sign::attestation::Attestation;
use crate::sign::place::Place;
use crate::tags::Tag;

/// Artifacts that are pushed at a time.
const PARALLEL_ARTIFACTS: usize = 8;
/// Blobs of one artifact that are pushed at a time.
const PARALLEL_BLOBS: usize = 4;
/// Indexes of indexes of indexes: no artifact is that deep.
const MAX_DEPTH: usize = 4;
/// How often blobs go up again that a registry knows nothing of any more.
const MAX_ANEW: u32 = 2;
const MEDIA_TYPE_DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

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
        if depth > MAX_DEPTH {
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

/// Pushes several artifacts, a few at a time. One that fails does not keep the
/// others from their way. The results are in the order of the items.
pub async fn publish_all(items: &[Item], context: &Context<'_>) -> Vec<Result<Published, Error>> {
    let shared = Shared::default();
    let shared = &shared;
    let mut results: Vec<(usize, Result<Published, Error>)> =
        stream::iter(items.iter().enumerate())
            .map(|(number, item)| async move {
                let result = Push {
                    item,
                    number,
                    context,
                    shared,
                    sent: AtomicU64::new(0),
                }
                .run()
                .await;
                (context.on_event)(Event::Done { item: number });
                (number, result)
            })
            .buffer_unordered(PARALLEL_ARTIFACTS)
            .collect()
            .await;
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// What a tag names before it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    This,
    Other,
}

/// One artifact on its way.
struct Push<'a> {
    item: &'a Item,
    number: usize,
    context: &'a Context<'a>,
    shared: &'a Shared,
    sent: AtomicU64,
}

/// Held while a blob goes up; afterwards it has the repository that the blob is in.
type Slot = Arc<tokio::sync::Mutex<Option<String>>>;

/// Blobs that several artifacts of a run have in common: each goes up once to a
/// registry, and is mounted from there.
#[derive(Default)]
struct Shared(Mutex<HashMap<(String, Digest), Slot>>);

impl Shared {
    fn slot(&self, host: &str, blob: &Digest) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry((host.to_owned(), blob.clone())).or_default())
    }
}

impl Push<'_> {
    async fn run(&self) -> Result<Published, Error> {
        let Item {
            repository,
            tags,
            bundle,
            signing,
            ..
        } = self.item;
        let remote = Remote::open(self.context.client, repository, Rights::Push)?;
        // Before anything is sent: a tag that must not be moved ends it here.
        let mut states = Vec::new();
        for tag in tags {
            let place = || format!("{repository}:{}", tag.name);
            let there = remote.resolve(&tag.name).await?;
            states.push(
                self.item
                    .found(tag, there.as_ref(), self.context.rules, place)?,
            );
        }
        let complete = states.contains(&Found::This);
        let done = settle(tags, &states, self.context.rules);
        // Without referrers nothing comes between the manifest and its tags: the
        // first tag brings it in.
        let set = done.iter().any(|(_, state)| *state == TagState::Set);
        let by_tag =
            set && bundle.referrers.is_empty() && bundle.subject.is_none() && signing.is_none();
        self.push(&remote, bundle, complete, !by_tag).await?;
        // Before the tags: none may name what is not signed yet.
        let (signatures, attested) = self.item.sign(Place::Remote(&remote), complete).await?;
        for (name, state) in &done {
            if *state == TagState::Set {
                self.put_manifest(&remote, name, bundle).await?;
            }
        }
        Ok(Published {
            tags: done,
            signatures,
            attested,
            sent: self.sent.load(Ordering::Relaxed),
        })
    }

    /// Pushes a manifest with all that belongs to it, but for the tags; without `put`,
    /// the manifest itself is left to them.
    async fn push(
        &self,
        remote: &Remote,
        bundle: &Bundle,
        mut complete: bool,
        put: bool,
    ) -> Result<(), Error> {
        let digest = bundle.manifest.digest.as_str();
        if !complete && (bundle.subject.is_some() || !bundle.children.is_empty()) {
            complete = remote.resolve(digest).await?.is_some();
        }
        if !complete {
            for child in &bundle.children {
                Box::pin(self.push(remote, child, false, true)).await?;
            }
            self.push_blobs(remote, bundle, false).await?;
            let listed = !put || self.put_manifest(remote, digest, bundle).await?;
            if let Some(subject) = &bundle.subject
                && !listed
            {
                remote.add_referrer(subject, &bundle.listed_as).await?;
            }
        }
        for referrer in &bundle.referrers {
            Box::pin(self.push(remote, referrer, false, true)).await?;
        }
        Ok(())
    }

    async fn push_blobs(&self, remote: &Remote, bundle: &Bundle, anew: bool) -> Result<(), Error> {
        stream::iter(bundle.blobs.iter().map(Ok::<_, Error>))
            .try_for_each_concurrent(PARALLEL_BLOBS, |blob| self.push_blob(remote, blob, anew))
            .await
    }

    /// Puts a manifest whose blobs are there. Where several clients mount the same blob
    /// into a new repository at the same moment, registries have been seen to say yes to
    /// all and to know nothing of it afterwards: then the blobs go up again, by themselves.
    async fn put_manifest(
        &self,
        remote: &Remote,
        version: &str,
        bundle: &Bundle,
    ) -> Result<bool, Error> {
        let media_type = &bundle.manifest.media_type;
        let mut attempt = 0;
        loop {
            let failure = match remote
                .put_manifest(version, media_type, &bundle.bytes)
                .await
            {
                Ok(listed) => return Ok(listed),
                Err(failure) => failure,
            };
            if !failure.has_code("MANIFEST_BLOB_UNKNOWN") || attempt == MAX_ANEW {
                return Err(failure.into());
            }
            let passing = Failure::broken("publishing", String::new());
            if self
                .context
                .client
                .back_off(passing, attempt)
                .await
                .is_err()
            {
                return Err(failure.into());
            }
            attempt += 1;
            self.push_blobs(remote, bundle, true).await?;
        }
    }

    /// Sends a blob unless it is there; `anew` trusts nothing that was said about it.
    async fn push_blob(&self, remote: &Remote, blob: &Descriptor, anew: bool) -> Result<(), Error> {
        let report = |how| {
            (self.context.on_event)(Event::Blob {
                item: self.number,
                blob,
                how,
            });
        };
        let known = Key::new(
            "blob-at/1",
            &[
                remote.repository().host().as_bytes(),
                blob.digest.as_str().as_bytes(),
            ],
        );
        let host = remote.repository().host();
        let path = remote.repository().path();
        let slot = self.shared.slot(host, &blob.digest);
        let mut there = slot.lock().await;
        if there.as_deref() == Some(path) && !anew {
            report(Uploaded::Present);
            return Ok(());
        }
        let file = self.item.layout.require(blob)?;
        let remembered = || String::from_utf8(self.context.cache.get(&known)?).ok();
        let elsewhere = there
            .clone()
            .or_else(remembered)
            .filter(|_| !anew)
            .filter(|other| other != path && Repository::parse(&format!("{host}/{other}")).is_ok());
        let how = remote
            .push_blob(&Upload {
                blob,
                file: &file,
                mount_from: elsewhere.as_deref(),
                bookmark: Bookmark::new(self.context.cache, remote.repository(), blob),
                on_progress: &|done| {
                    (self.context.on_event)(Event::Progress {
                        item: self.number,
                        blob,
                        done,
                    });
                },
            })
            .await?;
        if how == Uploaded::Sent {
            self.sent.fetch_add(blob.size, Ordering::Relaxed);
        }
        report(how);
        *there = Some(path.to_owned());
        self.context.cache.put(&known, path.as_bytes());
        Ok(())
    }
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
    copy_bundle(&item.layout, &item.bundle, to)?;
    let (signatures, attested) = item.sign(Place::Layout(to), false).await?;
    if item.tags.is_empty() {
        to.tag(&item.bundle.manifest, None)?;
    }
    let tags = settle(&item.tags, &states, rules);
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
