//! Signatures, with keys and without: made so that cosign accepts them, and verified by
//! rules that are stricter than cosign's.
//!
//! A digest is signed, never a tag. There are two forms, and both are written unless
//! one is chosen: a Sigstore bundle that refers to the manifest, which cosign 3 writes,
//! and the tag `sha256-….sig` of cosign 2. `docs/signing.md` says what each proves.
//!
//! Specs: <https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>,
//! <https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto>.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

pub mod attach;
pub mod attestation;
pub mod blob;
pub mod bundle;
pub mod embedded;
pub mod encrypted;
pub mod key;
pub mod keyless;
pub mod place;
pub mod refusal;
pub mod signer;
pub mod simple;
pub mod source;
pub mod statement;
pub mod trust;
pub mod verify;

/// How a signature is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A Sigstore bundle in a manifest whose subject is what was signed.
    Bundle,
    /// A layer of the manifest that is tagged `sha256-….sig`.
    Legacy,
}

impl Format {
    /// Both, in the order in which they are written and looked for.
    pub const ALL: [Format; 2] = [Format::Bundle, Format::Legacy];

    /// As it is written on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Format::Bundle => "bundle",
            Format::Legacy => "legacy",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Format::ALL
            .into_iter()
            .find(|f| f.name() == text)
            .ok_or_else(|| format!("`{text}` is no format of signatures: bundle and legacy are"))
    }
}
