//! (IO) The services that are trusted: whose certificates, logs and clocks count.

use std::path::Path;
use std::sync::Arc;

use sigstore_verify::trust_root::{SigningConfig, TrustedRoot, TufConfig};
use sigstore_verify::types::bundle::TransparencyLogEntry;
use sigstore_verify::types::{Artifact, Bundle, Sha256Hash, SignatureContent};
use sigstore_verify::{
    CertificateError, Error as Failed, TransparencyLogError, VerificationPolicy, Verifier,
};

use super::authorities::{self, Authorities};
use crate::cache::Cache;
use crate::error::Error;
use crate::oci::Digest;
use crate::output::read_at_most;
use crate::registry::failure::printable;
use crate::registry::http::Client;
use crate::sign::refusal::Refusal;
use crate::sign::trust::{Identity, SignedBy};

/// A file that is larger holds something else.
const MAX_FILE: u64 = 4 << 20;
/// Of log entries, and of timestamps, cosign reads so many of a bundle.
const MAX_PROOFS: usize = 32;
/// What trusted roots call themselves, with the version behind.
/// <https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_trustroot.proto>
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.trustedroot";
/// Where metadata of the public instance is kept, beside the cache's own entries.
const TUF_FOLDER: &str = "sigstore-tuf";
/// A file that every run fetches anew: when it cannot be, nothing can.
const TUF_PROBE: &str = "https://tuf-repo-cdn.sigstore.dev/timestamp.json";

/// The services that are trusted.
#[derive(Clone)]
pub struct Root(Arc<Trusted>);

struct Trusted {
    verifier: Verifier,
    authorities: Authorities,
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Root(..)")
    }
}

impl Root {
    /// Reads a file of cosign's form, or fetches that of the public instance.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Usage`] where the file is none; [`Error::Registry`] where
    /// the public instance cannot be reached, [`Error::Signature`] where what it gives
    /// does not verify.
    pub async fn open(file: Option<&Path>, client: &Client) -> Result<Self, Error> {
        match file {
            Some(file) => Self::read(file),
            None => Ok(public(client).await?.0),
        }
    }

    /// Reads a file of cosign's form.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Usage`].
    pub fn read(file: &Path) -> Result<Self, Error> {
        let unusable = |why: String| unusable(file, "trusted root", "trusted-root", &why);
        let root = TrustedRoot::from_json(&read(file)?).map_err(|e| unusable(e.to_string()))?;
        if !root.media_type.starts_with(MEDIA_TYPE) {
            let found = printable(&root.media_type);
            return Err(unusable(format!("its mediaType is `{found}`")));
        }
        // All of them are asked for; with none to trust, nothing could verify.
        for (what, missing) in [
            (
                "certificate authority",
                root.certificate_authorities.is_empty(),
            ),
            ("log of certificates", root.ctlogs.is_empty()),
            ("log of signatures", root.tlogs.is_empty()),
        ] {
            if missing {
                return Err(unusable(format!("it names no {what}")));
            }
        }
        Self::new(root).map_err(unusable)
    }

    fn new(mut root: TrustedRoot) -> Result<Self, String> {
        let authorities = Authorities::at_their_word(&mut root)?;
        let verifier = Verifier::new(&root).map_err(|e| e.to_string())?;
        Ok(Root(Arc::new(Trusted {
            verifier,
            authorities,
        })))
    }

    /// Whether a bundle's signature over this payload, which is about this manifest, was
    /// made by this identity: certificate, its log, the signature's log and its time.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub fn check(
        &self,
        bundle: &[u8],
        payload: &[u8],
        manifest: &Digest,
        identity: &Identity,
    ) -> Result<SignedBy, Refusal> {
        let senseless =
            |e: &dyn std::fmt::Display| Refusal::senseless("the bundle", &e.to_string());
        let text = std::str::from_utf8(bundle).map_err(|e| senseless(&e))?;
        let bundle = Bundle::from_json(text).map_err(|e| senseless(&e))?;
        // Two parsers have read it: what the one verifies is to be what the other shows.
        match &bundle.content {
            SignatureContent::DsseEnvelope(envelope) if envelope.payload.as_bytes() == payload => {}
            _ => return Err(Refusal::Changed),
        }
        let digest = Sha256Hash::from_hex(manifest.hex()).map_err(|e| senseless(&e))?;
        self.judge(&bundle, digest.into(), identity)
    }

    /// Whether a bundle's signature of a file's bytes was made by this identity.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub fn check_file(
        &self,
        bundle: &[u8],
        bytes: &[u8],
        identity: &Identity,
    ) -> Result<SignedBy, Refusal> {
        let senseless =
            |e: &dyn std::fmt::Display| Refusal::senseless("the bundle", &e.to_string());
        let text = std::str::from_utf8(bundle).map_err(|e| senseless(&e))?;
        let bundle = Bundle::from_json(text).map_err(|e| senseless(&e))?;
        if !matches!(bundle.content, SignatureContent::MessageSignature(_)) {
            return Err(Refusal::NoMessageSignature);
        }
        self.judge(&bundle, bytes.into(), identity)
    }

    fn judge(
        &self,
        bundle: &Bundle,
        artifact: Artifact<'_>,
        identity: &Identity,
    ) -> Result<SignedBy, Refusal> {
        if bundle.signing_certificate().is_none() {
            return Err(Refusal::Keyed);
        }
        let entries = &bundle.verification_material.tlog_entries;
        let times = &bundle.verification_material.timestamp_verification_data;
        for (what, found) in [
            ("log entries", entries.len()),
            ("timestamps", times.rfc3161_timestamps.len()),
        ] {
            if found > MAX_PROOFS {
                return Err(Refusal::TooMany {
                    what,
                    found,
                    limit: MAX_PROOFS,
                });
            }
        }
        if entries.is_empty() || entries.iter().any(|e| e.inclusion_proof.is_none()) {
            return Err(Refusal::NoProof);
        }
        let is_again = |(n, entry): (usize, &TransparencyLogEntry)| {
            let mut before = entries[..n].iter();
            before.any(|e| e.log_id == entry.log_id && e.log_index == entry.log_index)
        };
        if entries.iter().enumerate().any(is_again) {
            return Err(Refusal::Entry("it is there twice".into()));
        }
        let policy = VerificationPolicy::any_identity();
        let result = self
            .0
            .verifier
            .verify(artifact, bundle, &policy)
            .map_err(|e| refusal(&e, bundle))?;
        if !(result.certificate_verified() && result.sct_verified() && result.tlog_verified()) {
            return Err(Refusal::NoProof);
        }
        self.0.authorities.vouch(bundle, &result)?;
        if let Some(info) = result.certificate() {
            // Newer logs do not sign it, and leave it out or at zero. One that cannot be is
            // refused all the same, as cosign does: who writes nonsense there has something in
            // mind.
            let held = info.not_before..=info.not_after;
            let mut times = entries.iter().filter_map(|e| e.integrated_time);
            if let Some(time) = times.find(|time| time.as_second() != 0 && !held.contains(time)) {
                return Err(Refusal::Entry(format!(
                    "its integratedTime {time} is none at which the certificate was valid"
                )));
            }
        }
        let subject = result.identity().map_or("", |i| i.as_str());
        // One that names nobody is like no pattern, though the pattern were like nothing.
        if subject.is_empty() {
            return Err(Refusal::senseless("its certificate", &"it names nobody"));
        }
        let issuer = result.issuer().unwrap_or_default();
        // Patterns take lines for lines, and whoever reads does not see them.
        if subject.chars().chain(issuer.chars()).any(char::is_control) {
            let why = "it names somebody with control characters";
            return Err(Refusal::senseless("its certificate", &why));
        }
        if !identity.subject.matches(subject) {
            return Err(Refusal::OtherIdentity {
                found: printable(subject),
                wanted: identity.subject.to_string(),
            });
        }
        if !identity.issuer.matches(issuer) {
            return Err(Refusal::OtherIssuer {
                found: printable(issuer),
                wanted: identity.issuer.to_string(),
            });
        }
        Ok(SignedBy::Certificate {
            identity: printable(subject),
            issuer: printable(issuer),
        })
    }
}

/// The public instance: what is trusted, and where to sign.
///
/// # Errors
///
/// [`Error::Registry`] where it cannot be reached, [`Error::Signature`] where what it
/// gives does not verify.
pub(super) async fn public(client: &Client) -> Result<(Root, SigningConfig), Error> {
    let config = TufConfig::production().with_http_client(client.for_services(false)?);
    let config = match Cache::of_user().beside(TUF_FOLDER) {
        Some(folder) => config.with_cache_dir(folder),
        None => config.without_cache(),
    };
    let fetched = sigstore_verify::trust_root::fetch_trust_material(config);
    let (root, signing) = match fetched.await {
        Ok(found) => found,
        Err(error) => {
            let why = printable(&error.to_string());
            let hint = Some(
                "name files with --trusted-root, and to sign with --signing-config, where the public instance of Sigstore is not what you use"
                    .into(),
            );
            return Err(if client.answers(TUF_PROBE).await {
                Error::Signature {
                    message: format!(
                        "what the public instance of Sigstore says of itself does not verify: {why}"
                    ),
                    hint,
                }
            } else {
                Error::Registry {
                    message: format!("the public instance of Sigstore cannot be reached: {why}"),
                    hint,
                }
            });
        }
    };
    let root = Root::new(root).map_err(|why| Error::Signature {
        message: format!(
            "the trusted root of the public instance cannot be used: {}",
            printable(&why)
        ),
        hint: Some("a newer version may know it; --trusted-root names another one".into()),
    })?;
    Ok((root, signing))
}

/// The text of a file that a flag names.
pub(super) fn read(file: &Path) -> Result<String, Error> {
    let not_text = |e| std::io::Error::new(std::io::ErrorKind::InvalidData, e);
    read_at_most(file, MAX_FILE)
        .and_then(|bytes| String::from_utf8(bytes).map_err(not_text))
        .map_err(Error::io("read", file))
}

pub(super) fn unusable(file: &Path, what: &str, command: &str, why: &str) -> Error {
    Error::Usage {
        message: format!(
            "`{}` is no {what} that can be used: {}",
            file.display(),
            printable(why)
        ),
        hint: Some(format!("cosign makes such files: cosign {command} create")),
    }
}

/// The verifier's reasons in the words of the others.
fn refusal(error: &Failed, bundle: &Bundle) -> Refusal {
    use TransparencyLogError as Log;
    let words = printable(&error.to_string());
    // Its log does not know the kind, or the verifier takes another hash than the signer.
    if matches!(
        error,
        Failed::SignatureInvalid(_)
            | Failed::TransparencyLog(Log::MalformedEntry(_))
            | Failed::Certificate(CertificateError::Malformed(_))
            | Failed::ArtifactMismatch(_)
            | Failed::UnsupportedBundle(_)
            | Failed::Crypto(_)
    ) && let Some(kind) = authorities::other_kind(bundle)
    {
        return Refusal::KeyKind { kind, why: words };
    }
    match error {
        Failed::SignatureInvalid(_) => Refusal::ChangedCertified,
        // Of three that it says so of, this one is about the log.
        Failed::ArtifactMismatch(why) if why.contains("hashedrekord") => Refusal::Entry(words),
        Failed::ArtifactMismatch(_) => Refusal::OtherArtifact("by its subject".into()),
        Failed::Certificate(
            CertificateError::Expired { .. } | CertificateError::NotYetValid { .. },
        ) => Refusal::NotValidThen(words),
        // Its authority is asked first, and says the same in other words.
        Failed::Certificate(CertificateError::ChainInvalid(why))
            if why.contains("Expired") || why.contains("NotValidYet") =>
        {
            Refusal::NotValidThen(words)
        }
        Failed::Certificate(CertificateError::Sct(_)) => Refusal::Sct(words),
        Failed::Certificate(CertificateError::Malformed(_)) => {
            Refusal::senseless("its certificate", &words)
        }
        Failed::Certificate(_) => Refusal::Authority(words),
        Failed::TransparencyLog(Log::Checkpoint(_) | Log::UnknownLog { .. }) => {
            Refusal::Checkpoint(words)
        }
        Failed::TransparencyLog(Log::InclusionProof(_)) => Refusal::Proof(words),
        Failed::TransparencyLog(Log::MalformedEntry(_)) => {
            Refusal::senseless("the log's entry", &words)
        }
        Failed::TransparencyLog(_) => Refusal::Entry(words),
        Failed::Timestamp(_) => Refusal::Time(words),
        _ => Refusal::Sigstore(words),
    }
}
