//! What the certificates of authorities say of themselves: from when until when they
//! hold, and whether they may sign others.
//!
//! The verifier of the crates takes each certificate of a trusted root for an anchor, and
//! of an anchor it reads the name and the key alone. So the dates of the last one of each
//! chain, which is its anchor, are put into the trusted root before the verifier sees it,
//! and the path from a signer's certificate to that anchor is walked here once more,
//! through the others.
//!
//! Spec: <https://www.rfc-editor.org/rfc/rfc5280#section-6>.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use sigstore_verify::VerificationResult;
use sigstore_verify::crypto::WEBPKI_VERIFICATION_ALGS;
use sigstore_verify::trust_root::TrustedRoot;
use sigstore_verify::types::{Bundle, TimeRange};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage as Purposes, KeyUsage as Uses};
use x509_cert::time::Validity;

use crate::registry::failure::printable;
use crate::sign::key;
use crate::sign::refusal::Refusal;

/// The purpose of certificates that sign code, as DER has it.
/// <https://www.rfc-editor.org/rfc/rfc5280#section-4.2.1.12>
const CODE_SIGNING: &[u8] = &[43, 6, 1, 5, 5, 7, 3, 3];
const CODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
/// That of certificates that sign times, and any.
const CLOCK: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
const ANY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

/// What a certificate may call critical, as for cosign: uses, names, constraints, lists of
/// what was revoked, policies and purposes.
const KNOWN: [ObjectIdentifier; 9] = [
    ObjectIdentifier::new_unwrap("2.5.29.15"),
    ObjectIdentifier::new_unwrap("2.5.29.17"),
    ObjectIdentifier::new_unwrap("2.5.29.19"),
    ObjectIdentifier::new_unwrap("2.5.29.30"),
    ObjectIdentifier::new_unwrap("2.5.29.31"),
    ObjectIdentifier::new_unwrap("2.5.29.32"),
    ObjectIdentifier::new_unwrap("2.5.29.36"),
    ObjectIdentifier::new_unwrap("2.5.29.37"),
    ObjectIdentifier::new_unwrap("2.5.29.54"),
];

/// The certificate authorities of a trusted root.
pub(super) struct Authorities(Vec<Authority>);

struct Authority {
    anchor: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
    window: Option<TimeRange>,
}

impl Authorities {
    /// Takes them out of a trusted root, and narrows the times in it, those of clocks
    /// too, to what the anchors say of themselves. Those that can vouch for nothing are left
    /// out of it.
    ///
    /// # Errors
    ///
    /// Why the first one can vouch for nothing, where all of a kind are like that.
    pub(super) fn at_their_word(root: &mut TrustedRoot) -> Result<Self, String> {
        let mut unfit = None;
        root.timestamp_authorities.retain_mut(|clock| {
            let chain = clock.cert_chain.certificates.iter();
            let chain = owned(chain.map(|c| c.raw_bytes.as_bytes()));
            // The first one is the clock's own.
            let done = narrow(&mut clock.valid_for, &chain, 1, CLOCK);
            done.map_err(|why| unfit.get_or_insert(why)).is_ok()
        });
        let unfit_clock = unfit.take();
        if let Some(why) = unfit_clock.filter(|_| root.timestamp_authorities.is_empty()) {
            return Err(why);
        }
        let mut all = Vec::new();
        root.certificate_authorities.retain_mut(|ca| {
            let chain = ca.cert_chain.certificates.iter();
            let mut chain = owned(chain.map(|c| c.raw_bytes.as_bytes()));
            let done = narrow(&mut ca.valid_for, &chain, 0, CODE);
            if let Err(why) = done {
                unfit.get_or_insert(why);
                return false;
            }
            all.extend(chain.pop().map(|anchor| Authority {
                anchor,
                intermediates: chain,
                window: ca.valid_for,
            }));
            true
        });
        match unfit {
            Some(why) if all.is_empty() => Err(why),
            _ => Ok(Authorities(all)),
        }
    }

    /// Whether, at each of the times that were found, one of them vouches for the
    /// certificate of a bundle.
    ///
    /// # Errors
    ///
    /// [`Refusal::Authority`], or [`Refusal::Senseless`].
    pub(super) fn vouch(&self, bundle: &Bundle, found: &VerificationResult) -> Result<(), Refusal> {
        // What a bundle of an older version holds beside it is nobody's word.
        let leaf = bundle.signing_certificate().ok_or(Refusal::Keyed)?;
        let senseless = |e: webpki::Error| Refusal::senseless("its certificate", &e);
        let leaf = CertificateDer::from(leaf.as_bytes());
        let leaf = EndEntityCert::try_from(&leaf).map_err(senseless)?;
        let times = found.verified_timestamps();
        if times.is_empty() {
            return Err(Refusal::Time("there is no timestamp".into()));
        }
        for &time in times {
            let seconds = u64::try_from(time.as_second()).unwrap_or_default();
            let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            let mut why = None;
            let vouched = self
                .0
                .iter()
                .filter(|authority| authority.window.is_none_or(|w| w.contains(time)))
                .any(|authority| {
                    let done = authority.vouches(&leaf, at);
                    done.map_err(|e| why = Some(e)).is_ok()
                });
            if !vouched {
                return Err(Refusal::Authority(match why {
                    None => "there was none then".into(),
                    Some(webpki::Error::CertExpired { .. }) => {
                        "a certificate on the way to it had ended".into()
                    }
                    Some(webpki::Error::CertNotValidYet { .. }) => {
                        "a certificate on the way to it was not valid yet".into()
                    }
                    Some(other) => printable(&other.to_string()),
                }));
            }
        }
        Ok(())
    }
}

impl Authority {
    fn vouches(&self, leaf: &EndEntityCert<'_>, at: UnixTime) -> Result<(), webpki::Error> {
        let anchor = [anchor_from_trusted_cert(&self.anchor)?];
        let through = &self.intermediates;
        // The verifier asks the signer's own certificate for it; those of authorities may
        // say nothing of purposes, which is any.
        let usage = KeyUsage::required_if_present(CODE_SIGNING);
        let algorithms = WEBPKI_VERIFICATION_ALGS;
        leaf.verify_for_usage(algorithms, &anchor, through, at, usage, None, None)?;
        Ok(())
    }
}

/// The kind of the key in a bundle's certificate, where it is not the usual one.
pub(super) fn other_kind(bundle: &Bundle) -> Option<&'static str> {
    let certificate = bundle.signing_certificate()?;
    let certificate = Certificate::from_der(certificate.as_bytes()).ok()?;
    let key = certificate.tbs_certificate.subject_public_key_info;
    let kind = key::kind_of(&key.to_der().ok()?).unwrap_or("that is not known");
    (kind != key::USUAL).then_some(kind)
}

fn owned<'a>(chain: impl Iterator<Item = &'a [u8]>) -> Vec<CertificateDer<'static>> {
    let chain = chain.map(|c| CertificateDer::from(c).into_owned());
    chain.collect()
}

/// When the anchor of a chain holds, of which all from `first` on sign others, for one
/// purpose.
fn anchor(
    chain: &[CertificateDer<'_>],
    first: usize,
    purpose: ObjectIdentifier,
) -> Result<Validity, String> {
    let parsed: Vec<Certificate> = chain
        .iter()
        .map(|c| Certificate::from_der(c))
        .collect::<Result<_, _>>()
        .map_err(|e| format!("a certificate of it makes no sense: {e}"))?;
    for pair in parsed.windows(2) {
        if pair[0].tbs_certificate.issuer != pair[1].tbs_certificate.subject {
            return Err(format!(
                "in a chain, `{}` is not by the next, `{}`",
                name(&pair[0]),
                name(&pair[1])
            ));
        }
    }
    for (below, certificate) in parsed.iter().skip(first).enumerate() {
        if let Err(what) = may_sign_others(certificate, below, purpose) {
            let name = name(certificate);
            return Err(format!("the certificate of `{name}` is {what}"));
        }
    }
    let anchor = parsed.last().ok_or("a chain has no certificates")?;
    Ok(anchor.tbs_certificate.validity)
}

/// Whether a certificate may, with so many of authorities below it; what it is otherwise.
fn may_sign_others(
    certificate: &Certificate,
    below: usize,
    purpose: ObjectIdentifier,
) -> Result<(), &'static str> {
    let tbs = &certificate.tbs_certificate;
    let uses = tbs.get::<Uses>();
    let signs = uses.is_ok_and(|found| found.is_none_or(|(_, uses)| uses.key_cert_sign()));
    let basic = tbs.get::<BasicConstraints>().ok().flatten();
    let Some((_, basic)) = basic.filter(|(_, basic)| basic.ca && signs) else {
        return Err("that of no authority");
    };
    let most = basic.path_len_constraint.map(usize::from);
    if most.is_some_and(|most| below > most) {
        return Err("for fewer authorities below it");
    }
    let mut extensions = tbs.extensions.iter().flatten();
    if extensions.any(|e| e.critical && !KNOWN.contains(&e.extn_id)) {
        return Err("for something that is not known, and that it calls critical");
    }
    let purposes = tbs.get::<Purposes>();
    let fits = |(_, Purposes(all)): &(bool, Purposes)| all.contains(&purpose) || all.contains(&ANY);
    if !purposes.is_ok_and(|found| found.is_none_or(|found| fits(&found))) {
        return Err("for another purpose");
    }
    Ok(())
}

fn name(certificate: &Certificate) -> String {
    printable(&certificate.tbs_certificate.subject.to_string())
}

/// Only at times that the anchor of a chain holds for, too.
fn narrow(
    window: &mut Option<TimeRange>,
    chain: &[CertificateDer<'_>],
    first: usize,
    purpose: ObjectIdentifier,
) -> Result<(), String> {
    let to = anchor(chain, first, purpose)?;
    let time = |time: x509_cert::time::Time| time.to_system_time().try_into();
    let [start, end] = [time(to.not_before), time(to.not_after)]
        .map(|t| t.map_err(|_| "a certificate of it has a time that makes no sense".to_owned()));
    let mut narrowed = TimeRange::new(start?, Some(end?));
    if let Some(window) = window {
        narrowed.start = narrowed.start.max(window.start);
        narrowed.end = match (narrowed.end, window.end) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    if narrowed.end.is_some_and(|end| end < narrowed.start) {
        return Err("an authority is named for times at which its certificate did not hold".into());
    }
    *window = Some(narrowed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use sigstore_verify::trust_root::{
        SIGSTORE_GITHUB_TRUSTED_ROOT, SIGSTORE_PRODUCTION_TRUSTED_ROOT,
        SIGSTORE_STAGING_TRUSTED_ROOT,
    };

    use super::*;

    /// What is in use is as the rules say.
    #[test]
    fn known_roots_are_taken() {
        for json in [
            SIGSTORE_PRODUCTION_TRUSTED_ROOT,
            SIGSTORE_STAGING_TRUSTED_ROOT,
            SIGSTORE_GITHUB_TRUSTED_ROOT,
        ] {
            let mut root = TrustedRoot::from_json(json).unwrap();
            let taken = Authorities::at_their_word(&mut root).unwrap();
            assert_eq!(taken.0.len(), root.certificate_authorities.len());
            assert!(sigstore_verify::Verifier::new(&root).is_ok());
        }
    }
}
