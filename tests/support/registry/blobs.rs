//! Blobs, and how they are uploaded.

use http::Method;

use super::answer::Answer;
use super::auth::{self, Wish};
use super::serve::{Asked, Broken, Inbound};
use super::store::{self, Upload};
use super::{Mount, Shared};

fn unknown_upload() -> Answer {
    Answer::error(
        404,
        "BLOB_UPLOAD_UNKNOWN",
        "blob upload unknown to registry",
    )
}

/// With the address of what was made, unless this registry keeps it to itself.
fn located(shared: &Shared, answer: Answer, path: &str) -> Answer {
    if shared.options.relative_location {
        answer.header("Location", path)
    } else {
        answer.header("Location", format!("{}{path}", shared.origin()))
    }
}

/// The same for an upload that goes on.
fn upload_at(shared: &Shared, answer: Answer, path: &str) -> Answer {
    if shared.options.uploads_by_id {
        answer
    } else {
        located(shared, answer, path)
    }
}

/// The same for what is finished.
pub fn made(shared: &Shared, answer: Answer, path: &str) -> Answer {
    if shared.options.no_location {
        answer
    } else {
        located(shared, answer, path)
    }
}

/// GET, HEAD and DELETE of a blob.
pub fn blob(shared: &Shared, asked: &Asked, name: &str, digest: &str) -> Answer {
    if !store::is_digest(digest) {
        return Answer::error(400, "DIGEST_INVALID", "invalid digest");
    }
    let unknown = || Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry");
    let mut store = shared.store();
    if asked.method == Method::DELETE {
        let removed = store.make(name).blobs.remove(digest);
        return removed.map_or_else(unknown, |_| Answer::new(202));
    }
    if asked.method != Method::GET && asked.method != Method::HEAD {
        return Answer::error(405, "UNSUPPORTED", "method not allowed");
    }
    let found = store.repository(name).and_then(|r| r.blobs.get(digest));
    let Some(bytes) = found.cloned() else {
        return unknown();
    };
    if let (Some(to), &Method::GET) = (&shared.options.redirect_blobs_to, &asked.method) {
        let base = if to.contains("://") {
            to.clone()
        } else {
            format!("http://{to}")
        };
        let to = format!("{base}/v2/{name}/blobs/{digest}");
        return Answer::new(307).header("Location", to);
    }
    let answer = |status| {
        Answer::new(status)
            .header("Content-Type", "application/octet-stream")
            .header("Docker-Content-Digest", digest)
            .header("Accept-Ranges", "bytes")
    };
    let range = asked
        .header("Range")
        .filter(|_| !shared.options.ignore_range);
    let Some(range) = range.and_then(|r| r.strip_prefix("bytes=")?.split_once('-')) else {
        return answer(200).body(bytes);
    };
    let length = bytes.len();
    let (start, end) = match range {
        ("", last) => (length.saturating_sub(last.parse().unwrap_or(0)), length),
        (start, "") => (start.parse().unwrap_or(length), length),
        (start, end) => (
            start.parse().unwrap_or(length),
            end.parse().map_or(length, |e: usize| length.min(e + 1)),
        ),
    };
    if start >= end {
        return Answer::error(416, "RANGE_INVALID", "range not satisfiable")
            .header("Content-Range", format!("bytes */{length}"));
    }
    answer(206)
        .header(
            "Content-Range",
            format!("bytes {start}-{}/{length}", end - 1),
        )
        .body(bytes.slice(start..end))
}

/// POST: a mount, all at once, or the beginning of an upload.
pub async fn begin(
    shared: &Shared,
    asked: &Asked,
    name: &str,
    body: &mut Inbound,
) -> Result<Answer, Broken> {
    if asked.method != Method::POST {
        return Ok(Answer::error(405, "UNSUPPORTED", "method not allowed"));
    }
    if let Some(digest) = asked.field("mount") {
        if shared.options.mount == Mount::Error {
            return Ok(Answer::error(405, "UNSUPPORTED", "no mounts here"));
        }
        if shared.options.mount == Mount::Honoured && mounted(shared, asked, name, digest) {
            let path = format!("/v2/{name}/blobs/{digest}");
            let answer = Answer::new(201).header("Docker-Content-Digest", digest);
            return Ok(made(shared, answer, &path));
        }
    }
    let id = format!("upload-{}", shared.unique());
    let upload = Upload {
        repository: name.to_owned(),
        ..Upload::default()
    };
    shared.store().uploads.insert(id.clone(), upload);
    if let Some(digest) = asked.field("digest") {
        return commit(shared, name, &id, digest, body).await;
    }
    let mut answer = Answer::new(202)
        .header("Docker-Upload-Uuid", &id)
        .header("Range", "0-0");
    if let Some(least) = shared.options.chunk_min {
        answer = answer.header("OCI-Chunk-Min-Length", least.to_string());
    }
    Ok(upload_at(shared, answer, &address(name, &id, 0)))
}

fn mounted(shared: &Shared, asked: &Asked, name: &str, digest: &str) -> bool {
    let Some(from) = asked.field("from") else {
        return false;
    };
    let wish = Wish {
        repository: Some(from),
        push: false,
    };
    if !auth::may(shared, &asked.headers, wish) {
        return false;
    }
    let mut store = shared.store();
    let found = store.repository(from).and_then(|r| r.blobs.get(digest));
    let Some(bytes) = found.cloned() else {
        return false;
    };
    store.make(name).blobs.insert(digest.to_owned(), bytes);
    true
}

/// Where an upload goes on; as with docker-registry, the address changes with each
/// chunk, and is of use only as a whole.
fn address(name: &str, id: &str, size: usize) -> String {
    format!("/v2/{name}/blobs/uploads/{id}?_state=at-{size}")
}

/// So far, in docker-registry's words: 0 bytes and 1 byte are both `0-0`.
fn so_far(size: usize) -> String {
    format!("0-{}", size.saturating_sub(1))
}

/// PATCH, PUT, GET and DELETE of an upload.
pub async fn go_on(
    shared: &Shared,
    asked: &Asked,
    name: &str,
    id: &str,
    body: &mut Inbound,
) -> Result<Answer, Broken> {
    let size = {
        let mut store = shared.store();
        let Some(upload) = store.uploads.get(id).filter(|u| u.repository == name) else {
            return Ok(unknown_upload());
        };
        let size = upload.bytes.len();
        let only = shared.options.uploads_by_id.then_some("");
        let Some(state) = asked.field("_state").or(only) else {
            return Ok(Answer::error(400, "BLOB_UPLOAD_INVALID", "no _state"));
        };
        if shared.options.like_docker_2_8 && state != format!("at-{size}") {
            return Ok(Answer::error(404, "BLOB_UPLOAD_INVALID", "stale _state"));
        }
        if asked.method == Method::DELETE {
            store.uploads.remove(id);
            return Ok(Answer::new(204));
        }
        size
    };
    let status = |status, size| {
        let answer = Answer::new(status)
            .header("Docker-Upload-Uuid", id)
            .header("Range", so_far(size));
        upload_at(shared, answer, &address(name, id, size))
    };
    match asked.method {
        Method::GET => return Ok(status(204, size)),
        Method::PUT => {}
        Method::PATCH if !shared.options.monolithic_only => {}
        _ => return Ok(Answer::error(405, "UNSUPPORTED", "method not allowed")),
    }
    // `start-end`, without `bytes`: the specification's own form.
    let range = asked.header("Content-Range");
    if let Some(range) = range.filter(|_| !shared.options.like_docker_2_8) {
        let ends = range.split_once('-');
        let ends = ends.and_then(|(s, e)| Some((s.parse::<usize>().ok()?, e.parse::<u64>().ok()?)));
        let Some((start, end)) = ends else {
            return Ok(Answer::error(
                400,
                "BLOB_UPLOAD_INVALID",
                "bad Content-Range",
            ));
        };
        if start != size {
            return Ok(status(416, size));
        }
        if body.length().is_some_and(|l| start as u64 + l != end + 1) {
            return Ok(Answer::error(400, "SIZE_INVALID", "not of this length"));
        }
    }
    if asked.method == Method::PUT {
        let Some(digest) = asked.field("digest") else {
            return Ok(Answer::error(400, "DIGEST_INVALID", "no digest"));
        };
        return commit(shared, name, id, digest, body).await;
    }
    if let Some(answer) = too_long(shared, body) {
        return Ok(answer);
    }
    if shared.store().uploads.get(id).is_some_and(|u| u.short) {
        return Ok(Answer::error(
            400,
            "SIZE_INVALID",
            "the chunk before was short",
        ));
    }
    let Some(length) = receive(shared, id, body).await? else {
        return Ok(unknown_upload());
    };
    let mut store = shared.store();
    let Some(upload) = store.uploads.get_mut(id) else {
        return Ok(unknown_upload());
    };
    upload.short = shared.options.chunk_min.is_some_and(|least| length < least);
    Ok(status(202, upload.bytes.len()))
}

fn too_long(shared: &Shared, body: &Inbound) -> Option<Answer> {
    let most = shared.options.chunk_max?;
    (body.length()? > most).then(|| Answer::error(413, "SIZE_INVALID", "too much at once"))
}

/// Appends a body to an upload, and keeps what came of one that breaks off.
async fn receive(shared: &Shared, id: &str, body: &mut Inbound) -> Result<Option<u64>, Broken> {
    let mut length = 0;
    while let Some(bytes) = body.next().await? {
        match shared.store().uploads.get_mut(id) {
            Some(upload) => upload.append(&bytes),
            None => return Ok(None),
        }
        length += bytes.len() as u64;
    }
    Ok(Some(length))
}

async fn commit(
    shared: &Shared,
    name: &str,
    id: &str,
    digest: &str,
    body: &mut Inbound,
) -> Result<Answer, Broken> {
    if let Some(answer) = too_long(shared, body) {
        return Ok(answer);
    }
    if receive(shared, id, body).await?.is_none() {
        return Ok(unknown_upload());
    }
    let mut store = shared.store();
    let Some(upload) = store.uploads.remove(id) else {
        return Ok(unknown_upload());
    };
    let found = store::digest_of(upload.hash);
    if found != digest {
        let text = format!("provided digest did not match uploaded content: {found}");
        return Ok(Answer::error(400, "DIGEST_INVALID", &text));
    }
    let blobs = &mut store.make(name).blobs;
    blobs.insert(digest.to_owned(), upload.bytes.into());
    let answer = Answer::new(shared.options.closes_with).header("Docker-Content-Digest", digest);
    Ok(made(shared, answer, &format!("/v2/{name}/blobs/{digest}")))
}
