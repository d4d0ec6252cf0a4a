//! What a request came to when it failed: enough to decide whether to try again,
//! and to tell the user what to do.
//!
//! Queries and user information never get into a message: upload locations and
//! signed download addresses hold secrets there.

use std::fmt::Write;
use std::time::Duration;

use oci_client::errors::OciEnvelope;
use reqwest::{Method, StatusCode, Url};

use crate::error::Error;

/// A wait that a registry may ask for; a longer one is an error.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
/// How much of a message from a registry is shown.
const MAX_SHOWN: usize = 300;

/// Whether trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No.
    Never,
    /// After a wait of our own choice.
    Soon,
    /// After a wait of the registry's choice.
    After(Duration),
}

/// A failed request.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Failure {
    /// `METHOD URL`, without the query.
    pub request: String,
    /// The reply's status, where there was a reply.
    pub status: Option<StatusCode>,
    /// What went wrong, in the registry's words or ours.
    pub message: String,
    /// The error codes that the registry gave.
    pub codes: Vec<String>,
    /// Whether trying again may help.
    pub retry: Retry,
    /// Whether there was no connection at all.
    pub unconnected: bool,
    /// Whether there was a connection on which nothing came.
    pub silent: bool,
    /// What to do, where this is known on the spot.
    pub hint: Option<String>,
    /// Whether content came that does not have its digest.
    pub altered: bool,
    /// Whether more came than was announced, or than is read.
    pub excess: bool,
    /// Whether there was TLS, and a certificate that is not trusted.
    pub distrusted: bool,
}

/// Method and URL for people.
#[must_use]
pub fn describe(method: &Method, url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Fails where a URL cannot have them, and then it has none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    format!("{method} {url}")
}

impl Failure {
    /// A reply or a plan that breaks a rule: trying again does not help.
    #[must_use]
    pub fn protocol(request: impl Into<String>, message: impl Into<String>) -> Self {
        Failure {
            request: request.into(),
            status: None,
            message: message.into(),
            codes: Vec::new(),
            retry: Retry::Never,
            unconnected: false,
            silent: false,
            hint: None,
            altered: false,
            excess: false,
            distrusted: false,
        }
    }

    /// Content that is longer than it may be.
    #[must_use]
    pub fn excess(request: impl Into<String>, limit: usize) -> Self {
        Failure {
            excess: true,
            ..Failure::protocol(request, format!("the reply is longer than {limit} bytes"))
        }
    }

    /// Content that does not have the digest it was asked for by.
    #[must_use]
    pub fn altered(request: impl Into<String>, message: impl Into<String>) -> Self {
        Failure {
            altered: true,
            ..Failure::protocol(request, message)
        }
    }

    /// The connection failed, or the reply ended early.
    #[must_use]
    pub fn broken(request: impl Into<String>, message: impl Into<String>) -> Self {
        Failure {
            retry: Retry::Soon,
            ..Failure::protocol(request, message)
        }
    }

    /// Nothing came for as long as we wait.
    #[must_use]
    pub fn silence(request: impl Into<String>) -> Self {
        Failure {
            silent: true,
            ..Failure::broken(request, "no reply in time")
        }
    }

    /// What the HTTP client says.
    #[must_use]
    pub fn transport(request: impl Into<String>, error: &reqwest::Error) -> Self {
        let text = causes(error);
        let certificate = text.contains("certificate") || text.contains("UnknownIssuer");
        let refused = certificate || error.is_builder();
        Failure {
            retry: if refused { Retry::Never } else { Retry::Soon },
            unconnected: error.is_connect(),
            distrusted: certificate,
            hint: if certificate {
                certificate_hint(&text).map(str::to_owned)
            } else if text.contains("Connection refused") {
                Some("check the host and the port: nothing listens there".into())
            } else if text.contains("dns error") {
                Some("check the host's name, or HTTPS_PROXY where a proxy is needed".into())
            } else if text.contains("InvalidContentType") || text.contains("corrupt message") {
                Some("where the registry speaks plain HTTP, say so with --plain-http".into())
            } else {
                None
            },
            ..Failure::protocol(request, text)
        }
    }

    /// An error reply, with the part of its body that was read.
    #[must_use]
    pub fn reply(
        request: impl Into<String>,
        status: StatusCode,
        retry_after: Option<&str>,
        body: &[u8],
    ) -> Self {
        let (codes, message) = match serde_json::from_slice::<OciEnvelope>(body) {
            Ok(envelope) => words(&envelope),
            Err(_) => (Vec::new(), plain_words(body)),
        };
        let request = request.into();
        // What Go's and nginx's servers say to a request without TLS.
        let text = String::from_utf8_lossy(body).to_ascii_lowercase();
        let wants_tls = status == StatusCode::BAD_REQUEST
            && request.contains(" http://")
            && (text.contains("http request to an https server")
                || text.contains("http request was sent to https port"));
        let retry = match status.as_u16() {
            429 | 503 => match retry_after.and_then(parse_retry_after) {
                Some(wait) if wait > MAX_RETRY_AFTER => Retry::Never,
                Some(wait) => Retry::After(wait),
                None => Retry::Soon,
            },
            // What is not built in does not come by waiting.
            501 | 505 | 511 => Retry::Never,
            408 | 425 | 500..=599 => Retry::Soon,
            _ => Retry::Never,
        };
        Failure {
            request,
            status: Some(status),
            message,
            codes,
            retry,
            unconnected: false,
            silent: false,
            hint: wants_tls.then(|| {
                "the registry speaks TLS at this port: leave out --plain-http, and take it off the list `publish.plain-http`"
                    .to_owned()
            }),
            altered: false,
            excess: false,
            distrusted: false,
        }
    }

    /// Whether the registry gave this error code.
    #[must_use]
    pub fn has_code(&self, code: &str) -> bool {
        self.codes.iter().any(|c| c == code)
    }

    /// The host that was asked; `HOST` where that cannot be told.
    fn host(&self) -> String {
        let url = self
            .request
            .split(' ')
            .nth(1)
            .and_then(|u| Url::parse(u).ok());
        let name = |url: Url| {
            let port = url
                .port()
                .map(|port| format!(":{port}"))
                .unwrap_or_default();
            Some(url.host_str()?.to_owned() + &port)
        };
        url.and_then(name).unwrap_or_else(|| "HOST".into())
    }

    fn known_hint(&self) -> Option<String> {
        if self.status?.as_u16() == 401 {
            return Some(format!(
                "log in with: cargo edgepack login {} --username NAME --password-stdin (docker's and podman's logins count too)",
                self.host()
            ));
        }
        self.fixed_hint().map(str::to_owned)
    }

    fn fixed_hint(&self) -> Option<&'static str> {
        let said = self.message.to_ascii_lowercase();
        Some(match self.status?.as_u16() {
            403 if said.contains("quota") || said.contains("storage") => {
                "the registry has no room for this account: remove what is not needed, or raise its quota"
            }
            403 if self.request.starts_with("GET ") || self.request.starts_with("HEAD ") => {
                "the account has no right to this; a token may lack the scope to read packages"
            }
            403 => "the account has no right to this; a token may lack the scope to write packages",
            400 if self.has_code("MANIFEST_INVALID") && said.contains("media type") => {
                "this registry takes the media types on its list alone (GitLab's older ones do not know those of Wasm): \
                 --variant compat publishes as an ordinary image"
            }
            400 if said.contains("lowercase")
                || said.contains("lower case")
                || self.has_code("NAME_INVALID") =>
            {
                "registries take repository names in lower case alone"
            }
            400 if self.has_code("MANIFEST_INVALID") => {
                "some registries refuse the media types of Wasm: --variant compat publishes as an ordinary image"
            }
            404 if self.has_code("NAME_UNKNOWN") => {
                "the repository is not there: check the path, or make it first where the registry does not do so by itself"
            }
            404 => "check the reference: the registry does not have it, or does not show it to you",
            413 => "the registry, or a proxy before it, limits the size of uploads",
            429 => "the registry limits how often it is asked: wait, or log in for a higher limit",
            _ => return None,
        })
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let hint = failure.hint.clone().or_else(|| failure.known_hint());
        let mut message = format!("{} failed", failure.request);
        if let Some(status) = failure.status {
            let _ = write!(message, ": {status}");
        }
        if !failure.codes.is_empty() {
            let _ = write!(message, " ({})", failure.codes.join(", "));
        }
        if !failure.message.is_empty() {
            let _ = write!(message, ": {}", failure.message);
        }
        Error::Registry { message, hint }
    }
}

/// Codes and messages of an error reply, fit to be printed.
fn words(envelope: &OciEnvelope) -> (Vec<String>, String) {
    let errors = &envelope.errors[..envelope.errors.len().min(3)];
    let codes = errors
        .iter()
        .filter_map(|e| serde_json::to_value(&e.code).ok()?.as_str().map(printable))
        .collect();
    let mut messages = Vec::new();
    for error in errors {
        if !error.message.is_empty() {
            messages.push(printable(&error.message));
        }
        if let serde_json::Value::String(detail) = &error.detail {
            messages.push(printable(detail));
        }
    }
    (codes, messages.join("; "))
}

/// What an error says that is no OCI error: a message in JSON, or a line of text. Pages for
/// browsers say nothing to people here.
fn plain_words(body: &[u8]) -> String {
    let said = match serde_json::from_slice(body) {
        Ok(serde_json::Value::Object(map)) => ["message", "detail", "error", "title"]
            .into_iter()
            .find_map(|name| map.get(name)?.as_str().map(str::to_owned)),
        Ok(serde_json::Value::String(text)) => Some(text),
        Ok(_) => None,
        Err(_) => std::str::from_utf8(body).ok().map(str::to_owned),
    };
    let said = said.unwrap_or_default();
    let said = said.trim();
    if said.starts_with(['<', '{', '[']) {
        return String::new();
    }
    printable(said)
}

/// What to do about a certificate that is refused.
fn certificate_hint(text: &str) -> Option<&'static str> {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // The last one is that of an authority, which signs itself and is not named.
    if says(&["UnknownIssuer", "not trusted", "CaUsedAsEndEntity"]) {
        Some(
            "where the registry has a certificate of your own authority, or one that signs itself, name it with --ca-file",
        )
    } else if says(&["not valid for name", "NotValidForName"]) {
        Some(
            "reach the registry by a name that its certificate holds, or have it shown one for this name",
        )
    } else if says(&["expired", "Expired", "not valid yet", "NotValidYet"]) {
        Some(
            "whoever runs the registry has to renew its certificate, unless the clock of this machine is wrong",
        )
    } else {
        None
    }
}

/// Whether a character stands for itself where it is printed: it moves no cursor, does not
/// turn the text around it (<https://www.unicode.org/reports/tr9/>), and can be seen.
#[must_use]
pub fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Foreign text on a terminal: short, and of plain characters alone.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .map(|c| if is_plain(c) { c } else { ' ' })
        .take(MAX_SHOWN)
        .collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// An error with all its causes, each said once.
fn causes(error: &reqwest::Error) -> String {
    use std::error::Error as _;
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&words);
        }
        next = cause.source();
    }
    if text.is_empty() {
        // Its own words would repeat the URL, query and all.
        text.push_str(if error.is_timeout() {
            "timed out"
        } else {
            "the connection failed"
        });
    }
    printable(&text)
}

/// `Retry-After`: seconds, or a date.
/// <https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>
fn parse_retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = httpdate::parse_http_date(text.trim()).ok()?;
    // A date has no other meaning than its distance from now.
    #[expect(
        clippy::disallowed_methods,
        reason = "no artifact depends on how long we wait"
    )]
    let now = std::time::SystemTime::now();
    Some(then.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, retry_after: Option<&str>, body: &str) -> Failure {
        Failure::reply(
            "PUT https://r.example/v2/a/manifests/1",
            StatusCode::from_u16(status).unwrap(),
            retry_after,
            body.as_bytes(),
        )
    }

    #[test]
    fn decides_when_to_try_again() {
        assert_eq!(reply(500, None, "").retry, Retry::Soon);
        assert_eq!(
            reply(429, Some("7"), "").retry,
            Retry::After(Duration::from_secs(7))
        );
        assert_eq!(
            reply(429, Some("Thu, 01 Jan 1970 00:00:00 GMT"), "").retry,
            Retry::After(Duration::ZERO)
        );
        assert_eq!(reply(429, Some("86400"), "").retry, Retry::Never);
        assert_eq!(reply(404, Some("1"), "").retry, Retry::Never);
    }

    #[test]
    fn says_what_the_registry_said_and_what_to_do() {
        let body = r#"{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid\u001b[2J","detail":"unknown media type: application/vnd.wasm.config.v0+json"}]}"#;
        let error = Error::from(reply(400, None, body));
        assert_eq!(
            error.to_string(),
            "PUT https://r.example/v2/a/manifests/1 failed: 400 Bad Request (MANIFEST_INVALID): \
             manifest invalid [2J; unknown media type: application/vnd.wasm.config.v0+json"
        );
        assert!(error.hint().unwrap().contains("--variant compat"));
        assert_eq!(error.exit_code(), crate::exit_code::REGISTRY);
        for status in [401, 403, 404, 413, 429] {
            assert!(Error::from(reply(status, None, "<html>")).hint().is_some());
        }
    }

    #[test]
    fn keeps_queries_to_itself() {
        let url = Url::parse("https://u:p@r.example/v2/x?_state=secret#f").unwrap();
        assert_eq!(describe(&Method::GET, &url), "GET https://r.example/v2/x");
    }
}
