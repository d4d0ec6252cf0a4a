//! (IO) Identity tokens: what a CI says about the job that runs.
//!
//! Whoever has such a token can sign as that job while it lasts. So it is sent to the
//! certificate authority alone, over TLS, and printed nowhere.
//!
//! Specs: <https://docs.github.com/en/actions/reference/security/oidc>,
//! <https://docs.gitlab.com/ci/secrets/id_token_authentication/>.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::environment::{self, IDENTITY_TOKEN};
use crate::error::Error;
use crate::output::read_at_most;
use crate::registry::credentials::Secret;
use crate::registry::failure::{Failure, describe};
use crate::registry::http::{Client, read_body, read_failure};
use crate::registry::reference::is_loopback;
use crate::sign::source::VARIABLE_PREFIX;

/// Whom tokens are for.
const AUDIENCE: &str = "sigstore";
/// Where a GitHub job asks for one, and what it shows there.
const GITHUB_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const GITHUB_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
const GITHUB_RIGHT: &str = "give the job the right to ask for one: permissions: id-token: write";
/// What is longer is no token.
const MAX_TOKEN: usize = 64 << 10;
/// What is longer is neither a path nor the name of a variable.
const MAX_NAME: usize = 300;

/// Where the token comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// From the command line.
    Given(Given),
    /// From a file.
    File(PathBuf),
    /// From a variable.
    Variable(String),
    /// From GitHub, which is asked for one.
    GitHub,
}

/// A token that was given as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Given(String);

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Source {
    /// Parses `env:NAME`, `@FILE`, the token itself, or the path of a file with it.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let parts = text.split('.').count();
        let text = text.trim();
        let name = text
            .trim_start_matches(VARIABLE_PREFIX)
            .trim_start_matches('@');
        // A token that is given in a wrong way is not repeated by any error.
        let misplaced = name.contains("eyJ") && !text.starts_with("eyJ");
        if misplaced || (name.len() > MAX_NAME && parts != 3) {
            return Err(Error::Usage {
                message: "the identity token is neither a token nor a path nor env:NAME".into(),
                hint: Some(
                    "write env:NAME for a variable that holds the token, and nothing else".into(),
                ),
            });
        }
        match (text.strip_prefix(VARIABLE_PREFIX), text.strip_prefix('@')) {
            (Some(""), _) => Err(Error::usage("`env:` names no variable")),
            (Some(name), _) => Ok(Source::Variable(name.to_owned())),
            (_, Some("")) => Err(Error::usage("`@` names no file")),
            (_, Some(path)) => Ok(Source::File(path.into())),
            // `{"` in base64: every token begins with it.
            _ if text.starts_with("eyJ") && parts != 3 => Err(Error::usage(
                "the identity token does not have the three parts of a token",
            )),
            _ if text.starts_with("eyJ") => Ok(Source::Given(Given(text.to_owned()))),
            _ if text.is_empty() => Err(Error::usage("the identity token is empty")),
            _ => Ok(Source::File(text.into())),
        }
    }

    /// The file that it is read from.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Source::File(path) => Some(path),
            _ => None,
        }
    }

    /// What the CI that this runs in offers.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a variable that is no UTF-8, and for an address that a secret
    /// cannot be sent to.
    pub fn ambient() -> Result<Option<Self>, Error> {
        if environment::text(IDENTITY_TOKEN)?.is_some() {
            return Ok(Some(Source::Variable(IDENTITY_TOKEN.into())));
        }
        Ok(Runner::here()?.map(|_| Source::GitHub))
    }

    /// [`Source::ambient`], where there has to be one.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`].
    pub fn required() -> Result<Self, Error> {
        Source::ambient()?.ok_or_else(|| {
            let elsewhere =
                "name one with --identity-token env:NAME, or sign with a key: --key PATH";
            Error::Usage {
                message: "there is no identity to sign with: no CI offers a token".into(),
                hint: Some(Self::in_this_ci().unwrap_or(elsewhere).into()),
            }
        })
    }

    /// How a job of the CI that this one runs in gets an identity; none elsewhere.
    #[must_use]
    pub fn in_this_ci() -> Option<&'static str> {
        let set = |name| environment::text(name).is_ok_and(|value| value.is_some());
        if set("GITHUB_ACTIONS") {
            Some(GITHUB_RIGHT)
        } else if set("GITLAB_CI") {
            Some("give the job one: id_tokens: SIGSTORE_ID_TOKEN: aud: sigstore")
        } else {
            None
        }
    }

    /// Whether others on this machine can read it where it is.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        matches!(self, Source::Given(_))
    }

    /// For people.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Source::Given(_) => "the identity token".into(),
            Source::File(path) => format!("the identity token in `{}`", path.display()),
            Source::Variable(name) => format!("the identity token in {name}"),
            Source::GitHub => "GitHub's identity token".into(),
        }
    }

    /// The token, unless it has to be asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`], [`Error::Io`], or [`Error::Signature`] where it is none.
    pub fn read(&self) -> Result<Option<Token>, Error> {
        let text = match self {
            Source::GitHub => return Ok(None),
            Source::Given(Given(token)) => token.clone(),
            Source::Variable(name) => environment::text(name)?.ok_or_else(|| Error::Usage {
                message: format!(
                    "the variable {name}, which shall hold the identity token, is not set"
                ),
                hint: Some(format!(
                    "set {name} to the token itself; @FILE names a file"
                )),
            })?,
            Source::File(path) => {
                let bytes =
                    read_at_most(path, MAX_TOKEN as u64 + 1).map_err(Error::io("read", path))?;
                String::from_utf8(bytes).map_err(|_| none(&self.name(), "it is no text"))?
            }
        };
        Token::parse(text.trim(), &self.name()).map(Some)
    }

    /// The token.
    ///
    /// # Errors
    ///
    /// As [`Source::read`], and [`Error::Registry`] where the CI does not give it.
    pub async fn fetch(&self, client: &Client) -> Result<Token, Error> {
        match self.read()? {
            Some(token) => Ok(token),
            None => of_github(client).await,
        }
    }
}

fn none(name: &str, why: &str) -> Error {
    Error::Signature {
        message: format!("{name} is none: {why}"),
        hint: Some("it has to be a JSON Web Token (JWT): three parts with dots between".into()),
    }
}

/// A token, and what it says. Whether that is true the certificate authority finds out.
#[derive(Clone)]
pub struct Token {
    secret: Secret,
    claims: Claims,
}

#[derive(Clone, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    email: Option<String>,
    job_workflow_ref: Option<String>,
    ci_config_ref_uri: Option<String>,
    exp: u64,
}

impl Token {
    fn parse(text: &str, name: &str) -> Result<Self, Error> {
        if text.len() > MAX_TOKEN {
            return Err(none(name, "it is too long"));
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [_, payload, _] = parts[..] else {
            return Err(none(name, "it does not have three parts"));
        };
        // The parser's words may repeat what it read.
        let claims = URL_SAFE_NO_PAD
            .decode(payload)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or_else(|| none(name, "it does not say who, by whom and until when"))?;
        Ok(Token {
            secret: Secret::new(text.to_owned()),
            claims,
        })
    }

    /// The token itself, for the one place that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.secret.reveal()
    }

    /// Who vouches for it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.claims.iss
    }

    /// Whom the certificate is going to name, by the rules of the public instance.
    /// <https://github.com/sigstore/fulcio/blob/main/docs/oidc.md>
    #[must_use]
    pub fn subject(&self) -> String {
        let claims = &self.claims;
        if let Some(workflow) = &claims.job_workflow_ref {
            format!("https://github.com/{workflow}")
        } else if let Some(config) = &claims.ci_config_ref_uri {
            format!("https://{config}")
        } else {
            claims.email.as_ref().unwrap_or(&claims.sub).clone()
        }
    }

    /// Whether it is not valid any more, or will not be in so many seconds.
    #[must_use]
    pub fn expires_within(&self, seconds: u64) -> bool {
        let now = humantime::Timestamp::from(now());
        let now = std::time::SystemTime::from(now)
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        self.claims.exp <= now.saturating_add(seconds)
    }

    /// The words of somebody who was sent the token, without it.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        let whole = self.secret.reveal();
        let text = text.replace(whole, "<token>");
        whole
            .split('.')
            .skip(1)
            .filter(|part| part.len() > 7)
            .fold(text, |text, part| text.replace(part, "<token>"))
    }
}

/// Where GitHub's runner gives tokens, and to whom.
struct Runner {
    url: Url,
    authorization: HeaderValue,
}

impl Runner {
    /// The one that this runs on.
    fn here() -> Result<Option<Self>, Error> {
        let (Some(address), Some(secret)) = (
            environment::text(GITHUB_URL)?,
            environment::text(GITHUB_TOKEN)?,
        ) else {
            return Ok(None);
        };
        let mut url: Url = address
            .trim()
            .parse()
            .map_err(|_| Error::usage(format!("{GITHUB_URL} is no address")))?;
        require_secrecy(&url, GITHUB_URL)?;
        url.query_pairs_mut().append_pair("audience", AUDIENCE);
        let mut authorization = HeaderValue::try_from(format!("bearer {}", secret.trim()))
            .map_err(|_| Error::usage(format!("{GITHUB_TOKEN} is no token")))?;
        authorization.set_sensitive(true);
        Ok(Some(Runner { url, authorization }))
    }
}

/// Asks GitHub's runner.
async fn of_github(client: &Client) -> Result<Token, Error> {
    #[derive(Deserialize)]
    struct Reply {
        value: String,
    }
    let name = Source::GitHub.name();
    let Some(Runner { url, authorization }) = Runner::here()? else {
        return Err(Error::usage(format!(
            "{GITHUB_URL} or {GITHUB_TOKEN} is not set"
        )));
    };
    let timeout = client.options.timeout;
    let what = describe(&Method::GET, &url);
    for attempt in 0.. {
        let mut request = reqwest::Request::new(Method::GET, url.clone());
        request
            .headers_mut()
            .insert(AUTHORIZATION, authorization.clone());
        // Redirects are not followed: the secret is for this host.
        let failure = match client.execute(request).await {
            Ok(reply) if reply.status().is_success() => {
                let body = read_body(&what, reply, MAX_TOKEN, timeout).await?;
                let Reply { value } =
                    serde_json::from_slice(&body).map_err(|_| none(&name, "the reply has none"))?;
                return Token::parse(value.trim(), &name);
            }
            Ok(reply) => {
                let mut failure = read_failure(&Method::GET, reply, timeout).await;
                if matches!(failure.status.map(|s| s.as_u16()), Some(401 | 403)) {
                    failure.hint = Some(GITHUB_RIGHT.into());
                }
                failure
            }
            Err(failure) => failure,
        };
        client.back_off(failure, attempt).await?;
    }
    Err(Failure::silence(what).into())
}

/// Refuses to send a secret where others can read it.
///
/// # Errors
///
/// [`Error::Usage`].
pub(super) fn require_secrecy(url: &Url, name: &str) -> Result<(), Error> {
    let here = url.host_str().is_some_and(is_loopback);
    if url.scheme() == "https" || (url.scheme() == "http" && here) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{name}: an identity token is sent over https, and to nobody else than this machine without it"
    )))
}

#[expect(
    clippy::disallowed_methods,
    reason = "tokens end, and no time of theirs reaches an artifact"
)]
fn now() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &serde_json::Value) -> String {
        let part = |value: &str| URL_SAFE_NO_PAD.encode(value);
        format!(
            "{}.{}.{}",
            part(r#"{"alg":"RS256"}"#),
            part(&claims.to_string()),
            part("the signature")
        )
    }

    #[test]
    fn where_it_comes_from() {
        let text = token(&serde_json::json!({}));
        let given = Source::parse(&text).unwrap();
        assert!(given.is_exposed() && !format!("{given:?}").contains("eyJ"));
        assert_eq!(
            Source::parse("env:T").unwrap(),
            Source::Variable("T".into())
        );
        for path in ["@t.jwt", "t.jwt"] {
            assert_eq!(Source::parse(path).unwrap(), Source::File("t.jwt".into()));
        }
        for empty in ["", "env:", "@"] {
            assert!(Source::parse(empty).is_err());
        }
    }

    #[test]
    fn what_it_says() {
        let claims = serde_json::json!({"iss": "https://i.example", "sub": "s", "exp": 1});
        let mut github = claims.clone();
        github["job_workflow_ref"] = "a/b/.github/workflows/w.yml@refs/heads/main".into();
        let mut gitlab = claims.clone();
        gitlab["ci_config_ref_uri"] = "gitlab.com/a/b//.gitlab-ci.yml@refs/heads/main".into();
        let mut mail = claims.clone();
        mail["email"] = "a@b.example".into();
        for (claims, subject) in [
            (claims, "s"),
            (
                github,
                "https://github.com/a/b/.github/workflows/w.yml@refs/heads/main",
            ),
            (
                gitlab,
                "https://gitlab.com/a/b//.gitlab-ci.yml@refs/heads/main",
            ),
            (mail, "a@b.example"),
        ] {
            let token = Token::parse(&token(&claims), "t").unwrap();
            assert_eq!(token.subject(), subject);
            assert_eq!(token.issuer(), "https://i.example");
            assert!(token.expires_within(0));
            let echo = format!("bad token {} ", token.reveal());
            assert_eq!(token.redact(&echo), "bad token <token> ");
        }
        for text in ["", "a.b", "a.b.c", "eyJ.e30.x", "a.b.c.d"] {
            assert!(Token::parse(text, "t").is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_go_over_tls() {
        for (url, fine) in [
            ("https://fulcio.example", true),
            ("http://127.0.0.1:1", true),
            ("http://fulcio.example", false),
            ("ftp://127.0.0.1", false),
        ] {
            assert_eq!(require_secrecy(&url.parse().unwrap(), "x").is_ok(), fine);
        }
    }
}
