//! A Sigstore inside the test's process: a certificate authority with its log, a log of
//! signatures (Rekor v2), a clock, and what a CI's runner gives tokens with. It can be
//! told to do one thing wrong.
//!
//! What it does not show: it believes every token, and who a certificate names are its
//! own rules, if those of the public instance. So it is no proof that the public instance
//! accepts us.
//!
//! Spec: <https://github.com/sigstore/architecture-docs/blob/main/client-spec.md>.

mod ca;
mod der;
mod log;
mod tsa;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::PublicKeyData;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::tool::Place;
pub use ca::Authority;

/// Whom the tokens of a GitHub job make certificates name, and who vouches for it.
pub const WORKFLOW: &str =
    "https://github.com/acme/widgets/.github/workflows/release.yml@refs/heads/main";
pub const GITHUB: &str = "https://token.actions.githubusercontent.com";
/// The same of a GitLab job.
pub const PIPELINE: &str = "https://gitlab.com/acme/widgets//.gitlab-ci.yml@refs/heads/main";
pub const GITLAB: &str = "https://gitlab.com";
/// What a runner's job shows when it asks for a token.
pub const RUNNER_SECRET: &str = "the-secret-of-the-runner";

const CERTIFICATES: &str = "/api/v2/signingCert";
const ENTRIES: &str = "/api/v2/log/entries";
const TIMESTAMPS: &str = "/api/v1/timestamp";
const RUNNER: &str = "/runner/token";
/// Since when all of it is trusted.
const SINCE: &str = "2020-01-01T00:00:00Z";

/// What it does wrong.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Quirk {
    #[default]
    None,
    /// The certificate ended before it was asked for.
    OldCertificate,
    /// Another authority of the same name signs it.
    OtherAuthority,
    /// It names this, or nobody.
    Named(&'static str),
    /// It is in no log.
    NoSct,
    /// It is in a log that nobody trusts.
    SctByOther,
    /// The path to the tree's head leads elsewhere.
    WrongProof,
    /// Another log signs the head.
    CheckpointByOther,
    /// The signature is an hour younger, or older, than it is.
    ClockAhead,
    ClockBehind,
    /// Another clock.
    ClockByOther,
    /// This service answers with this status, and the request's body.
    Status(&'static str, u16),
    /// This service sends clients to another address.
    Redirect(&'static str, String),
    /// This service never answers.
    Silent(&'static str),
}

impl Quirk {
    pub const AUTHORITY: &str = CERTIFICATES;
    pub const LOG: &str = ENTRIES;
    pub const CLOCK: &str = TIMESTAMPS;
    pub const RUNNER: &str = RUNNER;
}

struct Services {
    address: SocketAddr,
    ca: ca::Ca,
    log: Mutex<log::Log>,
    tsa: tsa::Tsa,
    quirk: Mutex<Quirk>,
    seen: Mutex<Vec<String>>,
}

/// A running Sigstore. It ends when it is dropped.
pub struct Sigstore {
    services: Arc<Services>,
    runtime: Option<Runtime>,
}

impl Sigstore {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(TcpListener::bind(("127.0.0.1", 0)))
            .unwrap();
        let services = Arc::new(Services {
            address: listener.local_addr().unwrap(),
            ca: ca::Ca::new(),
            log: Mutex::new(log::Log::new()),
            tsa: tsa::Tsa::new(),
            quirk: Mutex::default(),
            seen: Mutex::default(),
        });
        runtime.spawn(accept(listener, Arc::clone(&services)));
        Sigstore {
            services,
            runtime: Some(runtime),
        }
    }

    pub fn quirk(&self, quirk: Quirk) {
        *self.services.quirk.lock().unwrap() = quirk;
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.services.address)
    }

    /// The paths of all requests.
    pub fn seen(&self) -> Vec<String> {
        self.services.seen.lock().unwrap().clone()
    }

    /// Who signs certificates.
    pub fn authority(&self) -> &Authority {
        &self.services.ca.authority
    }

    /// Who signs those of clocks.
    pub fn clocks(&self) -> &Authority {
        &self.services.tsa.clock.authority
    }

    /// What the log makes of a request.
    pub fn logged(&self, request: &Value) -> Value {
        let request = json!({"hashedRekordRequestV002": request});
        let mut log = self.services.log.lock().unwrap();
        log.append(&request, &Quirk::None)
    }

    /// Puts `trusted_root.json` and `signing_config.json` there.
    pub fn describe(&self, place: &Place) {
        place.write("trusted_root.json", self.trusted_root().to_string());
        place.write("signing_config.json", self.signing_config().to_string());
    }

    /// <https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_trustroot.proto>
    pub fn trusted_root(&self) -> Value {
        let Services { ca, tsa, log, .. } = &*self.services;
        let url = self.url();
        let log = log.lock().unwrap();
        let authority = |uri: &str, chain: &[&[u8]]| {
            let chain: Vec<_> = chain
                .iter()
                .map(|c| json!({"rawBytes": STANDARD.encode(c)}))
                .collect();
            json!({
                "subject": {"organization": "sigstore for tests", "commonName": "authority"},
                "uri": uri,
                "certChain": {"certificates": chain},
                "validFor": {"start": SINCE},
            })
        };
        let listed = |url: &str, key: Vec<u8>, details: &str, id: &[u8]| {
            json!({
                "baseUrl": url,
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": STANDARD.encode(key),
                    "keyDetails": details,
                    "validFor": {"start": SINCE},
                },
                "logId": {"keyId": STANDARD.encode(id)},
            })
        };
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [listed(&url, log.key.subject_public_key_info(), "PKIX_ED25519", &log::id(&log.key))],
            "certificateAuthorities": [authority(&url, &[&ca.authority.certificate])],
            "ctlogs": [listed(
                &format!("{url}/ct"),
                ca.log.subject_public_key_info(),
                "PKIX_ECDSA_P256_SHA_256",
                &ca::log_id(&ca.log),
            )],
            "timestampAuthorities": [authority(
                &format!("{url}{TIMESTAMPS}"),
                &[&tsa.clock.leaf, &tsa.clock.authority.certificate],
            )],
        })
    }

    /// <https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_trustroot.proto>
    pub fn signing_config(&self) -> Value {
        let url = self.url();
        let service = |url: &str, version: u32| {
            json!([{
                "url": url,
                "majorApiVersion": version,
                "validFor": {"start": SINCE},
                "operator": "tests",
            }])
        };
        json!({
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": service(&url, 1),
            "oidcUrls": service(&format!("{url}/oidc"), 1),
            "rekorTlogUrls": service(&url, 2),
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": service(&format!("{url}{TIMESTAMPS}"), 1),
            "tsaConfig": {"selector": "ANY"},
        })
    }

    /// Where a GitHub job asks for its token.
    pub fn runner(&self) -> String {
        format!("{}{RUNNER}?api-version=2.0", self.url())
    }
}

impl Drop for Sigstore {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The token of a GitHub job.
pub fn github_token() -> String {
    token(&json!({
        "iss": GITHUB,
        "sub": "repo:acme/widgets:ref:refs/heads/main",
        "job_workflow_ref": WORKFLOW.strip_prefix("https://github.com/"),
    }))
}

/// The token of a GitLab job.
pub fn gitlab_token() -> String {
    token(&json!({
        "iss": GITLAB,
        "sub": "project_path:acme/widgets:ref_type:branch:ref:main",
        "ci_config_ref_uri": PIPELINE.strip_prefix("https://"),
    }))
}

/// A token for some minutes, unless the claims say otherwise. Nobody signed it.
pub fn token(claims: &Value) -> String {
    let now = unix();
    let mut all = json!({"aud": "sigstore", "iat": now, "nbf": now, "exp": now + 600});
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let head = part(r#"{"alg":"RS256","typ":"JWT","kid":"tests"}"#);
    let signature = part("a signature that nobody looks at");
    format!("{head}.{}.{signature}", part(&all.to_string()))
}

fn unix() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// A time as certificates have it.
fn at(seconds: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

async fn accept(listener: TcpListener, services: Arc<Services>) {
    while let Ok((stream, _)) = listener.accept().await {
        let services = Arc::clone(&services);
        tokio::spawn(async move {
            let service = service_fn(|request| serve(Arc::clone(&services), request));
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type Reply = Response<Full<Bytes>>;

fn reply(status: u16, kind: &str, body: impl Into<Bytes>) -> Reply {
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(Full::new(body.into()))
        .unwrap()
}

async fn serve(services: Arc<Services>, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let path = request.uri().path().to_owned();
    let asks = request.uri().query().unwrap_or_default().to_owned();
    let authorization = request.headers().get("authorization");
    let authorization = authorization.and_then(|a| Some(a.to_str().ok()?.to_owned()));
    let body = request.into_body().collect().await.unwrap().to_bytes();
    services.seen.lock().unwrap().push(path.clone());
    let quirk = services.quirk.lock().unwrap().clone();
    match &quirk {
        Quirk::Status(at, status) if path == *at => {
            return Ok(reply(*status, "text/plain", body));
        }
        Quirk::Redirect(at, to) if path == *at => {
            let mut moved = reply(307, "text/plain", "");
            let to = format!("{to}{path}").parse().unwrap();
            moved.headers_mut().insert("location", to);
            return Ok(moved);
        }
        Quirk::Silent(at) if path == *at => {
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        _ => {}
    }
    let json = serde_json::from_slice(&body).unwrap_or_default();
    Ok(match path.as_str() {
        CERTIFICATES => match services.ca.issue(&json, authorization.as_deref(), &quirk) {
            Ok(issued) => reply(200, "application/json", issued.to_string()),
            Err(why) => reply(400, "text/plain", why),
        },
        ENTRIES => {
            let entry = services.log.lock().unwrap().append(&json, &quirk);
            reply(201, "application/json", entry.to_string())
        }
        TIMESTAMPS => {
            let stamped = services.tsa.reply(&body, &quirk);
            reply(201, "application/timestamp-reply", stamped)
        }
        RUNNER if asks.contains("audience=sigstore") => {
            let expected = format!("bearer {RUNNER_SECRET}");
            if authorization == Some(expected) {
                let value = json!({"value": github_token()});
                reply(200, "application/json", value.to_string())
            } else {
                reply(401, "text/plain", "")
            }
        }
        _ => reply(404, "text/plain", ""),
    })
}
