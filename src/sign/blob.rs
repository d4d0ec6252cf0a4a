//! Signatures of files, in a bundle beside them: what `cosign sign-blob --bundle` writes
//! and `cosign verify-blob --bundle` reads.
//!
//! Spec: <https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto>.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::Digest as _;

use super::bundle::MEDIA_TYPE;
use super::key::{PublicKey, SigningKey};
use super::refusal::Refusal;
use super::trust::{SignedBy, Trust};
use crate::error::Error;

/// What is put behind a file's name.
const SUFFIX: &str = ".sigstore.json";
const SHA256: &str = "SHA2_256";

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
                "digest": STANDARD.encode(sha2::Sha256::digest(bytes)),
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
    let parsed: Value =
        serde_json::from_slice(bundle).map_err(|e| Refusal::senseless("the bundle", &e))?;
    match trust {
        Trust::Key(key) => by_key(&parsed, bytes, key).map(|()| SignedBy::from(key)),
        Trust::Identity(identity) => {
            refuse_other(&parsed, bytes)?;
            identity.root.check_file(bundle, bytes, identity)
        }
    }
}

/// Whether it says of itself that it signs something else. That is a hint; what counts is
/// the signature.
fn refuse_other(bundle: &Value, bytes: &[u8]) -> Result<(), Refusal> {
    let text = |name: &str| bundle["messageSignature"]["messageDigest"][name].as_str();
    match (text("algorithm"), text("digest")) {
        (Some(SHA256), Some(digest)) if digest != STANDARD.encode(sha2::Sha256::digest(bytes)) => {
            Err(Refusal::OtherFile)
        }
        _ => Ok(()),
    }
}

fn by_key(bundle: &Value, bytes: &[u8], key: &PublicKey) -> Result<(), Refusal> {
    let text = |pointer: &str| bundle.pointer(pointer).and_then(Value::as_str);
    let kind = text("/mediaType").unwrap_or_default();
    if kind != MEDIA_TYPE {
        return Err(Refusal::of_type("the bundle", kind));
    }
    let Some(signature) = text("/messageSignature/signature") else {
        return Err(Refusal::NoMessageSignature);
    };
    if !bundle["dsseEnvelope"].is_null() {
        return Err(Refusal::TwoContents);
    }
    let signature = STANDARD
        .decode(signature)
        .map_err(|e| Refusal::senseless("the signature's base64", &e))?;
    refuse_other(bundle, bytes)?;
    if key.verifies(bytes, &signature) {
        return Ok(());
    }
    let material = &bundle["verificationMaterial"];
    let certified =
        !material["certificate"].is_null() || !material["x509CertificateChain"].is_null();
    Err(match text("/verificationMaterial/publicKey/hint") {
        _ if certified => Refusal::Certificate,
        Some(hint) if hint == key.hint() => Refusal::Changed,
        Some(hint) if !hint.is_empty() => Refusal::OtherKey,
        _ => Refusal::OtherKeyOrChanged,
    })
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
        let mut both = good.clone();
        both["dsseEnvelope"] = json!({});
        assert_eq!(
            check(both.to_string().as_bytes(), b"m"),
            Err(Refusal::TwoContents)
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
