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
/// Whoever writes into a pipe may be started after us.
#[cfg(unix)]
const WRITER_WAIT: std::time::Duration = std::time::Duration::from_secs(1);
/// So may whoever reads from one.
#[cfg(unix)]
const READER_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

/// A file to be read, or a pipe.
struct Input {
    file: std::fs::File,
    /// What was read of a pipe to find out whether somebody writes into it.
    first: Option<u8>,
}

impl Input {
    /// Opens it. A pipe that nobody writes into is refused after a while: to open one waits
    /// for as long as that is so, whatever signal comes.
    #[cfg(unix)]
    fn open(path: &Path) -> std::io::Result<Self> {
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
        use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

        let mut options = std::fs::File::options();
        if let Ok(flags) = i32::try_from(OFlags::NONBLOCK.bits()) {
            options.custom_flags(flags);
        }
        let mut file = options.read(true).open(path)?;
        let first = if file.metadata()?.file_type().is_fifo() {
            first_of_pipe(&mut file)?
        } else {
            None
        };
        fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
        Ok(Input { file, first })
    }

    #[cfg(not(unix))]
    fn open(path: &Path) -> std::io::Result<Self> {
        let file = std::fs::File::open(path)?;
        Ok(Input { file, first: None })
    }
}

/// A byte of a pipe that is not waited for; none where whoever writes has not yet begun.
#[cfg(unix)]
fn first_of_pipe(pipe: &mut std::fs::File) -> std::io::Result<Option<u8>> {
    let started = std::time::Instant::now();
    let mut first = [0];
    loop {
        match pipe.read(&mut first) {
            Ok(0) if started.elapsed() < WRITER_WAIT => std::thread::sleep(WRITER_WAIT / 50),
            Ok(0) => return Err(std::io::Error::other("nobody writes into this pipe")),
            Ok(_) => return Ok(Some(first[0])),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match (self.first, into.first_mut()) {
            (Some(byte), Some(slot)) => {
                *slot = byte;
                self.first = None;
                Ok(1)
            }
            _ => self.file.read(into),
        }
    }
}

/// The first bytes of a file or a pipe, `limit` at most.
///
/// # Errors
///
/// Those of the system, and one for a pipe that nobody writes into.
pub(crate) fn read_at_most(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Input::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

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
    let mut file = Input::open(path).map_err(Error::io("read", path))?;
    let meta = file.file.metadata().map_err(Error::io("read", path))?;
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

/// Reads a file that is small.
///
/// # Errors
///
/// [`Error::Io`], or [`Error::Usage`] where it has more than `limit` bytes.
pub fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let bytes = read_at_most(path, limit + 1).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::usage(format!(
            "`{}` has more than the {limit} bytes that are read",
            path.display()
        )));
    }
    Ok(bytes)
}

/// Refuses an output that is one of the files that a run reads, under whatever name: with
/// what is written in its place, a key or a module would be gone.
///
/// # Errors
///
/// [`Error::Usage`]; `hint` says what names another one.
pub fn refuse_input<'a>(
    out: &Path,
    inputs: impl IntoIterator<Item = &'a Path>,
    hint: &str,
) -> Result<(), Error> {
    let real = |path: &Path| path.canonicalize().ok().filter(|real| real.is_file());
    let Some(target) = real(out) else {
        return Ok(());
    };
    match inputs
        .into_iter()
        .find(|&i| real(i).as_ref() == Some(&target))
    {
        Some(input) => Err(Error::Usage {
            message: format!(
                "what is written to `{}` would take the place of `{}`, which is read",
                out.display(),
                input.display()
            ),
            hint: Some(hint.to_owned()),
        }),
        None => Ok(()),
    }
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
            let mut special = open_special(&target).map_err(to_error())?;
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
    let mut file = temporary_in(folder_of(&target)).map_err(to_error())?;
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

/// Adds to the end of a file, which is made where it is missing.
///
/// # Errors
///
/// [`Error::Io`].
pub fn append(path: &Path, contents: &[u8]) -> Result<(), Error> {
    let to_error = || Error::io("write", path);
    let mut file = std::fs::File::options()
        .append(true)
        .create(true)
        .open(path)
        .map_err(to_error())?;
    file.write_all(contents).map_err(to_error())
}

/// As [`fn@write`], for a file in a folder of ours, which is made where it is missing.
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

/// Copies a file into a folder of ours, which is made where it is missing; the copy
/// is whole or not there.
///
/// # Errors
///
/// [`Error::Io`].
pub fn copy_into_new(from: &Path, to: &Path) -> Result<(), Error> {
    let folder = to.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let mut source = std::fs::File::open(from).map_err(Error::io("read", from))?;
    let mut file = temporary_in(folder).map_err(Error::io("write", to))?;
    std::io::copy(&mut source, &mut file).map_err(Error::io("write", to))?;
    file.persist(to)
        .map_err(|e| Error::io("write", to)(e.error))?;
    Ok(())
}

/// A file that is filled bit by bit and then takes its place, or is gone.
#[derive(Debug)]
pub struct Pending {
    file: tempfile::NamedTempFile,
    target: std::path::PathBuf,
}

impl Pending {
    /// Begins a file that shall become `path`. Its folder has to be there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn new(path: &Path) -> Result<Self, Error> {
        let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if target.is_dir() {
            let error = std::io::Error::from(std::io::ErrorKind::IsADirectory);
            return Err(Error::io("write", path)(error));
        }
        let special = std::fs::metadata(&target).is_ok_and(|m| !m.is_file());
        let elsewhere = std::env::temp_dir();
        let folder = if special {
            &elsewhere
        } else {
            folder_of(&target)
        };
        let file = temporary_in(folder).map_err(Error::io("write", path))?;
        Ok(Pending { file, target })
    }

    /// Begins a file that shall not become anything.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn nowhere() -> Result<Self, Error> {
        let folder = std::env::temp_dir();
        let file = temporary_in(&folder).map_err(Error::io(crate::error::TEMPORARY, &folder))?;
        Ok(Pending {
            file,
            target: folder,
        })
    }

    /// Where it is for now.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Hands on what was written, part by part.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or what `take` returns.
    pub fn read_all(
        mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        use std::io::Seek;
        let path = self.file.path().to_owned();
        let file = self.file.as_file_mut();
        file.rewind().map_err(Error::io("read", &path))?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer).map_err(Error::io("read", &path))? {
                0 => return Ok(()),
                read => take(&buffer[..read])?,
            }
        }
    }

    /// The file, to be written to.
    pub fn file(&mut self) -> &mut std::fs::File {
        self.file.as_file_mut()
    }

    /// Puts it in its place. What is no file there (a device, a pipe) is written to.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; the place is then as it was before.
    pub fn finish(mut self) -> Result<(), Error> {
        use std::io::Seek;
        let failed = || Error::io("write", &self.target);
        match std::fs::metadata(&self.target) {
            Ok(meta) if !meta.is_file() => {
                let mut special = open_special(&self.target).map_err(failed())?;
                let file = self.file.as_file_mut();
                file.rewind()
                    .and_then(|()| std::io::copy(file, &mut special))
                    .map_err(Error::io("write", &self.target))?;
                Ok(())
            }
            old => {
                if let Ok(meta) = old {
                    self.file
                        .as_file()
                        .set_permissions(meta.permissions())
                        .map_err(failed())?;
                }
                let target = self.target;
                self.file
                    .persist(&target)
                    .map_err(|e| Error::io("write", target)(e.error))?;
                Ok(())
            }
        }
    }
}

/// Opens what is no file, to write to it. A pipe that nobody reads from is refused after a
/// while: to open one waits for as long as that is so, whatever signal comes.
#[cfg(unix)]
fn open_special(path: &Path) -> std::io::Result<std::fs::File> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

    let mut options = std::fs::File::options();
    options.write(true);
    if !std::fs::metadata(path)?.file_type().is_fifo() {
        return options.open(path);
    }
    if let Ok(flags) = i32::try_from(OFlags::NONBLOCK.bits()) {
        options.custom_flags(flags);
    }
    let started = std::time::Instant::now();
    let nobody = rustix::io::Errno::NXIO.raw_os_error();
    let pipe = loop {
        match options.open(path) {
            Err(e) if e.raw_os_error() != Some(nobody) => return Err(e),
            Err(_) if started.elapsed() < READER_WAIT => std::thread::sleep(READER_WAIT / 50),
            Err(_) => return Err(std::io::Error::other("nobody reads from this pipe")),
            Ok(pipe) => break pipe,
        }
    };
    fcntl_setfl(&pipe, fcntl_getfl(&pipe)? - OFlags::NONBLOCK)?;
    Ok(pipe)
}

#[cfg(not(unix))]
fn open_special(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::File::options().write(true).open(path)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn temporary_in(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".edgepack-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    // Without the name that nobody has heard of.
    builder.tempfile_in(folder).map_err(|e| {
        let code = e.get_ref().and_then(|inner| {
            inner
                .source()?
                .downcast_ref::<std::io::Error>()?
                .raw_os_error()
        });
        code.or(e.raw_os_error())
            .map_or_else(|| e.kind().into(), std::io::Error::from_raw_os_error)
    })
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
