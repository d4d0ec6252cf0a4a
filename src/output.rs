//! (IO) Files that are either whole or not there.
#![expect(
    clippy::disallowed_methods,
    reason = "the one place that reads inputs and writes outputs"
)]

use std::io::{Read, Write};
use std::path::Path;

use crate::error::Error;
use crate::wasm::{Wasm, kind_of};

/// Binaries above this size are refused: a section's length has 32 bits.
const MAX_WASM: u64 = u32::MAX as u64;

/// Reads a Wasm binary. The header is looked at first, so that a large file that
/// is none is not read at all.
///
/// # Errors
///
/// [`Error::Io`] or [`Error::NotWasm`].
pub fn read_wasm(path: &Path) -> Result<Wasm, Error> {
    let not_wasm = |reason| Error::NotWasm {
        path: path.to_owned(),
        reason,
    };
    let mut file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    let meta = file.metadata().map_err(Error::io("read", path))?;
    if meta.is_dir() {
        return Err(Error::Usage {
            message: format!("`{}` is a folder, not a .wasm file", path.display()),
            hint: Some(format!(
                "for a Rust project: cargo edgepack build --manifest-path {}",
                path.join("Cargo.toml").display()
            )),
        });
    }
    if meta.len() > MAX_WASM {
        return Err(Error::usage(format!(
            "`{}` is larger than 4 GiB, the limit of the format",
            path.display()
        )));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0).saturating_add(1));
    // Enough to tell text from a binary; a short file ends before.
    (&mut file)
        .take(4096)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    kind_of(&bytes).map_err(not_wasm)?;
    file.take(MAX_WASM)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    Wasm::new(bytes).map_err(not_wasm)
}

/// Writes a file under a temporary name beside it and renames it. A file that
/// already holds these bytes is left alone; one that is replaced keeps its mode; a
/// link keeps pointing where it did. Something that is no file (a device, a pipe)
/// is written to as it is. Missing folders are an error: see [`write_into_new`].
///
/// # Errors
///
/// [`Error::Io`]; the file is then what it was before.
pub fn write(path: &Path, contents: &[u8]) -> Result<(), Error> {
    let to_error = || Error::io("write", path);
    // Through a link to what it names, so that renaming does not replace the link.
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let old = std::fs::metadata(&target).ok();
    match &old {
        Some(meta) if !meta.is_file() && !meta.is_dir() => {
            let mut special = std::fs::File::options()
                .write(true)
                .open(&target)
                .map_err(to_error())?;
            return special.write_all(contents).map_err(to_error());
        }
        Some(meta)
            if meta.is_file()
                && meta.len() == contents.len() as u64
                && std::fs::read(&target).is_ok_and(|old| old == contents) =>
        {
            return Ok(());
        }
        _ => {}
    }
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".edgepack-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let mut file = builder.tempfile_in(folder).map_err(to_error())?;
    if let Some(meta) = old.filter(std::fs::Metadata::is_file) {
        file.as_file()
            .set_permissions(meta.permissions())
            .map_err(to_error())?;
    }
    file.write_all(contents).map_err(to_error())?;
    file.flush().map_err(to_error())?;
    file.persist(&target).map_err(|e| to_error()(e.error))?;
    Ok(())
}

/// The same, for a file in a folder of ours, which is made where it is missing.
///
/// # Errors
///
/// [`Error::Io`].
pub fn write_into_new(path: &Path, contents: &[u8]) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    write(path, contents)
}

/// Removes what an earlier run wrote and this one is about to contradict. A file
/// that is not there is fine.
///
/// # Errors
///
/// [`Error::Io`].
pub fn remove_stale(path: &Path) -> Result<(), Error> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match std::fs::remove_file(path) {
        Err(e) if !matches!(e.kind(), NotFound | NotADirectory) => {
            Err(Error::io("remove", path)(e))
        }
        _ => Ok(()),
    }
}
