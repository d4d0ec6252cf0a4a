//! The sign stage: signatures are made and put beside what they sign.
//!
//! A signature by the same key that is there already is left as it is, so that a run
//! that is repeated adds nothing; signatures of others stay. But for the numbers that
//! ECDSA takes at random, all that is written follows from the artifact.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::key::SigningKey;
use super::place::{Place, Trouble};
use super::verify::{self, MAX_SIGNATURE, PREDICATE_ANNOTATION};
use super::{Format, bundle, simple};
use crate::error::Error;
use crate::oci::{
    Annotations, Blob, Descriptor, MEDIA_TYPE_IMAGE_CONFIG, MEDIA_TYPE_MANIFEST, Manifest,
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
    /// With what.
    pub key: Arc<SigningKey>,
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
/// older form is a tag that registries know.
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
    let mut signed = Vec::new();
    for &format in &signing.formats {
        let new = match (format, place) {
            (Format::Legacy, Place::Layout(_)) => continue,
            (Format::Legacy, Place::Remote(remote)) => {
                add_legacy(remote, manifest, &signing.key).await?
            }
            (Format::Bundle, _) => {
                let there = verify::look(place, &manifest.digest, signing.key.public(), format)
                    .await?
                    .found;
                if there.is_none() {
                    let created = created(place, bytes, signing.epoch).await?;
                    add_bundle(place, manifest, &signing.key, created).await?;
                }
                there.is_none()
            }
        };
        signed.push(Signed { format, new });
    }
    Ok(signed)
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
    key: &SigningKey,
    created: String,
) -> Result<(), Error> {
    let layer = Blob::new(bundle::MEDIA_TYPE, bundle::make(&subject.digest, key)?);
    let config = Blob::new(MEDIA_TYPE_EMPTY, b"{}".to_vec());
    let annotations = Annotations::from([
        (CONTENT_ANNOTATION.to_owned(), CONTENT.to_owned()),
        (
            PREDICATE_ANNOTATION.to_owned(),
            bundle::PREDICATE_TYPE.to_owned(),
        ),
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
    for blob in [&config, &layer] {
        place.put_blob(blob).await?;
    }
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
    let mut layer = None;
    for _ in 0..MAX_TRIES {
        let there = verify::look(place, &subject.digest, key.public(), Format::Legacy).await?;
        if there.found.is_some() {
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
