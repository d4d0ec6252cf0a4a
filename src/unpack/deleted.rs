//! Files of an image that a layer above takes away: whiteouts.
//!
//! A module that a later layer has deleted is not what the image holds, however
//! plainly a lower layer shows it.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts>.

use std::collections::BTreeSet;

use super::UnpackError;

const PREFIX: &str = ".wh.";
/// Everything in its folder that layers below have.
const OPAQUE: &str = ".wh..wh..opq";
/// No image needs longer names than this, all together.
const MAX_BYTES: usize = 1 << 20;

/// What the layers above the next one have deleted. Paths are plain; what is below a folder,
/// but not the folder itself, ends in `/`.
#[derive(Debug, Default)]
pub struct Deleted {
    paths: BTreeSet<String>,
    bytes: usize,
}

impl Deleted {
    /// Notes what an entry deletes, if it is a whiteout.
    pub(super) fn note(&mut self, path: &str) -> Result<(), UnpackError> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Some(deleted) = name.strip_prefix(PREFIX) else {
            return Ok(());
        };
        let below = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        let path = if name == OPAQUE {
            format!("{folder}/")
        } else {
            below + deleted
        };
        self.bytes += path.len();
        self.paths.insert(path);
        if self.bytes > MAX_BYTES {
            return Err(UnpackError::content("a layer deletes far too many files"));
        }
        Ok(())
    }

    /// Notes a file that stands in place of those that layers below have at this path.
    pub(super) fn replace(&mut self, path: &str) {
        self.paths.insert(path.to_owned());
    }

    /// Adds what the next layer deletes.
    pub(super) fn extend(&mut self, other: Deleted) {
        self.bytes += other.bytes;
        self.paths.extend(other.paths);
    }

    /// Whether a file at this plain path is gone.
    pub(super) fn covers(&self, path: &str) -> bool {
        if self.paths.is_empty() {
            return false;
        }
        let folders = path.match_indices('/').map(|(end, _)| &path[..end]);
        self.paths.contains(path)
            || self.paths.contains("/")
            || folders
                .into_iter()
                .any(|f| self.paths.contains(f) || self.paths.contains(&format!("{f}/")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_is_gone() {
        for (whiteout, gone, there) in [
            (".wh.a.wasm", "a.wasm", "b/a.wasm"),
            ("d/.wh.a.wasm", "d/a.wasm", "a.wasm"),
            (".wh.d", "d/e/a.wasm", "dd/a.wasm"),
            ("d/.wh..wh..opq", "d/a.wasm", "d"),
            (".wh..wh..opq", "a.wasm", ""),
        ] {
            let mut deleted = Deleted::default();
            deleted.note(whiteout).unwrap();
            assert!(deleted.covers(gone), "{whiteout}");
            assert!(there.is_empty() || !deleted.covers(there), "{whiteout}");
        }
        let mut deleted = Deleted::default();
        deleted.note("d/a.wh.wasm").unwrap();
        assert!(!deleted.covers("d/a.wasm"));
        let many = (0..100_000).map(|n| deleted.note(&format!(".wh.file-number-{n}")));
        assert!(many.collect::<Result<(), _>>().is_err());
    }
}
