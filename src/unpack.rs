//! The other way round from [`crate::pack`]: where in somebody's artifact the Wasm
//! is, and how to get it out. No IO and no network: the manifest comes in, and
//! which blob to read comes out.
//!
//! There are many forms besides ours: wkg's, Spin's, Istio's two, Kubewarden's,
//! what `oras push` makes of a file, and container images. [`locate`] goes by media
//! types first, then by titles, then takes it for an image.

use serde::Deserialize;

use crate::oci::{
    ARCHITECTURE_WASM, Descriptor, MEDIA_TYPE_LAYER_TAR_GZIP, MEDIA_TYPE_WASM,
    MEDIA_TYPE_WASM_CONTENT, Manifest, annotation,
};
use crate::pack::compat;
use crate::registry::failure::is_plain;

mod archive;
mod deleted;

pub use archive::extract;
pub use deleted::Deleted;

/// Layers that are a module or a component as it is.
const RAW: &[&str] = &[
    // The CNCF's, wkg's, wasmCloud's, ours.
    MEDIA_TYPE_WASM,
    // wasm-to-oci's, Spin's, Kubewarden's.
    MEDIA_TYPE_WASM_CONTENT,
    // Solo's and Istio's: <https://github.com/solo-io/wasm/blob/master/spec/spec.md>
    "application/vnd.module.wasm.content.layer.v1+wasm",
    // runwasi's.
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
];

const PUSH_AS_WASM: &str = "check the reference; a module is pushed with its type: cargo edgepack publish, or oras push REFERENCE app.wasm:application/wasm";
/// Layers that are archives of files, plain or compressed by gzip. Which of the
/// two is seen by their first bytes.
const ARCHIVES: &[&str] = &[
    MEDIA_TYPE_LAYER_TAR_GZIP,
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar",
];

/// A layer with the description of a whole Spin application.
const SPIN_APPLICATION: &str = "application/vnd.fermyon.spin.application.v1+config";

/// How many layers an error names.
const NAMED: usize = 8;

/// Where the Wasm of an artifact is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The blob is the module or component.
    Raw(Descriptor),
    /// It is a file in one of these archives, the likeliest first: what an upper
    /// layer holds hides what the ones below hold. Read the config, ask
    /// [`Wanted::of`] which file it is, and [`extract`] it from the first that has
    /// it; where none has, [`Wanted::missing`] is the error.
    Archive(Vec<Descriptor>),
}

/// What is wrong with an artifact that no module comes out of.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It holds none, or several, or holds it in a way that is not understood.
    #[error("{message}")]
    Content {
        /// What it holds.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// One archive holds several.
    #[error("{0}")]
    Several(String),
    /// A layer with the type of an archive is something else.
    #[error("{0}")]
    Foreign(String),
    /// What was read is damaged, or reading failed.
    #[error("failed to read the layer: {0}")]
    Read(std::io::Error),
    /// The module could not be written.
    #[error("failed to write the module: {0}")]
    Write(std::io::Error),
}

impl UnpackError {
    /// What the user can do, where something can be done.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            UnpackError::Content { hint, .. } => hint.as_deref(),
            UnpackError::Several(_) => Some(
                "call the one that is meant `plugin.wasm`, in the root of the image, or name it as the image's entrypoint",
            ),
            UnpackError::Foreign(_) => Some(PUSH_AS_WASM),
            UnpackError::Read(_) | UnpackError::Write(_) => None,
        }
    }

    /// Says which layer it is that is no archive.
    #[must_use]
    pub fn of_layer(self, layer: &Descriptor) -> Self {
        match self {
            UnpackError::Foreign(why) => UnpackError::Foreign(format!(
                "the artifact holds no Wasm module: its layer is {}, and {why}",
                described(layer)
            )),
            other => other,
        }
    }

    fn content(message: impl Into<String>) -> Self {
        UnpackError::Content {
            message: message.into(),
            hint: None,
        }
    }

    fn with_hint(self, text: impl Into<String>) -> Self {
        match self {
            UnpackError::Content { message, .. } => UnpackError::Content {
                message,
                hint: Some(text.into()),
            },
            other => other,
        }
    }
}

/// Finds the Wasm in an artifact.
///
/// # Errors
///
/// [`UnpackError::Content`] where there is none, or more than one.
pub fn locate(manifest: &Manifest) -> Result<Payload, UnpackError> {
    let of_type =
        |types: &[&str], layer: &Descriptor| types.iter().any(|t| is_type(&layer.media_type, t));
    let chosen: [&dyn Fn(&Descriptor) -> bool; 2] = [
        &|layer| of_type(RAW, layer),
        // `oras push` types every file as an archive if it is not told better, and
        // says with an annotation which ones are.
        &|layer| {
            let title = layer.annotations.get(annotation::TITLE);
            title.is_some_and(|title| is_wasm_name(title))
                && !layer
                    .annotations
                    .contains_key("io.deis.oras.content.unpack")
        },
    ];
    for chosen in chosen {
        let mut found: Vec<&Descriptor> = Vec::new();
        for layer in manifest.layers.iter().filter(|layer| chosen(layer)) {
            if !found.iter().any(|other| other.digest == layer.digest) {
                found.push(layer);
            }
        }
        match found[..] {
            [] => {}
            [only] => return Ok(Payload::Raw(only.clone())),
            _ => return Err(several(manifest, &found)),
        }
    }
    let archives: Vec<Descriptor> = manifest
        .layers
        .iter()
        .rev()
        .filter(|layer| of_type(ARCHIVES, layer) && !is_plain_file(layer))
        .cloned()
        .collect();
    if archives.is_empty() {
        Err(nothing(manifest))
    } else {
        Ok(Payload::Archive(archives))
    }
}

/// Media types differ neither by case nor by their parameters.
/// <https://www.rfc-editor.org/rfc/rfc2045#section-5.1>
fn is_type(given: &str, wanted: &str) -> bool {
    let given = given.split(';').next().unwrap_or_default().trim();
    given.eq_ignore_ascii_case(wanted)
}

fn is_wasm_name(name: &str) -> bool {
    std::path::Path::new(name)
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("wasm"))
}

/// Whether `oras push` typed it as an archive for want of a better type.
fn is_plain_file(layer: &Descriptor) -> bool {
    let title = layer.annotations.get(annotation::TITLE);
    title.is_some_and(|title| {
        let title = title.to_ascii_lowercase();
        let archive = [".tar", ".tar.gz", ".tgz"];
        !archive.iter().any(|end| title.ends_with(end))
    }) && !layer
        .annotations
        .contains_key("io.deis.oras.content.unpack")
}

/// A layer's type, and its name where it has one.
fn described(layer: &Descriptor) -> String {
    let of_type = format!("`{}`", printable(&layer.media_type));
    match layer.annotations.get(annotation::TITLE) {
        Some(title) => format!("`{}` of type {of_type}", printable(title)),
        None => of_type,
    }
}

fn is_spin_application(manifest: &Manifest) -> bool {
    let mut layers = manifest.layers.iter();
    layers.any(|layer| is_type(&layer.media_type, SPIN_APPLICATION))
}

fn several(manifest: &Manifest, found: &[&Descriptor]) -> UnpackError {
    let what = if is_spin_application(manifest) {
        "is a Spin application with"
    } else {
        "holds"
    };
    let names = found.iter().map(|layer| {
        let title = layer.annotations.get(annotation::TITLE);
        title.map_or_else(
            || layer.digest.to_string(),
            |title| format!("`{}` ({})", printable(title), layer.digest),
        )
    });
    UnpackError::content(format!(
        "the artifact {what} {} modules and not one: {}",
        found.len(),
        list(names)
    ))
    .with_hint(if is_spin_application(manifest) {
        "run it with `spin up --from`, or pull the components by themselves"
    } else {
        "get the one that you want by its digest, for example with `oras blob fetch`"
    })
}

fn nothing(manifest: &Manifest) -> UnpackError {
    if manifest.layers.is_empty() {
        return UnpackError::content("the artifact has no layers, and so no module");
    }
    let zstd = |layer: &Descriptor| layer.media_type.to_ascii_lowercase().ends_with("tar+zstd");
    if manifest.layers.iter().any(zstd) {
        return UnpackError::content("the layers are compressed by zstd, which is not supported")
            .with_hint("copy the image with `skopeo copy --dest-compress-format gzip` first");
    }
    let types = manifest.layers.iter().map(described);
    let error = UnpackError::content(format!(
        "the artifact holds no Wasm: its layers are {}",
        list(types)
    ));
    let all = |part: &str| manifest.layers.iter().all(|l| l.media_type.contains(part));
    if all("sigstore") || all("cosign") {
        error.with_hint("this is a signature: pull what it signs")
    } else if manifest.layers.iter().any(is_plain_file) {
        error.with_hint(PUSH_AS_WASM)
    } else {
        error.with_hint("check the reference, and the tag")
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let mut items: Vec<String> = items.take(NAMED + 1).collect();
    if items.len() > NAMED {
        items.truncate(NAMED);
        items.push("…".to_owned());
    }
    items.join(", ")
}

/// What others wrote, fit for a terminal and a line.
fn printable(text: &str) -> String {
    let plain = |c: char| if is_plain(c) { c } else { '\u{fffd}' };
    text.chars().map(plain).take(200).collect()
}

/// Which file of an archive is the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The one at this path, which is relative to the root and plain.
    Path(String),
    /// The one that is called so, in whatever folder: Istio's rule.
    Name(String),
    /// The only one that ends in `.wasm`.
    Only,
}

/// The part of a container image's config that decides what is run.
/// <https://github.com/opencontainers/image-spec/blob/main/config.md#properties>
#[derive(Debug, Default, Deserialize)]
struct ImageConfig {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    config: Option<Execution>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Execution {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
}

impl Wanted {
    /// The file that Istio's rules name, in the root.
    #[must_use]
    pub fn plugin() -> Self {
        Wanted::Path(compat::FILE.to_owned())
    }

    /// Which file an image means: the one that its config runs; else `plugin.wasm`
    /// where the manifest says `module.wasm.image/variant`; else the only one.
    /// `config` is the blob, checked against its digest; one that is no config of an
    /// image decides nothing.
    #[must_use]
    pub fn of(manifest: &Manifest, config: &[u8]) -> Self {
        let config: ImageConfig = serde_json::from_slice(config).unwrap_or_default();
        // What is run on Wasm is Wasm, whatever it is called.
        let any_name = config.architecture == ARCHITECTURE_WASM;
        if let Some(path) = config.config.and_then(|c| c.module(any_name)) {
            return Wanted::Path(path);
        }
        if manifest
            .annotations
            .contains_key(annotation::WASM_IMAGE_VARIANT)
        {
            return Wanted::Name(compat::FILE.to_owned());
        }
        Wanted::Only
    }

    /// Whether it is named by what is run, and may be no module at all.
    #[must_use]
    pub fn is_program(&self) -> bool {
        matches!(self, Wanted::Path(path) if !is_wasm_name(path))
    }

    /// The error for when no archive has it.
    #[must_use]
    pub fn missing(&self) -> UnpackError {
        match self {
            Wanted::Path(path) | Wanted::Name(path) => UnpackError::content(format!(
                "the image holds no file `{}`, which it names as its module",
                printable(path)
            )),
            Wanted::Only => UnpackError::content("the image holds no .wasm file")
                .with_hint("check the reference, and the tag"),
        }
    }

    /// Whether a file at `path` is meant. `path` is plain: no `.`, `..` or `/` in front.
    fn is(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or_default();
        match self {
            Wanted::Path(wanted) => path == wanted,
            Wanted::Name(wanted) => name == wanted,
            // `.wh.NAME` says that a layer below has a file that is gone.
            Wanted::Only => is_wasm_name(name) && !name.starts_with(".wh."),
        }
    }
}

impl Execution {
    /// The path of the module that is run, if it is one. The entrypoint comes first,
    /// then the command, as a runtime joins them; `#` and a function's name may
    /// follow, as the runwasi shims have it.
    fn module(&self, any_name: bool) -> Option<String> {
        let words = [&self.entrypoint, &self.cmd];
        let first = words.into_iter().flatten().flatten().next()?;
        let path = first.split('#').next()?;
        if !any_name && !is_wasm_name(path) {
            return None;
        }
        let folder = match &self.working_dir {
            Some(folder) if !path.starts_with('/') => folder.as_str(),
            _ => "",
        };
        archive::plain(&format!("{folder}/{path}"))
    }
}

#[cfg(test)]
mod tests;
