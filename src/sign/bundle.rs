//! Sigstore bundles with a DSSE envelope: the form of signatures that cosign 3 writes.
//!
//! What is inside the payload counts only once the signature over it has been found
//! good; until then it is bytes.
//!
//! Specs: <https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto>,
//! <https://github.com/secure-systems-lab/dsse/blob/master/protocol.md>,
//! <https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::{ED25519, PublicKey, SigningKey};
use super::refusal::Refusal;
use super::statement::{self, PAYLOAD_TYPE, Wanted};
use super::trust::{SignedBy, Trust};
use crate::error::Error;
use crate::json;
use crate::oci::Digest;
use crate::registry::failure::printable;

/// A bundle, as a layer and as the type of the artifact that holds it.
/// <https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md>
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// What newer bundles may be called by the rules for older ones, which readers have to know.
/// <https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto>
const OTHER_MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle+json;version=0.3";

/// Whether a bundle that says this of itself is one of version 0.3.
pub(super) fn is_known(media_type: &str) -> bool {
    [MEDIA_TYPE, OTHER_MEDIA_TYPE].contains(&media_type)
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Bundle {
    media_type: String,
    #[serde(default)]
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
    /// Of a file: in its place, and not beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_signature: Option<Value>,
}

/// Whose signature it says that it is: a hint.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct Material {
    #[serde(alias = "public_key", skip_serializing_if = "Option::is_none")]
    public_key: Option<KeyHint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Value>,
    #[serde(
        alias = "x509_certificate_chain",
        skip_serializing_if = "Option::is_none"
    )]
    x509_certificate_chain: Option<Value>,
}

impl Material {
    /// There is one of the three: else the one that is shown need not be the one that signed.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let chain = [&self.certificate, &self.x509_certificate_chain];
        let certified = chain.into_iter().flatten().count();
        if certified + usize::from(self.public_key.is_some()) > 1 {
            return Err(Refusal::senseless(
                "the bundle",
                &"it names several signers",
            ));
        }
        Ok(())
    }

    /// Why a signature that this key did not make is there.
    pub(super) fn refusal(&self, key: &PublicKey) -> Refusal {
        let certified = self.certificate.is_some() || self.x509_certificate_chain.is_some();
        match &self.public_key {
            _ if certified => Refusal::Certificate,
            // cosign signs artifacts with Ed25519 in a way that it does not verify itself.
            Some(named) if named.hint == key.hint() && key.kind() == ED25519 => {
                Refusal::ChangedOrPrehashed
            }
            Some(named) if named.hint == key.hint() => Refusal::Changed,
            Some(named) if !named.hint.is_empty() => Refusal::OtherKey,
            _ => Refusal::OtherKeyOrChanged,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "an object")]
struct KeyHint {
    #[serde(default)]
    hint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Envelope {
    payload: String,
    payload_type: String,
    #[serde(default)]
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "an object")]
struct Signature {
    sig: String,
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

/// Signs a statement; the bundle's bytes.
///
/// # Errors
///
/// [`Error::Internal`].
pub fn make(statement: &[u8], key: &SigningKey) -> Result<Vec<u8>, Error> {
    let signature = key.sign(&pre_authentication(statement))?;
    serde_json::to_vec(&Bundle {
        media_type: MEDIA_TYPE.into(),
        verification_material: Material {
            public_key: Some(KeyHint {
                hint: key.public().hint(),
            }),
            ..Material::default()
        },
        dsse_envelope: Some(Envelope {
            payload: STANDARD.encode(statement),
            payload_type: PAYLOAD_TYPE.into(),
            signatures: vec![Signature {
                sig: STANDARD.encode(signature),
            }],
        }),
        message_signature: None,
    })
    .map_err(|e| Error::Internal(e.to_string()))
}

/// A statement that somebody who is trusted made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Who.
    pub by: SignedBy,
    /// What it says, besides its type and the manifest.
    pub predicate: Value,
}

/// Whether a bundle states what is wanted about this manifest, by whom is trusted.
///
/// # Errors
///
/// [`Refusal`].
pub fn check(
    bytes: &[u8],
    manifest: &Digest,
    wanted: &Wanted<'_>,
    trust: &Trust,
) -> Result<Checked, Refusal> {
    let bundle: Bundle = json::object(bytes).map_err(|e| Refusal::senseless("the bundle", &e))?;
    if !is_known(&bundle.media_type) {
        return Err(Refusal::of_type("the bundle", &bundle.media_type));
    }
    let envelope = bundle.dsse_envelope.ok_or(Refusal::NoEnvelope)?;
    if bundle.message_signature.is_some() {
        return Err(Refusal::TwoContents);
    }
    bundle.verification_material.check()?;
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
    let by = match trust {
        Trust::Key(key) => {
            if !key.verifies(&pre_authentication(&payload), &signature) {
                return Err(bundle.verification_material.refusal(key));
            }
            SignedBy::from(key)
        }
        Trust::Identity(identity) => identity.root.check(bytes, &payload, manifest, identity)?,
    };
    let predicate = statement::check(&payload, manifest, wanted)?;
    Ok(Checked { by, predicate })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::credentials::Secret;
    use crate::sign::key;
    use crate::sign::statement::SIGNATURE;

    const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

    fn check(bytes: &[u8], manifest: &Digest, key: &PublicKey) -> Result<(), Refusal> {
        let trust = Trust::Key(key.clone());
        let checked = super::check(bytes, manifest, &Wanted::SIGNATURE, &trust)?;
        assert_eq!(checked.by, SignedBy::from(key));
        Ok(())
    }

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
        let signed = statement::make(&manifest, SIGNATURE, serde_json::json!({})).unwrap();
        let made = make(&signed, &key).unwrap();
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
                    SIGNATURE,
                ),
                Refusal::Subjects(2),
            ),
            (
                statement(STATEMENT_TYPE, serde_json::json!([]), SIGNATURE),
                Refusal::Subjects(0),
            ),
            (
                statement("x", serde_json::json!([subject]), SIGNATURE),
                Refusal::StatementType("x".into()),
            ),
        ] {
            let bytes = around(&payload, &key).to_string();
            assert_eq!(
                check(bytes.as_bytes(), &manifest, key.public()),
                Err(refusal)
            );
        }
        let good = statement(STATEMENT_TYPE, serde_json::json!([subject]), SIGNATURE);
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
        let other_name = "application/vnd.dev.sigstore.bundle+json;version=0.3";
        assert_eq!(changed("/mediaType", other_name.into()), Ok(()));
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
