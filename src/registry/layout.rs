//! (IO) An OCI image layout: a folder that holds artifacts as a registry would.
//!
//! Several builds may write to one layout at a time. Blobs are content-addressed
//! and renamed into place; `index.json` is changed under a lock, last, so that it
//! never names what is not there.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>.
#![expect(
    clippy::disallowed_methods,
    reason = "this module is the layout on disk"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::Digest as _;

use crate::error::Error;
use crate::json;
use crate::oci::{
    Annotations, Artifact, Blob, Descriptor, Digest, Index, MEDIA_TYPE_INDEX, MEDIA_TYPE_MANIFEST,
    annotation, annotations_or_null,
};
use crate::output;
use crate::registry::failure::printable;
use crate::registry::reference::{LATEST, LAYOUT_PREFIX};

const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT_CONTENTS: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX_FILE: &str = "index.json";
const LOCK_FILE: &str = ".lock";
/// A manifest that is larger is none.
const MAX_MANIFEST: u64 = 4 << 20;
/// What follows in an index is not read, and the JSON thus cut short.
const MAX_INDEX: u64 = 64 << 20;

/// Manifests by the digest of the one that they are about.
pub type Subjects = BTreeMap<Digest, Vec<Descriptor>>;

/// `oci:DIR`, `oci:DIR:TAG` or `oci:DIR@DIGEST`.
#[derive(Clone, Debug)]
pub struct LayoutReference {
    /// The layout.
    pub layout: Layout,
    /// A tag or a digest, where one was given.
    pub version: Option<String>,
}

impl LayoutReference {
    /// Parses a reference to a layout that is there; none where the text does not
    /// begin with `oci:`. Folders and tags may both hold colons: the first place to
    /// split at is taken where the part before is a layout.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where there is no such layout.
    #[must_use]
    pub fn parse(text: &str) -> Option<Result<Self, Error>> {
        let rest = text.strip_prefix(LAYOUT_PREFIX)?;
        let is_layout = |folder: &str| Path::new(folder).join(INDEX_FILE).is_file();
        let at = |folder: &str, version: Option<&str>| {
            Some(Ok(LayoutReference {
                layout: Layout::at(folder.into()),
                version: version.map(str::to_owned),
            }))
        };
        if is_layout(rest) {
            return at(rest, None);
        }
        if let Some((folder, digest)) = rest.rsplit_once('@')
            && is_layout(folder)
        {
            return at(folder, Some(digest));
        }
        for (place, _) in rest.match_indices(':') {
            if is_layout(&rest[..place]) {
                return at(&rest[..place], Some(&rest[place + 1..]));
            }
        }
        Some(Err(Error::Usage {
            message: format!("`{text}`: there is no OCI image layout"),
            hint: Some(match rest.strip_prefix("//") {
                Some(reference) => format!("for a registry, write {reference}"),
                None => {
                    "write oci:DIR:TAG; cargo edgepack build makes a layout in target/edgepack/oci"
                        .into()
                }
            }),
        }))
    }
}

/// The tag of an entry of an index.
#[must_use]
pub fn tag_of(entry: &Descriptor) -> Option<&str> {
    entry
        .annotations
        .get(annotation::REF_NAME)
        .map(String::as_str)
}

/// What a manifest says about its artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Its name: its title, else that of its one layer without `.wasm`.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
}

/// The part of a manifest or an index that [`Said`] is read from.
#[derive(Default, Deserialize)]
#[serde(default)]
struct About {
    #[serde(deserialize_with = "annotations_or_null")]
    annotations: Annotations,
    layers: Vec<Descriptor>,
    subject: Option<Descriptor>,
}

/// A layout in a folder.
#[derive(Clone, Debug)]
pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// The layout in `folder`, which is made by the first write.
    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        Layout { folder }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a blob is kept.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.hex())
    }

    /// Stores an artifact and lets `tag` name it, and nothing else.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Usage`] where the folder holds something that is
    /// no layout. The tag is then what it was before.
    pub fn store(&self, artifact: &Artifact, tag: &str) -> Result<(), Error> {
        self.prepare()?;
        for blob in artifact.blobs.iter().chain([&artifact.manifest]) {
            self.store_blob(blob)?;
        }
        self.tag(&artifact.manifest.descriptor, Some(tag))
    }

    /// Lists a manifest that is stored, under a tag or without one. A tag names it
    /// and nothing else.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Usage`].
    pub fn tag(&self, manifest: &Descriptor, tag: Option<&str>) -> Result<(), Error> {
        self.prepare()?;
        self.change_index(|index| {
            if tag.is_none() && index.manifests.iter().any(|m| m.digest == manifest.digest) {
                return;
            }
            index
                .manifests
                .retain(|m| tag.is_none() || tag_of(m) != tag);
            let mut entry = Descriptor {
                annotations: Annotations::new(),
                ..manifest.clone()
            };
            if let Some(tag) = tag {
                entry
                    .annotations
                    .insert(annotation::REF_NAME.to_owned(), tag.to_owned());
            }
            index.manifests.push(entry);
            index.manifests.sort_by(|a, b| {
                tag_of(a)
                    .cmp(&tag_of(b))
                    .then_with(|| a.digest.cmp(&b.digest))
            });
        })
    }

    /// Whether there is anything that a tag or a digest stands for; without either, whether
    /// there is anything.
    ///
    /// # Errors
    ///
    /// [`Error::Registry`] where the layout is damaged.
    pub fn has(&self, version: Option<&str>) -> Result<bool, Error> {
        if let Some(digest) = version.and_then(|v| v.parse().ok())
            && self.unlisted(digest)?.is_some()
        {
            return Ok(true);
        }
        let index = self.index()?;
        Ok(index.manifests.iter().any(|m| {
            version.is_none_or(|version| tag_of(m) == Some(version) || m.digest.as_str() == version)
        }))
    }

    /// What a tag or a digest stands for; without either, the one artifact that the
    /// layout holds, else the one with the tag `latest`.
    ///
    /// # Errors
    ///
    /// [`Error::Registry`] that lists what there is.
    pub fn resolve(&self, version: Option<&str>) -> Result<Descriptor, Error> {
        let index = self.index()?;
        let matches = |m: &&Descriptor| match version {
            Some(version) => tag_of(m) == Some(version) || m.digest.as_str() == version,
            None => tag_of(m).is_some(),
        };
        let mut found: Vec<&Descriptor> = index.manifests.iter().filter(matches).collect();
        if found.is_empty() && version.is_none() {
            found = index.manifests.iter().collect();
        }
        found.dedup_by(|a, b| a.digest == b.digest);
        if let [only] = found[..] {
            return Ok(only.clone());
        }
        if let Some(unlisted) = version.and_then(|v| v.parse().ok())
            && let Some(manifest) = self.unlisted(unlisted)?
        {
            return Ok(manifest);
        }
        // As in a registry, that is what a reference without a tag means.
        if version.is_none()
            && let Some(latest) = index.manifests.iter().find(|m| tag_of(m) == Some(LATEST))
        {
            return Ok(latest.clone());
        }
        let tags: Vec<_> = index.manifests.iter().filter_map(tag_of).take(20).collect();
        let folder = self.folder.display();
        if let Some(other) = version.and_then(|v| index.other(v)) {
            return Err(Error::Registry {
                message: format!(
                    "`{}` in the layout `{folder}` is named by {}, and no digest but sha256 is known",
                    version.unwrap_or_default(),
                    printable(other["digest"].as_str().unwrap_or_default())
                ),
                hint: Some("copy it with a tool that names it by sha256".into()),
            });
        }
        Err(Error::Registry {
            message: match version {
                Some(version) => format!("the layout `{folder}` has no `{version}`"),
                None if found.is_empty() => format!("the layout `{folder}` is empty"),
                None => format!("the layout `{folder}` holds several artifacts"),
            },
            hint: (!tags.is_empty())
                .then(|| format!("name one as oci:{folder}:TAG; it has {}", tags.join(", "))),
        })
    }

    /// A manifest that is stored and that the index does not list itself, such as one that
    /// an index in the layout lists.
    pub(crate) fn unlisted(&self, digest: Digest) -> Result<Option<Descriptor>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            schema_version: u8,
            #[serde(default)]
            media_type: String,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let Ok(meta) = fs::metadata(self.blob_path(&digest)) else {
            return Ok(None);
        };
        if meta.len() > MAX_MANIFEST {
            return Ok(None);
        }
        let mut found = Descriptor::plain(MEDIA_TYPE_MANIFEST, digest, meta.len());
        let Ok(shape) = serde_json::from_slice::<Shape>(&self.read(&found)?) else {
            return Ok(None);
        };
        if !shape.media_type.is_empty() {
            found.media_type = shape.media_type;
        } else if shape.manifests.is_some() {
            MEDIA_TYPE_INDEX.clone_into(&mut found.media_type);
        }
        Ok((shape.schema_version == 2).then_some(found))
    }

    /// What the manifest of an entry says about itself; nothing where it is no JSON.
    ///
    /// # Errors
    ///
    /// [`Error::Registry`] where the layout is damaged.
    pub fn says(&self, entry: &Descriptor) -> Result<Said, Error> {
        let bytes = self.read(entry)?;
        let about: About = serde_json::from_slice(&bytes).unwrap_or_default();
        let [title, version] = [annotation::TITLE, annotation::VERSION].map(|key| {
            about
                .annotations
                .get(key)
                .filter(|v| !v.is_empty())
                .cloned()
        });
        let file = match &about.layers[..] {
            [only] => only.annotations.get(annotation::TITLE),
            _ => None,
        };
        let file = file.map(|name| name.strip_suffix(".wasm").unwrap_or(name).to_owned());
        Ok(Said {
            name: title.or(file.filter(|f| !f.is_empty())),
            version,
        })
    }

    /// The bytes of a manifest or another small blob, checked against its digest.
    ///
    /// # Errors
    ///
    /// [`Error::Registry`] where the layout is damaged.
    pub fn read(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        let path = self.require(blob)?;
        if blob.size > MAX_MANIFEST {
            return Err(damaged(
                &path,
                "it is far too large for a manifest or a config",
            ));
        }
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        if Digest::of(&bytes) != blob.digest {
            return Err(damaged(&path, "its digest is another"));
        }
        Ok(bytes)
    }

    /// The path of a blob that is there and has the size that it should have.
    ///
    /// # Errors
    ///
    /// [`Error::Registry`] where the layout is damaged.
    pub fn require(&self, blob: &Descriptor) -> Result<PathBuf, Error> {
        let path = self.blob_path(&blob.digest);
        match fs::metadata(&path) {
            Ok(meta) if !meta.is_file() => Err(damaged(&path, "it is no file")),
            Ok(meta) if meta.len() == blob.size => Ok(path),
            Ok(meta) => Err(damaged(
                &path,
                &format!("it has {} bytes, not {}", meta.len(), blob.size),
            )),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(damaged(&path, "it is missing"))
            }
            Err(e) => Err(Error::io("read", path)(e)),
        }
    }

    /// Writes a blob into a file, checking it on the way; `path` names the file in errors.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Registry`] where the layout is damaged.
    pub fn write_blob(
        &self,
        blob: &Descriptor,
        file: &mut fs::File,
        path: &Path,
    ) -> Result<(), Error> {
        let from = self.require(blob)?;
        let mut source = fs::File::open(&from).map_err(Error::io("read", &from))?;
        let mut hash = sha2::Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = source.read(&mut buffer).map_err(Error::io("read", &from))?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
            file.write_all(&buffer[..read])
                .map_err(Error::io("write", path))?;
        }
        if Digest::from_hash(hash) == blob.digest {
            Ok(())
        } else {
            Err(damaged(&from, "its digest is another"))
        }
    }

    /// Which manifests of the layout are about which others, with annotations as a registry
    /// lists them.
    ///
    /// # Errors
    ///
    /// [`Error::Registry`] where the layout is damaged.
    pub fn subjects(&self) -> Result<Subjects, Error> {
        let mut subjects = Subjects::new();
        for mut entry in self.index()?.manifests {
            // A layout need not hold all that it lists.
            if !self.blob_path(&entry.digest).exists() {
                continue;
            }
            let bytes = self.read(&entry)?;
            let about = serde_json::from_slice::<About>(&bytes).unwrap_or_default();
            if let Some(subject) = about.subject {
                for (key, value) in about.annotations {
                    entry.annotations.entry(key).or_insert(value);
                }
                let referrers = subjects.entry(subject.digest).or_default();
                if !referrers.iter().any(|r| r.digest == entry.digest) {
                    referrers.push(entry);
                }
            }
        }
        Ok(subjects)
    }

    /// Copies a blob from another layout, checking it on the way.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Registry`] where the other layout is damaged.
    pub fn copy_blob(&self, from: &Layout, blob: &Descriptor) -> Result<(), Error> {
        let source = from.require(blob)?;
        let target = self.blob_path(&blob.digest);
        if fs::metadata(&target).is_ok_and(|m| m.len() == blob.size)
            && hash_file(&target)? == blob.digest
        {
            return Ok(());
        }
        if hash_file(&source)? != blob.digest {
            return Err(damaged(&source, "its digest is another"));
        }
        output::copy_into_new(&source, &target)
    }

    /// The index; empty where there is no layout yet.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Usage`] where it does not parse.
    pub fn index(&self) -> Result<Index, Error> {
        let path = self.folder.join(INDEX_FILE);
        match output::read_at_most(&path, MAX_INDEX) {
            Ok(bytes) => json::object(&bytes).map_err(|why| Error::Usage {
                message: format!(
                    "`{}` is no index of an OCI image layout: {why}",
                    path.display()
                ),
                hint: Some("remove the folder, or choose another".into()),
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Index::default()),
            Err(e) => Err(Error::io("read", path)(e)),
        }
    }

    fn prepare(&self) -> Result<(), Error> {
        let marker = self.folder.join(LAYOUT_FILE);
        if !marker.exists() {
            output::write_into_new(&marker, LAYOUT_CONTENTS)?;
        }
        Ok(())
    }

    /// Stores a blob, and lists it nowhere.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Usage`] where the folder holds something that is
    /// no layout.
    pub fn store_loose(&self, blob: &Blob) -> Result<(), Error> {
        self.prepare()?;
        self.store_blob(blob)
    }

    fn store_blob(&self, blob: &Blob) -> Result<(), Error> {
        // `write` leaves a file alone that already holds these very bytes, and
        // mends one that does not.
        output::write_into_new(&self.blob_path(&blob.descriptor.digest), &blob.bytes)
    }

    fn change_index(&self, change: impl FnOnce(&mut Index)) -> Result<(), Error> {
        let path = self.folder.join(LOCK_FILE);
        let lock = fs::File::create(&path).map_err(Error::io("create", &path))?;
        lock.lock().map_err(Error::io("lock", &path))?;
        let mut index = self.index()?;
        change(&mut index);
        let json = serde_json::to_vec(&index).map_err(|e| Error::Internal(e.to_string()))?;
        output::write_into_new(&self.folder.join(INDEX_FILE), &json)
        // The lock ends with its file.
    }
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::Registry {
        message: format!("the layout is damaged: `{}`: {why}", path.display()),
        hint: Some("build it again, or fetch it again".into()),
    }
}

fn hash_file(path: &Path) -> Result<Digest, Error> {
    let mut file = fs::File::open(path).map_err(Error::io("read", path))?;
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if read == 0 {
            return Ok(Digest::from_hash(hash));
        }
        hash.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{MEDIA_TYPE_MANIFEST, MEDIA_TYPE_WASM};

    fn artifact(contents: &[u8]) -> Artifact {
        Artifact {
            manifest: Blob::new(MEDIA_TYPE_MANIFEST, [b"manifest of ", contents].concat()),
            blobs: vec![Blob::new(MEDIA_TYPE_WASM, contents.to_vec())],
        }
    }

    #[test]
    fn a_tag_names_the_last_artifact() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::at(folder.path().join("oci"));
        let (one, two) = (artifact(b"one"), artifact(b"two"));
        layout.store(&one, "a:1").unwrap();
        layout.store(&two, "b:1").unwrap();
        layout.store(&two, "a:1").unwrap();
        let index = layout.index().unwrap();
        let tags: Vec<_> = index
            .manifests
            .iter()
            .map(|m| (m.annotations[annotation::REF_NAME].as_str(), &m.digest))
            .collect();
        assert_eq!(tags, [("a:1", two.digest()), ("b:1", two.digest())]);
        assert_eq!(
            fs::read(layout.blob_path(one.digest())).unwrap(),
            b"manifest of one"
        );
    }

    #[test]
    fn a_damaged_blob_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::at(folder.path().to_owned());
        let one = artifact(b"one");
        layout.store(&one, "a:1").unwrap();
        let path = layout.blob_path(&one.blobs[0].descriptor.digest);
        fs::write(&path, b"eno").unwrap();
        layout.store(&one, "a:1").unwrap();
        assert_eq!(fs::read(path).unwrap(), b"one");
    }

    #[test]
    fn many_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::at(folder.path().to_owned());
        std::thread::scope(|scope| {
            for i in 0..16 {
                let layout = &layout;
                scope.spawn(move || layout.store(&artifact(&[i]), &format!("t:{i}")).unwrap());
            }
        });
        assert_eq!(layout.index().unwrap().manifests.len(), 16);
    }
}
