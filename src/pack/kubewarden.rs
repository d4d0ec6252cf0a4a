//! The variant `kubewarden`: what `kwctl push` writes and Kubewarden's policy
//! server pulls. It takes one layer of a media type that predates the CNCF's, and
//! refuses the artifact when any layer has another.
//!
//! Read from: `src/registry/mod.rs` of kubewarden/policy-fetcher, and
//! <https://github.com/engineerd/wasm-to-oci>, where the types come from.

use super::{Metadata, Timestamp, annotations, assemble, module_layer};
use crate::oci::{Artifact, Blob, MEDIA_TYPE_WASM_CONFIG_V1, MEDIA_TYPE_WASM_CONTENT};
use crate::validate::Validated;

/// All that there is in the config: nobody reads it, but it has to be JSON.
const CONFIG: &[u8] = b"{}";

/// Packs a core module.
pub(super) fn pack(module: &Validated, metadata: &Metadata, created: Timestamp) -> Artifact {
    assemble(
        Blob::new(MEDIA_TYPE_WASM_CONFIG_V1, CONFIG.to_vec()),
        module_layer(module, metadata, MEDIA_TYPE_WASM_CONTENT),
        annotations(metadata, created),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{empty, manifest, metadata};
    use super::*;
    use crate::wasm::Kind;

    #[test]
    fn every_layer_is_of_the_one_type() {
        let artifact = pack(&empty(Kind::Core), &metadata(), Timestamp::default());
        let manifest = manifest(&artifact);
        assert_eq!(
            manifest["layers"][0]["mediaType"],
            "application/vnd.wasm.content.layer.v1+wasm"
        );
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
        assert_eq!(
            manifest["config"]["mediaType"],
            "application/vnd.wasm.config.v1+json"
        );
        assert_eq!(artifact.blobs[0].bytes, b"{}");
        assert_eq!(artifact.blobs[1].bytes, b"\0asm\x01\0\0\0");
    }
}
