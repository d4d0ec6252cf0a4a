//! (IO) Where an upload stands, so that it outlives the process.

use std::fs::File;

use reqwest::Url;

use super::{MAX_WHOLE, Place};
use crate::cache::{Cache, Key};
use crate::oci::Descriptor;
use crate::registry::reference::Repository;

/// Where an upload stands, kept in the cache: a later run goes on from there. Of
/// several processes that upload the same blob to the same place, one has it.
pub struct Bookmark<'a> {
    cache: &'a Cache,
    key: Key,
    // Closed, and so given up, with the bookmark.
    claim: Option<File>,
}

impl<'a> Bookmark<'a> {
    /// The bookmark for a blob in a repository.
    #[must_use]
    pub fn new(cache: &'a Cache, repository: &Repository, blob: &Descriptor) -> Self {
        let repository = repository.to_string();
        let key = Key::new(
            "upload/2",
            &[repository.as_bytes(), blob.digest.as_str().as_bytes()],
        );
        // What goes up in one request is not gone on with.
        let large = blob.size > MAX_WHOLE;
        Bookmark {
            claim: large.then(|| cache.claim(&key)).flatten(),
            cache,
            key,
        }
    }

    pub(super) fn load(&self) -> Option<Place> {
        self.claim.as_ref()?;
        let text = String::from_utf8(self.cache.get(&self.key)?).ok()?;
        let (offset, location) = text.split_once(' ')?;
        Some(Place {
            location: Url::parse(location).ok()?,
            offset: offset.parse().ok()?,
            // The chunk that was on its way then is not noted.
            sent: u64::MAX,
            min_chunk: 0,
            unsure: false,
        })
    }

    pub(super) fn save(&self, place: &Place) {
        if self.claim.is_some() {
            let text = format!("{} {}", place.offset, place.location);
            self.cache.put(&self.key, text.as_bytes());
        }
    }

    pub(super) fn clear(&self) {
        if self.load().is_some() {
            self.cache.put(&self.key, b"");
        }
    }
}
