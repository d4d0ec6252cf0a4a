//! (IO) The module out of a container image: its layers, from the top, as far as it takes to
//! know which file is meant.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, Write};
use std::path::Path;

use super::{MAX_MODULE, Resolved, Source, unusable};
use crate::error::{Error, TEMPORARY};
use crate::oci::Descriptor;
use crate::output::Pending;
use crate::unpack::{self, Deleted, UnpackError, Wanted};

type OnProgress<'a> = &'a (dyn Fn(&Descriptor, u64) + Send + Sync);
/// The outer error is the disk's, the inner one the archive's.
type Extracted = Result<Result<Option<u64>, UnpackError>, Error>;

/// An image, and what of it was fetched.
pub(super) struct Image<'a> {
    source: &'a Source,
    resolved: &'a Resolved,
    /// From the top.
    layers: &'a [Descriptor],
    fetched: Vec<File>,
    /// Names the output in errors.
    path: &'a Path,
    on_progress: OnProgress<'a>,
}

impl<'a> Image<'a> {
    pub(super) fn new(
        source: &'a Source,
        resolved: &'a Resolved,
        layers: &'a [Descriptor],
        path: &'a Path,
        on_progress: OnProgress<'a>,
    ) -> Self {
        Image {
            source,
            resolved,
            layers,
            fetched: Vec::new(),
            path,
            on_progress,
        }
    }

    /// Writes the module into a file that is empty.
    pub(super) async fn unpack(mut self, output: &mut Pending) -> Result<(), Error> {
        let wanted = Wanted::of(&self.resolved.manifest, &self.resolved.config);
        if self.search(&wanted, output).await? {
            return Ok(());
        }
        // What is run may be a program that is no part of the image, and the module what it
        // is given.
        if wanted.is_program() && self.search(&Wanted::Only, output).await? {
            return Ok(());
        }
        Err(unusable(&self.resolved.reference, &wanted.missing()))
    }

    /// Looks for it from the top. The only one of its kind is so in all layers together.
    async fn search(&mut self, wanted: &Wanted, output: &mut Pending) -> Result<bool, Error> {
        let mut deleted = Deleted::default();
        let mut found = false;
        for number in 0..self.layers.len() {
            self.fetch(number).await?;
            let archive = &self.fetched[number];
            let extracted = if found {
                look_into(archive, wanted, &mut deleted, self.path)?
            } else {
                extract_into(archive, wanted, &mut deleted, output, self.path)?
            };
            let several = match extracted {
                Ok(None) => continue,
                Ok(Some(_)) if found => UnpackError::Several(
                    "the image holds several modules, in several layers".into(),
                ),
                Ok(Some(_)) if *wanted == Wanted::Only => {
                    found = true;
                    continue;
                }
                Ok(Some(_)) => return Ok(true),
                Err(several @ UnpackError::Several(_)) if !matches!(wanted, Wanted::Path(_)) => {
                    several
                }
                Err(e @ UnpackError::Foreign(_)) => {
                    return Err(unusable(
                        &self.resolved.reference,
                        &e.of_layer(&self.layers[number]),
                    ));
                }
                Err(e) => return Err(unusable(&self.resolved.reference, &e)),
            };
            // Others beside the one that Istio's rules name do no harm.
            return if Box::pin(self.search(&Wanted::plugin(), output)).await? {
                Ok(true)
            } else {
                Err(unusable(&self.resolved.reference, &several))
            };
        }
        Ok(found)
    }

    async fn fetch(&mut self, number: usize) -> Result<(), Error> {
        if number < self.fetched.len() {
            return Ok(());
        }
        let layer = &self.layers[number];
        let mut archive =
            tempfile::tempfile().map_err(Error::io(TEMPORARY, std::env::temp_dir()))?;
        let on_progress = self.on_progress;
        self.source
            .blob(layer, &mut archive, self.path, &|done| {
                on_progress(layer, done);
            })
            .await?;
        self.fetched.push(archive);
        Ok(())
    }
}

/// Extracts into an empty file.
fn extract_into(
    mut archive: &File,
    wanted: &Wanted,
    deleted: &mut Deleted,
    output: &mut Pending,
    path: &Path,
) -> Extracted {
    archive.rewind().map_err(Error::io("read", path))?;
    let target = output.file();
    target
        .set_len(0)
        .and_then(|()| target.rewind())
        .map_err(Error::io("write", path))?;
    let mut writer = BufWriter::new(target);
    let archive = BufReader::new(archive);
    let found = match unpack::extract(archive, wanted, deleted, &mut writer, MAX_MODULE) {
        Err(UnpackError::Write(e)) => return Err(Error::io("write", path)(e)),
        found => found,
    };
    writer.flush().map_err(Error::io("write", path))?;
    Ok(found)
}

/// Whether an archive has it too.
fn look_into(mut archive: &File, wanted: &Wanted, deleted: &mut Deleted, path: &Path) -> Extracted {
    archive.rewind().map_err(Error::io("read", path))?;
    let archive = BufReader::new(archive);
    Ok(unpack::extract(
        archive,
        wanted,
        deleted,
        std::io::sink(),
        MAX_MODULE,
    ))
}
