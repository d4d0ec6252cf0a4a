//! How large the chunks of an upload are: what a broken connection costs is one of
//! them, and whoever interrupts an upload waits for the end of one.

use std::time::Duration;

/// No chunk is larger.
const MAX_CHUNK: u64 = 64 << 20;
/// Sizes of chunks, the next for registries that find the last too large, and for
/// connections that do not live as long.
pub const CHUNKS: [u64; 3] = [16 << 20, 4 << 20, 1 << 20];
/// The first chunk, by which the others are measured, and the least of them.
const FIRST_CHUNK: u64 = 8 << 20;
/// What a chunk should take at most: whoever interrupts an upload waits for its end.
const CHUNK_SECONDS: f64 = 2.0;

/// How an upload gets on.
#[derive(Default)]
pub struct Speed {
    /// Bytes a second, of the last chunk.
    rate: Option<f64>,
    /// Each chunk goes over a connection of its own.
    pub alone: bool,
    /// The registry is on this machine, where no connection breaks by itself, and has not
    /// refused to take the end of a blob with the request that closes the upload.
    pub takes_ends: bool,
    /// It was sent one.
    pub end_sent: bool,
}

impl Speed {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    /// Notes what a chunk took.
    pub fn measured(&mut self, bytes: u64, took: Duration) {
        self.rate = Some(bytes as f64 / took.as_secs_f64().max(1e-6));
    }

    /// Whether what is left of a blob is little enough for the request that closes its upload:
    /// half of the blob, no more than the largest chunk, and sent as fast as one. A line that
    /// breaks then costs no more than with chunks, and whoever interrupts waits no longer.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn is_soon_done(&self, left: u64, blob: u64) -> bool {
        left <= (blob / 2).clamp(CHUNKS[0], MAX_CHUNK)
            && self
                .rate
                .is_some_and(|rate| left as f64 <= rate * CHUNK_SECONDS)
    }

    /// How large the next chunk of a blob is; `index` is into [`CHUNKS`].
    ///
    /// The first try is a quarter of the blob at most: what a request costs counts less
    /// then, and no more than that is lost.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is bounded afterwards"
    )]
    pub fn chunk_size(&self, index: usize, blob: u64) -> u64 {
        if index > 0 {
            return CHUNKS[index];
        }
        let most = (blob / 4).clamp(CHUNKS[0], MAX_CHUNK);
        self.rate.map_or(FIRST_CHUNK, |rate| {
            ((rate * CHUNK_SECONDS) as u64).clamp(FIRST_CHUNK, most)
        })
    }
}
