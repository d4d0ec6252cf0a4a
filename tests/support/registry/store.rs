//! What the registry keeps: all of it in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use hyper::body::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};

#[derive(Default)]
pub struct Store {
    repositories: BTreeMap<String, Repository>,
    pub uploads: BTreeMap<String, Upload>,
}

#[derive(Default)]
pub struct Repository {
    pub blobs: BTreeMap<String, Bytes>,
    pub manifests: BTreeMap<String, Manifest>,
    pub tags: BTreeMap<String, String>,
}

pub struct Manifest {
    pub media_type: String,
    pub bytes: Bytes,
}

#[derive(Default)]
pub struct Upload {
    pub repository: String,
    pub bytes: Vec<u8>,
    pub hash: Sha256,
    /// Its last chunk was shorter than chunks have to be.
    pub short: bool,
}

impl Upload {
    pub fn append(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes.extend_from_slice(bytes);
    }
}

pub fn digest(bytes: &[u8]) -> String {
    digest_of(Sha256::new_with_prefix(bytes))
}

pub fn digest_of(hash: Sha256) -> String {
    let mut text = String::from("sha256:");
    for byte in hash.finalize() {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64
            && hex
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

impl Store {
    pub fn repository(&self, name: &str) -> Option<&Repository> {
        self.repositories.get(name)
    }

    /// The repository, made where it is not there.
    pub fn make(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }

    /// The digest and the manifest that a tag or a digest names.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<(String, &Manifest)> {
        let repository = self.repository(repository)?;
        let digest = if reference.contains(':') {
            reference
        } else {
            repository.tags.get(reference)?
        };
        Some((digest.to_owned(), repository.manifests.get(digest)?))
    }

    /// A reference that is a digest is taken as it is.
    pub fn put_manifest(
        &mut self,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> String {
        let repository = self.make(repository);
        let digest = if reference.contains(':') {
            reference.to_owned()
        } else {
            let digest = digest(&bytes);
            repository.tags.insert(reference.to_owned(), digest.clone());
            digest
        };
        let media_type = media_type.to_owned();
        let manifest = Manifest { media_type, bytes };
        repository.manifests.insert(digest.clone(), manifest);
        digest
    }

    /// What a manifest names and the repository lacks.
    pub fn missing(&self, repository: &str, manifest: &Value) -> Vec<String> {
        let (blobs, manifests) = names(manifest);
        let Some(repository) = self.repository(repository) else {
            return [blobs, manifests].concat();
        };
        let blobs = blobs
            .into_iter()
            .filter(|b| !repository.blobs.contains_key(b));
        let manifests = manifests
            .into_iter()
            .filter(|m| !repository.manifests.contains_key(m));
        blobs.chain(manifests).collect()
    }

    pub fn is_complete(&self, repository: &str, tag: &str) -> bool {
        let mut left: Vec<String> = self
            .manifest(repository, tag)
            .map(|(digest, _)| digest)
            .into_iter()
            .collect();
        if left.is_empty() {
            return false;
        }
        let mut done = BTreeSet::new();
        while let Some(next) = left.pop() {
            if !done.insert(next.clone()) {
                continue;
            }
            let Some((_, manifest)) = self.manifest(repository, &next) else {
                return false;
            };
            let Ok(json) = serde_json::from_slice::<Value>(&manifest.bytes) else {
                return false;
            };
            let (blobs, manifests) = names(&json);
            let held = &self.repositories[repository].blobs;
            let whole = |name: &String| held.get(name).is_some_and(|b| digest(b) == *name);
            if digest(&manifest.bytes) != next || !blobs.iter().all(whole) {
                return false;
            }
            left.extend(manifests);
        }
        true
    }
}

/// The blobs and the manifests that a manifest names; not its subject, which may be
/// missing.
fn names(manifest: &Value) -> (Vec<String>, Vec<String>) {
    let list = |key: &str| {
        let entries = manifest[key].as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .filter_map(|d| d["digest"].as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let mut blobs = list("layers");
    blobs.extend(manifest["config"]["digest"].as_str().map(str::to_owned));
    (blobs, list("manifests"))
}
