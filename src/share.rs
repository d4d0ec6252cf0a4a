//! (IO) The cache of shrunk modules, shared through a registry: CI's runners begin with
//! what others have done.
//!
//! It is an image with one layer for each result, named after its key, so that what is
//! there is neither sent nor fetched again. Its types are those that every registry
//! takes. Whoever can write there decides what a build finds under a key: a key is the
//! hash of an input and cannot be checked against a result. What comes in is therefore
//! bounded, has to be a result of shrinking that reads back and whose module validates,
//! and passes the checks of every build like what was made here.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use schemars::JsonSchema;
use serde::Serialize;

use crate::cache::{Cache, Key};
use crate::error::Error;
use crate::oci::{
    Annotations, Blob, Descriptor, Digest, MEDIA_TYPE_IMAGE_CONFIG, MEDIA_TYPE_MANIFEST, Manifest,
    annotation,
};
use crate::output::Pending;
use crate::registry::http::Client;
use crate::registry::layout::{Layout, tag_of};
use crate::registry::reference::{LATEST, LAYOUT_PREFIX, Reference, is_tag};
use crate::registry::remote::upload::{Bookmark, Upload, Uploaded};
use crate::registry::remote::{Remote, Rights};
use crate::shrink::entry::Entry;
use crate::validate;
use crate::wasm::{Kind, Wasm};

/// What is shared: everything else is about this machine, or quickly done again.
const KIND: &str = "shrink/";
/// No more results are sent or taken.
const MAX_ENTRIES: usize = 512;
/// No larger one is.
const MAX_ENTRY: u64 = 64 << 20;
/// No more bytes are, all in all.
const MAX_TOTAL: u64 = 512 << 20;
/// Blobs that are on their way at a time.
const PARALLEL: usize = 4;
/// What the manifest says that it is.
const TITLE: &str = "cargo-edgepack cache 1";
/// What a layer begins with; the kind, the key and the result follow.
const MAGIC: &str = "edgepack cache entry 1";
/// <https://www.iana.org/assignments/media-types/application/octet-stream>
const MEDIA_TYPE_ENTRY: &str = "application/octet-stream";

/// Where a shared cache is.
pub enum Place {
    /// In a registry.
    Remote {
        /// The repository.
        remote: Box<Remote>,
        /// The tag or the digest.
        version: String,
    },
    /// In an image layout.
    Layout {
        /// The layout.
        layout: Layout,
        /// The tag.
        tag: String,
    },
}

/// What a shared cache is called, before anybody is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// `HOST/PATH:TAG`.
    Remote(Reference),
    /// A folder and a tag.
    Layout(String, String),
}

impl Name {
    /// Parses `oci:HOST/PATH:TAG`, or `oci:DIR:TAG` where DIR begins with `.` or `/`. The
    /// `oci:` may be left out; without a tag it is `latest`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let rest = text.strip_prefix(LAYOUT_PREFIX).unwrap_or(text);
        if rest.starts_with("//") {
            return Err(Error::Usage {
                message: format!("`{text}` begins with a scheme"),
                hint: Some(format!(
                    "write {LAYOUT_PREFIX}{}",
                    rest.trim_start_matches('/')
                )),
            });
        }
        if !rest.starts_with('.') && !Path::new(rest).has_root() && !Path::new(rest).is_absolute() {
            return Reference::parse(rest).map(Name::Remote).map_err(|error| {
                let hint = "a shared cache is oci:HOST/PATH:TAG in a registry, or oci:./DIR:TAG in a folder";
                Error::Usage {
                    message: error.to_string(),
                    hint: Some(hint.into()),
                }
            });
        }
        let name_begins = rest.rfind(['/', '\\']).unwrap_or(0);
        let (folder, tag) = match rest[name_begins..].rfind(':') {
            Some(colon) => (
                &rest[..name_begins + colon],
                &rest[name_begins + colon + 1..],
            ),
            None => (rest, LATEST),
        };
        if is_tag(tag) {
            Ok(Name::Layout(folder.to_owned(), tag.to_owned()))
        } else {
            Err(Error::Usage {
                message: format!("`{tag}` is no tag"),
                hint: Some("write oci:DIR:TAG, such as oci:./cache:main".into()),
            })
        }
    }

    /// The registry's host; none for a folder.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match self {
            Name::Remote(reference) => Some(reference.repository.host()),
            Name::Layout(..) => None,
        }
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// [`Error::Registry`] where credentials cannot be read, [`Error::Usage`] for a digest
    /// where something is to be written.
    pub fn open(&self, client: &Arc<Client>, rights: Rights) -> Result<Place, Error> {
        match self {
            Name::Remote(reference) => {
                if rights == Rights::Push && reference.digest.is_some() {
                    return Err(Error::Usage {
                        message: format!(
                            "`{reference}` is a digest, which nothing else can be put under"
                        ),
                        hint: Some("name a tag".into()),
                    });
                }
                Ok(Place::Remote {
                    remote: Box::new(Remote::open(client, &reference.repository, rights)?),
                    version: reference.version().to_owned(),
                })
            }
            Name::Layout(folder, tag) => Ok(Place::Layout {
                layout: Layout::at(folder.into()),
                tag: tag.clone(),
            }),
        }
    }
}

/// What became of the results.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Shared {
    /// The shared cache, by its digest; null where there is none.
    pub reference: Option<String>,
    /// How many results it holds.
    pub entries: u64,
    /// How many were sent, or taken.
    pub moved: u64,
    /// The bytes of those.
    pub bytes: u64,
    /// How many were left out: too large, too many, or not what they should be.
    pub left_out: u64,
}

impl Place {
    fn named(&self) -> String {
        match self {
            Place::Remote { remote, version } => format!("{}:{version}", remote.repository()),
            Place::Layout { layout, tag } => format!("oci:{}:{tag}", layout.folder().display()),
        }
    }

    fn at(&self, digest: &Digest) -> String {
        match self {
            Place::Remote { remote, .. } => remote.repository().at(digest),
            Place::Layout { layout, .. } => format!("oci:{}@{digest}", layout.folder().display()),
        }
    }

    /// The manifest that is there; none where there is nothing yet.
    async fn manifest(&self) -> Result<Option<(Digest, Manifest)>, Error> {
        let (digest, bytes) = match self {
            Place::Remote { remote, version } => match remote.manifest(version).await? {
                Some(found) => (found.descriptor.digest, found.bytes.to_vec()),
                None => return Ok(None),
            },
            Place::Layout { layout, tag } => {
                let index = layout.index()?;
                let entry = index.manifests.iter().find(|m| tag_of(m) == Some(tag));
                match entry {
                    Some(entry) => (entry.digest.clone(), layout.read(entry)?),
                    None => return Ok(None),
                }
            }
        };
        let manifest = serde_json::from_slice::<Manifest>(&bytes).ok();
        let ours = manifest.filter(|m| {
            m.annotations
                .get(annotation::TITLE)
                .is_some_and(|t| t == TITLE)
        });
        match ours {
            Some(manifest) => Ok(Some((digest, manifest))),
            None => Err(Error::Registry {
                message: format!("{} is no cache of this tool", self.named()),
                hint: Some("name another tag: what is there is left alone".into()),
            }),
        }
    }

    /// A blob, checked against its digest.
    async fn blob(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        match self {
            Place::Remote { remote, .. } => Ok(remote.small_blob(blob, MAX_ENTRY).await?.to_vec()),
            Place::Layout { layout, .. } => {
                let mut pending = Pending::nowhere()?;
                let path = pending.path().to_owned();
                layout.write_blob(blob, pending.file(), &path)?;
                let mut bytes = Vec::new();
                pending.read_all(|part| {
                    bytes.extend_from_slice(part);
                    Ok(())
                })?;
                Ok(bytes)
            }
        }
    }

    /// Sees to it that a blob is there; says whether it was sent.
    async fn store(&self, blob: &Blob, cache: &Cache) -> Result<bool, Error> {
        match self {
            Place::Remote { remote, .. } => {
                let mut pending = Pending::nowhere()?;
                let path = pending.path().to_owned();
                std::io::Write::write_all(pending.file(), &blob.bytes)
                    .map_err(Error::io("write", &path))?;
                let how = remote
                    .push_blob(&Upload {
                        blob: &blob.descriptor,
                        file: &path,
                        mount_from: None,
                        bookmark: Bookmark::new(cache, remote.repository(), &blob.descriptor),
                        on_progress: &|_| {},
                    })
                    .await?;
                Ok(how != Uploaded::Present)
            }
            Place::Layout { layout, .. } => {
                let there = layout.require(&blob.descriptor).is_ok();
                layout.store_loose(blob)?;
                Ok(!there)
            }
        }
    }

    /// Stores the manifest, last.
    async fn finish(&self, manifest: &Blob) -> Result<(), Error> {
        match self {
            Place::Remote { remote, version } => {
                let bytes = Bytes::from(manifest.bytes.clone());
                let media_type = &manifest.descriptor.media_type;
                remote.put_manifest(version, media_type, &bytes).await?;
                Ok(())
            }
            Place::Layout { layout, tag } => {
                layout.store_loose(manifest)?;
                layout.tag(&manifest.descriptor, Some(tag))
            }
        }
    }
}

/// Sends the results of this cache, those that were used last first, beside those that
/// are there already.
///
/// # Errors
///
/// [`Error::Registry`], also where something else has that name; [`Error::Io`].
pub async fn push(cache: &Cache, place: &Place) -> Result<Shared, Error> {
    let there = place.manifest().await?;
    let old = there.as_ref().map(|(_, manifest)| layers(manifest));
    let (old, _) = old.unwrap_or_default();
    let mut room = Room::default();
    let mut wanted = BTreeMap::<Key, Descriptor>::new();
    let mut new = Vec::new();
    let mut left_out = 0;
    for (key, size) in cache.keys(KIND) {
        if !room.takes(size) {
            left_out += 1;
        } else if let Some(layer) = old.get(&key) {
            wanted.insert(key, layer.clone());
        } else {
            new.push(key);
        }
    }
    // Other runners' results stay as long as there is room.
    for (key, layer) in &old {
        let known = wanted.contains_key(key) || new.contains(key);
        if !known && room.takes(layer.size) {
            wanted.insert(key.clone(), layer.clone());
        }
    }
    let sent = stream::iter(new)
        .map(|key| async move {
            // Another run may have removed it meanwhile.
            let Some(contents) = cache.peek(&key).filter(|c| is_sound(c)) else {
                return Ok::<_, Error>(None);
            };
            let blob = layer(&key, &contents);
            let sent = place.store(&blob, cache).await?;
            Ok(Some((key, blob.descriptor, sent)))
        })
        .buffer_unordered(PARALLEL)
        .try_collect::<Vec<_>>()
        .await?;
    let (mut moved, mut bytes) = (0, 0);
    for entry in sent {
        match entry {
            Some((key, descriptor, sent)) => {
                if sent {
                    moved += 1;
                    bytes += descriptor.size;
                }
                wanted.insert(key, descriptor);
            }
            None => left_out += 1,
        }
    }
    let entries = wanted.len() as u64;
    let (config, manifest) = image(wanted.into_values().collect())?;
    let digest = manifest.descriptor.digest.clone();
    if there.is_none_or(|(old, _)| old != digest) {
        place.store(&config, cache).await?;
        place.finish(&manifest).await?;
    }
    Ok(Shared {
        reference: Some(place.at(&digest)),
        entries,
        moved,
        bytes,
        left_out,
    })
}

/// Takes in the results that this cache does not have. Where there is no shared cache
/// yet, there are none.
///
/// # Errors
///
/// [`Error::Registry`], also where something else has that name, or a blob does not have
/// its digest; [`Error::Io`], [`Error::Usage`] where this cache cannot keep them.
pub async fn pull(cache: &Cache, place: &Place) -> Result<Shared, Error> {
    let Some((digest, manifest)) = place.manifest().await? else {
        return Ok(Shared::default());
    };
    let (layers, mut left_out) = layers(&manifest);
    let entries = layers.len() as u64;
    let mut room = Room::default();
    let mut missing = Vec::new();
    for (key, layer) in layers {
        if cache.peek(&key).is_some() {
            continue;
        }
        if room.takes(layer.size) {
            missing.push((key, layer));
        } else {
            left_out += 1;
        }
    }
    let taken = stream::iter(missing)
        .map(|(key, layer)| async move {
            let bytes = place.blob(&layer).await?;
            let Some(contents) = contents(&key, &bytes).filter(|c| is_sound(c)) else {
                return Ok::<_, Error>(None);
            };
            cache.keep(&key, contents)?;
            Ok(Some(layer.size))
        })
        .buffer_unordered(PARALLEL)
        .try_collect::<Vec<_>>()
        .await?;
    let sound = || taken.iter().flatten();
    left_out += (taken.len() - sound().count()) as u64;
    Ok(Shared {
        reference: Some(place.at(&digest)),
        entries,
        moved: sound().count() as u64,
        bytes: sound().sum(),
        left_out,
    })
}

/// How much may still come.
struct Room {
    entries: usize,
    bytes: u64,
}

impl Default for Room {
    fn default() -> Self {
        Room {
            entries: MAX_ENTRIES,
            bytes: MAX_TOTAL,
        }
    }
}

impl Room {
    fn takes(&mut self, size: u64) -> bool {
        let fits = self.entries > 0 && size <= MAX_ENTRY && size <= self.bytes;
        if fits {
            self.entries -= 1;
            self.bytes -= size;
        }
        fits
    }
}

/// The layers that say which key they have, and how many do not.
fn layers(manifest: &Manifest) -> (BTreeMap<Key, Descriptor>, u64) {
    let mut found = BTreeMap::new();
    let mut strange = 0;
    for layer in manifest.layers.iter().take(4 * MAX_ENTRIES) {
        let title = layer.annotations.get(annotation::TITLE);
        let key = title
            .and_then(|title| title.rsplit_once(' '))
            .and_then(|(kind, hash)| Key::told(kind, hash))
            .filter(|key| key.kind().starts_with(KIND) && layer.size <= MAX_ENTRY);
        match key {
            // What else a descriptor says is not handed on.
            Some(key) => {
                let descriptor = described(
                    &key,
                    Descriptor::plain(MEDIA_TYPE_ENTRY, layer.digest.clone(), layer.size),
                );
                found.insert(key, descriptor);
            }
            None => strange += 1,
        }
    }
    (found, strange)
}

fn described(key: &Key, mut descriptor: Descriptor) -> Descriptor {
    let title = format!("{} {}", key.kind(), key.hash());
    descriptor
        .annotations
        .insert(annotation::TITLE.to_owned(), title);
    descriptor
}

fn header(key: &Key) -> String {
    format!("{MAGIC}\n{}\n{}\n", key.kind(), key.hash())
}

fn layer(key: &Key, contents: &[u8]) -> Blob {
    let bytes = [header(key).as_bytes(), contents].concat();
    let blob = Blob::new(MEDIA_TYPE_ENTRY, bytes);
    Blob {
        descriptor: described(key, blob.descriptor),
        bytes: blob.bytes,
    }
}

/// The result in a layer, where it is the one of this key.
fn contents<'b>(key: &Key, bytes: &'b [u8]) -> Option<&'b [u8]> {
    bytes.strip_prefix(header(key).as_bytes())
}

/// Whether it is a result of shrinking, with a core module that validates if with any.
fn is_sound(contents: &[u8]) -> bool {
    match Entry::decode(contents.to_vec()) {
        Some(Entry::Module { bytes, .. }) => Wasm::new(bytes)
            .is_ok_and(|wasm| wasm.kind() == Kind::Core && validate::validate(wasm).is_ok()),
        Some(Entry::Unreadable(_) | Entry::Nothing) => true,
        None => false,
    }
}

/// An image of these layers: its config and its manifest.
fn image(layers: Vec<Descriptor>) -> Result<(Blob, Blob), Error> {
    let internal = |e: serde_json::Error| Error::Internal(e.to_string());
    let ids: Vec<&Digest> = layers.iter().map(|l| &l.digest).collect();
    let config = serde_json::json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": ids },
    });
    let config = Blob::new(
        MEDIA_TYPE_IMAGE_CONFIG,
        serde_json::to_vec(&config).map_err(internal)?,
    );
    let manifest = Manifest {
        schema_version: 2,
        media_type: MEDIA_TYPE_MANIFEST.to_owned(),
        artifact_type: None,
        config: config.descriptor.clone(),
        layers,
        subject: None,
        annotations: Annotations::from([(annotation::TITLE.to_owned(), TITLE.to_owned())]),
    };
    let manifest = Blob::new(
        MEDIA_TYPE_MANIFEST,
        serde_json::to_vec(&manifest).map_err(internal)?,
    );
    Ok((config, manifest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_registries_and_of_folders() {
        let parse = |text: &str| Name::parse(text).ok();
        let folder = |folder: &str, tag: &str| Some(Name::Layout(folder.into(), tag.into()));
        let remote = |text: &str| Some(Name::Remote(Reference::parse(text).unwrap()));
        for (text, name) in [
            (
                "oci:ghcr.io/acme/cache:main",
                remote("ghcr.io/acme/cache:main"),
            ),
            ("localhost:5000/c", remote("localhost:5000/c")),
            ("oci:./a/b:main", folder("./a/b", "main")),
            ("oci:/a:b/c", folder("/a:b/c", "latest")),
            ("oci:..:x", folder("..", "x")),
            ("oci:cache:main", None),
            ("oci:./a:-x", None),
            ("oci://ghcr.io/acme/cache", None),
            ("", None),
        ] {
            assert_eq!(parse(text), name, "{text}");
        }
    }

    #[test]
    fn what_is_no_result_is_not_taken() {
        let module = |bytes: &[u8]| {
            Entry::Module {
                recipe: "r".into(),
                bytes: bytes.to_vec(),
            }
            .encode()
        };
        assert!(is_sound(&module(b"\0asm\x01\0\0\0")));
        assert!(is_sound(&Entry::Nothing.encode()));
        assert!(!is_sound(&module(b"\0asm\x0d\0\x01\0")), "a component");
        assert!(!is_sound(&module(b"\0asm\x01\0\0\0\x01\x7f")), "not valid");
        assert!(!is_sound(b"https://registry.example/upload"));
        let key = Key::new("shrink/2", &[b"a"]);
        let other = Key::new("shrink/2", &[b"b"]);
        let blob = layer(&key, b"\x02");
        assert_eq!(contents(&key, &blob.bytes), Some(&b"\x02"[..]));
        assert_eq!(contents(&other, &blob.bytes), None);
    }

    #[test]
    fn there_is_room_for_so_much() {
        let mut room = Room::default();
        assert!(!room.takes(MAX_ENTRY + 1));
        let taken = (0..1000).filter(|_| room.takes(MAX_ENTRY)).count();
        assert_eq!(taken as u64, MAX_TOTAL / MAX_ENTRY);
        let mut room = Room::default();
        assert_eq!((0..1000).filter(|_| room.takes(1)).count(), MAX_ENTRIES);
    }
}
