//! Replies.

use std::io;

use http::{HeaderMap, HeaderName, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;

pub type Body = UnsyncBoxBody<Bytes, io::Error>;

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A reply in the making.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// The JSON that the specification has for errors.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({"errors": [{"code": code, "message": message}]});
        Answer::new(status).json(&body)
    }

    pub fn json(self, body: &serde_json::Value) -> Self {
        self.header("Content-Type", "application/json")
            .body(body.to_string())
    }

    pub fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.headers.insert(name, value.as_ref().parse().unwrap());
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The reply, which for HEAD has the length of a body and no body.
    pub fn finish(self, head: bool) -> Response<Body> {
        let length = self.body.len();
        let body = if head { Bytes::new() } else { self.body };
        let mut response = Response::new(full(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        *headers = self.headers;
        headers.insert(
            "Docker-Distribution-Api-Version",
            "registry/2.0".parse().unwrap(),
        );
        if self.status != StatusCode::NO_CONTENT {
            headers
                .entry("Content-Length")
                .or_insert_with(|| length.into());
        }
        response
    }
}
