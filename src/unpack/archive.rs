//! Takes one file out of a tar archive as it streams by.
//!
//! The archive is somebody else's, so nothing in it is believed: what is kept in
//! memory is bounded, names that lead elsewhere and links are refused, and so is an
//! archive that has the file twice, since readers differ in which one they take.
//! The `tar` crate reads long names and extended headers of any length into memory,
//! which is why only its header type is used here.
//!
//! Spec: <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>, with
//! GNU's long names.

use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::bufread::MultiGzDecoder;
use tar::{EntryType, Header};

use super::deleted::Deleted;
use super::{UnpackError, Wanted, printable};

const BLOCK: usize = 512;
/// The longest path or extended header that is read.
const MAX_EXTENSION: u64 = 1 << 20;
const BUFFER: usize = 1 << 16;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Copies the wanted file of an archive to `writer`; returns its length in bytes, or
/// none where the archive does not have it. The archive may be compressed by gzip.
/// At most `limit` bytes are read from the archive once it is decompressed, and
/// memory stays flat. All of it is read: a second file of that name is an error, and
/// what was written is then worth nothing. A file that layers above have deleted is
/// passed over; what this one deletes, or has in place of theirs, is added for the layers
/// below.
///
/// # Errors
///
/// [`UnpackError::Content`] for an archive that is not to be trusted, or longer than
/// `limit`; [`UnpackError::Read`] for one that is damaged or ends too early;
/// [`UnpackError::Write`].
pub fn extract(
    reader: impl Read,
    wanted: &Wanted,
    deleted: &mut Deleted,
    writer: impl Write,
    limit: u64,
) -> Result<Option<u64>, UnpackError> {
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    let start = reader.fill_buf().map_err(UnpackError::Read)?;
    if start.starts_with(ZSTD) {
        return Err(UnpackError::content(
            "the layer is compressed by zstd, which is not supported",
        )
        .with_hint("copy the image with `skopeo copy --dest-compress-format gzip` first"));
    }
    if start.starts_with(GZIP) {
        let plain = BufReader::with_capacity(BUFFER, MultiGzDecoder::new(reader));
        Archive::new(plain, limit).search(wanted, deleted, writer)
    } else {
        Archive::new(reader, limit).search(wanted, deleted, writer)
    }
}

/// A path as it is below the root: without `.` and doubled slashes. None where it
/// is empty or leads upwards.
pub(super) fn plain(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// What one entry says about itself, extensions applied.
struct Entry {
    path: String,
    size: u64,
    kind: EntryType,
}

/// What an entry says about the one behind it.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

struct Archive<R> {
    reader: R,
    /// How much may still be read.
    left: u64,
    /// Whether a header was read that makes it an archive.
    begun: bool,
}

impl<R: BufRead> Archive<R> {
    fn new(reader: R, limit: u64) -> Self {
        Archive {
            reader,
            left: limit,
            begun: false,
        }
    }

    fn search(
        mut self,
        wanted: &Wanted,
        deleted: &mut Deleted,
        mut writer: impl Write,
    ) -> Result<Option<u64>, UnpackError> {
        let mut found: Option<(String, u64)> = None;
        let mut here = Deleted::default();
        while let Some(entry) = self.next_entry()? {
            if let Some(path) = plain(&entry.path) {
                here.note(&path)?;
            }
            let path = module_path(&entry, wanted)?.filter(|path| !deleted.covers(path));
            let Some(path) = path else {
                self.pass(padded(entry.size)?, &mut io::sink())?;
                continue;
            };
            if let Some((first, _)) = &found {
                let (first, path) = (printable(first), printable(&path));
                return Err(if first == path {
                    UnpackError::content(format!("the layer holds `{path}` twice"))
                } else {
                    UnpackError::Several(format!(
                        "the layer holds several modules: `{first}` and `{path}`"
                    ))
                });
            }
            self.pass(entry.size, &mut writer)?;
            self.pass(padded(entry.size)? - entry.size, &mut io::sink())?;
            found = Some((path, entry.size));
        }
        writer.flush().map_err(UnpackError::Write)?;
        deleted.extend(here);
        if let Some((path, _)) = &found {
            deleted.replace(path);
        }
        Ok(found.map(|(_, size)| size))
    }

    /// The next entry that is no extension; none at the end.
    fn next_entry(&mut self) -> Result<Option<Entry>, UnpackError> {
        let mut extensions = Extensions::default();
        let mut before = 0;
        while let Some(header) = self.header()? {
            let kind = header.entry_type();
            let size = header.entry_size().map_err(UnpackError::Read)?;
            match kind {
                EntryType::GNULongName => {
                    let mut path = self.extension(size)?;
                    path.truncate(path.iter().position(|b| *b == 0).unwrap_or(path.len()));
                    extensions.path = Some(path);
                }
                EntryType::XHeader => pax(&self.extension(size)?, &mut extensions)?,
                EntryType::GNULongLink | EntryType::XGlobalHeader => {
                    self.extension(size)?;
                }
                _ => {
                    let path = extensions
                        .path
                        .unwrap_or_else(|| header.path_bytes().into_owned());
                    return Ok(Some(Entry {
                        path: String::from_utf8_lossy(&path).into_owned(),
                        // Only files have contents; links may carry a size all the same.
                        size: if has_contents(kind) {
                            extensions.size.unwrap_or(size)
                        } else {
                            0
                        },
                        kind: if extensions.sparse {
                            EntryType::GNUSparse
                        } else {
                            kind
                        },
                    }));
                }
            }
            before += 1;
            if before > 16 {
                return Err(damaged("an entry has too many extended headers"));
            }
        }
        if before > 0 {
            return Err(damaged("it ends behind an extended header"));
        }
        Ok(None)
    }

    /// The next header; none at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, UnpackError> {
        // Archives without the two empty blocks are in use, and readers take them.
        if self
            .reader
            .fill_buf()
            .map_err(UnpackError::Read)?
            .is_empty()
        {
            return Ok(None);
        }
        let mut header = Header::new_old();
        match self.exact(header.as_mut_bytes()) {
            Err(UnpackError::Read(e))
                if !self.begun && e.kind() == io::ErrorKind::UnexpectedEof =>
            {
                return Err(foreign());
            }
            read => read?,
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|b| *b == 0) {
            // To the end: a checksum of gzip's is there, and it has to be right.
            while !self
                .reader
                .fill_buf()
                .map_err(UnpackError::Read)?
                .is_empty()
            {
                let length = self.reader.fill_buf().map_err(UnpackError::Read)?.len();
                self.spend(length as u64)?;
                self.reader.consume(length);
            }
            return Ok(None);
        }
        // The sum counts its own field as spaces.
        let sum: u32 = (bytes[..148].iter().chain(&bytes[156..]))
            .map(|b| u32::from(*b))
            .sum::<u32>()
            + 8 * u32::from(b' ');
        if header.cksum().ok() != Some(sum) {
            return Err(if self.begun {
                damaged("a header of it is broken")
            } else {
                foreign()
            });
        }
        self.begun = true;
        Ok(Some(header))
    }

    /// The contents of an entry that says something about the next one.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        if size > MAX_EXTENSION {
            return Err(damaged("an extended header is too long"));
        }
        let mut contents = Vec::new();
        self.pass(size, &mut contents)?;
        self.pass(padded(size)? - size, &mut io::sink())?;
        Ok(contents)
    }

    /// Copies `length` bytes.
    fn pass(&mut self, length: u64, to: &mut impl Write) -> Result<(), UnpackError> {
        self.spend(length)?;
        let mut rest = length;
        while rest > 0 {
            let bytes = self.reader.fill_buf().map_err(UnpackError::Read)?;
            if bytes.is_empty() {
                return Err(too_short());
            }
            let now = usize::try_from(rest).map_or(bytes.len(), |rest| rest.min(bytes.len()));
            to.write_all(&bytes[..now]).map_err(UnpackError::Write)?;
            self.reader.consume(now);
            rest -= now as u64;
        }
        Ok(())
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<(), UnpackError> {
        self.spend(buffer.len() as u64)?;
        self.reader
            .read_exact(buffer)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => too_short(),
                _ => UnpackError::Read(error),
            })
    }

    /// Counts what is about to be read.
    fn spend(&mut self, bytes: u64) -> Result<(), UnpackError> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            UnpackError::content("the layer is larger than the limit once it is decompressed")
        })?;
        Ok(())
    }
}

/// The path of an entry, where it is what is wanted.
fn module_path(entry: &Entry, wanted: &Wanted) -> Result<Option<String>, UnpackError> {
    let shown = || printable(&entry.path);
    let relative = plain(&entry.path);
    let Some(path) = relative else {
        // It leads upwards, or is the root. Where it would be the module, it is a trick.
        let last = entry.path.rsplit('/').next().unwrap_or_default();
        let name = match wanted {
            Wanted::Path(path) => wanted.is(last) || path.ends_with(&format!("/{last}")),
            Wanted::Name(_) | Wanted::Only => wanted.is(last),
        };
        return if name && !last.is_empty() {
            Err(UnpackError::content(format!(
                "the layer has a file outside of itself: `{}`",
                shown()
            )))
        } else {
            Ok(None)
        };
    };
    if !wanted.is(&path) || entry.kind.is_dir() || entry.path.ends_with('/') {
        return Ok(None);
    }
    if entry.kind.is_symlink() || entry.kind.is_hard_link() {
        return Err(UnpackError::content(format!(
            "`{}` in the layer is a link and not a file",
            shown()
        ))
        .with_hint("pack the file itself"));
    }
    if !matches!(entry.kind, EntryType::Regular | EntryType::Continuous) {
        return Err(UnpackError::content(format!(
            "`{}` in the layer is no plain file",
            shown()
        )));
    }
    Ok(Some(path))
}

/// Devices, links and folders have none, whatever their header says.
fn has_contents(kind: EntryType) -> bool {
    !(kind.is_dir()
        || kind.is_symlink()
        || kind.is_hard_link()
        || kind.is_fifo()
        || kind.is_character_special()
        || kind.is_block_special())
}

/// Reads the records of an extended header: `LENGTH KEY=VALUE\n`, the length that of
/// the whole record.
fn pax(mut records: &[u8], into: &mut Extensions) -> Result<(), UnpackError> {
    while !records.is_empty() {
        let record = pax_record(records).ok_or_else(|| damaged("an extended header is broken"))?;
        let (length, key, value) = record;
        match key {
            b"path" => into.path = Some(value.to_vec()),
            b"size" => {
                let size = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                into.size = Some(size.ok_or_else(|| damaged("a size is no number"))?);
            }
            key if key.starts_with(b"GNU.sparse.") => into.sparse = true,
            _ => {}
        }
        records = &records[length..];
    }
    Ok(())
}

fn pax_record(records: &[u8]) -> Option<(usize, &[u8], &[u8])> {
    let digits = records.iter().position(|b| *b == b' ')?;
    let length: usize = std::str::from_utf8(&records[..digits]).ok()?.parse().ok()?;
    let record = records.get(digits + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    Some((length, &record[..equals], &record[equals + 1..]))
}

/// A size, rounded up to whole blocks.
fn padded(size: u64) -> Result<u64, UnpackError> {
    size.checked_next_multiple_of(BLOCK as u64)
        .ok_or_else(|| damaged("a size is no number"))
}

fn damaged(what: &str) -> UnpackError {
    UnpackError::Read(io::Error::new(io::ErrorKind::InvalidData, what))
}

fn foreign() -> UnpackError {
    UnpackError::Foreign("it is no tar archive".to_owned())
}

fn too_short() -> UnpackError {
    UnpackError::Read(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "it ends in the middle of a file",
    ))
}
