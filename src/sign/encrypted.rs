//! cosign's encrypted key files: a key in PKCS#8, sealed by a password.
//!
//! JSON inside PEM: scrypt turns the password into a key for `NaCl`'s secretbox. What a
//! file asks of scrypt is looked at before scrypt runs, since a file may ask for more
//! memory than there is.
//!
//! Spec: <https://github.com/sigstore/cosign/blob/main/pkg/cosign/keys.go>,
//! <https://github.com/secure-systems-lab/go-securesystemslib/blob/main/encrypted/encrypted.go>.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::Aead;
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};
use serde::{Deserialize, Serialize};

use crate::registry::credentials::Secret;

/// The label of the PEM block.
pub const LABEL: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
/// The label that older files have.
pub const OLD_LABEL: &str = "ENCRYPTED COSIGN PRIVATE KEY";

/// What cosign asks of scrypt: 64 MiB.
const COST: Scrypt = Scrypt {
    n: 1 << 16,
    r: 8,
    p: 1,
};
/// scrypt may take so much memory.
const MAX_MEMORY: u64 = 256 << 20;
/// And so much work: sixteen times what cosign asks.
const MAX_WORK: u64 = 16 * (1 << 16) * 8;
const SALT: usize = 32;
const NONCE: usize = 24;
const KDF: &str = "scrypt";
const CIPHER: &str = "nacl/secretbox";

/// Why a file cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The JSON is cut short, or is another.
    #[error("its encrypted part is damaged or cut short: {0}")]
    Damaged(String),
    /// Another way to encrypt.
    #[error("it is encrypted with {0}, where scrypt and nacl/secretbox are known")]
    Unknown(String),
    /// scrypt would take too much.
    #[error(
        "its scrypt parameters (N {n}, r {r}, p {p}) ask for more memory or time than any key file needs"
    )]
    Costly {
        /// Rounds and memory.
        n: u64,
        /// Block size.
        r: u32,
        /// Lanes.
        p: u32,
    },
    /// The password is another, or the sealed bytes were changed.
    #[error("the password is wrong")]
    Password,
    /// No random numbers, or no room: never seen.
    #[error("encryption failed")]
    Failed,
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "an object")]
struct File {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "an object")]
struct Kdf {
    name: String,
    params: Scrypt,
    salt: String,
}

/// The parameters of scrypt. <https://www.rfc-editor.org/rfc/rfc7914#section-2>
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(expecting = "an object")]
struct Scrypt {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "an object")]
struct Cipher {
    name: String,
    nonce: String,
}

impl Scrypt {
    /// Refuses what would take too much, before anything is allocated.
    fn check(self) -> Result<scrypt::Params, SealError> {
        let Scrypt { n, r, p } = self;
        let costly = SealError::Costly { n, r, p };
        let blocks = u64::from(r).saturating_mul(128);
        let memory = blocks.saturating_mul(n.saturating_add(u64::from(p)));
        let work = n.saturating_mul(u64::from(r)).saturating_mul(u64::from(p));
        if memory > MAX_MEMORY || work > MAX_WORK {
            return Err(costly);
        }
        if !n.is_power_of_two() || n < 2 {
            let why = format!("N is {n}, where scrypt takes 2, 4, 8 and so on");
            return Err(SealError::Damaged(why));
        }
        let log_n = u8::try_from(n.ilog2()).map_err(|_| costly)?;
        scrypt::Params::new(log_n, r, p).map_err(|e| SealError::Damaged(e.to_string()))
    }

    fn derive(self, password: &Secret, salt: &[u8]) -> Result<XSalsa20Poly1305, SealError> {
        let params = self.check()?;
        let mut key = [0; 32];
        scrypt::scrypt(password.reveal().as_bytes(), salt, &params, &mut key)
            .map_err(|_| SealError::Failed)?;
        Ok(XSalsa20Poly1305::new(&key.into()))
    }
}

/// Seals bytes as cosign does.
///
/// # Errors
///
/// [`SealError::Failed`].
pub fn seal(plain: &[u8], password: &Secret) -> Result<Vec<u8>, SealError> {
    let mut salt = [0; SALT];
    let mut nonce = [0; NONCE];
    for random in [&mut salt[..], &mut nonce[..]] {
        aws_lc_rs::rand::fill(random).map_err(|_| SealError::Failed)?;
    }
    let sealed = COST
        .derive(password, &salt)?
        .encrypt(&nonce.into(), plain)
        .map_err(|_| SealError::Failed)?;
    serde_json::to_vec(&File {
        kdf: Kdf {
            name: KDF.into(),
            params: COST,
            salt: STANDARD.encode(salt),
        },
        cipher: Cipher {
            name: CIPHER.into(),
            nonce: STANDARD.encode(nonce),
        },
        ciphertext: STANDARD.encode(sealed),
    })
    .map_err(|_| SealError::Failed)
}

/// Opens what was sealed.
///
/// # Errors
///
/// [`SealError`].
pub fn open(sealed: &[u8], password: &Secret) -> Result<Vec<u8>, SealError> {
    let file: File =
        serde_json::from_slice(sealed).map_err(|e| SealError::Damaged(e.to_string()))?;
    if file.kdf.name != KDF || file.cipher.name != CIPHER {
        let (kdf, cipher) = (&file.kdf.name, &file.cipher.name);
        let shown = crate::registry::failure::printable(&format!("{kdf} and {cipher}"));
        return Err(SealError::Unknown(shown));
    }
    let decode = |name: &str, text: &str| {
        STANDARD
            .decode(text)
            .map_err(|_| SealError::Damaged(format!("its {name} is no base64")))
    };
    let salt = decode("salt", &file.kdf.salt)?;
    let nonce: [u8; NONCE] = decode("nonce", &file.cipher.nonce)?
        .try_into()
        .map_err(|_| SealError::Damaged("its nonce has not 24 bytes".into()))?;
    let ciphertext = decode("ciphertext", &file.ciphertext)?;
    file.kdf
        .params
        .derive(password, &salt)?
        .decrypt(&nonce.into(), &ciphertext[..])
        .map_err(|_| SealError::Password)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

    #[test]
    fn what_is_sealed_opens_with_its_password() {
        let sealed = seal(b"key", &secret("pw")).unwrap();
        assert_eq!(open(&sealed, &secret("pw")).unwrap(), b"key");
        assert_eq!(open(&sealed, &secret("no")), Err(SealError::Password));
        for end in [0, 1, sealed.len() / 2, sealed.len() - 1] {
            let error = open(&sealed[..end], &secret("pw")).unwrap_err();
            assert!(matches!(error, SealError::Damaged(_)), "{error}");
        }
    }

    #[test]
    fn nothing_is_told_in_words_of_this_program() {
        let sealed = seal(b"key", &secret("pw")).unwrap();
        let sealed = String::from_utf8(sealed).unwrap();
        for (text, words) in [
            ("1".to_owned(), "expected an object"),
            (sealed.replace("\"N\":65536", "\"N\":1"), "scrypt takes 2"),
            (
                sealed.replace("\"N\":65536", "\"N\":1000"),
                "scrypt takes 2",
            ),
        ] {
            let error = open(text.as_bytes(), &secret("pw"))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(words) && !error.contains("struct"),
                "{error}"
            );
        }
    }

    #[test]
    fn scrypt_is_not_let_loose() {
        for (n, r, p) in [
            (1 << 26, 8, 1),
            (u64::MAX, u32::MAX, u32::MAX),
            (2, u32::MAX, 1),
            (1 << 16, 8, 1 << 20),
            (1 << 60, 1, 1),
        ] {
            let error = Scrypt { n, r, p }.check().err();
            assert_eq!(error, Some(SealError::Costly { n, r, p }));
        }
        assert!(Scrypt { n: 3, r: 8, p: 1 }.check().is_err());
        assert!(Scrypt { n: 0, r: 8, p: 1 }.check().is_err());
        assert!(
            Scrypt {
                n: 1 << 15,
                r: 8,
                p: 1
            }
            .check()
            .is_ok()
        );
        assert!(Scrypt { n: 2, r: 0, p: 1 }.check().is_err());
    }
}
