//! A registry inside the test's process: the OCI distribution specification v1.1
//! (<https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>) with
//! switches for what real registries do differently, and faults at chosen requests.

mod answer;
mod auth;
mod blobs;
mod fault;
mod manifests;
mod serve;
mod store;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use http::HeaderMap;
use hyper::body::Bytes;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub use auth::{Auth, Lifetime};
pub use fault::{Fault, RequestInfo};
pub use wire::Tls;

use auth::Tokens;
use store::Store;

/// What it answers when asked to mount a blob of another repository.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mount {
    Honoured,
    /// An upload is opened instead, as the specification allows.
    Refused202,
    Error,
}

/// In what it differs from a registry that follows the specification.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Options {
    pub referrers_api: bool,
    pub auth: Auth,
    /// How to log in is said at `/v2/` alone.
    pub challenge_at_root: bool,
    pub tls: Option<Tls>,
    /// The least length of each chunk but the last.
    pub chunk_min: Option<u64>,
    /// The greatest length of a request's body.
    pub chunk_max: Option<u64>,
    /// There is no PATCH.
    pub monolithic_only: bool,
    /// No `Location` where something has been made.
    pub no_location: bool,
    /// Nor where an upload goes on: its id alone is told.
    pub uploads_by_id: bool,
    pub relative_location: bool,
    /// An upload that is closed is answered so.
    pub closes_with: u16,
    /// Where blobs are downloaded from: `HOST:PORT`, or a URL up to the path.
    pub redirect_blobs_to: Option<String>,
    pub mount: Mount,
    /// Types of configs and artifacts that are refused as GitLab does.
    pub reject_media_types: Vec<String>,
    pub reject_uppercase: bool,
    /// Blobs come whole, whatever range is asked for.
    pub ignore_range: bool,
    /// As docker-registry 2.8: an upload is unknown by a `Location` older than its last
    /// byte, so that none goes on after a broken chunk; and nothing looks at
    /// `Content-Range`.
    pub like_docker_2_8: bool,
    /// The longest page of tags.
    pub page: usize,
    /// Files that are served beside, by path.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            referrers_api: true,
            auth: Auth::None,
            challenge_at_root: false,
            tls: None,
            chunk_min: None,
            chunk_max: None,
            monolithic_only: false,
            no_location: false,
            uploads_by_id: false,
            relative_location: false,
            closes_with: 201,
            redirect_blobs_to: None,
            mount: Mount::Honoured,
            reject_media_types: Vec::new(),
            reject_uppercase: false,
            ignore_range: false,
            like_docker_2_8: false,
            page: 100,
            files: BTreeMap::new(),
        }
    }
}

/// A request as it came, and what was answered.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub query: String,
    /// The scheme of its `Authorization`, never what follows.
    pub authorized: Option<String>,
    pub headers: HeaderMap,
    /// 0 where nothing was answered.
    pub status: u16,
    /// So much of its body was read.
    pub received: u64,
    id: u64,
}

impl Seen {
    /// `GET /v2/…?…`, for messages.
    pub fn line(&self) -> String {
        let mark = if self.query.is_empty() { "" } else { "?" };
        format!(
            "{} {}{mark}{} -> {}",
            self.method, self.path, self.query, self.status
        )
    }

    /// Whether it carried bytes of a blob.
    pub fn is_upload(&self) -> bool {
        self.received > 0 && self.path.contains("/blobs/uploads")
    }
}

#[derive(Debug, Default)]
struct Log {
    seen: Vec<Seen>,
    next: u64,
    running: usize,
    most: usize,
}

type Faults = Box<dyn Fn(&RequestInfo) -> Option<Fault> + Send + Sync>;

struct Shared {
    options: Options,
    address: SocketAddr,
    store: Mutex<Store>,
    log: Mutex<Log>,
    tokens: Mutex<Tokens>,
    fault: Mutex<Option<Arc<Faults>>>,
    made: AtomicU64,
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }

    /// `http://127.0.0.1:PORT`
    fn origin(&self) -> String {
        let scheme = if self.options.tls.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address)
    }

    /// A number that was not given out before.
    fn unique(&self) -> u64 {
        self.made.fetch_add(1, Ordering::Relaxed)
    }
}

/// A running registry. It ends when it is dropped.
pub struct Registry {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Registry {
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(TcpListener::bind(("127.0.0.1", 0)))
            .unwrap();
        let shared = Arc::new(Shared {
            address: listener.local_addr().unwrap(),
            options,
            store: Mutex::default(),
            log: Mutex::default(),
            tokens: Mutex::default(),
            fault: Mutex::default(),
            made: AtomicU64::new(1),
        });
        runtime.spawn(wire::accept(listener, Arc::clone(&shared)));
        Registry {
            shared,
            runtime: Some(runtime),
        }
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        self.shared.address.to_string()
    }

    /// A reference to something in it.
    pub fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host())
    }

    /// A token with all rights in a repository.
    pub fn token(&self, repository: &str) -> String {
        auth::give(&self.shared, repository)
    }

    /// All requests since the start, or since `clear_requests`.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.log().seen.clone()
    }

    pub fn clear_requests(&self) {
        let mut log = self.shared.log();
        log.seen.clear();
        log.most = log.running;
    }

    /// The greatest number of requests that were being answered at one time.
    pub fn most_at_once(&self) -> usize {
        self.shared.log().most
    }

    /// Decides about each request from now on; `n` counts from 0 again.
    pub fn fault(&self, fault: impl Fn(&RequestInfo) -> Option<Fault> + Send + Sync + 'static) {
        self.clear_requests();
        *self.shared.fault.lock().unwrap() = Some(Arc::new(Box::new(fault)));
    }

    /// This fault at request `n` from now, once.
    pub fn nth(&self, n: usize, fault: Fault) {
        let fault = Mutex::new(Some(fault));
        self.fault(move |request| {
            (request.n == n)
                .then(|| fault.lock().unwrap().take())
                .flatten()
        });
    }

    /// No faults from now on.
    pub fn heal(&self) {
        *self.shared.fault.lock().unwrap() = None;
    }

    pub fn blob(&self, repository: &str, digest: &str) -> Option<Vec<u8>> {
        let store = self.shared.store();
        let bytes = store.repository(repository)?.blobs.get(digest)?;
        Some(bytes.to_vec())
    }

    /// By tag or by digest.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<Vec<u8>> {
        let store = self.shared.store();
        let (_, manifest) = store.manifest(repository, reference)?;
        Some(manifest.bytes.to_vec())
    }

    pub fn tags(&self, repository: &str) -> BTreeMap<String, String> {
        let store = self.shared.store();
        store
            .repository(repository)
            .map(|r| r.tags.clone())
            .unwrap_or_default()
    }

    /// Puts a blob there under its digest, and gives the digest.
    pub fn put_blob(&self, repository: &str, bytes: impl Into<Vec<u8>>) -> String {
        let bytes = Bytes::from(bytes.into());
        let digest = store::digest(&bytes);
        self.put_blob_as(repository, &digest, bytes);
        digest
    }

    /// Puts a blob there under a digest that it need not have.
    pub fn put_blob_as(&self, repository: &str, digest: &str, bytes: impl Into<Bytes>) {
        let mut store = self.shared.store();
        let blobs = &mut store.make(repository).blobs;
        blobs.insert(digest.to_owned(), bytes.into());
    }

    /// Puts a manifest there, unchecked, and gives its digest.
    pub fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: impl Into<Vec<u8>>,
    ) -> String {
        let bytes = Bytes::from(bytes.into());
        let mut store = self.shared.store();
        store.put_manifest(repository, reference, media_type, bytes)
    }

    /// Whether the tag's manifest and all that it refers to are there, and are what
    /// their digests say.
    pub fn is_complete(&self, repository: &str, tag: &str) -> bool {
        self.shared.store().is_complete(repository, tag)
    }

    /// The digests of what refers to a manifest: from the API, or from the index that
    /// stands for it under a tag.
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema>
    pub fn referrers(&self, repository: &str, digest: &str) -> Vec<String> {
        let store = self.shared.store();
        let index = if self.shared.options.referrers_api {
            manifests::referrers_of(&store, repository, digest, None)
        } else {
            let tag = digest.replace(':', "-");
            let Some((_, index)) = store.manifest(repository, &tag) else {
                return Vec::new();
            };
            serde_json::from_slice(&index.bytes).unwrap()
        };
        let entries = index["manifests"].as_array().unwrap();
        entries
            .iter()
            .map(|entry| entry["digest"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Uploads that have begun and have not ended.
    pub fn open_uploads(&self) -> usize {
        self.shared.store().uploads.len()
    }

    /// What a restart does to a registry that keeps uploads in memory.
    pub fn restart_lost_uploads(&self) {
        self.shared.store().uploads.clear();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
