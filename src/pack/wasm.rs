//! The variant `wasm`: the CNCF Wasm OCI artifact, one layer that is the binary as
//! it is. It is the default, since most that pull take it.
//!
//! Spec: <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>.

use serde::Serialize;

use super::{Metadata, Timestamp, annotations, assemble, module_layer, to_json};
use crate::oci::{Artifact, Blob, Digest, MEDIA_TYPE_WASM, MEDIA_TYPE_WASM_CONFIG};
use crate::validate::Validated;
use crate::wasm::Kind;

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

/// Packs a module or a component.
pub(super) fn pack(module: &Validated, metadata: &Metadata, created: Timestamp) -> Artifact {
    let layer = module_layer(module, metadata, MEDIA_TYPE_WASM);
    let interface = module.interface();
    let component = match module.wasm().kind() {
        Kind::Core => None,
        Kind::Component => Some(ComponentInfo {
            exports: interface.exports.iter().map(|e| e.name.as_str()).collect(),
            imports: interface.imports.iter().map(|i| i.name.as_str()).collect(),
            target: world(interface.exports.iter().map(|e| e.name.as_str())),
        }),
    };
    let config = to_json(&WasmConfig {
        created: created.to_rfc3339(),
        author: metadata.authors.first().map(String::as_str),
        architecture: "wasm",
        os: match module.wasm().kind() {
            Kind::Core => "wasip1",
            Kind::Component => "wasip2",
        },
        layer_digests: vec![&layer.descriptor.digest],
        component,
    });
    let config = Blob::new(MEDIA_TYPE_WASM_CONFIG, config);
    assemble(config, layer, annotations(metadata, created))
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

#[cfg(test)]
mod tests {
    use super::super::tests::{config, empty, manifest, metadata};
    use super::*;
    use crate::oci::{MEDIA_TYPE_MANIFEST, annotation};

    #[test]
    fn follows_the_spec() {
        let artifact = pack(&empty(Kind::Core), &metadata(), Timestamp::default());
        let manifest = manifest(&artifact);
        assert_eq!(manifest["mediaType"], MEDIA_TYPE_MANIFEST);
        assert_eq!(manifest["config"]["mediaType"], MEDIA_TYPE_WASM_CONFIG);
        assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
        assert_eq!(
            manifest["layers"][0]["annotations"][annotation::TITLE],
            "demo.wasm"
        );
        assert!(manifest.get("artifactType").is_none());
        let config = config(&artifact);
        assert_eq!(config["created"], "1970-01-01T00:00:00Z");
        assert_eq!(
            (&config["architecture"], &config["os"]),
            (&"wasm".into(), &"wasip1".into())
        );
        assert_eq!(config["layerDigests"][0], manifest["layers"][0]["digest"]);
        assert!(config.get("component").is_none());
    }

    #[test]
    fn the_digest_is_what_it_always_was() {
        // Taken from the first version that packed: users pin these.
        let artifact = pack(&empty(Kind::Core), &metadata(), Timestamp::default());
        assert_eq!(
            artifact.digest().as_str(),
            "sha256:b18d6e92b5f2589bd94f83d0e27caf0dffbc6aa99e34dd964080b9b5a79f3903"
        );
    }

    #[test]
    fn components_say_what_they_are() {
        let artifact = pack(&empty(Kind::Component), &metadata(), Timestamp::default());
        let config = config(&artifact);
        assert_eq!(config["os"], "wasip2");
        assert_eq!(config["component"]["exports"], serde_json::json!([]));
        assert_eq!(
            world(["wasi:http/incoming-handler@0.2.3"].into_iter()),
            Some("wasi:http/proxy")
        );
    }
}
