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

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::oci::{Artifact, Blob, Digest, Index, annotation};
use crate::output;

const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT_CONTENTS: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX_FILE: &str = "index.json";
const LOCK_FILE: &str = ".lock";

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
        self.change_index(|index| {
            index.manifests.retain(|m| {
                m.annotations
                    .get(annotation::REF_NAME)
                    .is_none_or(|t| t != tag)
            });
            let mut entry = artifact.manifest.descriptor.clone();
            entry
                .annotations
                .insert(annotation::REF_NAME.to_owned(), tag.to_owned());
            index.manifests.push(entry);
            index.manifests.sort_by(|a, b| {
                let tag =
                    |d: &crate::oci::Descriptor| d.annotations.get(annotation::REF_NAME).cloned();
                tag(a).cmp(&tag(b)).then_with(|| a.digest.cmp(&b.digest))
            });
        })
    }

    /// The index; empty where there is no layout yet.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Usage`] where it does not parse.
    pub fn index(&self) -> Result<Index, Error> {
        let path = self.folder.join(INDEX_FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| Error::Usage {
                message: format!(
                    "`{}` is no index of an OCI image layout: {e}",
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
