//! One request: counted, perhaps spoiled, let in or not, and led to where it belongs.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Bytes, Incoming};

use super::answer::{Answer, Body, full};
use super::auth::{self, Wish};
use super::fault::{Cut, Dripping, Endless, Fault, RequestInfo};
use super::wire::Wire;
use super::{Seen, Shared, blobs, manifests};

/// The connection ends without an answer.
#[derive(Debug)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is broken on purpose")
    }
}

impl std::error::Error for Broken {}

/// The body of a request, which a fault may cut.
pub struct Inbound {
    body: Incoming,
    left: Option<u64>,
    received: u64,
}

impl Inbound {
    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            if self.left == Some(0) {
                return Err(Broken);
            }
            let Some(frame) = self.body.frame().await else {
                // A cut beyond the end cuts off the answer.
                return if self.left.is_some() {
                    Err(Broken)
                } else {
                    Ok(None)
                };
            };
            let Ok(mut bytes) = frame.map_err(|_| Broken)?.into_data() else {
                continue;
            };
            if let Some(left) = &mut self.left {
                let kept = usize::try_from(*left).unwrap().min(bytes.len());
                bytes.truncate(kept);
                *left -= kept as u64;
            }
            self.received += bytes.len() as u64;
            return Ok(Some(bytes));
        }
    }

    pub async fn all(&mut self, most: usize) -> Result<Option<Vec<u8>>, Broken> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            if all.len() <= most {
                all.extend_from_slice(&bytes);
            }
        }
        Ok((all.len() <= most).then_some(all))
    }

    /// Reads what is left, so that closing does not reset the connection.
    pub async fn drain(&mut self) -> Result<(), Broken> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    /// The length that was announced.
    pub fn length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }
}

/// A request without its body.
pub struct Asked {
    pub method: Method,
    pub headers: HeaderMap,
    pub query: Vec<(String, String)>,
}

impl Asked {
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Keeps count of what runs at one time, also when a client goes away.
struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.log().running -= 1;
    }
}

pub async fn serve(
    shared: Arc<Shared>,
    wire: Wire,
    request: Request<Incoming>,
) -> Result<Response<Body>, Broken> {
    let (parts, body) = request.into_parts();
    let (id, info) = begin(&shared, &parts);
    let running = Running(&shared);
    let path = info.path.clone();
    let mut body = Inbound {
        body,
        left: None,
        received: 0,
    };
    let fault = shared.fault.lock().unwrap().clone();
    let fault = fault.and_then(|decide| decide(&info));
    let asked = Asked {
        method: parts.method,
        headers: parts.headers,
        query: pairs(&info.query),
    };
    let done = spoiled(&shared, &wire, &asked, &path, &mut body, fault).await;
    if done.is_err() {
        wire.reset_at_end();
    }
    drop(running);
    let mut log = shared.log();
    if let Some(seen) = log.seen.iter_mut().find(|s| s.id == id) {
        seen.status = done.as_ref().map_or(0, |r| r.status().as_u16());
        seen.received = body.received;
    }
    done
}

fn begin(shared: &Shared, parts: &http::request::Parts) -> (u64, RequestInfo) {
    let mut log = shared.log();
    let info = RequestInfo {
        n: log.seen.len(),
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        length: parts
            .headers
            .get("Content-Length")
            .and_then(|value| value.to_str().ok()?.parse().ok()),
    };
    let authorized = parts.headers.get("Authorization");
    let authorized = authorized.map(|value| {
        let value = value.to_str().unwrap_or_default();
        value.split(' ').next().unwrap_or_default().to_owned()
    });
    log.next += 1;
    log.running += 1;
    log.most = log.most.max(log.running);
    let id = log.next;
    log.seen.push(Seen {
        method: info.method.clone(),
        path: info.path.clone(),
        query: info.query.clone(),
        authorized,
        headers: parts.headers.clone(),
        status: 0,
        received: 0,
        id,
    });
    (id, info)
}

async fn spoiled(
    shared: &Shared,
    wire: &Wire,
    asked: &Asked,
    path: &str,
    body: &mut Inbound,
    fault: Option<Fault>,
) -> Result<Response<Body>, Broken> {
    match fault {
        None => answered(shared, asked, path, body).await,
        Some(Fault::Reset) => Err(Broken),
        Some(Fault::ResetAfter(bytes)) => {
            body.left = Some(bytes);
            answered(shared, asked, path, body).await?;
            Err(Broken)
        }
        Some(Fault::LoseAnswer) => {
            answered(shared, asked, path, body).await?;
            Err(Broken)
        }
        Some(Fault::Stall(time)) => {
            tokio::time::sleep(time).await;
            answered(shared, asked, path, body).await
        }
        Some(Fault::Status(status, headers, text)) => {
            body.drain().await?;
            let answer = Answer::new(status).body(text);
            let answer = headers
                .iter()
                .fold(answer, |answer, (name, value)| answer.header(name, value));
            Ok(answer.finish(asked.method == Method::HEAD))
        }
        Some(Fault::Raw(bytes)) => {
            body.drain().await?;
            let _ = wire.write_raw(&bytes).await;
            // It is to be read before the connection ends.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            Err(Broken)
        }
        Some(Fault::Truncate(kept)) => {
            let response = answered(shared, asked, path, body).await?;
            let (parts, whole) = response.into_parts();
            let mut whole = whole.collect().await.map_err(|_| Broken)?.to_bytes();
            if whole.is_empty() {
                // There is nothing to cut but the answer itself.
                return Err(Broken);
            }
            whole.truncate(kept.min(whole.len() - 1));
            Ok(Response::from_parts(parts, Cut::new(whole).boxed_unsync()))
        }
        Some(Fault::Drip(at_once, drop)) => {
            let response = answered(shared, asked, path, body).await?;
            let (parts, whole) = response.into_parts();
            let whole = whole.collect().await.map_err(|_| Broken)?.to_bytes();
            let slow = Dripping::new(whole, at_once, drop).boxed_unsync();
            Ok(Response::from_parts(parts, slow))
        }
        Some(Fault::Endless) => {
            let mut response = answered(shared, asked, path, body).await?;
            response.headers_mut().remove("Content-Length");
            *response.body_mut() = Endless::new().boxed_unsync();
            Ok(response)
        }
        Some(Fault::Body(bytes)) => {
            let mut response = answered(shared, asked, path, body).await?;
            let headers = response.headers_mut();
            headers.insert("Content-Length", bytes.len().into());
            *response.body_mut() = full(bytes);
            Ok(response)
        }
    }
}

/// What a path asks for.
enum Route<'p> {
    Ping,
    Tags(&'p str),
    Uploads(&'p str),
    Upload(&'p str, &'p str),
    Blob(&'p str, &'p str),
    Manifest(&'p str, &'p str),
    Referrers(&'p str, &'p str),
}

impl<'p> Route<'p> {
    fn of(path: &'p str) -> Option<Self> {
        let rest = path.strip_prefix("/v2")?.trim_start_matches('/');
        if rest.is_empty() {
            return Some(Route::Ping);
        }
        if let Some(repository) = rest.strip_suffix("/tags/list") {
            return Some(Route::Tags(repository));
        }
        if let Some(repository) = rest.trim_end_matches('/').strip_suffix("/blobs/uploads") {
            return Some(Route::Uploads(repository));
        }
        let (head, last) = rest.rsplit_once('/')?;
        if let Some(repository) = head.strip_suffix("/blobs/uploads") {
            return Some(Route::Upload(repository, last));
        }
        let (repository, kind) = head.rsplit_once('/')?;
        match kind {
            "blobs" => Some(Route::Blob(repository, last)),
            "manifests" => Some(Route::Manifest(repository, last)),
            "referrers" => Some(Route::Referrers(repository, last)),
            _ => None,
        }
    }

    fn repository(&self) -> Option<&'p str> {
        match *self {
            Route::Ping => None,
            Route::Tags(name)
            | Route::Uploads(name)
            | Route::Upload(name, _)
            | Route::Blob(name, _)
            | Route::Manifest(name, _)
            | Route::Referrers(name, _) => Some(name),
        }
    }
}

/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests>
fn is_name(name: &str, uppercase: bool) -> bool {
    let letter =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || uppercase && b.is_ascii_uppercase();
    !name.is_empty()
        && name.len() <= 255
        && name.split('/').all(|part| {
            let bytes = part.as_bytes();
            bytes.first().is_some_and(|b| letter(*b))
                && bytes.last().is_some_and(|b| letter(*b))
                && bytes.iter().all(|b| letter(*b) || b"._-".contains(b))
        })
}

async fn answered(
    shared: &Shared,
    asked: &Asked,
    path: &str,
    body: &mut Inbound,
) -> Result<Response<Body>, Broken> {
    let answer = route(shared, asked, path, body).await?;
    body.drain().await?;
    Ok(answer.finish(asked.method == Method::HEAD))
}

async fn route(
    shared: &Shared,
    asked: &Asked,
    path: &str,
    body: &mut Inbound,
) -> Result<Answer, Broken> {
    if path == "/token" {
        let form = asked.method == Method::POST;
        let fields = if form {
            let text = body.all(1 << 16).await?.unwrap_or_default();
            pairs(&String::from_utf8_lossy(&text))
        } else {
            asked.query.clone()
        };
        return Ok(auth::token(shared, &asked.headers, form, &fields));
    }
    if let Some(file) = shared.options.files.get(path) {
        let answer = Answer::new(200).header("Content-Type", "application/json");
        return Ok(answer.body(file.clone()));
    }
    let Some(route) = Route::of(path) else {
        return Ok(Answer::error(404, "NOT_FOUND", "no such page"));
    };
    let wish = Wish {
        repository: route.repository(),
        push: !matches!(asked.method, Method::GET | Method::HEAD),
    };
    if let Some(name) = wish.repository
        && !is_name(name, !shared.options.reject_uppercase)
    {
        return Ok(Answer::error(
            400,
            "NAME_INVALID",
            "invalid repository name",
        ));
    }
    if let Err(answer) = auth::check(shared, &asked.headers, wish) {
        return Ok(*answer);
    }
    Ok(match route {
        Route::Ping => Answer::new(200).json(&serde_json::json!({})),
        Route::Tags(name) => manifests::tags(shared, asked, name),
        Route::Referrers(name, digest) => manifests::referrers(shared, asked, name, digest),
        Route::Manifest(name, reference) => {
            manifests::manifest(shared, asked, name, reference, body).await?
        }
        Route::Blob(name, digest) => blobs::blob(shared, asked, name, digest),
        Route::Uploads(name) => blobs::begin(shared, asked, name, body).await?,
        Route::Upload(name, id) => blobs::go_on(shared, asked, name, id, body).await?,
    })
}

/// The fields of a query or a form.
fn pairs(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex = [rest.next(), rest.next()].map(|b| char::from(b.unwrap_or(b'0')));
                u8::from_str_radix(&String::from_iter(hex), 16).unwrap_or(b'?')
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
