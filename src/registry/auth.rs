//! Proving to a registry who we are: the challenge it sends, and the token that
//! answers it.
//!
//! Spec: <https://distribution.github.io/distribution/spec/auth/token/> and
//! <https://distribution.github.io/distribution/spec/auth/oauth/>.

use std::time::{Duration, Instant};

use base64::Engine;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use crate::registry::credentials::{Credential, Secret};
use crate::registry::failure::Failure;

/// How long a token is used that does not say how long it lives.
/// <https://distribution.github.io/distribution/spec/auth/token/#token-response-fields>
const DEFAULT_LIFE: u64 = 60;
/// Given up this much earlier, so that it does not expire on its way.
const MARGIN: Duration = Duration::from_secs(5);

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A name and a password with each request.
    Basic,
    /// A token from elsewhere.
    Bearer {
        /// Who gives tokens.
        realm: Url,
        /// For which service.
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads the challenges of a reply: bearer tokens are preferred.
    ///
    /// # Errors
    ///
    /// [`Failure`] where there is none that we know.
    pub fn from_headers(request: &str, headers: &HeaderMap) -> Result<Self, Failure> {
        let mut basic = false;
        for header in headers.get_all(WWW_AUTHENTICATE) {
            let Some(parsed) = header
                .to_str()
                .ok()
                .and_then(|text| http_auth::parse_challenges(text).ok())
            else {
                continue;
            };
            for challenge in parsed {
                let parameter = |name: &str| {
                    let found = challenge
                        .params
                        .iter()
                        .find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("basic") {
                    basic = true;
                } else if challenge.scheme.eq_ignore_ascii_case("bearer")
                    && let Some(realm) = parameter("realm")
                {
                    let realm = Url::parse(&realm).map_err(|_| {
                        Failure::protocol(
                            request,
                            "the registry names a token server whose address makes no sense",
                        )
                    })?;
                    return Ok(Challenge::Bearer {
                        realm,
                        service: parameter("service"),
                    });
                }
            }
        }
        if basic {
            Ok(Challenge::Basic)
        } else {
            let how = if headers.contains_key(WWW_AUTHENTICATE) {
                "in a way that is neither Basic nor Bearer"
            } else {
                "and does not say how"
            };
            Err(Failure {
                status: Some(StatusCode::UNAUTHORIZED),
                ..Failure::protocol(request, format!("the registry asks for credentials {how}"))
            })
        }
    }
}

/// A token and its end.
#[derive(Clone, Debug)]
pub struct Token {
    value: Secret,
    until: Instant,
}

#[derive(Deserialize)]
struct TokenReply {
    token: Option<String>,
    access_token: Option<String>,
    #[serde(default)]
    expires_in: serde_json::Value,
}

impl TokenReply {
    /// Some write the seconds as text, or with a fraction.
    fn seconds(&self) -> Option<u64> {
        let text = match &self.expires_in {
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::String(text) => text.clone(),
            _ => return None,
        };
        let whole = text.trim().split('.').next().unwrap_or_default();
        whole.parse().ok().filter(|&seconds| seconds > 0)
    }
}

impl Token {
    /// Reads the reply of a token server, received now.
    ///
    /// # Errors
    ///
    /// [`Failure`] where it holds none.
    pub fn from_reply(request: &str, body: &[u8]) -> Result<Self, Failure> {
        let no_token =
            |why: &str| Failure::protocol(request, format!("the token server's reply {why}"));
        let reply: TokenReply =
            serde_json::from_slice(body).map_err(|_| no_token("makes no sense"))?;
        let life = reply.seconds().unwrap_or(DEFAULT_LIFE).min(86_400);
        let life = Duration::from_secs(life);
        let value = reply
            .token
            .filter(|t| !t.is_empty())
            .or(reply.access_token)
            .filter(|t| !t.is_empty())
            .ok_or_else(|| no_token("has no token"))?;
        Ok(Token {
            value: Secret::new(value),
            until: Instant::now() + life.saturating_sub(MARGIN).max(life / 2),
        })
    }

    /// Whether it can still be used.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        Instant::now() < self.until
    }

    /// The value of `Authorization`.
    #[must_use]
    pub fn header(&self) -> Option<HeaderValue> {
        bearer(&self.value)
    }
}

fn bearer(token: &Secret) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {}", token.reveal()))
}

/// The value of `Authorization` for a token that the user was given for the registry itself.
#[must_use]
pub fn given_token(credential: &Credential) -> Option<HeaderValue> {
    match credential {
        Credential::RegistryToken(token) => bearer(token),
        Credential::Password { .. } | Credential::IdentityToken(_) => None,
    }
}

/// The value of `Authorization` for a name and a password.
#[must_use]
pub fn basic(credential: &Credential) -> Option<HeaderValue> {
    let Credential::Password { username, password } = credential else {
        return None;
    };
    let pair = format!("{username}:{}", password.reveal());
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    sensitive(&format!("Basic {encoded}"))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[&str]) -> Result<Challenge, Failure> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::from_headers("GET /v2/", &headers)
    }

    #[test]
    fn reads_challenges() {
        let bearer = parse(&[r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a,b:pull""#]).unwrap();
        assert_eq!(
            bearer,
            Challenge::Bearer {
                realm: "https://auth.example/token".parse().unwrap(),
                service: Some("r.example".into())
            }
        );
        assert_eq!(parse(&["bAsIc realm=x"]).unwrap(), Challenge::Basic);
        assert!(matches!(
            parse(&["Basic realm=x", r#"Bearer realm="https://a.example""#]).unwrap(),
            Challenge::Bearer { .. }
        ));
        for wrong in [&[][..], &["Negotiate"], &["Bearer realm=\"\""], &["\"\"\""]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn reads_tokens() {
        for good in [
            r#"{"token":"a"}"#,
            r#"{"token":"","access_token":"a","expires_in":3}"#,
            r#"{"token":"a","expires_in":300.0}"#,
            r#"{"token":"a","expires_in":"300"}"#,
            r#"{"token":"a","expires_in":-1}"#,
            r#"{"token":"a","expires_in":null}"#,
        ] {
            let token = Token::from_reply("GET x", good.as_bytes()).unwrap();
            assert!(token.is_fresh());
            assert_eq!(token.header().unwrap(), "Bearer a");
            assert!(!format!("{token:?}").contains("\"a\""));
        }
        for wrong in ["", "{}", r#"{"token":""}"#, "[]"] {
            assert!(Token::from_reply("GET x", wrong.as_bytes()).is_err());
        }
    }
}
