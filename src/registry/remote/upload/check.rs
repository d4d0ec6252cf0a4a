//! (IO) Whether a file is the blob that its descriptor says, seen while it is sent:
//! reading it once more beforehand would take as long as sending it.
#![expect(
    clippy::disallowed_methods,
    reason = "the part of a blob that is not sent is read here"
)]

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::Digest as _;

use super::source::BUFFER;
use crate::oci::{Descriptor, Digest};
use crate::registry::failure::Failure;

/// Hashes the file as it goes by, each byte once.
pub(super) struct Check {
    expected: Digest,
    state: Mutex<CheckState>,
}

struct CheckState {
    hash: Option<sha2::Sha256>,
    upto: u64,
    size: u64,
    damage: Option<String>,
}

impl Check {
    pub(super) fn new(blob: &Descriptor) -> Arc<Self> {
        Arc::new(Check {
            expected: blob.digest.clone(),
            state: Mutex::new(CheckState {
                hash: Some(sha2::Sha256::new()),
                upto: 0,
                size: blob.size,
                damage: None,
            }),
        })
    }

    /// Whether every byte before an offset went by.
    pub(super) fn has_seen(&self, offset: u64) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.upto >= offset
    }

    pub(super) fn damage(&self) -> Option<String> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .damage
            .clone()
    }

    pub(super) fn report(&self, message: String) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .damage
            .get_or_insert(message);
    }

    /// Takes what was read at an offset; false where the file is not what it should be.
    pub(super) fn feed(&self, offset: u64, bytes: &[u8]) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = usize::try_from(state.upto.saturating_sub(offset)).unwrap_or(usize::MAX);
        if offset <= state.upto && known < bytes.len() {
            let fresh = &bytes[known..];
            if let Some(hash) = &mut state.hash {
                hash.update(fresh);
            }
            state.upto += fresh.len() as u64;
            if state.upto == state.size
                && let Some(hash) = state.hash.take()
            {
                let found = Digest::from_hash(hash);
                if found != self.expected {
                    state.damage = Some(format!(
                        "the blob is damaged: it has the digest {found}, not {}",
                        self.expected
                    ));
                }
            }
        }
        state.damage.is_none()
    }

    /// Hashes what never went by, because an earlier run had uploaded it.
    pub(super) fn finish(&self, file: &Path, size: u64) -> Result<(), Failure> {
        let failed =
            |message: String| Failure::protocol(format!("reading `{}`", file.display()), message);
        let upto = self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .upto;
        if upto < size {
            let mut source = File::open(file).map_err(|e| failed(e.to_string()))?;
            source
                .seek(SeekFrom::Start(upto))
                .map_err(|e| failed(e.to_string()))?;
            let mut buffer = vec![0; BUFFER];
            let mut offset = upto;
            loop {
                let read = source
                    .read(&mut buffer)
                    .map_err(|e| failed(e.to_string()))?;
                if read == 0 || !self.feed(offset, &buffer[..read]) {
                    break;
                }
                offset += read as u64;
            }
        }
        match self.damage() {
            None => Ok(()),
            Some(message) => Err(failed(message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_each_byte_once() {
        let blob = Descriptor::of("x", b"abcdef");
        let check = Check::new(&blob);
        assert!(
            check.feed(0, b"abc")
                && check.feed(0, b"abcd")
                && check.feed(3, b"de")
                && check.feed(4, b"ef")
        );
        assert_eq!(check.damage(), None);
        let check = Check::new(&blob);
        assert!(check.feed(0, b"abc") && !check.feed(3, b"xyz"));
        assert!(check.damage().is_some());
    }
}
