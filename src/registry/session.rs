//! (IO) A registry, spoken to with some rights: credentials, redirects and retries in
//! one place, so that what is built on it speaks of manifests and blobs alone.
//!
//! The rules, for every request:
//! - credentials go to the registry and to the token server that it names, never to
//!   where a redirect or a `Location` on another host leads;
//! - plain HTTP is for this machine and for registries that the user named;
//! - what may pass (429, 5xx, a broken connection) is tried again, later each time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};

use crate::registry::auth::{Challenge, Token, basic, given_token};
use crate::registry::credentials::Credential;
use crate::registry::failure::{Failure, describe};
use crate::registry::host::Host;
use crate::registry::http::{Authorized, Client, MAX_REPLY, read_body, read_failure};

const MAX_REDIRECTS: usize = 8;
const MAX_TOKEN_REDIRECTS: usize = 3;
/// How long a registry on this machine may take to show that it speaks the other scheme.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a request goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// A path in the registry.
    Path(String),
    /// An address that the registry gave.
    Given(Url),
}

/// A request that can be sent again.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where it goes.
    pub target: Target,
    /// Headers, without credentials.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// A request to a path in the registry, without headers or body.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Request {
            method,
            target: Target::Path(path.into()),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// With a header; one that cannot be written is left out.
    #[must_use]
    pub fn with(mut self, name: reqwest::header::HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

/// A registry, spoken to with the rights that some scopes give.
pub struct Session {
    client: Arc<Client>,
    host: Arc<Host>,
    scopes: Vec<String>,
    credential: Option<Credential>,
    token: tokio::sync::Mutex<Option<Token>>,
}

impl Session {
    /// A session with a registry. `scopes` are asked for where it wants tokens:
    /// <https://distribution.github.io/distribution/spec/auth/scope/>.
    #[must_use]
    pub fn new(
        client: Arc<Client>,
        host: &str,
        scopes: Vec<String>,
        credential: Option<Credential>,
    ) -> Self {
        Session {
            host: client.host(host),
            client,
            scopes,
            credential,
            token: tokio::sync::Mutex::default(),
        }
    }

    /// The same with the rights of one scope more.
    #[must_use]
    pub fn with_scope(&self, scope: String) -> Self {
        let mut scopes = self.scopes.clone();
        scopes.push(scope);
        Session {
            client: Arc::clone(&self.client),
            host: Arc::clone(&self.host),
            scopes,
            credential: self.credential.clone(),
            token: tokio::sync::Mutex::default(),
        }
    }

    /// The client below.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What is known about the registry.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Sends until there is an answer that `accept` takes: tries again what may
    /// pass, answers challenges, and follows the redirects of GET and HEAD.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn send(
        &self,
        request: &Request,
        accept: impl Fn(StatusCode) -> bool,
    ) -> Result<Response, Failure> {
        let mut attempt = 0;
        loop {
            match self.send_once(request, &accept).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => self.client.back_off(failure, attempt).await?,
            }
            attempt += 1;
        }
    }

    /// The same, but that silence, which takes long, is tried again only once. `alive` says
    /// whether the address has to be there: one that is not is not tried again.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn send_briefly(
        &self,
        request: &Request,
        alive: bool,
        accept: impl Fn(StatusCode) -> bool,
    ) -> Result<Response, Failure> {
        let (mut attempt, mut silences) = (0, 0);
        loop {
            let failure = match self.send_once(request, &accept).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            silences += u32::from(failure.silent);
            if silences > 1 || (failure.unconnected && !alive) {
                return Err(failure);
            }
            self.client.back_off(failure, attempt).await?;
            attempt += 1;
        }
    }

    /// The same without trying again what may pass.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn send_once(
        &self,
        request: &Request,
        accept: impl Fn(StatusCode) -> bool,
    ) -> Result<Response, Failure> {
        let mut reply = self.follow(request).await?;
        if reply.status() == StatusCode::UNAUTHORIZED {
            self.answer(&request.method, &reply).await?;
            reply = self.follow(request).await?;
            if reply.status() == StatusCode::UNAUTHORIZED && !accept(StatusCode::UNAUTHORIZED) {
                let what = describe(&request.method, reply.url());
                return Err(self.unauthorized(what, self.credential.is_some()));
            }
        }
        if accept(reply.status()) {
            return Ok(reply);
        }
        Err(read_failure(&request.method, reply, self.client.options.timeout).await)
    }

    /// Takes up the challenge of a reply, so that the next request is authorised.
    ///
    /// # Errors
    ///
    /// [`Failure`] where it cannot be met.
    pub async fn answer(&self, method: &Method, reply: &Response) -> Result<(), Failure> {
        let what = describe(method, reply.url());
        if !self.host.is_own(reply.url()) {
            return Err(Failure::protocol(
                what,
                "a host other than the registry asks for credentials",
            ));
        }
        let challenge = if reply.headers().contains_key(WWW_AUTHENTICATE) {
            Challenge::from_headers(&what, reply.headers())?
        } else {
            self.challenge_of_all(&what).await?
        };
        self.host.set_challenge(&challenge);
        // With several requests at a time, another may have been told before us.
        let Authorized(refused) = Authorized::behind(reply);
        match &challenge {
            Challenge::Basic => {
                let ours = self.credential.as_ref().and_then(basic);
                if ours.is_none() || ours == refused {
                    return Err(self.unauthorized(what, ours.is_some()));
                }
            }
            Challenge::Bearer { .. } => {
                let given = self.credential.as_ref().and_then(given_token);
                if given.is_some() && given == refused {
                    return Err(self.unauthorized(what, true));
                }
                let mut slot = self.token.lock().await;
                if refused.is_some() && slot.as_ref().and_then(Token::header) == refused {
                    *slot = None;
                }
                drop(slot);
                self.authorization().await?;
            }
        }
        Ok(())
    }

    /// What the registry as a whole asks for: some say it there alone.
    /// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#determining-support>
    async fn challenge_of_all(&self, what: &str) -> Result<Challenge, Failure> {
        let request = reqwest::Request::new(Method::GET, self.host.url("/v2/")?);
        let reply = self.client.execute(request).await?;
        Challenge::from_headers(what, reply.headers())
    }

    fn unauthorized(&self, what: String, refused: bool) -> Failure {
        let message = if refused {
            format!("the credentials for {} were refused", self.host.name)
        } else {
            format!("there are no credentials for {}", self.host.name)
        };
        let login = format!(
            "log in with: cargo edgepack login {} --username NAME --password-stdin (docker's and podman's logins count too)",
            self.host.name
        );
        Failure {
            status: Some(StatusCode::UNAUTHORIZED),
            hint: Some(if refused {
                format!(
                    "check the name and the password, or whether a token has ended, and {login}"
                )
            } else {
                login
            }),
            ..Failure::protocol(what, message)
        }
    }

    /// Sends, with credentials where they belong, and follows redirects.
    async fn follow(&self, request: &Request) -> Result<Response, Failure> {
        let mut target = request.target.clone();
        for _ in 0..=MAX_REDIRECTS {
            let reply = self.send_as_known(request, &target).await?;
            let read = request.method == Method::GET || request.method == Method::HEAD;
            if !(read && reply.status().is_redirection()) {
                return Ok(reply);
            }
            let what = describe(&request.method, reply.url());
            let next = location(&reply)
                .ok_or_else(|| Failure::protocol(&what, "a redirect leads nowhere"))?;
            if !self.host.allows(&next) {
                let to = describe(&request.method, &next);
                return Err(Failure {
                    hint: self.host.way_out(&next),
                    ..Failure::protocol(
                        what,
                        format!("a redirect to {to}, which is not safe to follow"),
                    )
                });
            }
            target = Target::Given(next);
        }
        Err(Failure::protocol(
            self.describe(request),
            format!("more than {MAX_REDIRECTS} redirects"),
        ))
    }

    fn describe(&self, request: &Request) -> String {
        match &request.target {
            Target::Given(url) => describe(&request.method, url),
            Target::Path(path) => self
                .host
                .url(path)
                .map_or_else(|f| f.request, |url| describe(&request.method, &url)),
        }
    }

    /// Sends once. A registry on this machine may speak HTTP or HTTPS: the first
    /// request finds out.
    async fn send_as_known(&self, request: &Request, target: &Target) -> Result<Response, Failure> {
        let scheme = self.host.scheme();
        let first = self.send_to(request, target).await;
        if scheme.certain || matches!(target, Target::Given(_)) {
            return first;
        }
        let wrong_scheme = match &first {
            // A server that speaks the other one says so at once, or hangs up.
            Err(failure) => failure.status.is_none() && !failure.silent,
            // What servers in Go say on the port of HTTPS.
            Ok(reply) => {
                scheme.value == "http"
                    && reply.status() == StatusCode::BAD_REQUEST
                    && reply
                        .headers()
                        .get("docker-distribution-api-version")
                        .is_none()
                    && reply.version() == reqwest::Version::HTTP_10
            }
        };
        if !wrong_scheme {
            self.host.set_scheme(scheme.value, true);
            return first;
        }
        let other = if scheme.value == "http" {
            "https"
        } else {
            "http"
        };
        self.host.set_scheme(other, false);
        let patience = PROBE_TIMEOUT.min(self.client.options.timeout);
        let second = tokio::time::timeout(patience, self.send_to(request, target)).await;
        let Ok(second) = second else {
            self.host.set_scheme(scheme.value, false);
            return first;
        };
        // A certificate that is not trusted is HTTPS as well.
        let spoken = second.as_ref().map_or_else(|f| f.distrusted, |_| true);
        if spoken {
            self.host.set_scheme(other, true);
            return second;
        }
        self.host.set_scheme(scheme.value, false);
        first
    }

    async fn send_to(&self, request: &Request, target: &Target) -> Result<Response, Failure> {
        let built = self.build(request, target, None).await?;
        self.client.execute(built).await
    }

    /// The request, with credentials where it goes to the registry itself, and with
    /// `body` in place of its own.
    ///
    /// # Errors
    ///
    /// [`Failure`] where the address is one that must not be gone to.
    pub async fn build(
        &self,
        request: &Request,
        target: &Target,
        body: Option<reqwest::Body>,
    ) -> Result<reqwest::Request, Failure> {
        let url = match target {
            Target::Path(path) => self.host.url(path)?,
            Target::Given(url) => url.clone(),
        };
        if !self.host.allows(&url) && !self.host.is_own(&url) {
            return Err(Failure {
                hint: self.host.way_out(&url),
                ..Failure::protocol(
                    describe(&request.method, &url),
                    "the registry names an address that is not safe to go to",
                )
            });
        }
        let own = self.host.is_own(&url);
        let mut built = reqwest::Request::new(request.method.clone(), url);
        *built.headers_mut() = request.headers.clone();
        if own && let Some(value) = self.authorization().await? {
            built.headers_mut().insert(AUTHORIZATION, value);
        }
        *built.body_mut() = match body {
            Some(body) => Some(body),
            None if request.body.is_empty() => None,
            None => Some(request.body.clone().into()),
        };
        Ok(built)
    }

    /// What proves who we are, as far as the registry has said what it wants.
    async fn authorization(&self) -> Result<Option<HeaderValue>, Failure> {
        match self.host.challenge() {
            None => Ok(None),
            Some(Challenge::Basic) => Ok(self.credential.as_ref().and_then(basic)),
            Some(Challenge::Bearer { realm, service }) => {
                if let Some(given) = self.credential.as_ref().and_then(given_token) {
                    return Ok(Some(given));
                }
                let mut slot = self.token.lock().await;
                if let Some(token) = slot.as_ref().filter(|t| t.is_fresh()) {
                    return Ok(token.header());
                }
                let token = self.fetch_token(&realm, service.as_deref()).await?;
                Ok(slot.insert(token).header())
            }
        }
    }

    async fn fetch_token(&self, realm: &Url, service: Option<&str>) -> Result<Token, Failure> {
        let mut attempt = 0;
        loop {
            match self.ask_for_token(realm, service).await {
                Ok(token) => return Ok(token),
                Err(failure) => self.client.back_off(failure, attempt).await?,
            }
            attempt += 1;
        }
    }

    async fn ask_for_token(&self, realm: &Url, service: Option<&str>) -> Result<Token, Failure> {
        if !self.host.allows(realm) {
            let shown = realm.as_str().split('?').next().unwrap_or_default();
            return Err(Failure {
                hint: self.host.way_out(realm),
                ..Failure::protocol(
                    format!("logging in to {}", self.host.name),
                    format!(
                        "it names a token server that credentials must not be sent to, {}",
                        shown.escape_debug()
                    ),
                )
            });
        }
        let request = match &self.credential {
            Some(Credential::IdentityToken(refresh)) => {
                // A query has the very form of this body.
                let mut form = realm.clone();
                form.query_pairs_mut()
                    .clear()
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("client_id", "cargo-edgepack")
                    .append_pair("refresh_token", refresh.reveal())
                    .append_pair("scope", &self.scopes.join(" "))
                    .extend_pairs(service.map(|service| ("service", service)));
                let body = form.query().unwrap_or_default().to_owned();
                let mut request = reqwest::Request::new(Method::POST, realm.clone());
                request.headers_mut().insert(
                    reqwest::header::CONTENT_TYPE,
                    HeaderValue::from_static("application/x-www-form-urlencoded"),
                );
                *request.body_mut() = Some(body.into());
                request
            }
            credential => {
                let mut url = realm.clone();
                {
                    let mut query = url.query_pairs_mut();
                    if let Some(service) = service {
                        query.append_pair("service", service);
                    }
                    for scope in &self.scopes {
                        query.append_pair("scope", scope);
                    }
                }
                let mut request = reqwest::Request::new(Method::GET, url);
                if let Some(value) = credential.as_ref().and_then(basic) {
                    request.headers_mut().insert(AUTHORIZATION, value);
                }
                request
            }
        };
        let method = request.method().clone();
        let what = describe(&method, realm);
        let mut reply = self.client.execute(request).await?;
        // Sent on to another host, it goes without the credentials.
        for _ in 0..MAX_TOKEN_REDIRECTS {
            let Some(next) = location(&reply).filter(|next| self.host.allows(next)) else {
                break;
            };
            if method != Method::GET || !reply.status().is_redirection() {
                break;
            }
            let mut request = reqwest::Request::new(Method::GET, next);
            if request.url().origin() == realm.origin()
                && let Some(value) = self.credential.as_ref().and_then(basic)
            {
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            reply = self.client.execute(request).await?;
        }
        let status = reply.status();
        if status.is_success() {
            let body = read_body(&what, reply, MAX_REPLY, self.client.options.timeout).await?;
            return Token::from_reply(&what, &body);
        }
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            return Err(self.unauthorized(what, self.credential.is_some()));
        }
        if method == Method::POST && matches!(status.as_u16(), 400 | 404 | 405 | 415) {
            return Err(Failure {
                status: Some(status),
                hint: Some(
                    "the token server takes no identity tokens: log in with a name and a password"
                        .into(),
                ),
                ..Failure::protocol(what, "")
            });
        }
        Err(read_failure(&method, reply, self.client.options.timeout).await)
    }
}

/// Where a reply leads, resolved against where it came from.
#[must_use]
pub fn location(reply: &Response) -> Option<Url> {
    let text = reply.headers().get(LOCATION)?.to_str().ok()?;
    reply.url().join(text).ok()
}
