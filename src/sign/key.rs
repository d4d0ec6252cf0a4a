//! Keys to sign and to verify with, of the kinds that cosign's users have.
//!
//! cosign 2 signs the SHA-256 of a message whatever the curve is, and cosign 3 a hash as
//! long as the curve: either is verified. Ed25519 has a hash of its own.

mod pair;

use std::fmt;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA256_ASN1,
    ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA512_ASN1,
    ED25519 as ED25519_PURE, EcdsaKeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest as _;

use self::pair::{Pair, SIGNING};
use super::encrypted::{self, SealError};
use crate::error::Error;
use crate::oci::Digest;
use crate::registry::credentials::Secret;

/// The variable that holds the password of a key file, as for cosign.
pub const PASSWORD: &str = "COSIGN_PASSWORD";
/// The label of a public key in PEM. <https://www.rfc-editor.org/rfc/rfc7468#section-13>
const PUBLIC_LABEL: &str = "PUBLIC KEY";
/// The labels of private keys that openssl makes PKCS#8 of, which parameters may precede.
const OTHER_FORMS: [&str; 4] = [
    "EC PARAMETERS",
    "EC PRIVATE KEY",
    "RSA PRIVATE KEY",
    "ENCRYPTED PRIVATE KEY",
];
/// The label of a key in PKCS#8 that is not encrypted.
const PLAIN_LABEL: &str = "PRIVATE KEY";

/// The kind of keys that sign what is inside modules, too.
pub(super) const ED25519: &str = "Ed25519";
/// The kind that is made.
pub(super) const USUAL: &str = "ECDSA P-256";
/// Kinds, by how the algorithm of their keys begins, which stands in public ones and in
/// PKCS#8. <https://www.rfc-editor.org/rfc/rfc5280#section-4.1.2.7>
const KINDS: [(&str, &[u8]); 8] = [
    (
        USUAL,
        b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
    ),
    (
        "ECDSA P-384",
        b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22",
    ),
    (
        "ECDSA P-521",
        b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23",
    ),
    (
        "ECDSA secp256k1",
        b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x0a",
    ),
    (
        "ECDSA on a curve without a name",
        b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x30",
    ),
    ("ECDSA", b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"),
    (ED25519, b"\x30\x05\x06\x03\x2b\x65\x70"),
    (
        "RSA",
        b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00",
    ),
];

/// Which kind of key a `SubjectPublicKeyInfo`, or PKCS#8, holds.
pub(super) fn kind_of(der: &[u8]) -> Option<&'static str> {
    // Behind the headers of a sequence, or two, and of the version in PKCS#8.
    let begins =
        |with: &[u8]| (2..=11).any(|at| der.get(at..).is_some_and(|d| d.starts_with(with)));
    let found = KINDS.iter().find(|(_, with)| begins(with));
    found.map(|(kind, _)| *kind)
}

/// A key to verify with.
#[derive(Clone)]
pub struct PublicKey {
    der: Vec<u8>,
    kind: &'static str,
    /// With each hash that signatures may be over.
    keys: Vec<ParsedPublicKey>,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {})", self.kind, self.fingerprint())
    }
}

impl PublicKey {
    /// Reads a key in PEM; `name` says in errors where it comes from.
    ///
    /// # Errors
    ///
    /// [`Error::Signature`].
    pub fn parse(text: &str, name: &str) -> Result<Self, Error> {
        let block = block_of(text, name)?;
        match block.tag() {
            PUBLIC_LABEL => Self::of_der(block.contents(), name),
            label if label.ends_with("PRIVATE KEY") => Err(Error::Signature {
                message: format!("{name} is a private key, and verifying takes the public one"),
                hint: Some("name the .pub file that was made with it".into()),
            }),
            label => Err(unusable(name, &format!("it holds a `{}`", shown(label)))),
        }
    }

    fn of_der(der: &[u8], name: &str) -> Result<Self, Error> {
        let kind = kind_of(der);
        let (kind, algorithms): (_, &[&'static dyn VerificationAlgorithm]) = match kind {
            Some(kind @ USUAL) => (kind, &[&ECDSA_P256_SHA256_ASN1]),
            Some(kind @ "ECDSA P-384") => {
                (kind, &[&ECDSA_P384_SHA384_ASN1, &ECDSA_P384_SHA256_ASN1])
            }
            Some(kind @ "ECDSA P-521") => {
                (kind, &[&ECDSA_P521_SHA512_ASN1, &ECDSA_P521_SHA256_ASN1])
            }
            Some(kind @ ED25519) => (kind, &[&ED25519_PURE]),
            Some(kind @ "RSA") => (kind, &[&RSA_PKCS1_2048_8192_SHA256]),
            _ => {
                let kind = kind.map_or("of a kind that is not known".into(), a_key_of);
                let known = "P-256, P-384, P-521, Ed25519 and RSA verify";
                return Err(unusable(name, &format!("it is {kind}: {known}")));
            }
        };
        if kind == "RSA" && PublicEncryptingKey::from_der(der).is_err() {
            let why = "it is no RSA key of 2048 to 8192 bits that makes sense";
            return Err(unusable(name, why));
        }
        let keys = algorithms
            .iter()
            .map(|algorithm| ParsedPublicKey::new(*algorithm, der))
            .collect::<Result<_, _>>()
            .map_err(|_| unusable(name, &format!("it is no {kind} key that makes sense")))?;
        Ok(PublicKey {
            der: der.to_vec(),
            kind,
            keys,
        })
    }

    /// In PEM, as cosign writes it.
    #[must_use]
    pub fn to_pem(&self) -> String {
        encode(PUBLIC_LABEL, self.der.clone())
    }

    /// Which algorithm it is for.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The digest of the key in DER.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// What a bundle calls the key.
    #[must_use]
    pub fn hint(&self) -> String {
        STANDARD.encode(sha2::Sha256::digest(&self.der))
    }

    /// Whether the signature over the message is by this key.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verifies = |key: &ParsedPublicKey| key.verify_sig(message, signature).is_ok();
        self.keys.iter().any(verifies)
    }
}

/// A key to sign with.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(<redacted>, {})", self.public.fingerprint())
    }
}

impl SigningKey {
    /// Reads a key in PEM, plain or encrypted; `name` says in errors where it comes
    /// from. The password is asked for where the key is encrypted.
    ///
    /// # Errors
    ///
    /// [`Error::Signature`], with a text for each thing that can be wrong.
    pub fn parse(
        text: &str,
        name: &str,
        password: impl FnOnce() -> Result<Option<Secret>, Error>,
    ) -> Result<Self, Error> {
        let block = block_of(text, name)?;
        let opened;
        let pkcs8 = match block.tag() {
            PLAIN_LABEL => block.contents(),
            encrypted::LABEL | encrypted::OLD_LABEL => {
                let password = password()?.ok_or_else(|| Error::Signature {
                    message: format!("{name} is encrypted, and there is no password for it"),
                    hint: Some(format!("set {PASSWORD}, to nothing where there is none")),
                })?;
                gather_randomness();
                opened = encrypted::open(block.contents(), &password).map_err(|e| {
                    let hint = match e {
                        SealError::Password => Some(format!("it is taken from {PASSWORD}")),
                        _ => None,
                    };
                    Error::Signature {
                        message: format!("{name} cannot be opened: {e}"),
                        hint,
                    }
                })?;
                &opened
            }
            PUBLIC_LABEL => {
                return Err(Error::Signature {
                    message: format!("{name} is a public key, and signing takes the private one"),
                    hint: Some("name the .key file that was made with it".into()),
                });
            }
            label if OTHER_FORMS.contains(&label) => {
                return Err(Error::Signature {
                    message: format!("{name} is in another form: it holds a `{label}`"),
                    hint: Some(
                        "openssl pkcs8 -topk8 -nocrypt -in FILE makes PKCS#8 of it, not encrypted, which is taken where it is P-256, Ed25519 or RSA; cosign import-key-pair encrypts that"
                            .into(),
                    ),
                });
            }
            label => {
                return Err(Error::Signature {
                    message: format!("{name} cannot be used: it holds a `{}`", shown(label)),
                    hint: Some(
                        "signing takes a key of cosign's form, or PKCS#8: cargo edgepack keygen makes one"
                            .into(),
                    ),
                });
            }
        };
        Self::of_pkcs8(pkcs8, name)
    }

    fn of_pkcs8(pkcs8: &[u8], name: &str) -> Result<Self, Error> {
        let kind = kind_of(pkcs8);
        let refused = |why: String| Error::Signature {
            message: format!("{name} cannot be used: {why}"),
            hint: Some("cargo edgepack keygen makes one".into()),
        };
        let pair = Pair::of_pkcs8(kind.unwrap_or(USUAL), pkcs8).ok_or_else(|| {
            refused(match kind {
                Some(kind) if !SIGNING.contains(&kind) => {
                    let known = SIGNING.join(", ");
                    format!("it is {}, and signing takes {known}", a_key_of(kind))
                }
                // Which have two primes, too.
                Some(kind @ "RSA") => {
                    format!("it is no {kind} key of 2048 to 8192 bits that makes sense")
                }
                Some(kind) => format!("it is no {kind} key that makes sense"),
                None => format!("it is no key of {} that makes sense", SIGNING.join(", ")),
            })
        })?;
        let der = pair
            .public_der()
            .map_err(|_| refused("it has no public half".into()))?;
        let public = PublicKey::of_der(&der, name)?;
        Ok(SigningKey { pair, public })
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message; in DER where the key is ECDSA's.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signed = self.pair.sign(message);
        signed.map_err(|_| Error::Internal("failed to sign".into()))
    }
}

/// Lets the random numbers that signing needs be gathered on another thread while
/// scrypt runs on this one: for the first of them the library measures the machine for
/// as long as scrypt takes a good part of.
fn gather_randomness() {
    std::thread::spawn(|| {
        // It is asked again where it is needed, and says then what is wrong.
        let _ = SystemRandom::new().fill(&mut [0]);
    });
}

/// Files of a new key pair.
pub struct Generated {
    /// The encrypted private key, in PEM.
    pub private: String,
    /// The public key, in PEM.
    pub public: String,
    /// The public key's digest.
    pub fingerprint: Digest,
}

/// Makes a P-256 key and encrypts it as cosign does.
///
/// # Errors
///
/// [`Error::Internal`].
pub fn generate(password: &Secret) -> Result<Generated, Error> {
    let failed = |_| Error::Internal("failed to make a key".into());
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
        .map_err(failed)?;
    let key = SigningKey::of_pkcs8(pkcs8.as_ref(), "the new key")?;
    let sealed =
        encrypted::seal(pkcs8.as_ref(), password).map_err(|e| Error::Internal(e.to_string()))?;
    Ok(Generated {
        private: encode(encrypted::LABEL, sealed),
        public: key.public.to_pem(),
        fingerprint: key.public.fingerprint(),
    })
}

fn encode(label: &str, contents: Vec<u8>) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, contents), config)
}

fn block_of(text: &str, name: &str) -> Result<pem::Pem, Error> {
    let block = pem::parse(text).map_err(|_| Error::Signature {
        message: format!("{name} holds no key, or one that is cut short: it is no PEM"),
        hint: Some(
            "a key begins with a line `-----BEGIN …-----` and ends with one `-----END …-----`"
                .into(),
        ),
    })?;
    // One of several would count, and nothing would say which.
    let begins = format!("-----BEGIN {}-----", block.tag());
    let several = text.matches(&begins).count();
    if several > 1 {
        return Err(Error::Signature {
            message: format!("{name} cannot be used: it holds {several} keys"),
            hint: Some(
                "put each key into a file of its own; a rule of a policy takes several: keys = [..]"
                    .into(),
            ),
        });
    }
    Ok(block)
}

fn a_key_of(kind: &str) -> String {
    format!("a key of the kind {kind}")
}

fn unusable(name: &str, why: &str) -> Error {
    Error::Signature {
        message: format!("{name} cannot be used: {why}"),
        hint: Some(
            "verifying takes a public key in PEM, such as the .pub file of: cargo edgepack keygen"
                .into(),
        ),
    }
}

/// A label is foreign text.
fn shown(label: &str) -> String {
    crate::registry::failure::printable(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> impl FnOnce() -> Result<Option<Secret>, Error> {
        let secret = Secret::new(text.into());
        move || Ok(Some(secret))
    }

    #[test]
    fn what_is_made_can_be_used() {
        let made = generate(&Secret::new("pw".into())).unwrap();
        let key = SigningKey::parse(&made.private, "k", password("pw")).unwrap();
        let public = PublicKey::parse(&made.public, "k").unwrap();
        assert_eq!(key.public().hint(), public.hint());
        let signature = key.sign(b"message").unwrap();
        assert!(public.verifies(b"message", &signature));
        assert!(!public.verifies(b"messagf", &signature));
        assert!(!format!("{key:?}").contains("pair"));
    }

    /// Made by openssl, and used for nothing.
    const P384_KEY: &str = "-----BEGIN PRIVATE KEY-----\nMIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDCf0Ko5IxobszCNgWAKI01VQQdHIGKRRigf48mztXqIzq19VtFGTwFSFK2k1B10PU2hZANiAAQ9mAmxmnqpfHgKHh4poiLVJ1uPG+FyAIFHqOkllebu6mrMTeJNPe43txsSv2/HlXvLXx0jCczcWSY7oikjvWtzgHt9fdcT4YcqfxtwEYz1zbKDUjMT3SO4YHMLxpkIuzg=\n-----END PRIVATE KEY-----\n";
    const ED25519_KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIMho5VrtVGNwC+sW6yJdq366665lHSycvOiyGpmsj/rI\n-----END PRIVATE KEY-----\n";

    #[test]
    fn says_what_is_wrong_with_a_key() {
        let made = generate(&Secret::new("pw".into())).unwrap();
        let half = &made.private[..made.private.len() / 2];
        for (text, word) in [
            (made.private.as_str(), "the password is wrong"),
            (half, "cut short"),
            (&made.public, "is a public key"),
            ("", "no PEM"),
            (
                "-----BEGIN X-----\nAAAA\n-----END X-----\n",
                "it holds a `X`",
            ),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "no key of ECDSA P-256, Ed25519, RSA that makes sense",
            ),
            (P384_KEY, "a key of the kind ECDSA P-384, and signing takes"),
            (
                "-----BEGIN EC PARAMETERS-----\nAAAA\n-----END EC PARAMETERS-----\n",
                "is in another form",
            ),
            (&[made.private.as_str(); 2].concat(), "it holds 2 keys"),
        ] {
            let error = SigningKey::parse(text, "k", password("no")).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(error.exit_code(), crate::exit_code::SIGNATURE);
        }
        let error = SigningKey::parse(&made.private, "k", || Ok(None)).unwrap_err();
        assert!(error.to_string().contains("no password"), "{error}");
        let error = PublicKey::parse(&made.private, "k").unwrap_err();
        assert!(error.to_string().contains("is a private key"), "{error}");
        let two = [&made.public, &made.public[..]].concat();
        let error = PublicKey::parse(&two, "k").unwrap_err();
        assert!(error.to_string().contains("it holds 2 keys"), "{error}");
        // The public half may stand behind the private one.
        let both = [&made.private, &made.public[..]].concat();
        assert!(SigningKey::parse(&both, "k", password("pw")).is_ok());
    }

    #[test]
    fn another_kind_signs() {
        let key = SigningKey::parse(ED25519_KEY, "k", || Ok(None)).unwrap();
        assert_eq!(key.public().kind(), "Ed25519");
        let public = PublicKey::parse(&key.public().to_pem(), "k").unwrap();
        let signature = key.sign(b"message").unwrap();
        assert!(public.verifies(b"message", &signature));
        assert!(!public.verifies(b"messagf", &signature));
    }

    /// Made by openssl, as cosign 2 and 3 sign.
    #[test]
    fn other_kinds_verify() {
        for (kind, der, signature) in [
            (
                "ECDSA P-384",
                "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEa6X4r/pU+kWulfT0x7Tr4rohWN4YrWvMOUsiIN4Bu56jjIQBDsGOOeb8+tqU4yArBHVzQNvMkTMWYAuKTeAEfPUD53aLpf1CuAJpKNxajZkDlHPFZr2sY8ZNUasz/B4N",
                "MGUCMQCIc62ziCgyDEKpVvw3gjqGrEi3dGHnrop35nE9zxWndpu1iZRgCYtTpm/kSWOkLoICMCALSA0Ob9kUx+/euPfG6bAZxmPdYEvwcBYo+MqXr0BoPvHS8Is4ncsOaI4hjpnQlg==",
            ),
            (
                "ECDSA P-384",
                "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEt+R/aMOr5bqC48laPchUIQPyfeBIU2mH3z3CEAxl8Wjk2JuJQNMbQ6l5YHDP2dA+Jg91yInA/+CqsYS8kgMLAtUMoGklBUF8+Tv4ajF2sJxB0Cv9izclXrtytE8sQ/dj",
                "MGUCMQD01jHCLCXizxlH9KU5NcPiWZkt7X39gdtWVah65nL1Q5JB8kKw38G2xdggAEZGz2QCMGRo8cHnuVmHSBK583bA3UcRPOw86WAUWKHb9U1N9SoEQ0sgie18FDCoD31JK3x0Aw==",
            ),
            (
                "ECDSA P-521",
                "MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBVRdd2ntSG+z/j1ol1plU3+ltMWK9eTymGMn3ypmn3XCDKErIut6btaCBDLX+U/JCw6ApIA86EZuDNwvdNVdxmBEBSMGwa/kcB7h1Znfb0l/azSDfBWm9xWYqTzI9DQkWaLDePR8Hu7+TdZQWYZvV6zTUWwo7yT8AIMbkIf7dFriRcnk=",
                "MIGGAkF6tZ69ZoZLy5FGWEskDwLbt86yQoIyaz5m+hIuIAQfZDXPlV/ytHvvq90HpKbil+YYKeuoDDewKdKg18fVoS3CVgJBCsyMndfL1IXLe4IYIvr6uebVTlX1dLaR9vX80x6QohWgmtmzU7Ch0M30ZRpGMEjXBgYzpVEecK2mi+9ot9M1oTA=",
            ),
            (
                "ECDSA P-521",
                "MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBVRdd2ntSG+z/j1ol1plU3+ltMWK9eTymGMn3ypmn3XCDKErIut6btaCBDLX+U/JCw6ApIA86EZuDNwvdNVdxmBEBSMGwa/kcB7h1Znfb0l/azSDfBWm9xWYqTzI9DQkWaLDePR8Hu7+TdZQWYZvV6zTUWwo7yT8AIMbkIf7dFriRcnk=",
                "MIGHAkIAnpYcPyqz3gzvh42gkSi52hvpFl0wX+saB+pCcwQOC5+m30MErp72irnXMsIRK0W+tnBD1hFWTEe5yiGQm8pzggYCQTvj02p52pr9fuXU37USM8oNP0JMOgVuEnDdKtZ30B/bYuAHoF8jRIlekJ4BUyoBjq8eJ7m3mFBFyFwMpbxtFb33",
            ),
            (
                "Ed25519",
                "MCowBQYDK2VwAyEAE/qB3mILvQG5LDA3DjqjZJdzeDdIyJFsbKP2JHTgG/s=",
                "jRQow7pUuh4CWd9JqY3iBv8g2fhDWqWRjWk4zYq3NA8gWzNrPuBlS4wvokG7T9JSn/8gyKNbf5EZyJZrmCpKBw==",
            ),
            (
                "RSA",
                "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAqoJkPrIJehXSFhp+e/A5OTiYvmH6MgWtyBtggwWOz4yaldpHxD5vMI3h2o37qy9UySEw+y4WYcao5JL2k/W2cmosk2KNtv7Dde1GnD8LA50HPZJk+PZ8UHz3j5tW26M73DvmVaUvmyBArtGPHeCumdLqdkFSOYL4p2z6unMy4sf79TMUBJjVkw3pDl23Rh0lCm8C6SabGf2lytn1WIEIqP3D/kldt525d59kOhcKSWdR0waVHwvVuuIS9JJgaRTms0hn6qW1gVagAfqtpFi8vSMTTegPq1aYP62p57XcnjqdfNs9M1JFD8yKI04ptpJVC5iPytWSRlSZCuhqTWW4AwIDAQAB",
                "N8XoE0D2hN2fQo0vUctF3vvJTWCUirBGy8bRFn9jXgJJA9aO5TYnGv5GQ2+GexgYePadasvOSJmh8RmccdxuNIebBjnp5mR2T0oz8zYEWWR6EuKkPA/lqUW3A23m0j5415wMU+EP18W9RPvpoKbmSztvNMRiJPYX20dAaj2elRO/HI/DE8RhQer1eKZFivLiycDn1+vwu0OLO7DJzWB10oERdiw+jreu7wz6TTtKx3KuEvrHgV6HoFfZt302ByS79SI4kH6mdGgfypOOBYbQwfO+5JocV4gnLMOEDnaHEevIPkQmd7ytyUcPLXKM63vB0utYR6Gbw+mE05njbsplFA==",
            ),
        ] {
            let der = STANDARD.decode(der).unwrap();
            let key = PublicKey::parse(&encode(PUBLIC_LABEL, der), "k").unwrap();
            let signature = STANDARD.decode(signature).unwrap();
            assert_eq!(key.kind(), kind);
            assert!(key.verifies(b"message", &signature), "{kind}");
            assert!(!key.verifies(b"messagf", &signature), "{kind}");
        }
        // RSA with 1024 bits.
        let der = STANDARD.decode("MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDh1HIdh1rqDp9EmYoOOBZHRmuwaGJuJ9n12blKB6EAqD2kQqVFSoEwzOqp/9EPn1tn9El8xDnu8C9csLsh2Spc6R3k8Aqr2Mtr5Zq0Nc4xhignvFhpT2V4i3jFnjtFF/QUGn1+IYgAWCjT0toOO4FNdAK0kO546xtOLh3Cq4rmpQIDAQAB").unwrap();
        let error = PublicKey::parse(&encode(PUBLIC_LABEL, der), "k").unwrap_err();
        assert!(error.to_string().contains("2048"), "{error}");
        // secp256k1.
        let der = STANDARD.decode("MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAE9VhmAUhot2f7zOQOLck2IYPViwGar8EZPwOsOodaGqETsDq6fmsQqSXjcj9aKBxW1S/xYOhXH565j6PlMHYS8A==").unwrap();
        let error = PublicKey::parse(&encode(PUBLIC_LABEL, der), "k").unwrap_err();
        assert!(error.to_string().contains("secp256k1"), "{error}");
    }
}
