//! (IO) Pushing: blobs, manifests, referrers and tags, in the order that lets nobody see
//! what is not complete.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::{Bundle, Context, Event, Found, Item, Published, settle};
use crate::cache::Key;
use crate::error::Error;
use crate::oci::{Descriptor, Digest};
use crate::registry::failure::Failure;
use crate::registry::reference::Repository;
use crate::registry::remote::upload::{Bookmark, Upload, Uploaded};
use crate::registry::remote::{Remote, Rights};
use crate::report::TagState;
use crate::sign::place::Place;

/// Artifacts that are pushed at a time.
const PARALLEL_ARTIFACTS: usize = 8;
/// Blobs of one artifact that are pushed at a time.
const PARALLEL_BLOBS: usize = 4;
/// How often blobs go up again that a registry knows nothing of any more.
const MAX_ANEW: u32 = 2;

/// Pushes several artifacts, a few at a time. One that fails does not keep the
/// others from their way. The results are in the order of the items.
pub async fn publish_all(items: &[Item], context: &Context<'_>) -> Vec<Result<Published, Error>> {
    let shared = Shared::default();
    let shared = &shared;
    let mut results: Vec<(usize, Result<Published, Error>)> =
        stream::iter(items.iter().enumerate())
            .map(|(number, item)| async move {
                let push = Push {
                    item,
                    number,
                    context,
                    shared,
                    sent: AtomicU64::new(0),
                    listed: tokio::sync::Mutex::default(),
                };
                let result = Box::pin(push.run()).await;
                (context.on_event)(Event::Done { item: number });
                (number, result)
            })
            .buffer_unordered(PARALLEL_ARTIFACTS)
            .collect()
            .await;
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// One artifact on its way.
struct Push<'a> {
    item: &'a Item,
    number: usize,
    context: &'a Context<'a>,
    shared: &'a Shared,
    sent: AtomicU64,
    /// The referrers of manifests that were looked up.
    listed: tokio::sync::Mutex<BTreeMap<Digest, BTreeSet<Digest>>>,
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
        let (signatures, attested) =
            Box::pin(self.item.sign(Place::Remote(&remote), complete)).await?;
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
        let mut put = put && !complete;
        if !complete {
            for child in &bundle.children {
                Box::pin(self.push(remote, child, false, true)).await?;
            }
            self.push_blobs(remote, bundle, false).await?;
        } else if let Some(subject) = &bundle.subject {
            // Whoever put it there may have been stopped before it was listed.
            put = !self.is_listed(remote, subject, bundle).await?;
        }
        if put
            && !self.put_manifest(remote, digest, bundle).await?
            && let Some(subject) = &bundle.subject
        {
            remote.add_referrer(subject, &bundle.listed_as).await?;
        }
        for referrer in &bundle.referrers {
            Box::pin(self.push(remote, referrer, false, true)).await?;
        }
        Ok(())
    }

    async fn is_listed(
        &self,
        remote: &Remote,
        subject: &Digest,
        bundle: &Bundle,
    ) -> Result<bool, Error> {
        let mut lists = self.listed.lock().await;
        if !lists.contains_key(subject) {
            // Where there is no list to be had, it is put there once more, and the registry
            // says whether it lists it.
            let referrers = remote.referrers(subject).await.unwrap_or_default();
            let digests = referrers.into_iter().map(|r| r.digest).collect();
            lists.insert(subject.clone(), digests);
        }
        Ok(lists[subject].contains(&bundle.manifest.digest))
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
        // What an earlier run has sent is not sent by this one, unless it begins anew.
        let begun_at = AtomicU64::new(blob.size);
        let how = remote
            .push_blob(&Upload {
                blob,
                file: &file,
                mount_from: elsewhere.as_deref(),
                bookmark: Bookmark::new(self.context.cache, remote.repository(), blob),
                on_progress: &|done| {
                    begun_at.fetch_min(done, Ordering::Relaxed);
                    (self.context.on_event)(Event::Progress {
                        item: self.number,
                        blob,
                        done,
                    });
                },
            })
            .await?;
        if how == Uploaded::Sent {
            let before = begun_at.load(Ordering::Relaxed);
            self.sent
                .fetch_add(blob.size.saturating_sub(before), Ordering::Relaxed);
        }
        report(how);
        *there = Some(path.to_owned());
        self.context.cache.put(&known, path.as_bytes());
        Ok(())
    }
}
