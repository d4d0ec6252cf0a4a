//! Signatures of files, in a bundle beside them: what `cosign sign-blob --bundle` writes
//! and `cosign verify-blob --bundle` reads.
//!
//! Spec: <https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto>.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::bundle::{self, MEDIA_TYPE, Material};
use super::key::SigningKey;
use super::refusal::Refusal;
use super::trust::{SignedBy, Trust};
use crate::error::Error;
use crate::json;
use crate::registry::failure::printable;

/// What is put behind a file's name.
const SUFFIX: &str = ".sigstore.json";
const SHA256: &str = "SHA2_256";

/// A bundle with a signature of a file, or in its place with a statement. A name that is
/// there twice is an error, as everywhere.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Bundle {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    verification_material: Material,
    message_signature: Option<MessageSignature>,
    dsse_envelope: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct MessageSignature {
    message_digest: Option<MessageDigest>,
    signature: String,
}

#[derive(Default, Deserialize)]
#[serde(expecting = "an object")]
struct MessageDigest {
    #[serde(default)]
    algorithm: String,
    #[serde(default)]
    digest: String,
}

/// Where the bundle of a file is, unless somebody says otherwise.
#[must_use]
pub fn bundle_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}

/// Signs a file's bytes; the bundle's bytes.
///
/// # Errors
///
/// [`Error::Internal`].
pub fn make(bytes: &[u8], key: &SigningKey) -> Result<Vec<u8>, Error> {
    let bundle = json!({
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.public().hint()}},
        "messageSignature": {
            "messageDigest": {
                "algorithm": SHA256,
                "digest": STANDARD.encode(Sha256::digest(bytes)),
            },
            "signature": STANDARD.encode(key.sign(bytes)?),
        },
    });
    Ok(bundle.to_string().into_bytes())
}

/// Whether a bundle holds a signature of these bytes by whom it has to be from; who that
/// was.
///
/// # Errors
///
/// [`Refusal`].
pub fn check(bundle: &[u8], bytes: &[u8], trust: &Trust) -> Result<SignedBy, Refusal> {
    let parsed: Bundle = json::object(bundle).map_err(|e| Refusal::senseless("the bundle", &e))?;
    let signed = match (&parsed.message_signature, &parsed.dsse_envelope) {
        (Some(signed), None) => signed,
        (Some(_), Some(_)) => return Err(Refusal::TwoContents),
        (None, Some(_)) => return Err(Refusal::StatementOfFile),
        (None, None) if parsed.media_type.is_empty() => return Err(Refusal::NoBundle),
        (None, None) => return Err(Refusal::NoMessageSignature),
    };
    parsed.verification_material.check()?;
    refuse_other(signed, bytes)?;
    match trust {
        Trust::Key(key) => {
            if !bundle::is_known(&parsed.media_type) {
                return Err(Refusal::of_type("the bundle", &parsed.media_type));
            }
            let signature = STANDARD
                .decode(&signed.signature)
                .map_err(|e| Refusal::senseless("the signature's base64", &e))?;
            if !key.verifies(bytes, &signature) {
                return Err(parsed.verification_material.refusal(key));
            }
            Ok(SignedBy::from(key))
        }
        Trust::Identity(identity) => identity.root.check_file(bundle, bytes, identity),
    }
}

/// Whether it says of itself that it signs something else. That is a hint, and need not be
/// there; what counts is the signature.
fn refuse_other(signed: &MessageSignature, bytes: &[u8]) -> Result<(), Refusal> {
    let Some(claim) = &signed.message_digest else {
        return Ok(());
    };
    let digest = match claim.algorithm.as_str() {
        "" => return Ok(()),
        SHA256 => STANDARD.encode(Sha256::digest(bytes)),
        // cosign hashes as the key's curve is large.
        "SHA2_384" => STANDARD.encode(Sha384::digest(bytes)),
        "SHA2_512" => STANDARD.encode(Sha512::digest(bytes)),
        other => return Err(Refusal::OtherHash(printable(other))),
    };
    if claim.digest == digest {
        Ok(())
    } else {
        Err(Refusal::OtherFile)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::registry::credentials::Secret;
    use crate::sign::key;

    fn new_key() -> SigningKey {
        let made = key::generate(&Secret::new(String::new())).unwrap();
        SigningKey::parse(&made.private, "k", || Ok(Some(Secret::new(String::new())))).unwrap()
    }

    #[test]
    fn each_rule_has_its_own_words() {
        let key = new_key();
        let made = make(b"m", &key).unwrap();
        let trust = Trust::Key(key.public().clone());
        let check = |bundle: &[u8], bytes: &[u8]| check(bundle, bytes, &trust).map(drop);
        assert_eq!(check(&made, b"m"), Ok(()));
        assert_eq!(check(&made, b"n"), Err(Refusal::OtherFile));
        let others = make(b"m", &new_key()).unwrap();
        assert_eq!(check(&others, b"m"), Err(Refusal::OtherKey));
        let good: Value = serde_json::from_slice(&made).unwrap();
        let changed = |pointer: &str, value: Value| {
            let mut bundle = good.clone();
            *bundle.pointer_mut(pointer).unwrap() = value;
            check(bundle.to_string().as_bytes(), b"m")
        };
        let other: Value = serde_json::from_slice(&make(b"n", &key).unwrap()).unwrap();
        let signature = other["messageSignature"]["signature"].clone();
        assert_eq!(
            changed("/messageSignature/signature", signature),
            Err(Refusal::Changed)
        );
        assert_eq!(
            changed("/messageSignature", Value::Null),
            Err(Refusal::NoMessageSignature)
        );
        let mut several = good["verificationMaterial"].clone();
        several["certificate"] = json!({"rawBytes": ""});
        assert_eq!(
            changed("/verificationMaterial", several),
            Err(Refusal::senseless(
                "the bundle",
                &"it names several signers"
            ))
        );
        let other_name = "application/vnd.dev.sigstore.bundle+json;version=0.3";
        assert_eq!(changed("/mediaType", other_name.into()), Ok(()));
        assert_eq!(
            changed(
                "/messageSignature/messageDigest/algorithm",
                "SHA3_256".into()
            ),
            Err(Refusal::OtherHash("SHA3_256".into()))
        );
        let twice = |name: &str| {
            let text = good.to_string();
            let again = format!("\"{name}\":null,\"{name}\":");
            check(
                text.replace(&format!("\"{name}\":"), &again).as_bytes(),
                b"m",
            )
        };
        for name in ["messageSignature", "signature", "mediaType", "algorithm"] {
            let refused = twice(name);
            assert!(matches!(refused, Err(Refusal::Senseless { .. })), "{name}");
        }
        assert_eq!(
            check(b"{\"base64Signature\":\"\"}", b"m"),
            Err(Refusal::NoBundle)
        );
        let mut both = good.clone();
        both["dsseEnvelope"] = json!({});
        assert_eq!(
            check(both.to_string().as_bytes(), b"m"),
            Err(Refusal::TwoContents)
        );
        both["messageSignature"] = Value::Null;
        assert_eq!(
            check(both.to_string().as_bytes(), b"m"),
            Err(Refusal::StatementOfFile)
        );
        let certificate = json!({"certificate": {"rawBytes": ""}});
        let mut bundle = other;
        bundle["verificationMaterial"] = certificate;
        bundle["messageSignature"]["messageDigest"] = Value::Null;
        assert_eq!(
            check(bundle.to_string().as_bytes(), b"m"),
            Err(Refusal::Certificate)
        );
        assert!(check(b"{", b"m").is_err());
    }
}
