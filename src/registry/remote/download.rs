//! (IO) Downloads of blobs: streamed, hashed as they pass, and gone on with after a
//! broken connection.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-blobs>.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};
use sha2::Digest as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Remote;
use crate::error::Error;
use crate::oci::{Descriptor, Digest};
use crate::registry::failure::{Failure, Retry, describe};
use crate::registry::session::Request;

/// Bytes a second: a registry that is slower keeps us busy on purpose.
const MIN_RATE: u64 = 256;
/// Fewer bytes than this between two failures are no progress.
const MIN_PROGRESS: u64 = 64 << 10;
const UNSATISFIABLE: StatusCode = StatusCode::RANGE_NOT_SATISFIABLE;
/// Parts that may wait for the disk: some megabytes at most.
const QUEUE: usize = 8;

/// How fast a download goes, from one period to the next: one that was fast before may
/// drip now.
struct Pace {
    period: Duration,
    since: Instant,
    before: u64,
}

impl Pace {
    fn new(period: Duration, length: u64) -> Self {
        Pace {
            period,
            since: Instant::now(),
            before: length,
        }
    }

    /// The bytes a second of the period that ends here, where they are too few.
    fn too_slow(&mut self, length: u64) -> Option<u64> {
        let elapsed = self.since.elapsed();
        if elapsed <= self.period {
            return None;
        }
        let rate = (length - self.before) / elapsed.as_secs().max(1);
        *self = Pace::new(self.period, length);
        (rate < MIN_RATE).then_some(rate)
    }
}

/// Why a download ended early.
enum Trouble {
    Network(Failure),
    Disk,
}

enum Order {
    Take(Bytes),
    Restart,
}

/// A file that grows, and the hash of what is in it: both on a thread of their own,
/// so that the network does not wait for them.
struct Sink {
    orders: mpsc::Sender<Order>,
    worker: JoinHandle<std::io::Result<sha2::Sha256>>,
    /// Bytes that were handed over since the file was empty.
    length: u64,
}

impl Sink {
    fn new(mut file: File) -> Self {
        let (orders, mut received) = mpsc::channel(QUEUE);
        let worker = tokio::task::spawn_blocking(move || {
            let mut hash = sha2::Sha256::new();
            while let Some(order) = received.blocking_recv() {
                match order {
                    Order::Take(bytes) => {
                        hash.update(&bytes);
                        file.write_all(&bytes)?;
                    }
                    Order::Restart => {
                        hash = sha2::Sha256::new();
                        file.set_len(0)?;
                        file.rewind()?;
                    }
                }
            }
            Ok(hash)
        });
        Sink {
            orders,
            worker,
            length: 0,
        }
    }

    async fn order(&mut self, order: Order) -> Result<(), Trouble> {
        self.length = match &order {
            Order::Take(bytes) => self.length + bytes.len() as u64,
            Order::Restart => 0,
        };
        self.orders.send(order).await.map_err(|_| Trouble::Disk)
    }

    /// The hash of all that was taken, once it is in the file.
    async fn finish(self) -> std::io::Result<sha2::Sha256> {
        drop(self.orders);
        self.worker.await.map_err(std::io::Error::other)?
    }
}

impl Remote {
    /// Writes a blob into a file that is empty. Afterwards the file holds exactly
    /// what the descriptor says; `path` names it in errors.
    ///
    /// # Errors
    ///
    /// [`Error::Registry`] or [`Error::Io`]; the file's contents are then worth nothing.
    pub async fn pull_blob(
        &self,
        blob: &Descriptor,
        file: &mut File,
        path: &Path,
        on_progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), Error> {
        let disk = || Error::io("write", path);
        let mut sink = Sink::new(file.try_clone().map_err(disk())?);
        let (mut attempt, mut best) = (0, 0);
        loop {
            match self.pull_once(blob, &mut sink, on_progress).await {
                // Why the disk failed is found out below.
                Ok(()) | Err(Trouble::Disk) => break,
                Err(Trouble::Network(failure)) => {
                    if sink.length >= best + MIN_PROGRESS {
                        (best, attempt) = (sink.length, 0);
                    }
                    self.session.client().back_off(failure, attempt).await?;
                    attempt += 1;
                }
            }
        }
        let found = Digest::from_hash(sink.finish().await.map_err(disk())?);
        if found == blob.digest {
            return Ok(());
        }
        Err(wrong_digest(self, blob, &found).into())
    }

    async fn pull_once(
        &self,
        blob: &Descriptor,
        sink: &mut Sink,
        on_progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), Trouble> {
        let mut request = Request::new(Method::GET, self.path(&format!("blobs/{}", blob.digest)));
        if sink.length == blob.size {
            return Ok(());
        }
        if sink.length > 0 {
            request = request.with(RANGE, &format!("bytes={}-", sink.length));
        }
        let mut reply = match self.get_blob(&request).await {
            Ok(reply) => reply,
            Err(failure) if sink.length > 0 && failure.status == Some(UNSATISFIABLE) => {
                // What it does not give from the middle, it may give as a whole.
                sink.order(Order::Restart).await?;
                let retry = Retry::Soon;
                return Err(Trouble::Network(Failure { retry, ..failure }));
            }
            Err(failure) => return Err(Trouble::Network(failure)),
        };
        let what = describe(&Method::GET, reply.url());
        let continues =
            reply.status() == StatusCode::PARTIAL_CONTENT && starts_at(&reply) == Some(sink.length);
        if sink.length > 0 && !continues {
            sink.order(Order::Restart).await?;
            if reply.status() == StatusCode::PARTIAL_CONTENT {
                return Err(Trouble::Network(Failure::broken(
                    what,
                    "the registry sent another part than asked for",
                )));
            }
        }
        let wrong_size = |has: u64| {
            Trouble::Network(Failure::protocol(
                &what,
                format!(
                    "the blob has {has} bytes or more, where its descriptor says {}",
                    blob.size
                ),
            ))
        };
        if let Some(length) = reply.content_length()
            && sink.length.saturating_add(length) > blob.size
        {
            return Err(wrong_size(sink.length.saturating_add(length)));
        }
        let timeout = self.session.client().options.timeout;
        let mut pace = Pace::new(timeout, sink.length);
        loop {
            if let Some(rate) = pace.too_slow(sink.length) {
                let message = format!("the download has slowed down to {rate} bytes a second");
                return Err(Trouble::Network(Failure::broken(what, message)));
            }
            let chunk = match tokio::time::timeout(timeout, reply.chunk()).await {
                Err(_) => {
                    return Err(Trouble::Network(Failure::broken(
                        what,
                        "the download stalls",
                    )));
                }
                Ok(Err(e)) => return Err(Trouble::Network(Failure::transport(what, &e))),
                Ok(Ok(None)) => break,
                Ok(Ok(Some(chunk))) => chunk,
            };
            if sink.length + chunk.len() as u64 > blob.size {
                return Err(wrong_size(sink.length + chunk.len() as u64));
            }
            sink.order(Order::Take(chunk)).await?;
            on_progress(sink.length);
        }
        if sink.length < blob.size {
            let message = format!("the blob ends after {} of {} bytes", sink.length, blob.size);
            return Err(Trouble::Network(Failure::broken(what, message)));
        }
        Ok(())
    }

    async fn get_blob(&self, request: &Request) -> Result<Response, Failure> {
        self.session
            .send_once(request, |s| {
                s == StatusCode::OK || s == StatusCode::PARTIAL_CONTENT
            })
            .await
    }

    /// A small blob, such as a config.
    ///
    /// # Errors
    ///
    /// [`Failure`], also where its descriptor says that it is larger than `limit`.
    pub async fn small_blob(&self, blob: &Descriptor, limit: u64) -> Result<Bytes, Failure> {
        let request = Request::new(Method::GET, self.path(&format!("blobs/{}", blob.digest)));
        if blob.size > limit {
            let what = format!("GET {}/blobs/{}", self.repository, blob.digest);
            return Err(Failure::protocol(
                what,
                format!("the blob has {} bytes, where {limit} are sane", blob.size),
            ));
        }
        let limit = usize::try_from(blob.size).unwrap_or(usize::MAX);
        let timeout = self.session.client().options.timeout;
        let mut attempt = 0;
        loop {
            let bytes = match self.get_blob(&request).await {
                Ok(reply) => {
                    let what = describe(&Method::GET, reply.url());
                    crate::registry::http::read_body(&what, reply, limit, timeout).await
                }
                Err(failure) => Err(failure),
            };
            match bytes {
                Ok(bytes) => {
                    let found = Digest::of(&bytes);
                    return if found == blob.digest {
                        Ok(bytes)
                    } else {
                        Err(wrong_digest(self, blob, &found))
                    };
                }
                Err(failure) => self.session.client().back_off(failure, attempt).await?,
            }
            attempt += 1;
        }
    }
}

fn wrong_digest(remote: &Remote, blob: &Descriptor, found: &Digest) -> Failure {
    Failure::altered(
        format!("GET {}/blobs/{}", remote.repository, blob.digest),
        format!("the registry sent something else, with the digest {found}"),
    )
}

/// Where the part begins that a reply holds.
fn starts_at(reply: &Response) -> Option<u64> {
    let text = reply.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?
        .split_once('-')?
        .0
        .trim()
        .parse()
        .ok()
}
