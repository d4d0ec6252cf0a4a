//! (IO) A content-addressed store of results, so that no module is shrunk twice.
//!
//! A key is the digest of everything that goes into a result. An entry carries
//! the digest of its own contents: one that was cut short or changed counts as
//! absent. Entries are written to a temporary name and renamed, so any number of
//! builds may share a cache. It is a convenience: where it cannot be read or
//! written, the work is done again and nobody is told.
#![expect(
    clippy::disallowed_methods,
    reason = "this module is the store; its clock orders eviction only"
)]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::oci::Digest;

/// Above this many bytes the entries that were not used for longest go.
const MAX_BYTES: u64 = 1 << 30;
/// The store is gone through after so many bytes more: it takes long where there
/// are many entries, and they are many where they are small.
const EVICT_EVERY: u64 = MAX_BYTES / 64;
/// The folder of claims. Their files are empty.
const LOCKS: &str = "locks";
/// What the names of entries begin with until they are whole.
const NEW: &str = ".new-";
const MAGIC: &[u8] = b"edgepack cache 2\n";
/// Kinds are short words.
const MAX_KIND: usize = 64;

/// What a result is found by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    hash: String,
    kind: String,
}

impl Key {
    /// The key of a result of `kind` that follows from `parts`.
    #[must_use]
    pub fn new(kind: &str, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in std::iter::once(kind.as_bytes()).chain(parts.iter().copied()) {
            // Lengths first, so that no two lists of parts run together alike.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Key {
            hash: Digest::from_hash(hash).hex().to_owned(),
            kind: kind.to_owned(),
        }
    }

    /// The key that another store tells of: its kind, and its hash in hex.
    #[must_use]
    pub fn told(kind: &str, hash: &str) -> Option<Self> {
        (hash.len() == 64 && is_hex(hash) && is_kind(kind)).then(|| Key {
            hash: hash.to_owned(),
            kind: kind.to_owned(),
        })
    }

    /// The hash, in hex.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// What kind of result it is.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }
}

fn is_kind(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'/');
    !text.is_empty() && text.len() <= MAX_KIND && text.bytes().all(plain)
}

/// What is in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Contents {
    /// Its folder; null where there is none, and nothing is kept.
    pub folder: Option<PathBuf>,
    /// How many results it holds.
    pub entries: u64,
    /// How many bytes they take.
    pub bytes: u64,
    /// Above this many bytes the results that were not used for longest go.
    pub limit: u64,
}

/// The store.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: Option<PathBuf>,
    /// Bytes written since the store was gone through; it is due at first.
    unseen: Arc<AtomicU64>,
}

impl Cache {
    /// A cache in `folder`, which need not exist yet.
    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        Cache {
            folder: Some(folder),
            unseen: Arc::new(AtomicU64::new(EVICT_EVERY)),
        }
    }

    /// A cache that holds nothing.
    #[must_use]
    pub fn disabled() -> Self {
        Cache {
            folder: None,
            unseen: Arc::default(),
        }
    }

    /// The user's cache: `EDGEPACK_CACHE_DIR`, else the platform's folder for
    /// caches; disabled where there is neither.
    #[must_use]
    pub fn of_user() -> Self {
        use etcetera::BaseStrategy;
        if let Some(folder) = std::env::var_os("EDGEPACK_CACHE_DIR").filter(|v| !v.is_empty()) {
            return Cache::at(folder.into());
        }
        etcetera::choose_base_strategy().map_or_else(
            |_| Cache::disabled(),
            |base| Cache::at(base.cache_dir().join("cargo-edgepack")),
        )
    }

    /// A folder for what keeps its own order; nothing here is counted or cleared.
    #[must_use]
    pub fn beside(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(name))
    }

    fn path(&self, key: &Key) -> Option<PathBuf> {
        let (shard, rest) = key.hash.split_at(2);
        Some(self.folder.as_ref()?.join(shard).join(rest))
    }

    /// The contents stored under `key`, where they are there and whole.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let contents = self.peek(key)?;
        if let Ok(file) = std::fs::File::options().write(true).open(self.path(key)?) {
            let _ = file.set_modified(SystemTime::now());
        }
        Some(contents)
    }

    /// The same, without counting as a use of it.
    #[must_use]
    pub fn peek(&self, key: &Key) -> Option<Vec<u8>> {
        let path = self.path(key)?;
        let mut entry = std::fs::read(&path).ok()?;
        let rest = entry.strip_prefix(MAGIC)?;
        let rest = rest
            .strip_prefix(key.kind.as_bytes())?
            .strip_prefix(b"\n")?;
        let (digest, contents) = rest.split_at_checked(64)?;
        let start = entry.len() - contents.len();
        if Digest::of(contents).hex().as_bytes() != digest {
            let _ = std::fs::remove_file(&path);
            return None;
        }
        entry.drain(..start);
        Some(entry)
    }

    /// The keys of the results whose kind begins with `kind`, those that were used last
    /// first, with the bytes that each takes.
    #[must_use]
    pub fn keys(&self, kind: &str) -> Vec<(Key, u64)> {
        let mut files = self.folder.as_deref().map(files).unwrap_or_default();
        files.sort_unstable_by(|a, b| b.cmp(a));
        files
            .iter()
            .filter_map(|file| Some((key_of(&file.path)?, file.len)))
            .filter(|(key, _)| key.kind.starts_with(kind))
            .collect()
    }

    /// Claims `key` for as long as the file is open; none where another process has it.
    #[must_use]
    pub fn claim(&self, key: &Key) -> Option<std::fs::File> {
        let folder = self.folder.as_ref()?.join(LOCKS);
        std::fs::create_dir_all(&folder).ok()?;
        let file = std::fs::File::create(folder.join(&key.hash)).ok()?;
        file.try_lock().ok()?;
        Some(file)
    }

    /// What is in it now.
    #[must_use]
    pub fn contents(&self) -> Contents {
        let files = self.folder.as_deref().map(files).unwrap_or_default();
        Contents {
            folder: self.folder.clone(),
            entries: files.len() as u64,
            bytes: files.iter().map(|file| file.len).sum(),
            limit: MAX_BYTES,
        }
    }

    /// Removes every entry and returns what there was. Files that are not the
    /// store's own stay, whatever folder it was put into.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] for the first entry that cannot be removed.
    pub fn clear(&self) -> Result<Contents, Error> {
        let before = self.contents();
        let Some(folder) = self.folder.as_deref() else {
            return Ok(before);
        };
        for File { path, .. } in files(folder) {
            match std::fs::remove_file(&path) {
                // Another run may have been quicker.
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        for shard in shards(folder) {
            // One that holds something else, or was filled meanwhile, stays.
            let _ = std::fs::remove_dir(shard);
        }
        Ok(before)
    }

    /// Stores `contents` under `key`.
    pub fn put(&self, key: &Key, contents: &[u8]) {
        let _ = self.keep(key, contents);
    }

    /// The same for whoever has nothing else to do.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] where it cannot be written, [`Error::Usage`] where there is no folder.
    pub fn keep(&self, key: &Key, contents: &[u8]) -> Result<(), Error> {
        let (Some(path), Some(folder)) = (self.path(key), &self.folder) else {
            return Err(Error::Usage {
                message: "there is no folder for the cache".into(),
                hint: Some("name one with EDGEPACK_CACHE_DIR".into()),
            });
        };
        write(&path, &key.kind, contents).map_err(Error::io("write", &path))?;
        if self.is_due(contents.len() as u64) {
            evict(folder, MAX_BYTES);
        }
        Ok(())
    }

    /// Forgets what is stored under `key`.
    pub fn remove(&self, key: &Key) {
        if let Some(path) = self.path(key) {
            let _ = std::fs::remove_file(path);
        }
    }

    fn is_due(&self, written: u64) -> bool {
        let before = self.unseen.fetch_add(written, Ordering::Relaxed);
        let due = before.saturating_add(written) >= EVICT_EVERY;
        if due {
            self.unseen.store(0, Ordering::Relaxed);
        }
        due
    }
}

/// The key of an entry, by its place and its first line.
fn key_of(path: &Path) -> Option<Key> {
    let mut begin = Vec::new();
    let most = MAGIC.len() + MAX_KIND + 1;
    let file = std::fs::File::open(path).ok()?;
    file.take(most as u64).read_to_end(&mut begin).ok()?;
    let kind = begin.strip_prefix(MAGIC)?.split(|b| *b == b'\n').next()?;
    let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
    let hash = name(path.parent()?)? + &name(path)?;
    Key::told(std::str::from_utf8(kind).ok()?, &hash)
}

fn write(path: &Path, kind: &str, contents: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(NEW).tempfile_in(folder)?;
    file.write_all(MAGIC)?;
    file.write_all(kind.as_bytes())?;
    file.write_all(b"\n")?;
    file.write_all(Digest::of(contents).hex().as_bytes())?;
    file.write_all(contents)?;
    file.persist(path)?;
    Ok(())
}

/// An entry on the disk.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct File {
    used: SystemTime,
    len: u64,
    path: PathBuf,
}

/// The folders that hold entries: two digits of the key.
fn shards(folder: &Path) -> Vec<PathBuf> {
    let is_shard = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.len() == 2 && is_hex(name))
    };
    children(folder).filter(is_shard).collect()
}

/// Every entry, those that are being written or were left half-written included.
fn files(folder: &Path) -> Vec<File> {
    let is_entry = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(NEW) || (name.len() == 62 && is_hex(name)))
    };
    shards(folder)
        .iter()
        .flat_map(|shard| children(shard))
        .filter(is_entry)
        .filter_map(|path| {
            let meta = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some(File {
                used: meta.modified().ok()?,
                len: meta.len(),
                path,
            })
        })
        .collect()
}

fn children(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

fn is_hex(name: &str) -> bool {
    name.bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
}

/// Removes the entries that were used least recently until `limit` bytes are left.
fn evict(folder: &Path, limit: u64) {
    let mut files = files(folder);
    let mut total: u64 = files.iter().map(|file| file.len).sum();
    files.sort_unstable();
    for file in files {
        if total <= limit {
            break;
        }
        if std::fs::remove_file(file.path).is_ok() {
            total -= file.len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("c"));
        let key = Key::new("test", &[b"a", b"b"]);
        assert_ne!(key, Key::new("test", &[b"ab", b""]));
        assert_eq!(cache.get(&key), None);
        cache.put(&key, b"contents");
        assert_eq!(cache.get(&key).as_deref(), Some(&b"contents"[..]));
        assert_eq!(cache.keys("te").len(), 1);
        assert_eq!(cache.keys("te")[0].0, key);
        assert_eq!(cache.keys("other"), []);
        let told = Key::told("other", key.hash()).unwrap();
        assert_eq!(cache.get(&told), None, "of another kind");
        for (kind, hash) in [("a\n", key.hash()), ("", key.hash()), ("a", "../x")] {
            assert_eq!(Key::told(kind, hash), None);
        }
        let path = cache.path(&key).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(cache.get(&key), None);
        assert!(!path.exists());
    }

    #[test]
    fn evicts_the_oldest_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned());
        let keys: Vec<_> = (0..4_u8).map(|i| Key::new("test", &[&[i]])).collect();
        for (age, key) in keys.iter().enumerate() {
            cache.put(key, &[0; 1000]);
            let file = std::fs::File::options()
                .write(true)
                .open(cache.path(key).unwrap())
                .unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(age as u64))
                .unwrap();
        }
        evict(folder.path(), 2500);
        let left: Vec<_> = keys.iter().map(|k| cache.get(k).is_some()).collect();
        assert_eq!(left, [false, false, true, true]);
    }

    #[test]
    fn clearing_leaves_what_is_not_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned());
        for i in 0..3_u8 {
            cache.put(&Key::new("test", &[&[i]]), &[0; 100]);
        }
        std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        std::fs::create_dir_all(folder.path().join("ab")).unwrap();
        std::fs::write(folder.path().join("ab/also-mine"), "mine").unwrap();
        let before = cache.contents();
        assert_eq!(before.entries, 3);
        assert!(before.bytes > 300 && before.bytes < before.limit);
        assert_eq!(cache.clear().unwrap(), before);
        assert_eq!(cache.contents().entries, 0);
        assert!(folder.path().join("notes.txt").exists());
        assert!(folder.path().join("ab/also-mine").exists());
        assert_eq!(cache.get(&Key::new("test", &[&[0]])), None);
        assert_eq!(Cache::disabled().clear().unwrap().entries, 0);
    }
}
