//! Signatures in the older form: layers of one manifest, under a tag that all signers of
//! an artifact share.

use std::time::Instant;

use bytes::Bytes;
use serde_json::{Value, json};

use super::Ready;
use crate::error::Error;
use crate::oci::{Blob, Descriptor, Digest, MEDIA_TYPE_IMAGE_CONFIG, MEDIA_TYPE_MANIFEST};
use crate::registry::remote::{Remote, outlive};
use crate::sign::key::SigningKey;
use crate::sign::place::{Place, Trouble};
use crate::sign::statement::MAX_SIGNATURE;
use crate::sign::trust::Trust;
use crate::sign::{simple, verify};

/// What cosign's configs of signatures have for a time.
const NO_TIME: &str = "0001-01-01T00:00:00Z";
/// How often the manifest of a tag is changed again because somebody else did too.
const MAX_TRIES: u32 = 8;

/// The blobs that the first signature of a manifest needs, whose ever it is. One that
/// comes behind others has another config.
pub(super) fn first(remote: &Remote, subject: &Digest) -> Result<[Blob; 2], Error> {
    let payload = simple::payload(&remote.repository().to_string(), subject)?;
    let (_, config) = Legacy::none().with(&payload)?;
    Ok([payload, config])
}

/// Adds a signature to those under the tag; says whether it had to.
pub(super) async fn add(
    remote: &Remote,
    subject: &Descriptor,
    key: &SigningKey,
    ready: &Ready,
) -> Result<bool, Error> {
    let place = Place::Remote(remote);
    let tag = simple::tag(&subject.digest);
    let trust = Trust::Key(key.public().clone());
    let mut layer = None;
    for _ in 0..MAX_TRIES {
        let started = Instant::now();
        let tagged = place.manifest(&tag).await;
        let there = match &layer {
            None => look(place, &tagged, &subject.digest, &trust).await?,
            Some(layer) => is_listed(&tagged, layer),
        };
        if there {
            return Ok(layer.is_some());
        }
        let layer = if let Some(layer) = &layer {
            layer
        } else {
            let payload = simple::payload(&remote.repository().to_string(), &subject.digest)?;
            ready.store(place, &payload).await?;
            layer.insert(simple::sign(payload, key)?)
        };
        let (manifest, config) = current(place, &tag, tagged).await?.with(layer)?;
        ready.store(place, &config).await?;
        let bytes = Bytes::from(manifest.bytes);
        let media_type = &manifest.descriptor.media_type;
        remote.put_manifest(&tag, media_type, &bytes).await?;
        // The next round sees whether our layer is still there.
        outlive(started).await;
    }
    Err(Error::Registry {
        message: format!("others change {}:{tag} all the time", remote.repository()),
        hint: Some("run the same command again".into()),
    })
}

/// What a place has under a tag.
type Tagged = Result<Option<(Descriptor, Vec<u8>)>, Trouble>;

/// Signatures in the older form, to be written: what the types of the manifest and of its
/// config are, and both of them. These as JSON, so that what we do not know of stays.
struct Legacy {
    media_type: String,
    config_type: String,
    manifest: Value,
    config: Value,
}

impl Legacy {
    fn none() -> Self {
        Legacy {
            media_type: MEDIA_TYPE_MANIFEST.to_owned(),
            config_type: MEDIA_TYPE_IMAGE_CONFIG.to_owned(),
            manifest: json!({
                "schemaVersion": 2,
                "mediaType": MEDIA_TYPE_MANIFEST,
                "config": null,
                "layers": [],
            }),
            config: json!({
                "architecture": "",
                "created": NO_TIME,
                "history": [],
                "os": "",
                "rootfs": {"type": "layers", "diff_ids": []},
                "config": {},
            }),
        }
    }

    /// The manifest with one signature more, and its config.
    fn with(mut self, layer: &Blob) -> Result<(Blob, Blob), Error> {
        let json = |value: &Descriptor| {
            serde_json::to_value(value).map_err(|e| Error::Internal(e.to_string()))
        };
        append(&mut self.manifest, "/layers", json(&layer.descriptor)?);
        let digest = json!(layer.descriptor.digest);
        append(&mut self.config, "/rootfs/diff_ids", digest);
        append(&mut self.config, "/history", json!({"created": NO_TIME}));
        let config = self.config.to_string().into_bytes();
        let config = Blob::new(&self.config_type, config);
        self.manifest["config"] = json(&config.descriptor)?;
        let manifest = self.manifest.to_string().into_bytes();
        Ok((Blob::new(&self.media_type, manifest), config))
    }
}

/// Whether there is such a signature among what is tagged.
async fn look(
    place: Place<'_>,
    tagged: &Tagged,
    subject: &Digest,
    trust: &Trust,
) -> Result<bool, Error> {
    let Ok(Some(tagged)) = tagged else {
        // What is wrong with it is said where it is to be changed.
        return Ok(false);
    };
    let search = verify::look_in_layers(place, tagged, subject, trust).await?;
    Ok(search.found.is_some())
}

/// Whether what is tagged lists this signature.
fn is_listed(tagged: &Tagged, layer: &Blob) -> bool {
    let Ok(Some((_, bytes))) = tagged else {
        return false;
    };
    let manifest: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let layers = manifest["layers"].as_array();
    // Those of others are about the same bytes, and thus have the same digest.
    let signature = json!(layer.descriptor.annotations.get(simple::SIGNATURE));
    layers.is_some_and(|all| {
        all.iter()
            .any(|l| l["annotations"][simple::SIGNATURE] == signature)
    })
}

fn append(value: &mut Value, pointer: &str, item: Value) {
    if let Some(Value::Array(list)) = value.pointer_mut(pointer) {
        list.push(item);
    }
}

/// The signatures of others, to be added to; none where nothing is tagged.
async fn current(place: Place<'_>, tag: &str, tagged: Tagged) -> Result<Legacy, Error> {
    let odd = |why: &str| Error::Signature {
        message: format!(
            "{}:{tag} is there, and is no manifest of signatures: {why}",
            place.name()
        ),
        hint: Some("remove the tag, or write no such signature with --format bundle".into()),
    };
    let refused = |trouble, what: &str| match trouble {
        Trouble::Refused(why) => odd(&format!("{what}{why}")),
        Trouble::Failed(error) => error,
    };
    let Some((descriptor, bytes)) = tagged.map_err(|t| refused(t, ""))? else {
        return Ok(Legacy::none());
    };
    let manifest: Value = serde_json::from_slice(&bytes).map_err(|_| odd("it is no JSON"))?;
    if !manifest["layers"].is_array() {
        return Err(odd("it has no layers"));
    }
    let blob: Descriptor =
        serde_json::from_value(manifest["config"].clone()).map_err(|_| odd("it has no config"))?;
    let config = place
        .blob(&blob, MAX_SIGNATURE)
        .await
        .map_err(|t| refused(t, "its config: "))?;
    Ok(Legacy {
        media_type: descriptor.media_type,
        config_type: blob.media_type,
        manifest,
        config: serde_json::from_slice(&config)
            .ok()
            .filter(Value::is_object)
            .unwrap_or_else(|| Legacy::none().config),
    })
}
