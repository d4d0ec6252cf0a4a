//! The verify stage: whether somebody who is trusted stands behind an artifact.
//!
//! The reference is resolved once, and all that follows is about that digest. What is
//! found beside the artifact is a claim by anybody who may write there: nothing in it
//! counts before a signature over it was found good, and what does not count is refused
//! with a reason. How much is looked at is bounded.

use serde_json::Value;

use super::Format;
use super::attestation::Kind;
use super::bundle::{self, Checked};
use super::place::{Place, Trouble};
use super::refusal::Refusal;
use super::simple;
use super::statement::{MAX_SIGNATURE, Wanted};
use super::trust::{SignedBy, Trust};
use crate::error::Error;
use crate::json;
use crate::oci::{Descriptor, Digest, MEDIA_TYPE_MANIFEST, Manifest};
use crate::registry::failure::printable;

/// So many referrers, or layers, that may be signatures are looked at.
pub const MAX_CANDIDATES: usize = 400;
/// So many bytes of them are.
const MAX_READ: u64 = 256 << 20;
/// How many reasons an error lists.
const MAX_REASONS: usize = 3;
/// The annotation of a referrer that says what its bundle states.
pub const PREDICATE_ANNOTATION: &str = "dev.sigstore.bundle.predicateType";
/// What manifests were before there was OCI.
const MEDIA_TYPE_DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// What cosign 3 lists its bundles as, where a registry does not list by itself.
const MEDIA_TYPE_EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// A signature, or an attestation, that holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// How it is kept.
    pub format: Format,
    /// The manifest that holds it.
    pub manifest: Digest,
    /// Who made it.
    #[serde(flatten)]
    pub by: SignedBy,
    /// What it says, where it is an attestation.
    #[serde(skip)]
    pub predicate: Value,
}

/// What a look for signatures in one format found.
#[derive(Debug, Default)]
pub struct Search {
    /// The first that holds.
    pub found: Option<Verified>,
    /// What does not count: what it is, and why.
    pub refused: Vec<(String, Refusal)>,
    /// Bundles that say of themselves that they state something else.
    pub others: usize,
    /// Where there are more than are looked at: how many, and of what.
    pub excess: Option<(usize, &'static str)>,
}

/// Fetches the manifest that a reference stands for and checks it against its digest.
///
/// # Errors
///
/// [`Error::Registry`] where it is not there, [`Error::Signature`] where it does not
/// have its digest.
pub async fn resolve(place: Place<'_>, version: &str) -> Result<(Descriptor, Vec<u8>), Error> {
    match place.manifest(version).await {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(Error::Registry {
            message: format!("{} has no `{version}`", place.name()),
            hint: Some(match place {
                Place::Remote(_) => "check the reference, and whether you are logged in".into(),
                Place::Layout(layout) => {
                    format!(
                        "see {}/index.json for what is there",
                        layout.folder().display()
                    )
                }
            }),
        }),
        Err(Trouble::Failed(error)) => Err(error),
        Err(Trouble::Refused(refusal)) => Err(Error::Signature {
            message: format!("the manifest of {} `{version}`: {refusal}", place.name()),
            hint: Some(
                "the registry, or something before it, changes what it serves: do not use it"
                    .into(),
            ),
        }),
    }
}

/// Whether somebody who is trusted states what is wanted about this manifest.
///
/// # Errors
///
/// [`Error::Signature`] that says why not; [`Error::Registry`] where this cannot be
/// found out.
pub async fn verify(
    place: Place<'_>,
    manifest: &Digest,
    wanted: &Wanted<'_>,
    trust: &Trust,
) -> Result<Verified, Error> {
    let mut refused = Vec::new();
    let mut others = 0;
    let mut excess = None;
    for format in Format::ALL {
        let search = look(place, manifest, wanted, trust, format).await?;
        if let Some(found) = search.found {
            return Ok(found);
        }
        refused.extend(search.refused);
        others += search.others;
        excess = excess.or(search.excess);
    }
    // Only now: anybody who may write there can add as many as they like.
    if let Some((count, what)) = excess {
        return Err(too_many(place, manifest, count, what));
    }
    let name = format!("{}@{manifest}", place.name());
    Err(unsigned(&name, wanted, trust, &refused, others))
}

/// What holds of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The signature.
    pub signature: Verified,
    /// The attestations that had to be there, by the same signer.
    pub attestations: Vec<(Kind, Verified)>,
}

/// Whether one of those who are trusted signed a manifest, whose bytes are given too, and
/// made the attestations that are required.
///
/// # Errors
///
/// As [`verify`].
pub async fn verify_all(
    place: Place<'_>,
    manifest: &Digest,
    bytes: &[u8],
    require: &[Kind],
    trusted: &[Trust],
) -> Result<Outcome, Error> {
    let (mut unsigned, mut unattested) = (None, None);
    for trust in trusted {
        let signature = match verify(place, manifest, &Wanted::SIGNATURE, trust).await {
            Ok(signature) => signature,
            // The next one may have signed.
            Err(error @ Error::Signature { .. }) => {
                unsigned.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        match attestations(place, manifest, bytes, require, trust).await {
            Ok(attestations) => {
                return Ok(Outcome {
                    signature,
                    attestations,
                });
            }
            // The next one may have attested.
            Err(error @ Error::Signature { .. }) => {
                unattested.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(match (unattested, unsigned, trusted.len()) {
        (Some(error), ..) => error,
        (_, Some(Error::Signature { message, .. }), count @ 2..) => Error::Signature {
            message: format!("none of {count} keys that are trusted: {message}"),
            hint: Some("check that the keys are those of who published it".into()),
        },
        (_, Some(error), _) => error,
        (_, None, _) => Error::usage("nothing says who must have signed"),
    })
}

/// The attestations that are required, by one signer.
async fn attestations(
    place: Place<'_>,
    manifest: &Digest,
    bytes: &[u8],
    require: &[Kind],
    trust: &Trust,
) -> Result<Vec<(Kind, Verified)>, Error> {
    let mut attestations = Vec::new();
    for &kind in require {
        let wanted = Wanted {
            manifest: Some(bytes),
            ..Wanted::of_type(kind.predicate_type())
        };
        attestations.push((kind, verify(place, manifest, &wanted, trust).await?));
    }
    Ok(attestations)
}

/// Looks for it in one format. The older one holds signatures alone.
///
/// # Errors
///
/// As [`verify`].
pub async fn look(
    place: Place<'_>,
    manifest: &Digest,
    wanted: &Wanted<'_>,
    trust: &Trust,
    format: Format,
) -> Result<Search, Error> {
    match format {
        Format::Bundle => look_for_bundle(place, manifest, wanted, trust).await,
        Format::Legacy if wanted.is_signature() => look_for_legacy(place, manifest, trust).await,
        Format::Legacy => Ok(Search::default()),
    }
}

async fn look_for_bundle(
    place: Place<'_>,
    manifest: &Digest,
    wanted: &Wanted<'_>,
    trust: &Trust,
) -> Result<Search, Error> {
    let referrers = place.referrers(manifest).await?;
    look_among(place, referrers, manifest, wanted, trust).await
}

/// Looks for it among the manifests that say they are about this one.
///
/// # Errors
///
/// As [`verify`].
pub async fn look_among(
    place: Place<'_>,
    mut candidates: Vec<Descriptor>,
    manifest: &Digest,
    wanted: &Wanted<'_>,
    trust: &Trust,
) -> Result<Search, Error> {
    let mut search = Search::default();
    candidates.retain(|c| {
        matches!(
            c.artifact_type.as_deref(),
            Some(bundle::MEDIA_TYPE | MEDIA_TYPE_EMPTY) | None
        )
    });
    // Only to leave out: what is left is looked at whatever it says of itself.
    candidates.retain(|c| match c.annotations.get(PREDICATE_ANNOTATION) {
        Some(kind) if kind != wanted.predicate_type => {
            search.others += 1;
            false
        }
        _ => true,
    });
    // What is added stands at the end of most lists. Those that say of themselves that they
    // are it come first.
    candidates.reverse();
    candidates.sort_by_key(|c| !c.annotations.contains_key(PREDICATE_ANNOTATION));
    let count = candidates.len();
    let mut left = MAX_READ;
    for (n, candidate) in candidates.into_iter().enumerate() {
        if n == MAX_CANDIDATES || left == 0 {
            search.excess = Some((count, "referrers"));
            break;
        }
        match check_referrer(place, &candidate, manifest, wanted, trust, &mut left).await {
            Ok(Checked { by, predicate }) => {
                search.found = Some(Verified {
                    format: Format::Bundle,
                    manifest: candidate.digest,
                    by,
                    predicate,
                });
                return Ok(search);
            }
            // It did not say that it was what is wanted.
            Err(Trouble::Refused(Refusal::OtherStatement(_)))
                if !candidate.annotations.contains_key(PREDICATE_ANNOTATION) =>
            {
                search.others += 1;
            }
            Err(Trouble::Refused(refusal)) => search
                .refused
                .push((format!("the bundle {}", candidate.digest), refusal)),
            Err(Trouble::Failed(error)) => return Err(error),
        }
    }
    Ok(search)
}

/// What it states. Of what may be `left` to read, what was read is taken.
async fn check_referrer(
    place: Place<'_>,
    candidate: &Descriptor,
    about: &Digest,
    wanted: &Wanted<'_>,
    trust: &Trust,
    left: &mut u64,
) -> Result<Checked, Trouble> {
    let (_, bytes) = place
        .manifest(candidate.digest.as_str())
        .await?
        .ok_or(Refusal::Missing)?;
    *left = left.saturating_sub(bytes.len() as u64);
    let manifest = parse(&bytes)?;
    let kind = manifest.artifact_type.as_deref().unwrap_or_default();
    if kind != bundle::MEDIA_TYPE {
        return Err(Refusal::of_type("its manifest", kind).into());
    }
    let subject = manifest.subject.ok_or(Refusal::NoSubject)?.digest;
    if subject != *about {
        return Err(Refusal::OtherManifest(subject).into());
    }
    let [layer] = &manifest.layers[..] else {
        return Err(Refusal::Layers(manifest.layers.len()).into());
    };
    if layer.media_type != bundle::MEDIA_TYPE {
        return Err(Refusal::of_type("its layer", &layer.media_type).into());
    }
    let bytes = place.blob(layer, wanted.limit()).await?;
    *left = left.saturating_sub(bytes.len() as u64);
    Ok(bundle::check(&bytes, about, wanted, trust)?)
}

async fn look_for_legacy(
    place: Place<'_>,
    manifest: &Digest,
    trust: &Trust,
) -> Result<Search, Error> {
    match place.manifest(&simple::tag(manifest)).await {
        Ok(None) => Ok(Search::default()),
        Ok(Some(tagged)) => look_in_layers(place, &tagged, manifest, trust).await,
        Err(Trouble::Failed(error)) => Err(error),
        Err(Trouble::Refused(refusal)) => Ok(refused_tag(manifest, refusal)),
    }
}

fn refused_tag(manifest: &Digest, refusal: Refusal) -> Search {
    let what = format!("the tag {}", simple::tag(manifest));
    Search {
        refused: vec![(what, refusal)],
        ..Search::default()
    }
}

/// Looks for a signature among the layers of what the tag for the older form names.
///
/// # Errors
///
/// As [`verify`].
pub async fn look_in_layers(
    place: Place<'_>,
    (descriptor, bytes): &(Descriptor, Vec<u8>),
    manifest: &Digest,
    trust: &Trust,
) -> Result<Search, Error> {
    let parsed = match parse_tagged(bytes) {
        Ok(parsed) => parsed,
        Err(refusal) => return Ok(refused_tag(manifest, refusal)),
    };
    if parsed.layers.is_empty() {
        return Ok(refused_tag(manifest, Refusal::Signatures(0)));
    }
    let mut search = Search::default();
    // The newest stand at the end.
    for layer in parsed.layers.iter().rev().take(MAX_CANDIDATES) {
        match check_layer(place, layer, manifest, trust).await {
            Ok(by) => {
                search.found = Some(Verified {
                    format: Format::Legacy,
                    manifest: descriptor.digest.clone(),
                    by,
                    predicate: Value::Null,
                });
                return Ok(search);
            }
            Err(Trouble::Refused(refusal)) => search.refused.push((
                format!("the layer {} of {}", layer.digest, simple::tag(manifest)),
                refusal,
            )),
            Err(Trouble::Failed(error)) => return Err(error),
        }
    }
    let count = parsed.layers.len();
    if count > MAX_CANDIDATES {
        search.excess = Some((count, "layers of signatures"));
    }
    Ok(search)
}

async fn check_layer(
    place: Place<'_>,
    layer: &Descriptor,
    manifest: &Digest,
    trust: &Trust,
) -> Result<SignedBy, Trouble> {
    if layer.media_type != simple::MEDIA_TYPE {
        return Err(Refusal::of_type("it", &layer.media_type).into());
    }
    let bytes = place.blob(layer, MAX_SIGNATURE).await?;
    Ok(simple::check(layer, &bytes, manifest, trust)?)
}

fn parse(bytes: &[u8]) -> Result<Manifest, Refusal> {
    parse_as(bytes, &["", MEDIA_TYPE_MANIFEST])
}

/// The older form, which cosign writes with Docker's types too where it is told to.
fn parse_tagged(bytes: &[u8]) -> Result<Manifest, Refusal> {
    parse_as(bytes, &["", MEDIA_TYPE_MANIFEST, MEDIA_TYPE_DOCKER])
}

fn parse_as(bytes: &[u8], types: &[&str]) -> Result<Manifest, Refusal> {
    let manifest: Manifest =
        json::object(bytes).map_err(|e| Refusal::senseless("its manifest", &e))?;
    if !types.contains(&manifest.media_type.as_str()) {
        return Err(Refusal::of_type("its manifest", &manifest.media_type));
    }
    Ok(manifest)
}

fn too_many(place: Place<'_>, manifest: &Digest, count: usize, what: &str) -> Error {
    Error::Signature {
        message: format!(
            "{}@{manifest} has {count} {what} that may be signatures; of the {MAX_CANDIDATES} and the {} MiB that are looked at none holds",
            place.name(),
            MAX_READ >> 20
        ),
        hint: Some(
            "somebody, or a run that is repeated, fills the repository: remove those that are not needed"
                .into(),
        ),
    }
}

fn unsigned(
    name: &str,
    wanted: &Wanted<'_>,
    trust: &Trust,
    refused: &[(String, Refusal)],
    others: usize,
) -> Error {
    if refused.is_empty() {
        if !wanted.is_signature() {
            return Error::Signature {
                message: format!("{name} has no {}", wanted.name()),
                hint: Some(
                    "publish attests it where it signs; to what is published: cargo edgepack sign REF --attest TYPE=FILE"
                        .into(),
                ),
            };
        }
        let mut message = format!("{name} is not signed");
        if others > 0 {
            message.push_str(": it has attestations, and those are no signatures");
        }
        return Error::Signature {
            message,
            hint: Some(
                "whoever publishes it can sign it: cargo edgepack sign REF --key PATH".into(),
            ),
        };
    }
    let mut reasons: Vec<String> = refused
        .iter()
        .take(MAX_REASONS)
        .map(|(what, why)| format!("{}: {why}", printable(what)))
        .collect();
    if refused.len() > MAX_REASONS {
        reasons.push(format!("and {} more", refused.len() - MAX_REASONS));
    }
    let what = wanted.name();
    let by_others = refused.iter().all(|(_, why)| why.is_by_others());
    Error::Signature {
        message: format!("{name} has no {what} that holds: {}", reasons.join("; ")),
        hint: Some(Refusal::hint(by_others, trust, "artifact")),
    }
}
