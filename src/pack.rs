//! The pack stage: a validated binary becomes an OCI artifact, in one of the forms
//! that those who pull look for.
//!
//! No one manifest suits all, and an index breaks several: so each [`Variant`] is
//! an artifact of its own. No clock and no machine takes part: equal inputs make an
//! equal manifest digest. `docs/oci-artifact.md` describes the forms for those who
//! read them.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::did_you_mean;
use crate::oci::{
    Annotations, Artifact, Blob, Descriptor, MEDIA_TYPE_MANIFEST, Manifest, annotation,
};
use crate::validate::Validated;
use crate::wasm::Kind;

pub mod compat;
mod kubewarden;
mod wasm;

/// The form of an artifact.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// The CNCF Wasm OCI artifact: modules and components.
    #[default]
    Wasm,
    /// A container image with `/plugin.wasm`: core modules only.
    Compat,
    /// What Kubewarden pulls: core modules only.
    Kubewarden,
}

impl Variant {
    /// Every variant.
    pub const ALL: [Variant; 3] = [Variant::Wasm, Variant::Compat, Variant::Kubewarden];

    /// The name, as it is written in config and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Variant::Wasm => "wasm",
            Variant::Compat => "compat",
            Variant::Kubewarden => "kubewarden",
        }
    }

    /// Whether there is anyone who would run a binary of this kind in this form.
    #[must_use]
    pub fn takes(self, kind: Kind) -> bool {
        self == Variant::Wasm || kind == Kind::Core
    }

    /// The name under which an artifact called `name` goes into a layout or a
    /// repository: each variant has one of its own, because a tag such as
    /// `1.2.3-compat` would be listed as a prerelease of 1.2.3.
    #[must_use]
    pub fn artifact_name(self, name: &str) -> String {
        match self {
            Variant::Wasm => name.to_owned(),
            other => format!("{name}-{other}"),
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.iter().map(|v| v.name());
        if let Some(variant) = Self::ALL.iter().find(|v| v.name() == text) {
            return Ok(*variant);
        }
        Err(match did_you_mean(text, names()) {
            Some(near) => format!("`{text}` is no variant; did you mean `{near}`?"),
            None => format!(
                "`{text}` is no variant: use {}",
                names().collect::<Vec<_>>().join(", ")
            ),
        })
    }
}

/// Which variants are packed: at least one, each once, in the order that was asked
/// for. The first is the one that reports put first.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<Variant>")]
#[schemars(extend("minItems" = 1))]
pub struct Variants(Vec<Variant>);

impl Variants {
    /// The variants.
    #[must_use]
    pub fn as_slice(&self) -> &[Variant] {
        &self.0
    }
}

impl Default for Variants {
    fn default() -> Self {
        Variants(vec![Variant::default()])
    }
}

impl TryFrom<Vec<Variant>> for Variants {
    type Error = String;

    fn try_from(given: Vec<Variant>) -> Result<Self, String> {
        let mut variants = Vec::with_capacity(given.len());
        for variant in given {
            if !variants.contains(&variant) {
                variants.push(variant);
            }
        }
        if variants.is_empty() {
            return Err("the list of variants is empty; the default is `wasm`".into());
        }
        Ok(Variants(variants))
    }
}

/// Names separated by commas.
impl FromStr for Variants {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(|name| name.trim().parse())
            .collect::<Result<Vec<_>, _>>()?
            .try_into()
    }
}

/// Why a binary cannot be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// A component, where only core modules are run.
    #[error("the variant `{0}` is for core modules, and this is a component")]
    Component(Variant),
}

impl PackError {
    /// What to do about it.
    #[must_use]
    pub fn hint(self) -> String {
        let PackError::Component(variant) = self;
        let who = match variant {
            Variant::Wasm | Variant::Compat => "those who pull it, such as Istio and crun,",
            Variant::Kubewarden => "Kubewarden",
        };
        format!(
            "{who} cannot run components: build for wasm32-wasip1 or wasm32-unknown-unknown, \
             or leave `{variant}` out of the variants"
        )
    }
}

/// A point in time, in whole seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The last second of the year 9999: RFC 3339 has no way to write later ones.
    pub const MAX: u64 = 253_402_300_799;

    /// From seconds since 1970; `None` past the year 9999.
    #[must_use]
    pub fn from_seconds(seconds: u64) -> Option<Self> {
        (seconds <= Self::MAX).then_some(Timestamp(seconds))
    }

    /// In the form of RFC 3339, in UTC.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(self.0))
            .to_string()
    }
}

/// What is said about an artifact, from the package's manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The artifact's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is for.
    pub description: Option<String>,
    /// An SPDX licence expression.
    pub licenses: Option<String>,
    /// The source repository.
    pub source: Option<String>,
    /// The home page.
    pub url: Option<String>,
    /// Who wrote it.
    pub authors: Vec<String>,
    /// The commit that it was built from.
    pub revision: Option<String>,
}

/// Packs a binary in one variant.
///
/// # Errors
///
/// [`PackError`] where the variant does not take the binary: see [`Variant::takes`].
pub fn pack(
    module: &Validated,
    metadata: &Metadata,
    created: Timestamp,
    variant: Variant,
) -> Result<Artifact, PackError> {
    if !variant.takes(module.wasm().kind()) {
        return Err(PackError::Component(variant));
    }
    Ok(match variant {
        Variant::Wasm => wasm::pack(module, metadata, created),
        Variant::Compat => compat::pack(module, metadata, created),
        Variant::Kubewarden => kubewarden::pack(module, metadata, created),
    })
}

/// A layer that is the binary as it is.
fn module_layer(module: &Validated, metadata: &Metadata, media_type: &str) -> Blob {
    let title = format!("{}.wasm", metadata.name);
    Blob {
        descriptor: Descriptor {
            annotations: Annotations::from([(annotation::TITLE.to_owned(), title)]),
            // Known from validation: hashing a large module twice takes its time.
            ..Descriptor::plain(
                media_type,
                module.digest().clone(),
                module.wasm().bytes().len() as u64,
            )
        },
        bytes: module.wasm().bytes().to_vec(),
    }
}

/// The artifact of one config and one layer.
fn assemble(config: Blob, layer: Blob, annotations: Annotations) -> Artifact {
    let manifest = Manifest {
        schema_version: 2,
        media_type: MEDIA_TYPE_MANIFEST.to_owned(),
        artifact_type: None,
        config: config.descriptor.clone(),
        layers: vec![layer.descriptor.clone()],
        subject: None,
        annotations,
    };
    Artifact {
        manifest: Blob::new(MEDIA_TYPE_MANIFEST, to_json(&manifest)),
        blobs: vec![config, layer],
    }
}

fn annotations(metadata: &Metadata, created: Timestamp) -> Annotations {
    let authors = (!metadata.authors.is_empty()).then(|| metadata.authors.join(", "));
    [
        (annotation::TITLE, Some(metadata.name.clone())),
        (annotation::VERSION, Some(metadata.version.clone())),
        (annotation::CREATED, Some(created.to_rfc3339())),
        (annotation::DESCRIPTION, metadata.description.clone()),
        (annotation::LICENSES, metadata.licenses.clone()),
        (annotation::SOURCE, metadata.source.clone()),
        (annotation::URL, metadata.url.clone()),
        (annotation::AUTHORS, authors),
        (annotation::REVISION, metadata.revision.clone()),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value.filter(|v| !v.is_empty())?)))
    .collect()
}

#[expect(
    clippy::expect_used,
    reason = "string keys and plain values always serialise"
)]
fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("the value holds only what JSON can")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::validate;
    use crate::wasm::Wasm;

    pub(super) fn empty(kind: Kind) -> Validated {
        let bytes = match kind {
            Kind::Core => b"\0asm\x01\0\0\0".to_vec(),
            Kind::Component => b"\0asm\x0d\0\x01\0".to_vec(),
        };
        validate(Wasm::new(bytes).unwrap()).unwrap()
    }

    pub(super) fn metadata() -> Metadata {
        Metadata {
            name: "demo".into(),
            version: "1.2.3".into(),
            ..Metadata::default()
        }
    }

    pub(super) fn manifest(artifact: &Artifact) -> serde_json::Value {
        serde_json::from_slice(&artifact.manifest.bytes).unwrap()
    }

    pub(super) fn config(artifact: &Artifact) -> serde_json::Value {
        serde_json::from_slice(&artifact.blobs[0].bytes).unwrap()
    }

    #[test]
    fn equal_inputs_make_equal_digests() {
        for variant in Variant::ALL {
            let digest = |time| {
                pack(&empty(Kind::Core), &metadata(), Timestamp(time), variant)
                    .unwrap()
                    .digest()
                    .clone()
            };
            assert_eq!(digest(0), digest(0));
            assert_ne!(digest(0), digest(1));
        }
    }

    #[test]
    fn blobs_are_what_their_descriptors_say() {
        for variant in Variant::ALL {
            let artifact = pack(
                &empty(Kind::Core),
                &metadata(),
                Timestamp::default(),
                variant,
            )
            .unwrap();
            let manifest: Manifest = serde_json::from_slice(&artifact.manifest.bytes).unwrap();
            let named = [&manifest.config, &manifest.layers[0]];
            for (blob, descriptor) in artifact.blobs.iter().zip(named) {
                assert_eq!(&blob.descriptor, descriptor);
                assert_eq!(blob.descriptor.digest, crate::oci::Digest::of(&blob.bytes));
                assert_eq!(blob.descriptor.size, blob.bytes.len() as u64);
            }
        }
    }

    #[test]
    fn components_have_but_one_form() {
        for variant in [Variant::Compat, Variant::Kubewarden] {
            let error = pack(
                &empty(Kind::Component),
                &metadata(),
                Timestamp::default(),
                variant,
            )
            .unwrap_err();
            assert!(error.to_string().contains(variant.name()), "{error}");
            assert!(error.hint().contains("wasm32-wasip1"), "{}", error.hint());
        }
    }

    #[test]
    fn names_go_both_ways() {
        for variant in Variant::ALL {
            assert_eq!(variant.name().parse(), Ok(variant));
            assert_eq!(serde_json::to_value(variant).unwrap(), variant.name());
        }
        let near = "comapt".parse::<Variant>().unwrap_err();
        assert!(near.contains("did you mean `compat`?"), "{near}");
        let far = "zzz".parse::<Variant>().unwrap_err();
        assert!(far.contains("wasm, compat, kubewarden"), "{far}");
    }

    #[test]
    fn lists_hold_each_variant_once() {
        let variants: Variants = "compat, wasm,compat".parse().unwrap();
        assert_eq!(variants.as_slice(), [Variant::Compat, Variant::Wasm]);
        assert!("wasm,".parse::<Variants>().is_err());
        assert!(serde_json::from_str::<Variants>("[]").is_err());
    }
}
