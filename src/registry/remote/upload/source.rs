//! (IO) Parts of a file as the bodies of requests, and whether they move.
#![expect(
    clippy::disallowed_methods,
    reason = "blobs are streamed from the files that hold them"
)]

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

use super::check::Check;

/// What is read at a time.
pub(super) const BUFFER: usize = 256 << 10;
/// Buffers for each upload. They are used again: fresh memory costs more than reading.
const BUFFERS: usize = 4;
/// A registry may take long over a blob that it has got whole.
const COMMIT_PATIENCE: u32 = 5;

/// Whether anything moves.
#[derive(Default)]
pub(super) struct Meter(AtomicU64);

impl Meter {
    /// So many bytes went into the connection.
    pub(super) fn sent(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Ends when nothing has moved for `timeout`; for longer, once all is sent.
    pub(super) async fn stalled(self: Arc<Self>, length: u64, timeout: Duration) {
        const STEPS: u32 = 4;
        let mut seen = 0;
        let mut quiet = 0;
        loop {
            tokio::time::sleep(timeout / STEPS).await;
            let sent = self.sent();
            quiet = if sent == seen { quiet + 1 } else { 0 };
            seen = sent;
            let patience = if sent >= length {
                STEPS * COMMIT_PATIENCE
            } else {
                STEPS
            };
            if quiet >= patience {
                return;
            }
        }
    }
}

/// A buffer that goes back to where it came from once it was sent.
struct Lent {
    bytes: Vec<u8>,
    length: usize,
    home: std::sync::mpsc::Sender<Vec<u8>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // The reader may be done by now.
        let _ = self.home.send(std::mem::take(&mut self.bytes));
    }
}

/// A part of a file as the body of a request, read on a thread of its own.
pub(super) fn body(
    file: &Path,
    range: std::ops::Range<u64>,
    check: &Arc<Check>,
    meter: &Arc<Meter>,
) -> reqwest::Body {
    let (sender, receiver) = mpsc::channel::<std::io::Result<Bytes>>(BUFFERS);
    let (path, check, meter) = (file.to_owned(), Arc::clone(check), Arc::clone(meter));
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read_range(&path, range, &check, &sender) {
            check.report(error.to_string());
            // Where nobody listens any more, the request has ended before.
            let _ = sender.blocking_send(Err(error));
        }
    });
    reqwest::Body::wrap_stream(stream::unfold(
        (receiver, meter),
        |(mut receiver, meter)| async move {
            let next = receiver.recv().await?;
            if let Ok(bytes) = &next {
                meter.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            Some((next, (receiver, meter)))
        },
    ))
}

fn read_range(
    path: &Path,
    range: std::ops::Range<u64>,
    check: &Check,
    sender: &mpsc::Sender<std::io::Result<Bytes>>,
) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    let (home, free) = std::sync::mpsc::channel();
    let mut made = 0;
    let mut offset = range.start;
    while offset < range.end {
        let length = usize::try_from(range.end - offset)
            .unwrap_or(BUFFER)
            .min(BUFFER);
        let mut bytes = if made < BUFFERS {
            made += 1;
            vec![0; length]
        } else {
            // Each of them comes back, sent or not. `home` lives, so this cannot fail.
            free.recv().map_err(std::io::Error::other)?
        };
        let part = bytes
            .get_mut(..length)
            .ok_or_else(|| std::io::Error::other("a buffer shrank"))?;
        file.read_exact(part).map_err(|e| {
            if e.kind() == std::io::ErrorKind::UnexpectedEof {
                std::io::Error::new(
                    e.kind(),
                    "the blob is damaged: it is shorter than its descriptor says",
                )
            } else {
                e
            }
        })?;
        if !check.feed(offset, part) {
            return Err(std::io::Error::other(check.damage().unwrap_or_default()));
        }
        offset += length as u64;
        let lent = Lent {
            bytes,
            length,
            home: home.clone(),
        };
        if sender.blocking_send(Ok(Bytes::from_owner(lent))).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
