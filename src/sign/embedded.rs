//! Signatures inside modules and components: Ed25519, in the first section.
//!
//! The signature covers all sections behind its own, byte by byte. `wasmsign2` makes and
//! checks it; what is written is put together here, so that nothing else changes and
//! detaching gives back the same bytes. Of what others signed in parts, the whole counts.
//!
//! Spec: <https://github.com/WebAssembly/tool-conventions/blob/main/Signatures.md>.

use std::io::{Cursor, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use wasmsign2::{
    KeyPair, Module, PublicKey as Public, SecretKey as Secret, Section, SignatureData, WSError,
};

use super::source::KeySource;
use crate::error::Error;
use crate::oci::Digest;
use crate::wasm::metadata::SIGNATURE_SECTION;
use crate::wasm::{CUSTOM_SECTION, HEADER_LEN, Wasm, sections};

/// A key to sign inside with, in any form that `wasmsign2` reads: its own, DER or PEM.
pub struct SecretKey(Secret);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey(<redacted>, {})", self.fingerprint())
    }
}

impl SecretKey {
    /// The digest of its public half in DER.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.0.sk.public_key().to_der())
    }

    /// Reads a key.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Usage`], or [`Error::Signature`] where it is no such key.
    pub fn open(source: &KeySource) -> Result<Self, Error> {
        let bytes = unarmored(source.bytes()?);
        Secret::from_any(&bytes).map(SecretKey).map_err(|_| {
            let public = Public::from_any(&bytes).is_ok();
            unusable(
                source,
                if public {
                    "it is a public key"
                } else {
                    "it is no Ed25519 key"
                },
            )
        })
    }
}

/// A key to verify with, in any form that `wasmsign2` reads: its own, DER or PEM.
pub struct PublicKey(Public);

impl PublicKey {
    /// Reads a key.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Usage`], or [`Error::Signature`] where it is no such key.
    pub fn open(source: &KeySource) -> Result<Self, Error> {
        let bytes = unarmored(source.bytes()?);
        Public::from_any(&bytes).map(PublicKey).map_err(|_| {
            let private = Secret::from_any(&bytes).is_ok();
            unusable(
                source,
                if private {
                    "it is a private key"
                } else {
                    "it is no Ed25519 key"
                },
            )
        })
    }

    /// The digest of the key in DER.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.0.to_der())
    }
}

/// What is in Base64, since a variable holds no bytes, or what there is.
fn unarmored(bytes: Vec<u8>) -> Vec<u8> {
    let text: Vec<u8> = bytes
        .iter()
        .copied()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    STANDARD.decode(text).unwrap_or(bytes)
}

fn unusable(source: &KeySource, why: &str) -> Error {
    Error::Signature {
        message: format!("{} cannot be used here: {why}", source.name()),
        hint: Some(
            "signatures inside modules take the keys of: cargo edgepack keygen --embed, as they are, in PEM, in DER, or one of these in Base64".into(),
        ),
    }
}

/// A new pair, in the form of `wasmsign2`'s own files.
pub struct Generated {
    /// The private key: not encrypted.
    pub secret: Vec<u8>,
    /// The public key.
    pub public: Vec<u8>,
}

/// Makes a key pair.
#[must_use]
pub fn generate() -> Generated {
    let pair = KeyPair::generate();
    Generated {
        secret: pair.sk.to_bytes(),
        public: pair.pk.to_bytes(),
    }
}

/// Where the signature's section ends, which is the first one; none where there is none.
fn signature_end(bytes: &[u8]) -> wasmparser::Result<Option<usize>> {
    let sections = sections(bytes)?;
    Ok(sections
        .first()
        .filter(|s| s.id == CUSTOM_SECTION && s.name == Some(SIGNATURE_SECTION))
        .map(|s| s.range.end))
}

fn unreadable(why: &wasmparser::BinaryReaderError) -> Error {
    Error::Signature {
        message: format!("the module does not parse, so no signature inside it can hold: {why}"),
        hint: Some("fetch it again: it may have been cut short".into()),
    }
}

fn refuse(why: &str) -> Error {
    Error::Signature {
        message: format!("the module cannot be signed inside: {why}"),
        hint: Some("look at it first: cargo edgepack check FILE".into()),
    }
}

/// Puts a signature into a module, in place of one that is there.
///
/// # Errors
///
/// [`Error::Signature`] where it cannot be signed without another change.
pub fn embed(wasm: &Wasm, key: &SecretKey) -> Result<Vec<u8>, Error> {
    let bytes = wasm.bytes();
    let unparsed = |e| refuse(&format!("it does not parse: {e}"));
    let body = &bytes[signature_end(bytes)
        .map_err(unparsed)?
        .unwrap_or(HEADER_LEN)..];
    let plain = [&bytes[..HEADER_LEN], body].concat();
    let failed = |e: WSError| refuse(&e.to_string());
    let module = Module::deserialize(&mut Cursor::new(&plain)).map_err(failed)?;
    let signed = key.0.sign(module, None).map_err(failed)?;
    let mut written = Vec::with_capacity(plain.len() + 128);
    signed.serialize(&mut written).map_err(failed)?;
    let end = signature_end(&written).map_err(unparsed)?;
    if end.is_none_or(|end| written[end..] != *body) {
        return Err(Error::Signature {
            message: "the module cannot be signed inside without a change to its other sections: \
                      their lengths are written in another way, or there are more signatures in it"
                .into(),
            hint: Some(
                "write it anew first: cargo edgepack shrink FILE --level fast -o FILE".into(),
            ),
        });
    }
    Ok(written)
}

/// Takes the signature out of a module.
///
/// # Errors
///
/// [`Error::Signature`] where there is none.
pub fn detach(wasm: &Wasm) -> Result<Vec<u8>, Error> {
    let bytes = wasm.bytes();
    let end = signature_end(bytes).map_err(|e| unreadable(&e))?;
    let end = end.ok_or_else(unsigned)?;
    Ok([&bytes[..HEADER_LEN], &bytes[end..]].concat())
}

/// Whether a module holds a signature of itself by this key.
///
/// # Errors
///
/// [`Error::Signature`] that says why not.
pub fn verify(wasm: &Wasm, key: &PublicKey) -> Result<(), Error> {
    let bytes = wasm.bytes();
    let end = signature_end(bytes).map_err(|e| unreadable(&e))?;
    let end = end.ok_or_else(unsigned)?;
    let mut data = signature_data(&bytes[..end]).map_err(refused)?;
    // Of a list of hashes, one for each part that may be verified alone, any one is good
    // enough for `wasmsign2`; only the last is that of the whole.
    let whole = Sha256::digest(&bytes[end..]);
    let all = data.signed_hashes_set.len();
    data.signed_hashes_set
        .retain(|set| set.hashes.last().is_some_and(|last| **last == *whole));
    let kept = data.signed_hashes_set.len();
    let data = data.serialize().map_err(refused)?;
    let mut plain = bytes[..HEADER_LEN].chain(&bytes[end..]);
    let Err(error) = key.0.verify(&mut plain, Some(&data)) else {
        return Ok(());
    };
    if kept < all && key.0.verify(&mut Cursor::new(bytes), None).is_ok() {
        return Err(Error::Signature {
            message: "the signature inside the module is of more than is there: what stood at the end was cut off".into(),
            hint: Some("use the whole module, as it was signed".into()),
        });
    }
    Err(refused(error))
}

/// What the first section says, which is the signature's.
fn signature_data(bytes: &[u8]) -> Result<SignatureData, WSError> {
    let module = Module::deserialize(&mut Cursor::new(bytes))?;
    match module.sections.first() {
        Some(Section::Custom(section)) => section.signature_data(),
        _ => Err(WSError::NoSignatures),
    }
}

fn refused(error: WSError) -> Error {
    match error {
        WSError::VerificationFailed => Error::Signature {
            message:
                "the signature inside the module does not hold: it was made with another key, \
                      or the module was changed afterwards"
                    .into(),
            hint: Some("check that the key is that of who signed it".into()),
        },
        other => Error::Signature {
            message: format!("the signature inside the module makes no sense: {other}"),
            hint: Some(
                "do not use the file before you know why; if it is yours, sign it again".into(),
            ),
        },
    }
}

fn unsigned() -> Error {
    Error::Signature {
        message: "there is no signature inside the module".into(),
        hint: Some(
            "sign it with: cargo edgepack sign --embed --key PATH FILE; one that is beside the file is checked without --embedded"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (SecretKey, PublicKey) {
        let made = generate();
        (
            SecretKey(Secret::from_any(&made.secret).unwrap()),
            PublicKey(Public::from_any(&made.public).unwrap()),
        )
    }

    fn wasm(bytes: &[u8]) -> Wasm {
        Wasm::new(bytes.to_vec()).unwrap()
    }

    #[test]
    fn what_is_embedded_comes_out_again() {
        let (secret, public) = keys();
        let core = b"\0asm\x01\0\0\0\x00\x05\x01aend".to_vec();
        let component = b"\0asm\x0d\0\x01\0".to_vec();
        for plain in [core, component] {
            let signed = wasm(&embed(&wasm(&plain), &secret).unwrap());
            verify(&signed, &public).unwrap();
            assert!(verify(&signed, &keys().1).is_err());
            assert_eq!(detach(&signed).unwrap(), plain);
            // Signing again replaces.
            let again = wasm(&embed(&signed, &keys().0).unwrap());
            assert_eq!(again.bytes().len(), signed.bytes().len());
            assert!(verify(&again, &public).is_err());
            for refused in [
                verify(&wasm(&plain), &public).err(),
                detach(&wasm(&plain)).err(),
            ] {
                let text = refused.unwrap().to_string();
                assert!(text.contains("no signature inside"), "{text}");
            }
        }
    }

    #[test]
    fn nothing_may_change() {
        let (secret, public) = keys();
        let plain = b"\0asm\x01\0\0\0\x00\x05\x01aend".to_vec();
        let signed = embed(&wasm(&plain), &secret).unwrap();
        for at in 8..signed.len() {
            let mut changed = signed.clone();
            changed[at] ^= 1;
            assert!(verify(&wasm(&changed), &public).is_err(), "{at}");
        }
        let mut longer = signed;
        longer.extend_from_slice(b"\x00\x05\x01aend");
        assert!(verify(&wasm(&longer), &public).is_err());
        // A length of two bytes where one would do.
        let padded = b"\0asm\x01\0\0\0\x00\x85\x00\x01aend";
        let error = embed(&wasm(padded), &secret).err().unwrap();
        assert!(error.to_string().contains("without a change"), "{error}");
    }

    /// What `wasmsign2 split` and `sign` make: a hash for each part.
    #[test]
    fn nothing_is_cut_off() {
        let (secret, public) = keys();
        let plain = b"\0asm\x01\0\0\0\x00\x05\x01aend\x00\x05\x01bend".to_vec();
        let module = Module::deserialize(&mut Cursor::new(&plain)).unwrap();
        let is_first = |s: &Section| matches!(s, Section::Custom(c) if c.name() == "a");
        let module = module.split(is_first).unwrap();
        let (module, _) = secret.0.sign_multi(module, None, false, false).unwrap();
        let mut whole = Vec::new();
        module.serialize(&mut whole).unwrap();
        verify(&wasm(&whole), &public).unwrap();
        assert!(verify(&wasm(&whole), &keys().1).is_err());
        let ends: Vec<usize> = sections(&whole)
            .unwrap()
            .iter()
            .map(|s| s.range.end)
            .collect();
        // The signature, a section, what divides it from another, that, and an end.
        let [_, parts @ .., end] = &ends[..] else {
            panic!("{ends:?}")
        };
        assert_eq!((parts.len(), *end), (3, whole.len()));
        let mut cut_off = 0;
        for &end in parts {
            let part = wasm(&whole[..end]);
            let error = verify(&part, &public).unwrap_err().to_string();
            // One of them is what the signer would have verified alone.
            cut_off += usize::from(error.contains("was cut off"));
            let error = verify(&part, &keys().1).unwrap_err().to_string();
            assert!(error.contains("does not hold"), "{error}");
        }
        assert_eq!(cut_off, 1);
        // A second signer.
        let (other, second) = keys();
        let (module, _) = other.0.sign_multi(module, None, false, false).unwrap();
        let mut both = Vec::new();
        module.serialize(&mut both).unwrap();
        verify(&wasm(&both), &public).unwrap();
        verify(&wasm(&both), &second).unwrap();
    }
}
