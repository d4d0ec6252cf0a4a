//! Where an upload stands, and where it goes on.

use reqwest::header::HeaderValue;
use reqwest::{Method, Response, Url};

use crate::registry::failure::{Failure, describe};
use crate::registry::session::location;

const UPLOAD_ID_HEADER: &str = "docker-upload-uuid";
const MIN_CHUNK_HEADER: &str = "oci-chunk-min-length";

/// An upload that the registry has given an address.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub location: Url,
    pub offset: u64,
    /// The end of what was ever sent: a registry that has more has something else.
    pub sent: u64,
    pub min_chunk: u64,
    /// The offset is ours: the registry does not say what it has.
    pub unsure: bool,
}

/// Where an upload goes on, by the reply that began it, or that tells of one at an address
/// that is known.
pub(super) fn place_of(
    reply: &Response,
    offset: u64,
    known: Option<&Url>,
) -> Result<Place, Failure> {
    // Some say the upload's id alone, which goes behind the address that began it.
    let by_id = || {
        let id = reply.headers().get(UPLOAD_ID_HEADER)?.to_str().ok()?;
        let plain = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let mut address = reply.url().clone();
        address.set_query(None);
        let folder = format!("{}/", address.path().trim_end_matches('/'));
        address.set_path(&folder);
        plain.then(|| address.join(id).ok())?
    };
    let location = location(reply).or_else(|| known.cloned()).or_else(by_id);
    let location = location.ok_or_else(|| {
        Failure::protocol(
            describe(&Method::POST, reply.url()),
            "the registry does not say where to upload to",
        )
    })?;
    let min_chunk = reply
        .headers()
        .get(MIN_CHUNK_HEADER)
        .and_then(|v| v.to_str().ok()?.parse().ok())
        .unwrap_or(0);
    Ok(Place {
        location,
        offset,
        sent: 0,
        min_chunk,
        unsure: false,
    })
}

/// How many bytes a `Range` of the form `0-9` or `bytes=0-9` stands for. Registries
/// write `0-0` for none as well as for one.
pub(super) fn parse_range(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    let (first, last) = text
        .strip_prefix("bytes=")
        .unwrap_or(text)
        .split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    if first.trim() != "0" {
        return None;
    }
    Some(if last == 0 { 0 } else { last.checked_add(1)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_registries_say_they_have() {
        for (text, bytes) in [
            ("0-9", Some(10)),
            ("bytes=0-9", Some(10)),
            ("0-0", Some(0)),
            ("0--1", None),
            ("5-9", None),
            ("x", None),
        ] {
            assert_eq!(
                parse_range(&HeaderValue::from_static(text)),
                bytes,
                "{text}"
            );
        }
        assert_eq!(
            parse_range(&HeaderValue::from_str(&format!("0-{}", u64::MAX)).unwrap()),
            None
        );
    }
}
