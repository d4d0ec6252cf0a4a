//! Sigstore bundles with a DSSE envelope: the form of signatures that cosign 3 writes.
//!
//! What is inside the payload counts only once the signature over it has been found
//! good; until then it is bytes.
//!
//! Specs: <https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto>,
//! <https://github.com/secure-systems-lab/dsse/blob/master/protocol.md>,
//! <https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::{PublicKey, SigningKey};
use super::refusal::Refusal;
use crate::error::Error;
use crate::oci::Digest;
use crate::registry::failure::printable;

/// A bundle, as a layer and as the type of the artifact that holds it.
/// <https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md>
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The type of a statement's payload. <https://github.com/in-toto/attestation/blob/main/spec/v1/envelope.md>
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// What makes a statement a signature and no attestation.
/// <https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md>
pub const PREDICATE_TYPE: &str = "https://sigstore.dev/cosign/sign/v1";
/// <https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const SHA256: &str = "sha256";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    #[serde(default)]
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<KeyHint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x509_certificate_chain: Option<Value>,
}

#[derive(Serialize, Deserialize)]
struct KeyHint {
    #[serde(default)]
    hint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    #[serde(default)]
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    sig: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(default)]
    subject: Vec<Subject>,
    predicate_type: String,
    #[serde(default)]
    predicate: Value,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

/// What is signed in place of the payload.
/// <https://github.com/secure-systems-lab/dsse/blob/master/protocol.md#signature-definition>
fn pre_authentication(payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

/// Signs a manifest's digest; the bundle's bytes.
///
/// # Errors
///
/// [`Error::Internal`].
pub fn make(manifest: &Digest, key: &SigningKey) -> Result<Vec<u8>, Error> {
    let failed = |e: serde_json::Error| Error::Internal(e.to_string());
    let payload = serde_json::to_vec(&Statement {
        kind: STATEMENT_TYPE.into(),
        subject: vec![Subject {
            digest: BTreeMap::from([(SHA256.into(), manifest.hex().into())]),
        }],
        predicate_type: PREDICATE_TYPE.into(),
        predicate: Value::Object(serde_json::Map::new()),
    })
    .map_err(failed)?;
    let signature = key.sign(&pre_authentication(&payload))?;
    serde_json::to_vec(&Bundle {
        media_type: MEDIA_TYPE.into(),
        verification_material: Material {
            public_key: Some(KeyHint {
                hint: key.public().hint(),
            }),
            ..Material::default()
        },
        dsse_envelope: Some(Envelope {
            payload: STANDARD.encode(&payload),
            payload_type: PAYLOAD_TYPE.into(),
            signatures: vec![Signature {
                sig: STANDARD.encode(signature),
            }],
        }),
    })
    .map_err(failed)
}

/// Whether a bundle is a signature of this manifest by this key.
///
/// # Errors
///
/// [`Refusal`].
pub fn check(bytes: &[u8], manifest: &Digest, key: &PublicKey) -> Result<(), Refusal> {
    let bundle: Bundle =
        serde_json::from_slice(bytes).map_err(|e| Refusal::senseless("the bundle", &e))?;
    if bundle.media_type != MEDIA_TYPE {
        return Err(Refusal::of_type("the bundle", &bundle.media_type));
    }
    let material = &bundle.verification_material;
    let envelope = bundle.dsse_envelope.ok_or(Refusal::NoEnvelope)?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(Refusal::PayloadType(printable(&envelope.payload_type)));
    }
    let [signature] = &envelope.signatures[..] else {
        return Err(Refusal::Signatures(envelope.signatures.len()));
    };
    let payload = STANDARD
        .decode(&envelope.payload)
        .map_err(|e| Refusal::senseless("the payload's base64", &e))?;
    let signature = STANDARD
        .decode(&signature.sig)
        .map_err(|e| Refusal::senseless("the signature's base64", &e))?;
    if !key.verifies(&pre_authentication(&payload), &signature) {
        let certified = material.certificate.is_some() || material.x509_certificate_chain.is_some();
        return Err(match &material.public_key {
            _ if certified => Refusal::Certificate,
            Some(named) if named.hint == key.hint() => Refusal::Changed,
            Some(named) if !named.hint.is_empty() => Refusal::OtherKey,
            _ => Refusal::OtherKeyOrChanged,
        });
    }
    check_statement(&payload, manifest)
}

/// Looks into a payload whose signature is good.
fn check_statement(payload: &[u8], manifest: &Digest) -> Result<(), Refusal> {
    let statement: Statement =
        serde_json::from_slice(payload).map_err(|e| Refusal::senseless("the statement", &e))?;
    if statement.predicate_type != PREDICATE_TYPE {
        return Err(Refusal::Attestation(printable(&statement.predicate_type)));
    }
    if statement.kind != STATEMENT_TYPE {
        return Err(Refusal::StatementType(printable(&statement.kind)));
    }
    let [subject] = &statement.subject[..] else {
        return Err(Refusal::Subjects(statement.subject.len()));
    };
    match subject.digest.get(SHA256) {
        Some(hex) if hex == manifest.hex() => Ok(()),
        Some(hex) => Err(Refusal::OtherArtifact(printable(&format!("sha256:{hex}")))),
        None => Err(Refusal::OtherArtifact("without a sha256 digest".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::credentials::Secret;
    use crate::sign::key;

    fn new_key() -> SigningKey {
        let made = key::generate(&Secret::new(String::new())).unwrap();
        SigningKey::parse(&made.private, "k", || Ok(Some(Secret::new(String::new())))).unwrap()
    }

    /// A bundle around a payload that is signed by `key`.
    fn around(payload: &Value, key: &SigningKey) -> Value {
        let payload = payload.to_string().into_bytes();
        let sig = key.sign(&pre_authentication(&payload)).unwrap();
        serde_json::json!({
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": key.public().hint()}},
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": STANDARD.encode(sig)}],
            },
        })
    }

    #[test]
    fn each_rule_has_its_own_words() {
        let key = new_key();
        let manifest = Digest::of(b"m");
        let made = make(&manifest, &key).unwrap();
        assert_eq!(check(&made, &manifest, key.public()), Ok(()));
        assert_eq!(
            check(&made, &manifest, new_key().public()),
            Err(Refusal::OtherKey)
        );
        let other = Digest::of(b"n");
        assert_eq!(
            check(&made, &other, key.public()),
            Err(Refusal::OtherArtifact(manifest.to_string()))
        );
        let subject = serde_json::json!({"digest": {"sha256": manifest.hex()}});
        let statement = |kind: &str, subjects: Value, predicate: &str| serde_json::json!({"_type": kind, "subject": subjects, "predicateType": predicate, "predicate": {}});
        for (payload, refusal) in [
            (
                statement(
                    STATEMENT_TYPE,
                    serde_json::json!([subject]),
                    "https://cyclonedx.org/bom",
                ),
                Refusal::Attestation("https://cyclonedx.org/bom".into()),
            ),
            (
                statement(
                    STATEMENT_TYPE,
                    serde_json::json!([subject, subject]),
                    PREDICATE_TYPE,
                ),
                Refusal::Subjects(2),
            ),
            (
                statement(STATEMENT_TYPE, serde_json::json!([]), PREDICATE_TYPE),
                Refusal::Subjects(0),
            ),
            (
                statement("x", serde_json::json!([subject]), PREDICATE_TYPE),
                Refusal::StatementType("x".into()),
            ),
        ] {
            let bytes = around(&payload, &key).to_string();
            assert_eq!(
                check(bytes.as_bytes(), &manifest, key.public()),
                Err(refusal)
            );
        }
        let good = statement(STATEMENT_TYPE, serde_json::json!([subject]), PREDICATE_TYPE);
        let good = around(&good, &key);
        let changed = |pointer: &str, value: Value| {
            let mut bundle = good.clone();
            *bundle.pointer_mut(pointer).unwrap() = value;
            check(bundle.to_string().as_bytes(), &manifest, key.public())
        };
        let signature = good["dsseEnvelope"]["signatures"][0].clone();
        for (pointer, value, refusal) in [
            (
                "/mediaType",
                "x".into(),
                Refusal::of_type("the bundle", "x"),
            ),
            ("/dsseEnvelope", Value::Null, Refusal::NoEnvelope),
            (
                "/dsseEnvelope/payloadType",
                "x".into(),
                Refusal::PayloadType("x".into()),
            ),
            (
                "/dsseEnvelope/signatures",
                Vec::<Value>::new().into(),
                Refusal::Signatures(0),
            ),
            (
                "/dsseEnvelope/signatures",
                vec![signature.clone(), signature].into(),
                Refusal::Signatures(2),
            ),
            (
                "/dsseEnvelope/payload",
                STANDARD.encode("{}").into(),
                Refusal::Changed,
            ),
        ] {
            assert_eq!(changed(pointer, value), Err(refusal), "{pointer}");
        }
        assert!(matches!(
            check(b"{", &manifest, key.public()),
            Err(Refusal::Senseless { .. })
        ));
        assert!(matches!(
            changed("/dsseEnvelope/payload", "!".into()),
            Err(Refusal::Senseless { .. })
        ));
    }
}
