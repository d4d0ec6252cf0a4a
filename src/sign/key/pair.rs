//! Private halves of the kinds whose signatures cosign verifies: it makes P-256 keys, and
//! imports others. With P-384 and P-521 cosign 3 signs another hash than it verifies.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};

use super::{ED25519, USUAL};

/// The kinds.
pub(super) const SIGNING: [&str; 3] = [USUAL, ED25519, "RSA"];

/// A private key that signs.
pub(super) enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl Pair {
    /// Takes a key of a kind out of PKCS#8; nothing where it makes no sense, or where keys
    /// of that kind do not sign.
    pub(super) fn of_pkcs8(kind: &str, pkcs8: &[u8]) -> Option<Self> {
        match kind {
            USUAL => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).map(Pair::Ecdsa)
            }
            ED25519 => Ed25519KeyPair::from_pkcs8(pkcs8).map(Pair::Ed25519),
            "RSA" => RsaKeyPair::from_pkcs8(pkcs8).map(Pair::Rsa),
            _ => return None,
        }
        .ok()
    }

    /// Its public half, as a `SubjectPublicKeyInfo` in DER.
    pub(super) fn public_der(&self) -> Result<Vec<u8>, Unspecified> {
        fn der(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Result<Vec<u8>, Unspecified> {
            Ok(key.as_der()?.as_ref().to_vec())
        }
        match self {
            Pair::Ecdsa(pair) => der(pair.public_key()),
            Pair::Ed25519(pair) => der(pair.public_key()),
            Pair::Rsa(pair) => der(pair.public_key()),
        }
    }

    /// Signs a message: its SHA-256, but for Ed25519, which has a hash of its own.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let random = SystemRandom::new();
        match self {
            Pair::Ecdsa(pair) => Ok(pair.sign(&random, message)?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Ok(pair.try_sign(message)?.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                Ok(signature)
            }
        }
    }
}
