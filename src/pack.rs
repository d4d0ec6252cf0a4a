//! The pack stage: a validated binary becomes an OCI artifact.
//!
//! The form is the CNCF Wasm OCI artifact: one manifest, one config, the binary as
//! the one layer. No clock and no machine takes part: equal inputs make an equal
//! manifest digest. `docs/oci-artifact.md` describes it for those who read it.
//!
//! Spec: <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::oci::{
    Annotations, Artifact, Blob, Descriptor, Digest, MEDIA_TYPE_MANIFEST, MEDIA_TYPE_WASM,
    MEDIA_TYPE_WASM_CONFIG, Manifest, annotation,
};
use crate::validate::Validated;
use crate::wasm::Kind;

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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WasmConfig<'a> {
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<&'a str>,
    architecture: &'static str,
    os: &'static str,
    layer_digests: Vec<&'a Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<ComponentInfo<'a>>,
}

#[derive(Serialize)]
struct ComponentInfo<'a> {
    exports: Vec<&'a str>,
    imports: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'static str>,
}

/// Packs a binary in the variant `wasm`.
///
/// # Panics
///
/// Never: the types that are written hold nothing that JSON cannot.
#[must_use]
pub fn pack(module: &Validated, metadata: &Metadata, created: Timestamp) -> Artifact {
    let mut layer = Blob {
        descriptor: Descriptor {
            media_type: MEDIA_TYPE_WASM.to_owned(),
            digest: module.digest().clone(),
            size: module.wasm().bytes().len() as u64,
            annotations: Annotations::new(),
            artifact_type: None,
        },
        bytes: module.wasm().bytes().to_vec(),
    };
    layer
        .descriptor
        .annotations
        .insert(annotation::TITLE.into(), format!("{}.wasm", metadata.name));

    let interface = module.interface();
    let component = match module.wasm().kind() {
        Kind::Core => None,
        Kind::Component => Some(ComponentInfo {
            exports: interface.exports.iter().map(|e| e.name.as_str()).collect(),
            imports: interface.imports.iter().map(|i| i.name.as_str()).collect(),
            target: world(interface.exports.iter().map(|e| e.name.as_str())),
        }),
    };
    let config = WasmConfig {
        created: created.to_rfc3339(),
        author: metadata.authors.first().map(String::as_str),
        architecture: "wasm",
        os: match module.wasm().kind() {
            Kind::Core => "wasip1",
            Kind::Component => "wasip2",
        },
        layer_digests: vec![&layer.descriptor.digest],
        component,
    };
    let config = Blob::new(MEDIA_TYPE_WASM_CONFIG, to_json(&config));

    let manifest = Manifest {
        schema_version: 2,
        media_type: MEDIA_TYPE_MANIFEST.to_owned(),
        artifact_type: None,
        config: config.descriptor.clone(),
        layers: vec![layer.descriptor.clone()],
        subject: None,
        annotations: annotations(metadata, created),
    };
    Artifact {
        manifest: Blob::new(MEDIA_TYPE_MANIFEST, to_json(&manifest)),
        blobs: vec![config, layer],
    }
}

/// The well-known world that the exports belong to, where they say.
fn world<'a>(exports: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    const WORLDS: &[(&str, &str)] = &[
        ("wasi:http/incoming-handler@0.2.", "wasi:http/proxy"),
        ("wasi:http/handler@0.3.", "wasi:http/service"),
        ("wasi:cli/run@", "wasi:cli/command"),
    ];
    let exports: Vec<_> = exports.collect();
    WORLDS
        .iter()
        .find(|(interface, _)| exports.iter().any(|export| export.starts_with(interface)))
        .map(|(_, world)| *world)
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

    fn empty(kind: Kind) -> Validated {
        let bytes = match kind {
            Kind::Core => b"\0asm\x01\0\0\0".to_vec(),
            Kind::Component => b"\0asm\x0d\0\x01\0".to_vec(),
        };
        validate(Wasm::new(bytes).unwrap()).unwrap()
    }

    fn metadata() -> Metadata {
        Metadata {
            name: "demo".into(),
            version: "1.2.3".into(),
            ..Metadata::default()
        }
    }

    #[test]
    fn follows_the_spec() {
        let artifact = pack(&empty(Kind::Core), &metadata(), Timestamp::default());
        let manifest: serde_json::Value = serde_json::from_slice(&artifact.manifest.bytes).unwrap();
        assert_eq!(manifest["mediaType"], MEDIA_TYPE_MANIFEST);
        assert_eq!(manifest["config"]["mediaType"], MEDIA_TYPE_WASM_CONFIG);
        assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
        assert_eq!(
            manifest["layers"][0]["annotations"][annotation::TITLE],
            "demo.wasm"
        );
        assert!(manifest.get("artifactType").is_none());
        let config: serde_json::Value = serde_json::from_slice(&artifact.blobs[0].bytes).unwrap();
        assert_eq!(config["created"], "1970-01-01T00:00:00Z");
        assert_eq!(
            (&config["architecture"], &config["os"]),
            (&"wasm".into(), &"wasip1".into())
        );
        assert_eq!(config["layerDigests"][0], manifest["layers"][0]["digest"]);
        assert!(config.get("component").is_none());
    }

    #[test]
    fn components_say_what_they_are() {
        let artifact = pack(&empty(Kind::Component), &metadata(), Timestamp::default());
        let config: serde_json::Value = serde_json::from_slice(&artifact.blobs[0].bytes).unwrap();
        assert_eq!(config["os"], "wasip2");
        assert_eq!(config["component"]["exports"], serde_json::json!([]));
        assert_eq!(
            world(["wasi:http/incoming-handler@0.2.3"].into_iter()),
            Some("wasi:http/proxy")
        );
    }

    #[test]
    fn equal_inputs_make_equal_digests() {
        let one = pack(&empty(Kind::Core), &metadata(), Timestamp::default());
        let two = pack(&empty(Kind::Core), &metadata(), Timestamp::default());
        assert_eq!(one.digest(), two.digest());
        assert_ne!(
            one.digest(),
            pack(&empty(Kind::Core), &metadata(), Timestamp(1)).digest()
        );
    }
}
