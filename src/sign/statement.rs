//! What is signed: an in-toto statement about one manifest.
//!
//! A signature and an attestation differ in the type of the predicate alone, so that
//! both are made, kept and checked in the same way.
//!
//! Spec: <https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::attestation::Kind;
use super::refusal::Refusal;
use crate::error::Error;
use crate::json;
use crate::oci::{Digest, Manifest};
use crate::provenance;
use crate::registry::failure::printable;
use crate::sbom;
use crate::unpack::{self, Payload};

/// The type of a statement's payload. <https://github.com/in-toto/attestation/blob/main/spec/v1/envelope.md>
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// What makes a statement a signature and no attestation.
/// <https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md>
pub const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// <https://github.com/in-toto/attestation/blob/main/spec/v0.1.0/README.md#statement>
const OLDER_STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v0.1";
const SHA256: &str = "sha256";
/// A bundle or a payload of a signature above this size is none.
pub const MAX_SIGNATURE: u64 = 1 << 20;
/// The same for attestations: an SBOM lists every package.
pub const MAX_ATTESTATION: u64 = 16 << 20;

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

/// Which statement is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its type.
    pub predicate_type: &'a str,
    /// What it says; anything, where this is none.
    pub predicate: Option<&'a Value>,
    /// The manifest that it is about, where an SBOM has to mean the module in it.
    pub manifest: Option<&'a [u8]>,
}

impl<'a> Wanted<'a> {
    /// A signature.
    pub const SIGNATURE: Wanted<'static> = Wanted::of_type(SIGNATURE);

    /// Whatever has this type.
    #[must_use]
    pub const fn of_type(predicate_type: &'a str) -> Self {
        Wanted {
            predicate_type,
            predicate: None,
            manifest: None,
        }
    }

    /// Whether it is a signature, and no attestation.
    #[must_use]
    pub fn is_signature(&self) -> bool {
        self.predicate_type == SIGNATURE
    }

    /// Which attestation it is, where it has a short name.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.predicate_type() == self.predicate_type)
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> String {
        match self.kind() {
            _ if self.is_signature() => "signature".into(),
            Some(kind) => format!("{kind} attestation (`{}`)", self.predicate_type),
            None => format!("attestation of the type `{}`", self.predicate_type),
        }
    }

    /// So many bytes of a bundle are read.
    #[must_use]
    pub fn limit(&self) -> u64 {
        if self.is_signature() {
            MAX_SIGNATURE
        } else {
            MAX_ATTESTATION
        }
    }
}

/// A statement about a manifest, in JSON.
///
/// # Errors
///
/// [`Error::Internal`].
pub fn make(manifest: &Digest, predicate_type: &str, predicate: Value) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(&Statement {
        kind: STATEMENT_TYPE.into(),
        subject: vec![Subject {
            digest: BTreeMap::from([(SHA256.into(), manifest.hex().into())]),
        }],
        predicate_type: predicate_type.into(),
        predicate,
    })
    .map_err(|e| Error::Internal(e.to_string()))
}

/// Looks into a payload whose signature is good; the predicate.
///
/// # Errors
///
/// [`Refusal`] where it is not what is wanted, or about something else.
pub fn check(payload: &[u8], manifest: &Digest, wanted: &Wanted<'_>) -> Result<Value, Refusal> {
    let statement: Statement =
        json::object(payload).map_err(|e| Refusal::senseless("the statement", &e))?;
    if statement.predicate_type != wanted.predicate_type {
        let found = printable(&statement.predicate_type);
        return Err(if wanted.is_signature() {
            Refusal::Attestation(found)
        } else {
            Refusal::OtherStatement(found)
        });
    }
    // `cosign attest` writes the older one, which differs in nothing that is read here.
    let older = !wanted.is_signature() && statement.kind == OLDER_STATEMENT_TYPE;
    if statement.kind != STATEMENT_TYPE && !older {
        return Err(Refusal::StatementType(printable(&statement.kind)));
    }
    let [subject] = &statement.subject[..] else {
        return Err(Refusal::Subjects(statement.subject.len()));
    };
    match subject.digest.get(SHA256) {
        Some(hex) if hex == manifest.hex() => {}
        Some(hex) => {
            let found = printable(&format!("sha256:{hex}"));
            return Err(Refusal::OtherArtifact(found));
        }
        None => return Err(Refusal::OtherArtifact("without a sha256 digest".into())),
    }
    let kind = wanted.kind();
    let says = |wanted: &Value| match kind {
        Some(Kind::Provenance) => provenance::is_same_build(wanted, &statement.predicate),
        _ => *wanted == statement.predicate,
    };
    if !wanted.predicate.is_none_or(says) {
        return Err(Refusal::OtherPredicate);
    }
    if let Some(kind) = kind {
        kind.check(&statement.predicate)?;
    }
    if let (Some(Kind::Sbom), Some(manifest)) = (kind, wanted.manifest) {
        is_about(&statement.predicate, manifest)?;
    }
    Ok(statement.predicate)
}

/// Whether the SBOM of a module is about the one in this manifest, as far as both say so.
///
/// # Errors
///
/// [`Refusal::OtherModule`].
pub fn is_about(sbom: &Value, manifest: &[u8]) -> Result<(), Refusal> {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(manifest) else {
        return Ok(());
    };
    let Ok(Payload::Raw(layer)) = unpack::locate(&manifest) else {
        return Ok(());
    };
    match sbom::module_of(sbom) {
        Some(hex) if hex != layer.digest.hex() => Err(Refusal::OtherModule(printable(hex))),
        _ => Ok(()),
    }
}
