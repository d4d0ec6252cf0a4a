//! Where signatures are kept: one way to read and write them, for registries and for
//! layouts.

use bytes::Bytes;

use super::refusal::Refusal;
use crate::error::Error;
use crate::oci::{Blob, Descriptor, Digest, MEDIA_TYPE_MANIFEST};
use crate::registry::failure::Failure;
use crate::registry::layout::Layout;
use crate::registry::remote::Remote;
use crate::registry::remote::upload::Begun;

/// A repository, or a layout.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// In a registry.
    Remote(&'a Remote),
    /// On disk.
    Layout(&'a Layout),
}

/// What became of a request for something that a signature needs.
pub enum Trouble {
    /// This one does not count; others may.
    Refused(Refusal),
    /// Nothing can be said about any.
    Failed(Error),
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Trouble::Refused(refusal)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        if failure.altered {
            Trouble::Refused(Refusal::Altered)
        } else if failure.excess {
            Trouble::Refused(Refusal::Excess)
        } else if failure.status == Some(reqwest::StatusCode::NOT_FOUND) {
            Trouble::Refused(Refusal::Missing)
        } else {
            Trouble::Failed(failure.into())
        }
    }
}

impl Place<'_> {
    /// What errors and signatures call it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Place::Remote(remote) => remote.repository().to_string(),
            Place::Layout(layout) => format!("oci:{}", layout.folder().display()),
        }
    }

    /// The manifest that a tag or digest stands for; checked against its digest.
    ///
    /// # Errors
    ///
    /// [`Trouble`].
    pub async fn manifest(&self, version: &str) -> Result<Option<(Descriptor, Vec<u8>)>, Trouble> {
        match self {
            Place::Remote(remote) => {
                let fetched = remote.manifest(version).await?;
                Ok(fetched.map(|f| (f.descriptor, f.bytes.to_vec())))
            }
            Place::Layout(layout) => {
                let index = layout.index().map_err(Trouble::Failed)?;
                let found = index.manifests.into_iter().find(|m| {
                    m.digest.as_str() == version
                        || crate::registry::layout::tag_of(m) == Some(version)
                });
                // As in a registry, what no tag names any more is there by its digest.
                let unlisted = || match version.parse() {
                    Ok(digest) => layout.unlisted(digest).map_err(|_| Refusal::Altered),
                    Err(_) => Ok(None),
                };
                let Some(descriptor) = found.map_or_else(unlisted, |found| Ok(Some(found)))? else {
                    return Ok(None);
                };
                let bytes = layout.read(&descriptor).map_err(|_| Refusal::Altered)?;
                Ok(Some((descriptor, bytes)))
            }
        }
    }

    /// A small blob; checked against its digest.
    ///
    /// # Errors
    ///
    /// [`Trouble`], also where it is larger than `limit`.
    pub async fn blob(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>, Trouble> {
        if blob.size > limit {
            let size = blob.size;
            return Err(Refusal::TooLarge { size, limit }.into());
        }
        match self {
            Place::Remote(remote) => Ok(remote.small_blob(blob, limit).await?.to_vec()),
            Place::Layout(layout) => Ok(layout.read(blob).map_err(|_| Refusal::Altered)?),
        }
    }

    /// The manifests that say they are about this one.
    ///
    /// # Errors
    ///
    /// [`Error::Registry`].
    pub async fn referrers(&self, manifest: &Digest) -> Result<Vec<Descriptor>, Error> {
        match self {
            Place::Remote(remote) => Ok(remote.referrers(manifest).await?),
            Place::Layout(layout) => Ok(layout.subjects()?.remove(manifest).unwrap_or_default()),
        }
    }

    /// Stores a small blob.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn put_blob(&self, blob: &Blob) -> Result<(), Error> {
        match self {
            Place::Remote(remote) => {
                let bytes = Bytes::copy_from_slice(&blob.bytes);
                Ok(remote.push_bytes(&blob.descriptor, &bytes).await?)
            }
            Place::Layout(layout) => layout.store_loose(blob),
        }
    }

    /// Lets the place wait for a small blob that is not known yet, where that saves time.
    ///
    /// # Errors
    ///
    /// [`Error::Registry`].
    pub async fn expect_blob(&self) -> Result<Option<Begun>, Error> {
        match self {
            Place::Remote(remote) => Ok(Some(remote.begin_small().await?)),
            Place::Layout(_) => Ok(None),
        }
    }

    /// Stores a small blob that cannot be there yet, and may be waited for.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn put_new_blob(&self, begun: Option<Begun>, blob: &Blob) -> Result<(), Error> {
        match self {
            Place::Remote(remote) => {
                let bytes = Bytes::copy_from_slice(&blob.bytes);
                Ok(remote
                    .push_new_bytes(begun, &blob.descriptor, &bytes)
                    .await?)
            }
            Place::Layout(layout) => layout.store_loose(blob),
        }
    }

    /// Stores a manifest that is about another one, and lists it as such.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn put_referrer(
        &self,
        manifest: &Blob,
        subject: &Digest,
        listed_as: &Descriptor,
    ) -> Result<(), Error> {
        match self {
            Place::Remote(remote) => {
                let digest = manifest.descriptor.digest.as_str();
                let bytes = Bytes::copy_from_slice(&manifest.bytes);
                if !remote
                    .put_manifest(digest, MEDIA_TYPE_MANIFEST, &bytes)
                    .await?
                {
                    remote.add_referrer(subject, listed_as).await?;
                }
                Ok(())
            }
            Place::Layout(layout) => {
                layout.store_loose(manifest)?;
                layout.tag(listed_as, None)
            }
        }
    }
}
