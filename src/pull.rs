//! The pull stage: an artifact, from a registry or a layout, becomes a file.
//!
//! The reference is resolved once; everything behind it goes by digests. The file
//! appears when its digest, and those of the manifest and the config, were checked
//! and it turned out to be Wasm; before that there is nothing under its name.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::json;
use crate::oci::{
    ARCHITECTURE_WASM, Descriptor, Digest, Index, MAX_INDEX_DEPTH, MEDIA_TYPE_DOCKER_LIST,
    MEDIA_TYPE_INDEX, Manifest,
};
use crate::output::Pending;
use crate::pack::Timestamp;
use crate::registry::http::Client;
use crate::registry::layout::{Layout, LayoutReference};
use crate::registry::reference::Reference;
use crate::registry::remote::{Remote, Rights};
use crate::sign::attach::{self, Ready};
use crate::sign::place::Place;
use crate::sign::{Format, verify};
use crate::unpack::{self, Payload, UnpackError};
use crate::wasm::{Kind, kind_of};

mod image;

/// A config above this size is none.
const MAX_CONFIG: u64 = 4 << 20;
/// A module above this size is none: a section's length has 32 bits.
const MAX_MODULE: u64 = u32::MAX as u64;
/// Nor is an archive of one above this size: what does not compress grows by less than a
/// thousandth, and there are headers.
const MAX_ARCHIVE: u64 = MAX_MODULE + MAX_MODULE / 1000 + (1 << 20);

/// Where an artifact is.
pub enum Source {
    /// In a repository of a registry.
    Remote {
        /// The repository.
        remote: Box<Remote>,
        /// A tag or a digest.
        version: String,
    },
    /// In a layout on disk.
    Layout {
        /// The layout.
        layout: Layout,
        /// A tag or a digest, where one was given.
        version: Option<String>,
    },
}

impl Source {
    /// Parses `HOST/PATH:TAG`, `HOST/PATH@DIGEST`, or `oci:DIR:TAG`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`], or [`Error::Registry`] where credentials cannot be read.
    pub fn parse(text: &str, client: &Arc<Client>) -> Result<Self, Error> {
        Self::parse_for(text, client, Rights::Pull)
    }

    /// The same, for what may be written to as well.
    ///
    /// # Errors
    ///
    /// As [`Source::parse`].
    pub fn parse_for(text: &str, client: &Arc<Client>, rights: Rights) -> Result<Self, Error> {
        if let Some(parsed) = LayoutReference::parse(text) {
            let LayoutReference { layout, version } = parsed?;
            return Ok(Source::Layout { layout, version });
        }
        Self::remote_for(&Reference::parse(text)?, client, rights)
    }

    /// The source that a reference names.
    ///
    /// # Errors
    ///
    /// [`Error::Registry`] where credentials cannot be read.
    pub fn remote(reference: &Reference, client: &Arc<Client>) -> Result<Self, Error> {
        Self::remote_for(reference, client, Rights::Pull)
    }

    fn remote_for(
        reference: &Reference,
        client: &Arc<Client>,
        rights: Rights,
    ) -> Result<Self, Error> {
        Ok(Source::Remote {
            remote: Box::new(Remote::open(client, &reference.repository, rights)?),
            version: reference.version().to_owned(),
        })
    }

    /// Where signatures of what it names are kept.
    #[must_use]
    pub fn place(&self) -> Place<'_> {
        match self {
            Source::Remote { remote, .. } => Place::Remote(remote),
            Source::Layout { layout, .. } => Place::Layout(layout),
        }
    }

    /// Resolves it, once and for all: afterwards it names a digest.
    ///
    /// # Errors
    ///
    /// [`Error::Registry`], or [`Error::Signature`] where the manifest does not have its
    /// digest.
    pub async fn pin(&mut self) -> Result<(Descriptor, Vec<u8>), Error> {
        let wanted = match self {
            Source::Remote { version, .. } => version.clone(),
            Source::Layout { layout, version } => {
                layout.resolve(version.as_deref())?.digest.to_string()
            }
        };
        let found = verify::resolve(self.place(), &wanted).await?;
        let digest = found.0.digest.to_string();
        match self {
            Source::Remote { version, .. } => *version = digest,
            Source::Layout { version, .. } => *version = Some(digest),
        }
        Ok(found)
    }

    /// [`Source::pin`], then [`attach::prepare`] with these formats and this time, and
    /// something else at the same time.
    ///
    /// # Errors
    ///
    /// That of what fails first.
    pub async fn prepare_beside<T>(
        &mut self,
        formats: &[Format],
        epoch: Option<Timestamp>,
        other: impl Future<Output = Result<T, Error>>,
    ) -> Result<(T, (Descriptor, Vec<u8>, Ready)), Error> {
        let found = async {
            let (manifest, bytes) = self.pin().await?;
            let ready =
                attach::prepare(self.place(), &manifest, &bytes, formats, epoch, false).await?;
            Ok((manifest, bytes, ready))
        };
        futures_util::future::try_join(other, found).await
    }

    /// `HOST/PATH@DIGEST`, or `oci:DIR@DIGEST`.
    #[must_use]
    pub fn name(&self, digest: &Digest) -> String {
        match self {
            Source::Remote { remote, .. } => remote.repository().at(digest),
            Source::Layout { layout, .. } => format!("oci:{}@{digest}", layout.folder().display()),
        }
    }

    async fn manifest(&self, digest: Option<&Descriptor>) -> Result<(Descriptor, Vec<u8>), Error> {
        if let Some(found) = self.manifest_if_there(digest).await? {
            return Ok(found);
        }
        Err(match self {
            Source::Remote { remote, version } => {
                let version = digest.map_or(version.as_str(), |d| d.digest.as_str());
                // No tag has a colon.
                let what = if version.contains(':') {
                    "digest"
                } else {
                    "tag"
                };
                Error::Registry {
                    message: format!("{} has no `{version}`", remote.repository()),
                    hint: Some(format!(
                        "check the {what}; the registry may also hide what you have no right to see: cargo edgepack login {} --username NAME --password-stdin",
                        remote.repository().host()
                    )),
                }
            }
            // A layout tells what it has.
            Source::Layout { layout, version } => match layout.resolve(version.as_deref()) {
                Err(error) => error,
                Ok(_) => Error::Internal("a manifest came and went".into()),
            },
        })
    }

    async fn manifest_if_there(
        &self,
        digest: Option<&Descriptor>,
    ) -> Result<Option<(Descriptor, Vec<u8>)>, Error> {
        match self {
            Source::Remote { remote, version } => {
                let version = digest.map_or(version.as_str(), |d| d.digest.as_str());
                let found = remote.manifest(version).await?;
                Ok(found.map(|fetched| (fetched.descriptor, fetched.bytes.to_vec())))
            }
            Source::Layout { layout, version } => {
                let descriptor = match digest {
                    Some(descriptor) => descriptor.clone(),
                    None if !layout.has(version.as_deref())? => return Ok(None),
                    None => layout.resolve(version.as_deref())?,
                };
                let bytes = layout.read(&descriptor)?;
                Ok(Some((descriptor, bytes)))
            }
        }
    }

    async fn small_blob(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        match self {
            Source::Remote { remote, .. } => {
                Ok(remote.small_blob(blob, MAX_CONFIG).await?.to_vec())
            }
            Source::Layout { layout, .. } => layout.read(blob),
        }
    }

    async fn blob(
        &self,
        blob: &Descriptor,
        file: &mut File,
        path: &Path,
        on_progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), Error> {
        match self {
            Source::Remote { remote, .. } => remote.pull_blob(blob, file, path, on_progress).await,
            Source::Layout { layout, .. } => layout.write_blob(blob, file, path),
        }
    }
}

/// An artifact that was resolved; its module was not fetched yet.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// `HOST/PATH@DIGEST`, or `oci:DIR@DIGEST`.
    pub reference: String,
    /// The manifest.
    pub descriptor: Descriptor,
    /// The manifest, parsed.
    pub manifest: Manifest,
    /// The config's bytes.
    pub config: Vec<u8>,
    /// Where the module is.
    pub payload: Payload,
}

/// What a pull wrote.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// Core module or component.
    pub kind: Kind,
    /// The file's length in bytes.
    pub size: u64,
    /// The file's digest.
    pub digest: Digest,
}

/// Fetches the manifest and the config of an artifact.
///
/// # Errors
///
/// [`Error::Registry`].
pub async fn resolve(source: &Source) -> Result<Resolved, Error> {
    resolved(source, source.manifest(None).await?).await
}

/// The same, for what need not be there.
///
/// # Errors
///
/// [`Error::Registry`].
pub async fn resolve_if_there(source: &Source) -> Result<Option<Resolved>, Error> {
    match source.manifest_if_there(None).await? {
        Some(found) => resolved(source, found).await.map(Some),
        None => Ok(None),
    }
}

async fn resolved(
    source: &Source,
    (mut descriptor, mut bytes): (Descriptor, Vec<u8>),
) -> Result<Resolved, Error> {
    let mut reference = source.name(&descriptor.digest);
    for _ in 0..MAX_INDEX_DEPTH {
        if !is_index(&descriptor, &bytes) {
            break;
        }
        let index: Index = json::object(&bytes).map_err(|why| senseless(&reference, &why))?;
        let chosen = choose(&reference, index)?;
        (descriptor, bytes) = source.manifest(Some(&chosen)).await?;
        reference = source.name(&descriptor.digest);
    }
    let manifest: Manifest = json::object(&bytes).map_err(|why| senseless(&reference, &why))?;
    if manifest.schema_version != 2 {
        return Err(Error::Registry {
            message: format!(
                "{reference} has the schema version {}, where 2 is known",
                manifest.schema_version
            ),
            hint: None,
        });
    }
    let payload = unpack::locate(&manifest).map_err(|e| unusable(&reference, &e))?;
    let config = source.small_blob(&manifest.config).await?;
    Ok(Resolved {
        reference,
        descriptor,
        manifest,
        config,
        payload,
    })
}

/// Docker's registries serve an index under its own type, layouts under any.
fn is_index(descriptor: &Descriptor, bytes: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Shape {
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    matches!(
        descriptor.media_type.as_str(),
        MEDIA_TYPE_INDEX | MEDIA_TYPE_DOCKER_LIST
    ) || serde_json::from_slice::<Shape>(bytes)
        .is_ok_and(|s| s.manifests.is_some() && s.layers.is_none())
}

/// The one manifest of an index that may be Wasm.
fn choose(reference: &str, index: Index) -> Result<Descriptor, Error> {
    let mut manifests = index.manifests;
    // What docker adds to an image says of itself that it runs nowhere.
    manifests.retain(|m| !m.annotations.contains_key("vnd.docker.reference.type"));
    let is_wasm = |m: &Descriptor| {
        let platform = m
            .rest
            .get("platform")
            .and_then(|p| p["architecture"].as_str());
        platform == Some(ARCHITECTURE_WASM)
    };
    if manifests.iter().any(is_wasm) {
        manifests.retain(is_wasm);
    }
    match <[Descriptor; 1]>::try_from(manifests) {
        Ok([only]) => Ok(only),
        Err(manifests) => Err(Error::Registry {
            message: format!("{reference} is an index of {} manifests", manifests.len()),
            hint: Some(match manifests.first() {
                Some(first) => format!(
                    "name the one that you want by its digest, such as {}",
                    first.digest
                ),
                None => "there is nothing in it to pull".into(),
            }),
        }),
    }
}

fn senseless(reference: &str, why: &str) -> Error {
    Error::Registry {
        message: format!("{reference} is no manifest that makes sense: {why}"),
        hint: None,
    }
}

fn unusable(reference: &str, error: &UnpackError) -> Error {
    Error::Registry {
        message: format!("{reference}: {error}"),
        hint: error.hint().map(str::to_owned),
    }
}

/// Fetches the module of an artifact into `file`, which is still empty. `path`
/// names it in errors.
///
/// # Errors
///
/// [`Error`]; nothing has appeared under the output's name then.
pub async fn fetch(
    source: &Source,
    resolved: &Resolved,
    output: &mut Pending,
    path: &Path,
    on_progress: &(dyn Fn(&Descriptor, u64) + Send + Sync),
) -> Result<Pulled, Error> {
    let digest = match &resolved.payload {
        Payload::Raw(layer) => {
            bounded(resolved, layer, MAX_MODULE)?;
            source
                .blob(layer, output.file(), path, &|done| on_progress(layer, done))
                .await?;
            layer.digest.clone()
        }
        Payload::Archive(layers) => {
            for layer in layers {
                bounded(resolved, layer, MAX_ARCHIVE)?;
            }
            let image = image::Image::new(source, resolved, layers, path, on_progress);
            image.unpack(output).await?;
            digest_of(output.file()).map_err(Error::io("read", path))?
        }
    };
    let file = output.file();
    let mut head = Vec::new();
    file.rewind()
        .and_then(|()| Read::by_ref(file).take(4096).read_to_end(&mut head))
        .map_err(Error::io("read", path))?;
    let kind = kind_of(&head).map_err(|reason| Error::Registry {
        message: format!("{}: its module is no Wasm: {reason}", resolved.reference),
        hint: None,
    })?;
    let size = file.metadata().map_err(Error::io("read", path))?.len();
    Ok(Pulled { kind, size, digest })
}

/// Refuses a layer that no module can need, before anything of it is fetched.
fn bounded(resolved: &Resolved, layer: &Descriptor, limit: u64) -> Result<(), Error> {
    if layer.size <= limit {
        return Ok(());
    }
    Err(Error::Registry {
        message: format!(
            "{}: its layer {} has {} bytes, more than a Wasm binary can have",
            resolved.reference, layer.digest, layer.size
        ),
        hint: Some("a module has 4 GiB at most: check the reference".into()),
    })
}

fn digest_of(file: &mut File) -> std::io::Result<Digest> {
    use sha2::Digest as _;
    file.rewind()?;
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(Digest::from_hash(hash));
        }
        hash.update(&buffer[..read]);
    }
}
