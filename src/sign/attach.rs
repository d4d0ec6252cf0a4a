//! The sign stage: signatures and attestations are made and put beside what they are
//! about.
//!
//! A signature by the same key that is there already is left as it is, so that a run
//! that is repeated adds nothing; signatures of others stay. But for the numbers that
//! ECDSA takes at random, all that is written follows from the artifact.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join;
use serde_json::{Value, json};

use super::attestation::Attestation;
use super::key::SigningKey;
use super::place::{Place, Trouble};
use super::signer::Signer;
use super::statement::{self, MAX_SIGNATURE, Wanted};
use super::trust::Trust;
use super::verify::{self, PREDICATE_ANNOTATION};
use super::{Format, bundle, simple};
use crate::error::Error;
use crate::oci::{
    Annotations, Blob, Descriptor, Digest, MEDIA_TYPE_IMAGE_CONFIG, MEDIA_TYPE_MANIFEST, Manifest,
    annotation,
};
use crate::pack::Timestamp;
use crate::registry::remote::Remote;

/// A config that says nothing.
/// <https://github.com/opencontainers/image-spec/blob/main/manifest.md#guidance-for-an-empty-descriptor>
const MEDIA_TYPE_EMPTY: &str = "application/vnd.oci.empty.v1+json";
const CONTENT_ANNOTATION: &str = "dev.sigstore.bundle.content";
const CONTENT: &str = "dsse-envelope";
/// What cosign's configs of signatures have for a time.
const NO_TIME: &str = "0001-01-01T00:00:00Z";
/// How often the manifest of a tag is changed again because somebody else did too.
const MAX_TRIES: u32 = 8;

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

/// Signs a manifest that is in a place. In a layout there are bundles alone, since the
/// older form is a tag that registries know; so it is without a key.
///
/// # Errors
///
/// [`Error`].
pub async fn sign(
    place: Place<'_>,
    manifest: &Descriptor,
    bytes: &[u8],
    signing: &Signing,
) -> Result<Vec<Signed>, Error> {
    let wanted = Wanted::SIGNATURE;
    let bundle = async {
        if !signing.formats.contains(&Format::Bundle) {
            return Ok(None);
        }
        let statement = statement::make(&manifest.digest, wanted.predicate_type, json!({}))?;
        let new = add(place, manifest, bytes, &wanted, &statement, signing).await?;
        Ok::<_, Error>(Some(new))
    };
    let legacy = async {
        match (place, &*signing.signer) {
            (Place::Remote(remote), Signer::Key(key))
                if signing.formats.contains(&Format::Legacy) =>
            {
                Ok(Some(add_legacy(remote, manifest, key).await?))
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
/// whether it had to, which it need not where the same was attested by the same signer.
///
/// # Errors
///
/// [`Error`].
pub async fn attest(
    place: Place<'_>,
    manifest: &Descriptor,
    bytes: &[u8],
    attestation: &Attestation,
    signing: &Signing,
) -> Result<bool, Error> {
    let Attestation {
        predicate_type,
        predicate,
    } = attestation;
    let wanted = Wanted {
        predicate_type,
        predicate: Some(predicate),
    };
    let statement = statement::make(&manifest.digest, predicate_type, predicate.clone())?;
    add(place, manifest, bytes, &wanted, &statement, signing).await
}

/// Signs a statement about a manifest, whose bytes are given too, and lists the bundle
/// as one of its referrers, unless what is `wanted` is there already.
async fn add(
    place: Place<'_>,
    manifest: &Descriptor,
    bytes: &[u8],
    wanted: &Wanted<'_>,
    statement: &[u8],
    signing: &Signing,
) -> Result<bool, Error> {
    if let Some(trust) = signing.signer.trust().await? {
        let there = verify::look(place, &manifest.digest, wanted, &trust, Format::Bundle).await?;
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
            hint: None,
        });
    }
    let created = created(place, bytes, signing.epoch).await?;
    add_bundle(place, manifest, wanted.predicate_type, bundle, created).await?;
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

async fn add_bundle(
    place: Place<'_>,
    subject: &Descriptor,
    predicate_type: &str,
    bundle: Vec<u8>,
    created: String,
) -> Result<(), Error> {
    let layer = Blob::new(bundle::MEDIA_TYPE, bundle);
    let config = Blob::new(MEDIA_TYPE_EMPTY, b"{}".to_vec());
    let annotations = Annotations::from([
        (CONTENT_ANNOTATION.to_owned(), CONTENT.to_owned()),
        (PREDICATE_ANNOTATION.to_owned(), predicate_type.to_owned()),
        (annotation::CREATED.to_owned(), created),
    ]);
    let manifest = Manifest {
        schema_version: 2,
        media_type: MEDIA_TYPE_MANIFEST.to_owned(),
        artifact_type: Some(bundle::MEDIA_TYPE.to_owned()),
        config: config.descriptor.clone(),
        layers: vec![layer.descriptor.clone()],
        // Type, digest and size alone: a tag in a layout is no part of the artifact.
        subject: Some(Descriptor {
            annotations: Annotations::new(),
            artifact_type: None,
            ..subject.clone()
        }),
        annotations: annotations.clone(),
    };
    let manifest = Blob::new(
        MEDIA_TYPE_MANIFEST,
        serde_json::to_vec(&manifest).map_err(|e| Error::Internal(e.to_string()))?,
    );
    try_join(place.put_blob(&config), place.put_blob(&layer)).await?;
    let listed_as = Descriptor {
        annotations,
        artifact_type: Some(bundle::MEDIA_TYPE.to_owned()),
        ..manifest.descriptor.clone()
    };
    place
        .put_referrer(&manifest, &subject.digest, &listed_as)
        .await
}

/// Adds a signature to those under the tag; says whether it had to.
async fn add_legacy(
    remote: &Remote,
    subject: &Descriptor,
    key: &SigningKey,
) -> Result<bool, Error> {
    let place = Place::Remote(remote);
    let tag = simple::tag(&subject.digest);
    let trust = Trust::Key(key.public().clone());
    let mut layer = None;
    for _ in 0..MAX_TRIES {
        let there = match &layer {
            None => look(place, &subject.digest, &trust).await?,
            Some(layer) => is_listed(place, &tag, layer).await?,
        };
        if there {
            return Ok(layer.is_some());
        }
        let layer = if let Some(layer) = &layer {
            layer
        } else {
            let repository = remote.repository().to_string();
            let made = simple::make(&repository, &subject.digest, key)?;
            place.put_blob(&made).await?;
            layer.insert(made)
        };
        let (media_type, mut manifest, mut config) = current(place, &tag).await?;
        append(
            &mut manifest,
            "/layers",
            serde_json::to_value(&layer.descriptor),
        );
        append(
            &mut config,
            "/rootfs/diff_ids",
            Ok(json!(layer.descriptor.digest)),
        );
        append(&mut config, "/history", Ok(json!({"created": NO_TIME})));
        let config = Blob::new(MEDIA_TYPE_IMAGE_CONFIG, config.to_string().into_bytes());
        place.put_blob(&config).await?;
        manifest["config"] =
            serde_json::to_value(&config.descriptor).map_err(|e| Error::Internal(e.to_string()))?;
        let bytes = Bytes::from(manifest.to_string());
        remote.put_manifest(&tag, &media_type, &bytes).await?;
        // Another client may have read the old manifest before we wrote ours: the next
        // round sees whether our layer is still there.
    }
    Err(Error::Registry {
        message: format!("others change {}:{tag} all the time", remote.repository()),
        hint: Some("run the same command again".into()),
    })
}

/// Whether there is such a signature in the older form.
async fn look(place: Place<'_>, subject: &Digest, trust: &Trust) -> Result<bool, Error> {
    let wanted = Wanted::SIGNATURE;
    let search = verify::look(place, subject, &wanted, trust, Format::Legacy).await?;
    Ok(search.found.is_some())
}

/// Whether the manifest that is tagged lists this signature.
async fn is_listed(place: Place<'_>, tag: &str, layer: &Blob) -> Result<bool, Error> {
    let bytes = match place.manifest(tag).await {
        Ok(Some((_, bytes))) => bytes,
        // What is wrong with it is said where it is to be changed.
        Ok(None) | Err(Trouble::Refused(_)) => return Ok(false),
        Err(Trouble::Failed(error)) => return Err(error),
    };
    let manifest: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let layers = manifest["layers"].as_array();
    let digest = layer.descriptor.digest.as_str();
    Ok(layers.is_some_and(|all| all.iter().any(|l| l["digest"] == digest)))
}

fn append(value: &mut Value, pointer: &str, item: serde_json::Result<Value>) {
    if let (Some(Value::Array(list)), Ok(item)) = (value.pointer_mut(pointer), item) {
        list.push(item);
    }
}

/// The manifest of the signatures of others and its config; new ones where there is none.
async fn current(place: Place<'_>, tag: &str) -> Result<(String, Value, Value), Error> {
    let odd = |why: &str| Error::Signature {
        message: format!(
            "{}:{tag} is there, and is no manifest of signatures: {why}",
            place.name()
        ),
        hint: Some("remove the tag, or write no such signature with --format bundle".into()),
    };
    let config = json!({
        "architecture": "",
        "created": NO_TIME,
        "history": [],
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": []},
        "config": {},
    });
    match place.manifest(tag).await {
        Ok(None) => {
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": MEDIA_TYPE_MANIFEST,
                "config": null,
                "layers": [],
            });
            Ok((MEDIA_TYPE_MANIFEST.to_owned(), manifest, config))
        }
        Ok(Some((descriptor, bytes))) => {
            // As JSON, so that what we do not know of stays.
            let manifest: Value =
                serde_json::from_slice(&bytes).map_err(|_| odd("it is no JSON"))?;
            if !manifest["layers"].is_array() {
                return Err(odd("it has no layers"));
            }
            let blob: Descriptor = serde_json::from_value(manifest["config"].clone())
                .map_err(|_| odd("it has no config"))?;
            let config = match place.blob(&blob, MAX_SIGNATURE).await {
                Ok(bytes) => serde_json::from_slice(&bytes)
                    .ok()
                    .filter(Value::is_object)
                    .unwrap_or(config),
                Err(Trouble::Refused(why)) => return Err(odd(&format!("its config: {why}"))),
                Err(Trouble::Failed(error)) => return Err(error),
            };
            Ok((descriptor.media_type, manifest, config))
        }
        Err(Trouble::Refused(why)) => Err(odd(&why.to_string())),
        Err(Trouble::Failed(error)) => Err(error),
    }
}
