//! The OCI types that we write: digests, descriptors, manifests, artifacts.
//!
//! Field order is the order in the JSON, and the JSON is compact: an artifact has
//! one serialised form, so its digest is known before anything is stored.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/main/manifest.md>.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use sha2::Digest as _;

/// An image manifest.
/// <https://github.com/opencontainers/image-spec/blob/main/manifest.md>
pub const MEDIA_TYPE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An image index.
/// <https://github.com/opencontainers/image-spec/blob/main/image-index.md>
pub const MEDIA_TYPE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// What Docker calls its own.
/// <https://distribution.github.io/distribution/spec/manifest-v2-2/#manifest-list>
pub const MEDIA_TYPE_DOCKER_LIST: &str =
    "application/vnd.docker.distribution.manifest.list.v2+json";
/// Indexes of indexes of indexes: no artifact is deeper.
pub const MAX_INDEX_DEPTH: usize = 4;
/// The config of a CNCF Wasm artifact.
/// <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>
pub const MEDIA_TYPE_WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// A layer that is a module or a component, as it is.
/// <https://www.iana.org/assignments/media-types/application/wasm>
pub const MEDIA_TYPE_WASM: &str = "application/wasm";

/// The config of a container image.
/// <https://github.com/opencontainers/image-spec/blob/main/config.md>
pub const MEDIA_TYPE_IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A layer of a container image: an archive, compressed.
/// <https://github.com/opencontainers/image-spec/blob/main/layer.md>
pub const MEDIA_TYPE_LAYER_TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The config that came before the CNCF's; Kubewarden's to this day.
/// <https://github.com/engineerd/wasm-to-oci>
pub const MEDIA_TYPE_WASM_CONFIG_V1: &str = "application/vnd.wasm.config.v1+json";
/// A layer that is a module as it is, before the CNCF's form; Kubewarden's and Spin's
/// to this day.
/// <https://github.com/engineerd/wasm-to-oci>
pub const MEDIA_TYPE_WASM_CONTENT: &str = "application/vnd.wasm.content.layer.v1+wasm";

/// The architecture of what runs on Wasm.
/// <https://github.com/opencontainers/image-spec/blob/main/image-index.md#platform-variants>
pub const ARCHITECTURE_WASM: &str = "wasm";

/// Annotations with names that the image spec defines.
/// <https://github.com/opencontainers/image-spec/blob/main/annotations.md>
pub mod annotation {
    /// The tag of an entry in an image layout's index.
    pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
    /// A title for people; on a layer, the file's name.
    pub const TITLE: &str = "org.opencontainers.image.title";
    /// A description for people.
    pub const DESCRIPTION: &str = "org.opencontainers.image.description";
    /// The version of what is packed.
    pub const VERSION: &str = "org.opencontainers.image.version";
    /// An SPDX licence expression.
    pub const LICENSES: &str = "org.opencontainers.image.licenses";
    /// Where the source is.
    pub const SOURCE: &str = "org.opencontainers.image.source";
    /// Where to read more.
    pub const URL: &str = "org.opencontainers.image.url";
    /// Who wrote it.
    pub const AUTHORS: &str = "org.opencontainers.image.authors";
    /// The source's commit.
    pub const REVISION: &str = "org.opencontainers.image.revision";
    /// When it was made, RFC 3339.
    pub const CREATED: &str = "org.opencontainers.image.created";
    /// `compat` on an image whose entrypoint is Wasm: crun reads it.
    /// <https://github.com/solo-io/wasm/blob/master/spec/spec-compat.md>
    pub const WASM_IMAGE_VARIANT: &str = "module.wasm.image/variant";
}

/// A sha256 digest, `sha256:` and 64 lower-case hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    const PREFIX: &str = "sha256:";

    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(sha2::Sha256::new_with_prefix(bytes))
    }

    /// The digest of what a hasher was fed.
    #[must_use]
    pub fn from_hash(hash: sha2::Sha256) -> Self {
        use fmt::Write;
        let mut text = String::with_capacity(Self::PREFIX.len() + 64);
        text.push_str(Self::PREFIX);
        for byte in hash.finalize() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Digest(text)
    }

    /// The hex digits alone.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0[Self::PREFIX.len()..]
    }

    /// The whole, with its algorithm.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let valid = text.strip_prefix(Self::PREFIX).is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        if valid {
            Ok(Digest(text.to_owned()))
        } else {
            Err(format!("`{text}` is no sha256 digest"))
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Annotations, sorted by key.
pub type Annotations = BTreeMap<String, String>;

/// A reference to content.
/// <https://github.com/opencontainers/image-spec/blob/main/descriptor.md>
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The type of what it refers to.
    pub media_type: String,
    /// The digest of it.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Notes on it.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "annotations_or_null"
    )]
    pub annotations: Annotations,
    /// The artifact type, where it refers to a manifest that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What else others say about it, such as a platform: kept where a list of theirs is
    /// written anew.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Descriptor {
    /// The descriptor of `bytes`.
    #[must_use]
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::plain(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// Type, digest and size, and nothing else.
    #[must_use]
    pub fn plain(media_type: &str, digest: Digest, size: u64) -> Self {
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            annotations: Annotations::new(),
            artifact_type: None,
            rest: Map::new(),
        }
    }
}

/// Annotations as others write them, who may say null for none, and for an empty one.
///
/// # Errors
///
/// The deserializer's.
pub(crate) fn annotations_or_null<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Annotations, D::Error> {
    let all = Option::<BTreeMap<String, Option<String>>>::deserialize(from)?;
    let all = all.unwrap_or_default().into_iter();
    Ok(all.map(|(k, v)| (k, v.unwrap_or_default())).collect())
}

/// An image manifest.
/// <https://github.com/opencontainers/image-spec/blob/main/manifest.md>
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u8,
    /// [`MEDIA_TYPE_MANIFEST`] in ours, since pullers check for it; others leave it out.
    #[serde(default)]
    pub media_type: String,
    /// What the artifact is, where the config does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// The layers, in order.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Notes on the artifact.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "annotations_or_null"
    )]
    pub annotations: Annotations,
}

/// An image index, as an image layout's `index.json` holds it.
/// <https://github.com/opencontainers/image-spec/blob/main/image-index.md>
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawIndex")]
pub struct Index {
    /// Always 2.
    pub schema_version: u8,
    /// [`MEDIA_TYPE_INDEX`].
    pub media_type: Option<String>,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
    /// Entries with digests of other algorithms, which are nothing to us but stay listed.
    pub others: Vec<Value>,
    /// What else it says.
    pub rest: Map<String, Value>,
}

impl Index {
    /// The entry with this tag whose digest is of another algorithm.
    #[must_use]
    pub fn other(&self, tag: &str) -> Option<&Value> {
        let mut all = self.others.iter();
        all.find(|entry| entry["annotations"][annotation::REF_NAME] == tag)
    }

    /// The tags of such entries.
    pub fn others_tagged(&self) -> impl Iterator<Item = &str> {
        let others = self.others.iter();
        others.filter_map(|entry| entry["annotations"][annotation::REF_NAME].as_str())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawIndex {
    schema_version: u8,
    #[serde(default)]
    media_type: Option<String>,
    /// Go writes an empty list so at times.
    #[serde(default)]
    manifests: Option<Vec<Value>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl TryFrom<RawIndex> for Index {
    type Error = serde_json::Error;

    fn try_from(raw: RawIndex) -> Result<Self, serde_json::Error> {
        let is_other = |entry: &Value| {
            let digest = entry["digest"].as_str().and_then(|d| d.split_once(':'));
            digest.is_some_and(|(algorithm, _)| algorithm != "sha256" && !algorithm.is_empty())
        };
        let (others, ours): (Vec<_>, Vec<_>) =
            raw.manifests.into_iter().flatten().partition(is_other);
        Ok(Index {
            schema_version: raw.schema_version,
            media_type: raw.media_type,
            manifests: ours
                .into_iter()
                .map(serde_json::from_value)
                .collect::<Result<_, _>>()?,
            others,
            rest: raw.rest,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    schema_version: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'a str>,
    manifests: Vec<Entry<'a>>,
    #[serde(flatten)]
    rest: &'a Map<String, Value>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Ours(&'a Descriptor),
    Other(&'a Value),
}

impl Serialize for Index {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ours = self.manifests.iter().map(Entry::Ours);
        Written {
            schema_version: self.schema_version,
            media_type: self.media_type.as_deref(),
            manifests: ours.chain(self.others.iter().map(Entry::Other)).collect(),
            rest: &self.rest,
        }
        .serialize(serializer)
    }
}

impl Default for Index {
    fn default() -> Self {
        Index {
            schema_version: 2,
            media_type: Some(MEDIA_TYPE_INDEX.to_owned()),
            manifests: Vec::new(),
            others: Vec::new(),
            rest: Map::new(),
        }
    }
}

/// Content with its descriptor.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob {
    /// Type, digest, size and annotations.
    pub descriptor: Descriptor,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Blob {
    /// A blob of `bytes`.
    #[must_use]
    pub fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        Blob {
            descriptor: Descriptor::of(media_type, &bytes),
            bytes,
        }
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({:?})", self.descriptor)
    }
}

/// A manifest with all that it refers to: everything that has to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The manifest's exact bytes.
    pub manifest: Blob,
    /// The config and the layers.
    pub blobs: Vec<Blob>,
}

impl Artifact {
    /// The digest that the artifact is known by.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.manifest.descriptor.digest
    }
}

/// A tag: what may stand behind the colon of a reference.
/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>
#[must_use]
pub fn tag_from_version(version: &str) -> String {
    // `+` separates build metadata in a semantic version and is illegal in a tag.
    let mut tag: String = version
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') {
                c
            } else {
                '_'
            }
        })
        .take(128)
        .collect();
    if !tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        tag.insert(0, '_');
        tag.truncate(128);
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_annotations_may_be_null() {
        let plain = Descriptor::of(MEDIA_TYPE_MANIFEST, b"{}");
        let mut json = serde_json::to_value(&plain).unwrap();
        json["annotations"] = Value::Null;
        let read = |json: &Value| serde_json::from_value::<Descriptor>(json.clone()).unwrap();
        assert_eq!(read(&json), plain);
        json["annotations"] = serde_json::json!({"a": null});
        assert_eq!(read(&json).annotations["a"], "");
    }

    #[test]
    fn digests_parse_once() {
        let digest = Digest::of(b"{}");
        assert_eq!(
            digest.hex(),
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
        assert_eq!(digest.as_str().parse(), Ok(digest.clone()));
        for wrong in [
            "",
            "sha256:",
            "sha512:00",
            &digest.as_str().to_uppercase(),
            &format!("{digest}0"),
        ] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn versions_become_tags() {
        assert_eq!(tag_from_version("1.2.3-rc.1+build.5"), "1.2.3-rc.1_build.5");
        assert_eq!(tag_from_version(".x"), "_.x");
    }
}
