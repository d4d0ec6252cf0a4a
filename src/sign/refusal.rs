//! Why something that looks like a signature is none: each reason has its own words.

use super::trust::Trust;
use crate::oci::Digest;

/// Why a signature does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The registry, or the layout, gave other bytes than were asked for.
    #[error("its content does not have its digest")]
    Altered,
    /// The registry sends on and on.
    #[error("it is longer than it says of itself, or than what is read")]
    Excess,
    /// It is listed, and not there.
    #[error("it is listed, but it is not there")]
    Missing,
    /// No JSON, or not of the right form.
    #[error("{what} makes no sense: {why}")]
    Senseless {
        /// Which part.
        what: &'static str,
        /// The parser's words.
        why: String,
    },
    /// More bytes than a signature has.
    #[error("it has {size} bytes, more than the {limit} that are read")]
    TooLarge {
        /// Its own claim.
        size: u64,
        /// What is read.
        limit: u64,
    },
    /// A manifest that is about another one.
    #[error("its manifest is about {0}, not about this artifact")]
    OtherManifest(Digest),
    /// A manifest that is about nothing.
    #[error("its manifest is not about anything")]
    NoSubject,
    /// A type that is none of a signature.
    #[error("{what} has the type `{found}`, which is none of a signature")]
    Type {
        /// Which part.
        what: &'static str,
        /// What it has.
        found: String,
    },
    /// A bundle has one layer.
    #[error("its manifest has {0} layers in place of one")]
    Layers(usize),
    /// A bundle of another kind.
    #[error("it is a bundle without a DSSE envelope")]
    NoEnvelope,
    /// A bundle about a file holds a signature of its bytes.
    #[error("it is a bundle without a signature of a file")]
    NoMessageSignature,
    /// A bundle about a file may hold an attestation too: `cosign attest-blob`.
    #[error("it is an attestation, and no signature, of a file")]
    StatementOfFile,
    /// The form of cosign 2 without `--new-bundle-format`.
    #[error("it is no bundle of Sigstore's: it has no mediaType")]
    NoBundle,
    /// One signature has two things that it may be of.
    #[error("it is a bundle with both a DSSE envelope and a signature of a file")]
    TwoContents,
    /// The right key, or any, and another file.
    #[error("it signs another file")]
    OtherFile,
    /// A hash that cosign does not use.
    #[error("its digest is by `{0}`: SHA2_256, SHA2_384 and SHA2_512 are known")]
    OtherHash(String),
    /// An SBOM of something else.
    #[error("it is about another module, sha256:{0}")]
    OtherModule(String),
    /// DSSE binds the type of the payload.
    #[error("its payload type is `{0}`, which is none of in-toto")]
    PayloadType(String),
    /// A bundle has one signature.
    #[error("its list of signatures has {0} entries in place of one")]
    Signatures(usize),
    /// It names another key.
    #[error("it was made with another key")]
    OtherKey,
    /// It names no key.
    #[error("it was made with another key, or was changed afterwards")]
    OtherKeyOrChanged,
    /// It names this key.
    #[error("it claims to be made with this key, but was changed afterwards")]
    Changed,
    /// It names this key, with which cosign signs what nobody verifies.
    #[error(
        "it claims to be made with this key, but was changed afterwards, or is by cosign, which signs artifacts with Ed25519 in a way that it does not verify itself"
    )]
    ChangedOrPrehashed,
    /// A certificate in place of a key.
    #[error("it was made with a certificate, not with a key")]
    Certificate,
    /// A key in place of a certificate.
    #[error("it was made with a key, not with a certificate")]
    Keyed,
    /// The older form knows no proofs that go without asking the log.
    #[error("it was made with a certificate in the older form, which is only looked at for keys")]
    OldCertificate,
    /// A certificate, and a payload or a signature that is not the one it was used for.
    #[error("it was made with a certificate, but was changed afterwards")]
    ChangedCertified,
    /// The right services, another name.
    #[error("its certificate names `{found}`, and not {wanted}")]
    OtherIdentity {
        /// Whom it names.
        found: String,
        /// Whom it should.
        wanted: String,
    },
    /// The name may be right, but it is given by somebody else.
    #[error("`{found}` vouches for the name in its certificate, and not {wanted}")]
    OtherIssuer {
        /// Who does.
        found: String,
        /// Who should.
        wanted: String,
    },
    /// Another certificate authority.
    #[error("its certificate is not by an authority that is trusted: {0}")]
    Authority(String),
    /// Certificates last some minutes.
    #[error("its certificate was not valid when it was made: {0}")]
    NotValidThen(String),
    /// Certificates are in a log.
    #[error("that its certificate is in a log is not proved: {0}")]
    Sct(String),
    /// Signatures are in a log.
    #[error("it has no proof that it is in a log")]
    NoProof,
    /// A proof for something else.
    #[error("the proof that it is in a log does not hold: {0}")]
    Proof(String),
    /// A proof by somebody else.
    #[error("the log's checkpoint is not by a log that is trusted: {0}")]
    Checkpoint(String),
    /// What is in the log is something else.
    #[error("what the log holds is something else: {0}")]
    Entry(String),
    /// Not what today's logs are for.
    #[error(
        "its certificate is for a key of the kind {kind}, and without a key ECDSA P-256 with SHA-256 is known: {why}"
    )]
    KeyKind {
        /// The certificate's.
        kind: &'static str,
        /// The verifier's words.
        why: String,
    },
    /// More than anybody needs: each one costs time.
    #[error("it has {found} {what}, more than the {limit} that are looked at")]
    TooMany {
        /// Log entries, or timestamps.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many are looked at.
        limit: usize,
    },
    /// No clock that is trusted.
    #[error("when it was made is not proved: {0}")]
    Time(String),
    /// Anything else that the rules of Sigstore ask for.
    #[error("it breaks the rules for bundles: {0}")]
    Sigstore(String),
    /// The statement is none.
    #[error("its statement has the type `{0}`, which is not known")]
    StatementType(String),
    /// An SBOM or the like.
    #[error("it is an attestation of the type `{0}`, which is no signature")]
    Attestation(String),
    /// An attestation of another type than was asked for.
    #[error("it states something of the type `{0}`")]
    OtherStatement(String),
    /// The right type, other words.
    #[error("it states something else")]
    OtherPredicate,
    /// A signature is about one thing.
    #[error("it is about {0} subjects in place of one")]
    Subjects(usize),
    /// An attestation that its readers cannot read.
    #[error("it is no {kind} that makes sense: {why}")]
    Malformed {
        /// Its short name.
        kind: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The right key, another artifact.
    #[error("it signs another artifact, {0}")]
    OtherArtifact(String),
}

impl Refusal {
    /// Whether it may well be good, and somebody else's.
    #[must_use]
    pub fn is_by_others(&self) -> bool {
        matches!(
            self,
            Refusal::OtherKey
                | Refusal::OtherKeyOrChanged
                | Refusal::Certificate
                | Refusal::Keyed
                | Refusal::OldCertificate
                | Refusal::OtherIdentity { .. }
                | Refusal::OtherIssuer { .. }
        )
    }

    /// What to do where a file's bundle may be good, and is of another form.
    #[must_use]
    pub fn other_form(&self) -> Option<&'static str> {
        match self {
            Refusal::StatementOfFile => Some(
                "name a signature's bundle: of cargo edgepack sign FILE, or of cosign sign-blob --bundle",
            ),
            Refusal::NoBundle => {
                Some("cosign 2 writes bundles with: cosign sign-blob --new-bundle-format --bundle")
            }
            _ => None,
        }
    }

    /// What to look at, where what does not count is about `what`.
    #[must_use]
    pub fn hint(by_others: bool, trust: &Trust, what: &str) -> String {
        match trust {
            _ if !by_others => format!("do not use the {what} before you know why"),
            Trust::Key(_) => "check that the key is that of who published it".into(),
            Trust::Identity(_) => {
                "check that the identity and its issuer are those of who published it".into()
            }
        }
    }

    /// A parser's error; its words are foreign.
    #[must_use]
    pub fn senseless(what: &'static str, why: &impl ToString) -> Self {
        Refusal::Senseless {
            what,
            why: crate::registry::failure::printable(&why.to_string()),
        }
    }

    /// A type that is not the right one.
    #[must_use]
    pub fn of_type(what: &'static str, found: &str) -> Self {
        Refusal::Type {
            what,
            found: crate::registry::failure::printable(found),
        }
    }
}
