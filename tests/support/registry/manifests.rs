//! Manifests, tags and referrers.

use http::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::Shared;
use super::answer::Answer;
use super::blobs::made;
use super::serve::{Asked, Broken, Inbound};
use super::store::{self, Store};

const LONGEST: usize = 4 << 20;
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn unknown() -> Answer {
    Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown")
}

/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests>
fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

pub async fn manifest(
    shared: &Shared,
    asked: &Asked,
    name: &str,
    reference: &str,
    body: &mut Inbound,
) -> Result<Answer, Broken> {
    // A colon may come percent-encoded.
    let reference = &reference.replace("%3A", ":");
    if reference.contains(':') && !store::is_digest(reference) {
        return Ok(Answer::error(400, "DIGEST_INVALID", "invalid digest"));
    }
    if !reference.contains(':') && !is_tag(reference) {
        return Ok(Answer::error(400, "TAG_INVALID", "invalid tag"));
    }
    Ok(match asked.method {
        Method::GET | Method::HEAD => {
            let store = shared.store();
            let Some((digest, manifest)) = store.manifest(name, reference) else {
                return Ok(unknown());
            };
            Answer::new(200)
                .header("Content-Type", &manifest.media_type)
                .header("Docker-Content-Digest", &digest)
                .header("ETag", format!("\"{digest}\""))
                .body(manifest.bytes.clone())
        }
        Method::DELETE => {
            let mut store = shared.store();
            let repository = store.make(name);
            let found = if reference.contains(':') {
                repository.tags.retain(|_, digest| digest != reference);
                repository.manifests.remove(reference).is_some()
            } else {
                repository.tags.remove(reference).is_some()
            };
            if found { Answer::new(202) } else { unknown() }
        }
        Method::PUT => match body.all(LONGEST).await? {
            Some(bytes) => put(shared, asked, name, reference, bytes.into()),
            None => Answer::error(413, "MANIFEST_INVALID", "the manifest is too long"),
        },
        _ => Answer::error(405, "UNSUPPORTED", "method not allowed"),
    })
}

fn put(shared: &Shared, asked: &Asked, name: &str, reference: &str, bytes: Bytes) -> Answer {
    let invalid = |text: &str| Answer::error(400, "MANIFEST_INVALID", text);
    let Ok(manifest) = serde_json::from_slice::<Value>(&bytes) else {
        return invalid("the manifest is no JSON");
    };
    let Some(media_type) = asked.header("Content-Type") else {
        return invalid("no Content-Type");
    };
    let own = manifest["mediaType"].as_str();
    if manifest["schemaVersion"] != 2 || own.is_some_and(|own| own != media_type) {
        return invalid("schemaVersion or mediaType is not right");
    }
    for kind in [&manifest["config"]["mediaType"], &manifest["artifactType"]] {
        let refused = &shared.options.reject_media_types;
        if let Some(kind) = kind.as_str().filter(|k| refused.iter().any(|r| r == k)) {
            return invalid(&format!("unknown media type: {kind}"));
        }
    }
    let digest = store::digest(&bytes);
    if reference.contains(':') && reference != digest {
        return Answer::error(400, "DIGEST_INVALID", "the manifest has another digest");
    }
    let mut store = shared.store();
    if let Some(missing) = store.missing(name, &manifest).first() {
        return Answer::error(404, "MANIFEST_BLOB_UNKNOWN", missing);
    }
    store.put_manifest(name, reference, media_type, bytes);
    let mut answer = Answer::new(201).header("Docker-Content-Digest", &digest);
    if let Some(subject) = manifest["subject"]["digest"].as_str()
        && shared.options.referrers_api
    {
        answer = answer.header("OCI-Subject", subject);
    }
    made(shared, answer, &format!("/v2/{name}/manifests/{digest}"))
}

pub fn tags(shared: &Shared, asked: &Asked, name: &str) -> Answer {
    let store = shared.store();
    let Some(repository) = store.repository(name) else {
        return Answer::error(404, "NAME_UNKNOWN", "repository name not known to registry");
    };
    let wanted = asked.field("n").and_then(|n| n.parse().ok());
    let most = wanted.unwrap_or(usize::MAX).min(shared.options.page);
    let last = asked.field("last").unwrap_or_default();
    let mut rest = repository.tags.keys().filter(|t| t.as_str() > last);
    let page: Vec<_> = rest.by_ref().take(most).collect();
    let mut answer = Answer::new(200).json(&json!({"name": name, "tags": page}));
    if let (Some(last), Some(_)) = (page.last(), rest.next()) {
        let link = format!("</v2/{name}/tags/list?n={most}&last={last}>; rel=\"next\"");
        answer = answer.header("Link", link);
    }
    answer
}

pub fn referrers(shared: &Shared, asked: &Asked, name: &str, digest: &str) -> Answer {
    if !shared.options.referrers_api {
        return Answer::error(404, "NOT_FOUND", "no such page");
    }
    let digest = &digest.replace("%3A", ":");
    if !store::is_digest(digest) {
        return Answer::error(400, "DIGEST_INVALID", "invalid digest");
    }
    let wanted = asked.field("artifactType");
    let index = referrers_of(&shared.store(), name, digest, wanted);
    let mut answer = Answer::new(200)
        .header("Content-Type", INDEX)
        .body(index.to_string());
    if wanted.is_some() {
        answer = answer.header("OCI-Filters-Applied", "artifactType");
    }
    answer
}

/// The index of what refers to a manifest.
pub fn referrers_of(store: &Store, name: &str, digest: &str, wanted: Option<&str>) -> Value {
    let manifests = store.repository(name).map(|r| &r.manifests);
    let found: Vec<_> = manifests
        .into_iter()
        .flatten()
        .filter_map(|(of, manifest)| {
            let json: Value = serde_json::from_slice(&manifest.bytes).ok()?;
            if json["subject"]["digest"] != digest {
                return None;
            }
            let artifact_type = match json["artifactType"].as_str() {
                Some(own) => own,
                None => json["config"]["mediaType"].as_str().unwrap_or_default(),
            };
            if wanted.is_some_and(|wanted| wanted != artifact_type) {
                return None;
            }
            let mut entry = json!({
                "mediaType": manifest.media_type,
                "digest": of,
                "size": manifest.bytes.len(),
                "artifactType": artifact_type,
            });
            if let Some(annotations) = json.get("annotations") {
                entry["annotations"] = annotations.clone();
            }
            Some(entry)
        })
        .collect();
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": found})
}
