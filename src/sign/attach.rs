//! The sign stage: signatures and attestations are made and put beside what they are
//! about.
//!
//! A signature by the same key that is there already is left as it is, so that a run
//! that is repeated adds nothing; signatures of others stay. But for the numbers that
//! ECDSA takes at random, all that is written follows from the artifact.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{try_join, try_join_all, try_join3};
use serde_json::{Value, json};

use super::attestation::Attestation;
use super::place::{Place, Trouble};
use super::signer::Signer;
use super::statement::{self, MAX_SIGNATURE, Wanted};
use super::verify::{self, PREDICATE_ANNOTATION};
use super::{Format, bundle};
use crate::error::Error;
use crate::oci::{
    Annotations, Blob, Descriptor, Digest, MEDIA_TYPE_MANIFEST, Manifest, annotation,
};
use crate::pack::Timestamp;
use crate::registry::remote::upload::Begun;

mod legacy;

/// A config that says nothing.
/// <https://github.com/opencontainers/image-spec/blob/main/manifest.md#guidance-for-an-empty-descriptor>
const MEDIA_TYPE_EMPTY: &str = "application/vnd.oci.empty.v1+json";
const CONTENT_ANNOTATION: &str = "dev.sigstore.bundle.content";
const CONTENT: &str = "dsse-envelope";

/// How to sign.
#[derive(Clone, Debug)]
pub struct Signing {
    /// Who.
    pub signer: Arc<Signer>,
    /// In which formats.
    pub formats: Vec<Format>,
    /// The time that signatures carry; the artifact's own where there is none.
    pub epoch: Option<Timestamp>,
}

/// A signature that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// How it is kept.
    pub format: Format,
    /// Whether it was made, and not found.
    pub new: bool,
}

/// What a signature needs of the place whoever signs: found, and put there, while a key
/// is being opened.
pub struct Ready {
    /// When the artifact was made: no clock may tell signatures of one artifact apart.
    created: String,
    /// The manifests that say they are about it.
    referrers: Vec<Descriptor>,
    /// Blobs that are there.
    stored: Vec<Digest>,
    /// The upload of a first bundle.
    begun: Mutex<Option<Begun>>,
}

impl Ready {
    /// Stores a blob, if it is not known to be there.
    async fn store(&self, place: Place<'_>, blob: &Blob) -> Result<(), Error> {
        if self.stored.contains(&blob.descriptor.digest) {
            return Ok(());
        }
        place.put_blob(blob).await
    }

    fn begun(&self) -> Option<Begun> {
        let mut slot = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take()
    }
}

/// Prepares a place for signatures of a manifest in it, whose bytes are given too. `epoch`
/// is the time that they are to carry, the artifact's own where there is none. Unless the
/// signatures are `expected` there, blobs that each of them needs are put there: they are
/// referred to by nothing yet, and the same for every signer.
///
/// # Errors
///
/// [`Error`].
pub async fn prepare(
    place: Place<'_>,
    manifest: &Descriptor,
    bytes: &[u8],
    formats: &[Format],
    epoch: Option<Timestamp>,
    expected: bool,
) -> Result<Ready, Error> {
    let bundle = formats.contains(&Format::Bundle);
    let mut blobs = Vec::new();
    if let Place::Remote(remote) = place
        && !expected
    {
        if bundle {
            blobs.push(empty());
        }
        if formats.contains(&Format::Legacy) {
            blobs.extend(legacy::first(remote, &manifest.digest)?);
        }
    }
    let stored = try_join_all(blobs.iter().map(|blob| place.put_blob(blob)));
    let found = async {
        let referrers = place.referrers(&manifest.digest).await?;
        // Where there are some, the signature may be among them.
        let begun = if bundle && !expected && referrers.is_empty() {
            place.expect_blob().await?
        } else {
            None
        };
        Ok((referrers, begun))
    };
    let (_, created, (referrers, begun)) =
        try_join3(stored, created(place, bytes, epoch), found).await?;
    Ok(Ready {
        created,
        referrers,
        stored: blobs.into_iter().map(|b| b.descriptor.digest).collect(),
        begun: Mutex::new(begun),
    })
}

/// Signs a manifest that is in a place. In a layout there are bundles alone, since the
/// older form is a tag that registries know; so it is without a key.
///
/// # Errors
///
/// [`Error`].
pub async fn sign(
    place: Place<'_>,
    manifest: &Descriptor,
    signing: &Signing,
    ready: &Ready,
) -> Result<Vec<Signed>, Error> {
    let wanted = Wanted::SIGNATURE;
    let bundle = async {
        if !signing.formats.contains(&Format::Bundle) {
            return Ok(None);
        }
        let statement = statement::make(&manifest.digest, wanted.predicate_type, json!({}))?;
        let new = add(place, manifest, &wanted, &statement, signing, ready).await?;
        Ok::<_, Error>(Some(new))
    };
    let legacy = async {
        match (place, &*signing.signer) {
            (Place::Remote(remote), Signer::Key(key))
                if signing.formats.contains(&Format::Legacy) =>
            {
                Ok(Some(legacy::add(remote, manifest, key, ready).await?))
            }
            _ => Ok(None),
        }
    };
    // They have nothing in common, and each of them waits for the registry most of the time.
    let (bundle, legacy) = try_join(bundle, legacy).await?;
    let signed = [(Format::Bundle, bundle), (Format::Legacy, legacy)];
    Ok(signed
        .into_iter()
        .filter_map(|(format, new)| Some(Signed { format, new: new? }))
        .collect())
}

/// Attests something about a manifest that is in a place: a predicate and its type. Says
/// whether it had to, which it need not where the same was attested by the same signer;
/// provenance of the same build, whichever run made it.
///
/// # Errors
///
/// [`Error`].
pub async fn attest(
    place: Place<'_>,
    manifest: &Descriptor,
    attestation: &Attestation,
    signing: &Signing,
    ready: &Ready,
) -> Result<bool, Error> {
    let Attestation {
        predicate_type,
        predicate,
    } = attestation;
    let wanted = Wanted {
        predicate_type,
        predicate: Some(predicate),
        manifest: None,
    };
    let statement = statement::make(&manifest.digest, predicate_type, predicate.clone())?;
    add(place, manifest, &wanted, &statement, signing, ready).await
}

/// Signs a statement about a manifest and lists the bundle as one of its referrers, unless
/// what is `wanted` is among these already.
async fn add(
    place: Place<'_>,
    manifest: &Descriptor,
    wanted: &Wanted<'_>,
    statement: &[u8],
    signing: &Signing,
    ready: &Ready,
) -> Result<bool, Error> {
    if let Some(trust) = signing.signer.trust().await? {
        let referrers = ready.referrers.clone();
        let there = verify::look_among(place, referrers, &manifest.digest, wanted, &trust).await?;
        if there.found.is_some() {
            return Ok(false);
        }
    }
    let bundle = signing.signer.bundle(&manifest.digest, statement).await?;
    if bundle.len() as u64 > wanted.limit() {
        return Err(Error::Signature {
            message: format!(
                "the bundle with the type `{}` would have {} bytes, more than the {} that are read when verifying",
                wanted.predicate_type,
                bundle.len(),
                wanted.limit()
            ),
            hint: Some(
                "attest less; publish leaves them out with --no-sbom and --no-provenance".into(),
            ),
        });
    }
    add_bundle(place, manifest, wanted.predicate_type, bundle, ready).await?;
    Ok(true)
}

/// When the artifact was made: no clock may tell signatures of one artifact apart.
async fn created(
    place: Place<'_>,
    manifest: &[u8],
    epoch: Option<Timestamp>,
) -> Result<String, Error> {
    let valid = |text: &str| {
        humantime::parse_rfc3339(text)
            .is_ok()
            .then(|| text.to_owned())
    };
    if let Some(epoch) = epoch {
        return Ok(epoch.to_rfc3339());
    }
    if let Ok(parsed) = serde_json::from_slice::<Manifest>(manifest) {
        if let Some(text) = parsed
            .annotations
            .get(annotation::CREATED)
            .and_then(|text| valid(text))
        {
            return Ok(text);
        }
        let config = match place.blob(&parsed.config, MAX_SIGNATURE).await {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(Trouble::Refused(_)) => Value::Null,
            Err(Trouble::Failed(error)) => return Err(error),
        };
        if let Some(text) = config["created"].as_str().and_then(valid) {
            return Ok(text);
        }
    }
    Ok(Timestamp::default().to_rfc3339())
}

fn empty() -> Blob {
    Blob::new(MEDIA_TYPE_EMPTY, b"{}".to_vec())
}

async fn add_bundle(
    place: Place<'_>,
    subject: &Descriptor,
    predicate_type: &str,
    bundle: Vec<u8>,
    ready: &Ready,
) -> Result<(), Error> {
    let layer = Blob::new(bundle::MEDIA_TYPE, bundle);
    let config = empty();
    let annotations = Annotations::from([
        (CONTENT_ANNOTATION.to_owned(), CONTENT.to_owned()),
        (PREDICATE_ANNOTATION.to_owned(), predicate_type.to_owned()),
        (annotation::CREATED.to_owned(), ready.created.clone()),
    ]);
    let manifest = Manifest {
        schema_version: 2,
        media_type: MEDIA_TYPE_MANIFEST.to_owned(),
        artifact_type: Some(bundle::MEDIA_TYPE.to_owned()),
        config: config.descriptor.clone(),
        layers: vec![layer.descriptor.clone()],
        // Type, digest and size alone: a tag in a layout is no part of the artifact.
        subject: Some(Descriptor::plain(
            &subject.media_type,
            subject.digest.clone(),
            subject.size,
        )),
        annotations: annotations.clone(),
    };
    let manifest = Blob::new(
        MEDIA_TYPE_MANIFEST,
        serde_json::to_vec(&manifest).map_err(|e| Error::Internal(e.to_string()))?,
    );
    try_join(
        ready.store(place, &config),
        place.put_new_blob(ready.begun(), &layer),
    )
    .await?;
    let listed_as = Descriptor {
        annotations,
        artifact_type: Some(bundle::MEDIA_TYPE.to_owned()),
        ..manifest.descriptor.clone()
    };
    place
        .put_referrer(&manifest, &subject.digest, &listed_as)
        .await
}
