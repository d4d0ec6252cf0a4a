//! (IO) The HTTP client: proxies, certificates, limits, and waiting between tries.
//!
//! Every body is bounded, and a connection on which nothing moves is given up. What a
//! registry is asked, and with whose rights, is [`crate::registry::session`]'s.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, Url};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use tokio::sync::{RwLock, RwLockReadGuard};

use crate::cancel::Cancel;
use crate::error::Error;
use crate::output::read_at_most;
use crate::registry::credentials::{self, Credential, Helpers};
use crate::registry::failure::{Failure, Retry, describe};
use crate::registry::host::Host;
use crate::registry::reference::{Repository, is_loopback};
use crate::registry::tls;

/// Replies that are no blob: manifests, tokens.
/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests>
/// asks registries to take manifests of 4 MiB at least.
pub const MAX_REPLY: usize = 4 << 20;
/// An error's text; those that list what is missing are the long ones.
const MAX_ERROR: usize = 1 << 20;
/// A file with certificates: those of a whole system have a quarter of a megabyte.
const MAX_CERTIFICATES: u64 = 16 << 20;
const MAX_BACKOFF: Duration = Duration::from_secs(20);
/// How often a registry is tried again that has never answered.
const MAX_FIRST_TRIES: u32 = 2;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an interrupted run waits for the chunks that are on their way.
const MAX_LAST_CHUNKS: Duration = Duration::from_secs(10);

/// How to speak to registries.
#[derive(Clone, Debug)]
pub struct Options {
    /// Registries, besides this machine's, that are spoken to without TLS.
    pub plain_http: Vec<String>,
    /// Files with certificates (PEM) of authorities that are trusted besides the
    /// system's.
    pub ca_files: Vec<PathBuf>,
    /// A name and a password that come before those in files.
    pub credential: Option<Credential>,
    /// How often a request is tried again.
    pub retries: u32,
    /// The wait before the first of these; it doubles.
    pub backoff: Duration,
    /// A connection on which nothing moves for so long is given up.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            plain_http: Vec::new(),
            ca_files: Vec::new(),
            credential: None,
            retries: 5,
            backoff: Duration::from_millis(500),
            timeout: Duration::from_secs(30),
        }
    }
}

/// The client, shared by all that is done in a run.
pub struct Client {
    // Each reads all the certificates of the system: made when it is needed.
    proxied: OnceLock<reqwest::Client>,
    direct: OnceLock<reqwest::Client>,
    plain: OnceLock<reqwest::Client>,
    certificates: Vec<CertificateDer<'static>>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    on_retry: Box<OnRetry>,
    reached: AtomicBool,
    // Read while a chunk is on its way, written to wait for the end of all.
    chunks: RwLock<()>,
    helpers: Helpers,
    // The one registry that the credential of the options is for.
    entered: OnceLock<String>,
    // Those that another tool's configuration gives, by registry.
    configured: Mutex<HashMap<String, Credential>>,
    /// How it speaks.
    pub options: Options,
}

/// Told of a failure that is going to be tried again after a while.
pub type OnRetry = dyn Fn(&Failure, Duration) + Send + Sync;

/// What the request of a reply proved who we are with: a reply that asks for it may be
/// older than our knowing so.
#[derive(Clone, Debug, Default)]
pub struct Authorized(pub Option<HeaderValue>);

impl Authorized {
    fn of(request: &reqwest::Request) -> Self {
        Authorized(request.headers().get(AUTHORIZATION).cloned())
    }

    /// That of the request which a reply answers.
    #[must_use]
    pub fn behind(reply: &Response) -> Self {
        reply.extensions().get().cloned().unwrap_or_default()
    }
}

impl Client {
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Usage`] where a certificate file cannot be used.
    pub fn new(options: Options, on_retry: Box<OnRetry>) -> Result<Self, Error> {
        let mut certificates = Vec::new();
        for file in &options.ca_files {
            certificates.extend(read_certificates(file)?);
        }
        Ok(Client {
            proxied: OnceLock::new(),
            direct: OnceLock::new(),
            plain: OnceLock::new(),
            certificates,
            hosts: Mutex::default(),
            on_retry,
            reached: AtomicBool::new(false),
            chunks: RwLock::default(),
            helpers: Helpers::default(),
            entered: OnceLock::new(),
            configured: Mutex::default(),
            options,
        })
    }

    /// Gives a credential to a registry, to come before those in files.
    pub fn configure(&self, host: &str, credential: Credential) {
        let mut configured = self
            .configured
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        configured.insert(host.to_owned(), credential);
    }

    /// What lets the user into a repository: the credential of the options, which is for one
    /// registry alone, the first that is asked for; else what was given to it; else what
    /// docker's and podman's files say.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a second registry, [`Error::Registry`] where a file or a helper
    /// fails.
    pub fn credential(&self, repository: &Repository) -> Result<Option<Credential>, Error> {
        let Some(credential) = &self.options.credential else {
            let configured = self
                .configured
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(credential) = configured.get(repository.host()) {
                return Ok(Some(credential.clone()));
            }
            drop(configured);
            return credentials::find(repository, &self.helpers);
        };
        let host = repository.host();
        let entered = self.entered.get_or_init(|| host.to_owned());
        if entered != host {
            return Err(credentials::one_host([entered.as_str(), host]));
        }
        Ok(Some(credential.clone()))
    }

    /// What is known about a registry.
    #[must_use]
    pub fn host(&self, name: &str) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host = hosts.entry(name.to_owned()).or_insert_with(|| {
            let tls_first = !self.options.ca_files.is_empty();
            Arc::new(Host::new(name, &self.options.plain_http, tls_first))
        });
        Arc::clone(host)
    }

    /// As Go's clients do, this machine's registries are not asked for by a proxy,
    /// unless the proxy runs here too.
    fn http(&self, url: &Url) -> Result<&reqwest::Client, Failure> {
        let here = url.host_str().is_some_and(is_loopback);
        let direct = here && !local_proxy();
        let plain = direct && url.scheme() == "http";
        let slot = if plain {
            &self.plain
        } else if direct {
            &self.direct
        } else {
            &self.proxied
        };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        if !direct {
            sound_proxies()?;
        }
        let mut builder = self.builder(direct);
        if plain {
            // Nobody is asked for a certificate: reading all of the system's takes longer
            // than the requests do.
            builder = builder.tls_certs_only([]);
        } else {
            builder = self.with_certificates(builder)?;
        }
        let client = builder
            .build()
            .map_err(|e| Failure::transport("setting up HTTP", &e))?;
        Ok(slot.get_or_init(|| client))
    }

    fn builder(&self, direct: bool) -> reqwest::ClientBuilder {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("cargo-edgepack/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT.min(self.options.timeout));
        if direct { builder.no_proxy() } else { builder }
    }

    /// Those of the platform do where none are named.
    fn with_certificates(
        &self,
        builder: reqwest::ClientBuilder,
    ) -> Result<reqwest::ClientBuilder, Failure> {
        if self.certificates.is_empty() {
            return Ok(builder);
        }
        let config = tls::config(&self.certificates)
            .map_err(|e| Failure::protocol("setting up TLS", e.to_string()))?;
        Ok(builder.tls_backend_preconfigured(config))
    }

    /// A client for crates that send by themselves: the same proxies and certificates,
    /// no redirects, and a limit for each request as a whole. `here` says that all of
    /// it stays on this machine.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    #[cfg(feature = "keyless")]
    pub(crate) fn for_services(&self, here: bool) -> Result<reqwest::Client, Failure> {
        self.with_certificates(self.builder(here && !local_proxy()))?
            .timeout(self.options.timeout)
            .build()
            .map_err(|e| Failure::transport("setting up HTTP", &e))
    }

    /// Whether there is any reply at all.
    #[cfg(feature = "keyless")]
    pub(crate) async fn answers(&self, url: &str) -> bool {
        let Ok(url) = url.parse() else { return false };
        let request = reqwest::Request::new(Method::GET, url);
        let reply = self.execute(request).await;
        reply.is_ok_and(|reply| reply.status().is_success())
    }

    /// Sends once, without credentials of its own and without following anything.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn execute(&self, request: reqwest::Request) -> Result<Response, Failure> {
        let what = describe(request.method(), request.url());
        let url = request.url().clone();
        let authorized = Authorized::of(&request);
        let sent = self.http(request.url())?.execute(request);
        match tokio::time::timeout(self.options.timeout, sent).await {
            Ok(reply) => {
                let mut reply = reply.map_err(|e| unreachable(what, &url, &e))?;
                reply.extensions_mut().insert(authorized);
                self.reached.store(true, Ordering::Relaxed);
                Ok(reply)
            }
            Err(_) => Err(Failure::silence(what)),
        }
    }

    /// Sends a body that was not read yet; gives up when `stalled` says that
    /// nothing moves any more.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn stream(
        &self,
        request: reqwest::Request,
        stalled: impl Future<Output = ()>,
    ) -> Result<Response, Failure> {
        let what = describe(request.method(), request.url());
        let client = self.http(request.url())?;
        let authorized = Authorized::of(&request);
        let mut reply = tokio::select! {
            reply = client.execute(request) => reply.map_err(|e| Failure::transport(what, &e)),
            () = stalled => Err(Failure::broken(what, "nothing moves any more")),
        }?;
        reply.extensions_mut().insert(authorized);
        Ok(reply)
    }

    /// To be held while a chunk is on its way, until it is noted where its upload stands.
    /// Once the run is to end there are no more.
    pub async fn chunk(&self) -> RwLockReadGuard<'_, ()> {
        self.chunks.read().await
    }

    /// Waits before another try; hands the failure back where there is to be none.
    ///
    /// # Errors
    ///
    /// The failure.
    pub async fn back_off(&self, failure: Failure, attempt: u32) -> Result<(), Failure> {
        // Where nothing has answered yet, it is more likely a typo than a restart.
        let typo = (failure.unconnected || failure.silent) && !self.reached.load(Ordering::Relaxed);
        let tries = if typo { MAX_FIRST_TRIES } else { u32::MAX };
        if attempt >= self.options.retries.min(tries) {
            return Err(failure);
        }
        let wait = match failure.retry {
            Retry::Never => return Err(failure),
            Retry::After(wait) => wait,
            Retry::Soon => {
                let full = self
                    .options
                    .backoff
                    .saturating_mul(1 << attempt.min(16))
                    .min(MAX_BACKOFF);
                full.mul_f64(0.5 + fastrand::f64() / 2.0)
            }
        };
        (self.on_retry)(&failure, wait);
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// The whole of a body that must not be longer than `limit` bytes.
///
/// # Errors
///
/// [`Failure`].
pub async fn read_body(
    what: &str,
    reply: Response,
    limit: usize,
    timeout: Duration,
) -> Result<Bytes, Failure> {
    if reply
        .content_length()
        .is_some_and(|length| length > limit as u64)
    {
        return Err(Failure::excess(what, limit));
    }
    let mut body = BytesMut::new();
    read_into(&mut body, what, reply, limit, timeout).await?;
    Ok(body.freeze())
}

/// Reads a body; what has come and fits is there also where it fails.
async fn read_into(
    body: &mut BytesMut,
    what: &str,
    mut reply: Response,
    limit: usize,
    timeout: Duration,
) -> Result<(), Failure> {
    // What is this short need not come drop by drop.
    let end = tokio::time::Instant::now() + timeout.saturating_mul(2);
    loop {
        match tokio::time::timeout_at(end, reply.chunk()).await {
            Err(_) => return Err(Failure::broken(what, "the reply does not come to an end")),
            Ok(Err(e)) => return Err(Failure::transport(what, &e)),
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(mut chunk))) => {
                let room = limit - body.len();
                let fits = chunk.len() <= room;
                chunk.truncate(room);
                body.extend_from_slice(&chunk);
                if !fits {
                    return Err(Failure::excess(what, limit));
                }
            }
        }
    }
}

/// An error reply as a failure.
pub async fn read_failure(method: &Method, reply: Response, timeout: Duration) -> Failure {
    let what = describe(method, reply.url());
    let status = reply.status();
    let retry_after = reply
        .headers()
        .get(RETRY_AFTER)
        .and_then(|v| v.to_str().ok())
        .map(str::to_owned);
    let mut body = BytesMut::new();
    // What is said at its beginning counts, whatever follows.
    let _ = read_into(&mut body, &what, reply, MAX_ERROR, timeout).await;
    Failure::reply(what, status, retry_after.as_deref(), &body)
}

/// Refuses an address of a proxy that would be passed over in silence. What is wrong with
/// it is not shown: it may hold a password.
fn sound_proxies() -> Result<(), Failure> {
    let wrong = proxies().find(|(_, value)| proxy_address(value).is_none());
    wrong.map_or(Ok(()), |(name, _)| {
        let failure = Failure::protocol(
            "setting up HTTP",
            format!("{name} is no address of a proxy"),
        );
        Err(Failure {
            hint: Some(format!(
                "it has the form http://HOST:PORT: mend it, or unset {name}"
            )),
            ..failure
        })
    })
}

/// The address of a proxy, which need not have a scheme; none where it is no such thing.
fn proxy_address(value: &str) -> Option<Url> {
    const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];
    let address = if value.contains("://") {
        Url::parse(value)
    } else if value.trim_end_matches('/').contains('/') {
        return None;
    } else {
        Url::parse(&format!("http://{value}"))
    };
    address.ok().filter(|url| {
        SCHEMES.contains(&url.scheme()) && url.host_str().is_some_and(|h| !h.is_empty())
    })
}

/// The proxies that the environment names, and the variables.
fn proxies() -> impl Iterator<Item = (&'static str, String)> {
    const NAMES: [&str; 6] = [
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ];
    let values = NAMES
        .into_iter()
        .filter_map(|name| Some((name, std::env::var(name).ok()?)));
    values.filter(|(_, value)| !value.is_empty())
}

/// Whether the environment names a proxy on this machine.
fn local_proxy() -> bool {
    proxies()
        .filter_map(|(_, value)| proxy_address(&value))
        .any(|url| url.host_str().is_some_and(is_loopback))
}

/// A connection that failed, where it may have been the one to a proxy.
fn unreachable(what: String, url: &Url, error: &reqwest::Error) -> Failure {
    let mut failure = Failure::transport(what, error);
    let direct = url.host_str().is_some_and(is_loopback) && !local_proxy();
    if failure.unconnected && !failure.distrusted && !direct && proxies().next().is_some() {
        failure.hint = Some(
            "the environment names a proxy: check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY"
                .into(),
        );
    }
    failure
}

fn read_certificates(file: &PathBuf) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read_at_most(file, MAX_CERTIFICATES).map_err(Error::io("read", file))?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Error::Usage {
            message: format!("`{}` holds no certificates", file.display()),
            hint: Some("it has to be in the PEM form: -----BEGIN CERTIFICATE-----".into()),
        }),
    }
}

/// Runs what is asynchronous to its end, or until a signal asks to stop.
///
/// # Errors
///
/// [`Error::Interrupted`], or what the work failed with.
pub fn block_on<T>(
    cancel: &Cancel,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    run(work, cancelled(cancel))
}

/// The same for work that uploads: the chunks that are on their way come to their end
/// first, unless that takes long or a second signal comes. A chunk that breaks off costs
/// the whole upload at registries that cannot go on from the middle of one.
/// `on_wait` is told where there is something to wait for.
///
/// # Errors
///
/// As [`block_on`].
pub fn block_on_chunks<T>(
    cancel: &Cancel,
    client: &Client,
    on_wait: impl FnOnce(),
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    run(work, async {
        cancelled(cancel).await;
        if client.chunks.try_write().is_ok() {
            return;
        }
        on_wait();
        tokio::select! {
            _ = client.chunks.write() => {}
            () = tokio::time::sleep(MAX_LAST_CHUNKS) => {}
            () = until(|| cancel.is_urgent()) => {}
        }
    })
}

fn run<T>(
    work: impl Future<Output = Result<T, Error>>,
    interrupted: impl Future<Output = ()>,
) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Error::Internal(format!("failed to start the runtime: {e}")))?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = work => result,
            () = interrupted => Err(Error::Interrupted),
        }
    });
    // A file that is being read on another thread is nothing to wait for.
    runtime.shutdown_background();
    result
}

async fn cancelled(cancel: &Cancel) {
    until(|| cancel.is_set()).await;
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_proxies_from_typos() {
        for (value, sound) in [
            ("http://proxy:3128", true),
            ("http://user:password@10.0.0.1:3128/", true),
            ("socks5h://proxy:1080", true),
            ("proxy.example:3128", true),
            ("http//proxy:3128", false),
            ("http://", false),
            ("ftp://proxy:21", false),
            ("http://proxy:port", false),
            ("::::", false),
        ] {
            assert_eq!(proxy_address(value).is_some(), sound, "{value}");
        }
    }
}
