//! What a refused or broken request of an upload says about how to go on.

use super::speed::CHUNKS;
use crate::registry::failure::{Failure, Retry};

/// How a blob is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// In one request.
    Whole,
    /// In several, the largest of them by this place among [`CHUNKS`].
    Chunks(usize),
}

/// The ways that were refused to a blob: one that goes up neither whole nor in chunks does not
/// go up.
#[derive(Default)]
pub(super) struct Refused {
    whole: Option<Failure>,
    /// How sure it is that chunks are not taken, up to [`SURE`].
    chunks: u32,
}

const SURE: u32 = 2;

impl Refused {
    /// Notes that one way was refused and the next one is tried.
    ///
    /// # Errors
    ///
    /// Why it does not go up whole, where nothing is left.
    pub(super) fn turn(&mut self, from: Style, to: Style, failure: Failure) -> Result<(), Failure> {
        match (from, to) {
            (Style::Whole, Style::Chunks(_)) if self.chunks >= SURE => return Err(failure),
            (Style::Whole, Style::Chunks(_)) => self.whole = Some(failure),
            (Style::Chunks(_), Style::Whole) => {
                // These two may come of something before the registry, and pass.
                let may_pass = matches!(failure.status.map(|s| s.as_u16()), Some(400 | 404));
                self.chunks += if may_pass { 1 } else { SURE };
                if self.chunks >= SURE
                    && let Some(whole) = self.whole.take()
                {
                    return Err(whole);
                }
            }
            (Style::Whole, Style::Whole) | (Style::Chunks(_), Style::Chunks(_)) => {}
        }
        Ok(())
    }
}

/// Whether an upload that ended like this may still come to a good end: not where the
/// registry has looked at what it has, and does not want it.
pub(super) fn leads_on(failure: &Failure) -> bool {
    let at_its_end = failure.request.starts_with("PUT");
    failure.status.is_none_or(|s| match s.as_u16() {
        401 | 403 | 429 => true,
        500 => !at_its_end,
        status => status > 500,
    })
}

/// Whether a refusal is about who asks, and when, and not about what is sent. 403 may come
/// of something before the registry that does not want bytes there.
pub(super) fn is_final(failure: &Failure) -> bool {
    matches!(failure.status.map(|s| s.as_u16()), Some(401 | 429 | 503))
}

/// Whether the registry does not know the upload any more.
pub(super) fn is_lost(failure: &Failure) -> bool {
    matches!(failure.status.map(|s| s.as_u16()), Some(404 | 416)) || says_unknown(failure)
}

/// Whether the registry says in so many words that it does not.
fn says_unknown(failure: &Failure) -> bool {
    failure.has_code("BLOB_UPLOAD_UNKNOWN") || failure.has_code("BLOB_UPLOAD_INVALID")
}

/// Whether it is the request that was to begin an upload that failed.
pub(super) fn began(failure: &Failure) -> bool {
    failure.request.starts_with("POST")
}

/// Whether the registry is not there, or what is before it does not reach it. One that is
/// silent may well be there, and not answer this alone.
pub(super) fn is_away(failure: &Failure) -> bool {
    match failure.status {
        None => !failure.silent && failure.retry != Retry::Never,
        Some(status) => matches!(status.as_u16(), 502..=504),
    }
}

/// Whether a registry that is asked where an upload stands does not answer such questions.
pub(super) fn tells_nothing(failure: &Failure) -> bool {
    matches!(
        failure.status.map(|s| s.as_u16()),
        Some(400 | 405 | 415 | 501)
    ) && !says_unknown(failure)
}

/// Another way to upload, where the registry did not take this one.
pub(super) fn next_style(
    style: Style,
    size: u64,
    failure: &Failure,
    refusals: u32,
) -> Option<Style> {
    let status = failure.status.map(|s| s.as_u16());
    // A registry that closes the connection on a body that is too large may do so
    // before we read why.
    let too_large = status == Some(413) || refusals >= 2 && failure.status.is_none();
    match style {
        Style::Whole if status == Some(413) && size > CHUNKS[2] => Some(Style::Chunks(2)),
        Style::Chunks(index) if too_large && index + 1 < CHUNKS.len() => {
            Some(Style::Chunks(index + 1))
        }
        Style::Chunks(_)
            if matches!(status, Some(400 | 404 | 405 | 411 | 415 | 501))
                && failure.request.starts_with("PATCH") =>
        {
            (!says_unknown(failure)).then_some(Style::Whole)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    #[test]
    fn gives_way_to_what_a_registry_takes() {
        let failed = |status: Option<u16>| Failure {
            status: status.map(|s| StatusCode::from_u16(s).unwrap()),
            ..Failure::protocol("PATCH x", "")
        };
        let large = 100 << 20;
        assert_eq!(
            next_style(Style::Chunks(0), large, &failed(Some(413)), 0),
            Some(Style::Chunks(1))
        );
        assert_eq!(
            next_style(Style::Chunks(2), large, &failed(Some(413)), 0),
            None
        );
        assert_eq!(
            next_style(Style::Chunks(0), large, &failed(Some(405)), 0),
            Some(Style::Whole)
        );
        assert_eq!(
            next_style(Style::Chunks(0), large, &failed(Some(403)), 0),
            None
        );
        assert_eq!(
            next_style(Style::Chunks(0), large, &failed(None), 2),
            Some(Style::Chunks(1))
        );
        assert_eq!(
            next_style(Style::Whole, large, &failed(Some(413)), 0),
            Some(Style::Chunks(2))
        );
        assert_eq!(next_style(Style::Whole, 10, &failed(Some(413)), 0), None);
    }
}
