//! The payload of cosign's older form: "simple signing".
//!
//! Specs: <https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>,
//! <https://github.com/containers/image/blob/main/docs/containers-signature.5.md>.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::SigningKey;
use super::refusal::Refusal;
use super::trust::{SignedBy, Trust};
use crate::error::Error;
use crate::json;
use crate::oci::{Blob, Descriptor, Digest};
use crate::registry::failure::printable;

/// A layer that is a payload.
pub const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation of that layer that holds the signature.
pub const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The one that a signature without a key has.
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const TYPE: &str = "cosign container image signature";

#[derive(Serialize, Deserialize)]
struct Payload {
    critical: Critical,
    #[serde(default)]
    optional: Value,
}

#[derive(Serialize, Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
}

/// The tag of the signatures of a manifest.
#[must_use]
pub fn tag(manifest: &Digest) -> String {
    format!("sha256-{}.sig", manifest.hex())
}

/// What is signed for a manifest in a repository, whoever signs.
///
/// # Errors
///
/// [`Error::Internal`].
pub fn payload(repository: &str, manifest: &Digest) -> Result<Blob, Error> {
    let payload = serde_json::to_vec(&Payload {
        critical: Critical {
            identity: Identity {
                docker_reference: repository.into(),
            },
            image: Image {
                docker_manifest_digest: manifest.to_string(),
            },
            kind: TYPE.into(),
        },
        optional: Value::Null,
    })
    .map_err(|e| Error::Internal(e.to_string()))?;
    Ok(Blob::new(MEDIA_TYPE, payload))
}

/// Signs a payload; a layer with its signature.
///
/// # Errors
///
/// [`Error::Internal`].
pub fn sign(mut payload: Blob, key: &SigningKey) -> Result<Blob, Error> {
    let signature = STANDARD.encode(key.sign(&payload.bytes)?);
    let annotations = &mut payload.descriptor.annotations;
    annotations.insert(SIGNATURE.into(), signature);
    Ok(payload)
}

/// Whether a layer is a signature of this manifest by whom is trusted.
///
/// # Errors
///
/// [`Refusal`].
pub fn check(
    layer: &Descriptor,
    bytes: &[u8],
    manifest: &Digest,
    trust: &Trust,
) -> Result<SignedBy, Refusal> {
    let signature = layer
        .annotations
        .get(SIGNATURE)
        .ok_or(Refusal::Signatures(0))?;
    let signature = STANDARD
        .decode(signature)
        .map_err(|e| Refusal::senseless("the signature's base64", &e))?;
    let certified = layer.annotations.contains_key(CERTIFICATE);
    let Trust::Key(key) = trust else {
        return Err(if certified {
            Refusal::OldCertificate
        } else {
            Refusal::Keyed
        });
    };
    if !key.verifies(bytes, &signature) {
        return Err(if certified {
            Refusal::Certificate
        } else {
            Refusal::OtherKeyOrChanged
        });
    }
    let payload: Payload =
        json::object(bytes).map_err(|e| Refusal::senseless("the payload", &e))?;
    if payload.critical.kind != TYPE {
        return Err(Refusal::of_type("the payload", &payload.critical.kind));
    }
    let signed = &payload.critical.image.docker_manifest_digest;
    if signed != manifest.as_str() {
        return Err(Refusal::OtherArtifact(printable(signed)));
    }
    Ok(SignedBy::from(key))
}
