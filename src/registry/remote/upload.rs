//! (IO) Uploads of blobs that survive what networks do.
//!
//! A large blob goes up in chunks. After a broken connection the registry is asked
//! what it has, and the upload goes on from there; where it has forgotten, from the
//! start. A registry that refuses chunks, or chunks of this size, gets smaller ones,
//! and at last the blob in one piece.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-blobs>.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE,
};
use reqwest::{Method, Response, StatusCode, Url};

pub use self::bookmark::Bookmark;
use self::check::Check;
use self::look::Look;
use self::place::{Place, parse_range, place_of};
use self::refused::{
    Refused, Style, began, is_away, is_final, is_lost, leads_on, next_style, tells_nothing,
};
pub use self::small::Begun;
use self::source::{Meter, body};
use self::speed::{CHUNKS, Speed};
use super::Remote;
use crate::oci::Descriptor;
use crate::registry::failure::{Failure, Retry, describe};
use crate::registry::http::read_failure;
use crate::registry::session::{Request, Target, location};

mod bookmark;
mod check;
mod look;
mod place;
mod refused;
mod small;
mod source;
mod speed;

/// A blob up to this size goes up in one piece.
const MAX_WHOLE: u64 = 8 << 20;
/// A chunk that only finds out whether the registry is where we think. Fewer bytes than
/// this are no progress.
const PROBE: u64 = 64 << 10;
/// How often a registry may ask for a new token while nothing moves.
const MAX_CHALLENGES: u32 = 8;

/// How often it is told how far an upload is.
const TELLING: Duration = Duration::from_millis(200);

/// Whether bytes had to go over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// The repository had it.
    Present,
    /// They did.
    Sent,
    /// The registry took them from another of its repositories.
    Mounted,
}

/// A blob on its way up.
pub struct Upload<'a> {
    /// What it is.
    pub blob: &'a Descriptor,
    /// The file that holds it.
    pub file: &'a Path,
    /// A repository of the same registry that has it.
    pub mount_from: Option<&'a str>,
    /// Where to go on after an interruption.
    pub bookmark: Bookmark<'a>,
    /// Told how many bytes are sent; fewer again where they have to be sent once more.
    pub on_progress: &'a (dyn Fn(u64) + Send + Sync),
}

/// Why a step failed, and what is known then.
enum Trouble {
    /// The registry wants a new token.
    Unauthorized(Method, Box<Response>),
    /// Anything else.
    Failed(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Trouble::Failed(failure)
    }
}

impl Remote {
    /// Sees to it that the registry has a blob.
    ///
    /// # Errors
    ///
    /// [`Failure`]; nothing then refers to what was uploaded.
    pub async fn push_blob(&self, upload: &Upload<'_>) -> Result<Uploaded, Failure> {
        let place;
        if let Some(saved) = upload.bookmark.load() {
            if self.has_blob(upload.blob).await? {
                upload.bookmark.clear();
                return Ok(Uploaded::Present);
            }
            place = self
                .ask_patiently(Some(saved), &mut 0, false)
                .await
                .filter(|p| p.offset > 0 && p.offset <= upload.blob.size);
        } else {
            match self.look(upload.blob, upload.mount_from).await? {
                Look::There(how) => return Ok(how),
                Look::Missing(begun) => place = begun,
            }
        }
        let result = self.push_with_retries(upload, place).await;
        if result.as_ref().err().is_none_or(|f| !leads_on(f)) {
            upload.bookmark.clear();
        }
        result.map(|()| Uploaded::Sent)
    }

    async fn push_with_retries(
        &self,
        upload: &Upload<'_>,
        mut place: Option<Place>,
    ) -> Result<(), Failure> {
        let check = Check::new(upload.blob);
        let mut style =
            if upload.blob.size <= MAX_WHOLE && place.as_ref().is_none_or(|p| p.offset == 0) {
                Style::Whole
            } else {
                Style::Chunks(0)
            };
        let (mut attempt, mut best, mut refusals, mut challenges) = (0, 0, 0, 0);
        let mut speed = Speed::default();
        let mut refused = Refused::default();
        speed.takes_ends = self.session.host().is_near();
        loop {
            let trouble = match self
                .push_once(upload, style, &mut place, &check, &mut speed)
                .await
            {
                Ok(()) => return Ok(()),
                Err(trouble) => trouble,
            };
            let failure = match trouble {
                Trouble::Unauthorized(method, reply) => {
                    speed.takes_ends &= !speed.end_sent;
                    let reached = place.as_ref().map_or(0, |p| p.offset);
                    if reached >= best + PROBE {
                        (best, attempt, refusals, challenges) = (reached, 0, 0, 0);
                    }
                    challenges += 1;
                    if challenges > MAX_CHALLENGES {
                        let timeout = self.session.client().options.timeout;
                        return Err(read_failure(&method, *reply, timeout).await);
                    }
                    self.session.answer(&method, &reply).await?;
                    place = self.ask_patiently(place.take(), &mut attempt, false).await;
                    continue;
                }
                // That was tried as often as anything is.
                Trouble::Failed(failure) if began(&failure) => return Err(failure),
                Trouble::Failed(failure) => failure,
            };
            let reached = place.as_ref().map_or(0, |p| p.offset);
            // What is refused so may be wanted in another way.
            let refused_end = speed.end_sent && speed.takes_ends && failure.status.is_some();
            speed.takes_ends &= !speed.end_sent;
            if !refused_end
                && let Some(next) = next_style(style, upload.blob.size, &failure, refusals)
            {
                refused.turn(style, next, failure)?;
                style = next;
                refusals = 0;
                place = None;
                continue;
            }
            if reached >= best + PROBE {
                (best, attempt, refusals) = (reached, 0, 0);
            } else if failure.status.is_none() {
                refusals += 1;
            }
            // The file is what it should be: something else got into the upload.
            let spoilt =
                style != Style::Whole && failure.has_code("DIGEST_INVALID") && attempt == 0;
            // An upload that the registry has lost is begun again.
            let lost = is_lost(&failure);
            let closed = failure.request.starts_with("PUT");
            let anew = lost || spoilt || (refused_end && !is_final(&failure));
            let failure = match failure.retry {
                Retry::Never if anew => Failure {
                    retry: Retry::Soon,
                    ..failure
                },
                _ => failure,
            };
            let begun = place.is_some();
            let known = place.take().filter(|_| !spoilt);
            self.session.client().back_off(failure, attempt).await?;
            attempt += 1;
            place = self.ask_patiently(known, &mut attempt, lost).await;
            if spoilt {
                continue;
            }
            // The registry may have closed it, and what it said is lost.
            let gone = place.as_ref().is_none_or(|p| p.unsure);
            if closed && gone && self.has_blob(upload.blob).await? {
                (upload.on_progress)(upload.blob.size);
                return Ok(());
            }
            if let Style::Chunks(index) = style
                && begun
                && place.is_none()
            {
                // All is lost when a chunk breaks: the next ones are to end before their
                // connection does.
                style = Style::Chunks((index + 1).min(CHUNKS.len() - 1));
                speed.alone = true;
            }
        }
    }

    /// Asks where the upload stands; again, as a try more, while the registry is not there.
    /// None where it does not say: whether another may begin is its to say too.
    async fn ask_patiently(
        &self,
        place: Option<Place>,
        attempt: &mut u32,
        lost: bool,
    ) -> Option<Place> {
        loop {
            let away = match self.where_it_stands(place.clone(), lost).await {
                Ok(place) => return place,
                Err(away) => away,
            };
            let waited = self.session.client().back_off(away, *attempt).await;
            *attempt += 1;
            waited.ok()?;
        }
    }

    /// Where the upload stands; none where there is none any more. An error where the
    /// registry is not there.
    async fn where_it_stands(
        &self,
        place: Option<Place>,
        lost: bool,
    ) -> Result<Option<Place>, Failure> {
        let Some(place) = place else { return Ok(None) };
        Ok(match self.ask(&place.location).await? {
            Standing::At(asked) => (asked.offset <= place.sent).then_some(Place {
                min_chunk: place.min_chunk,
                sent: place.sent,
                ..asked
            }),
            // It finds out by itself whether we are right.
            Standing::Unsaid if !lost && place.offset > 0 => Some(Place {
                unsure: true,
                ..place
            }),
            Standing::Unsaid | Standing::Gone => None,
        })
    }

    /// One way from where the upload stands to its end.
    async fn push_once(
        &self,
        upload: &Upload<'_>,
        style: Style,
        place: &mut Option<Place>,
        check: &Arc<Check>,
        speed: &mut Speed,
    ) -> Result<(), Trouble> {
        let here = match place {
            Some(here) => here,
            None => place.insert(self.begin().await?),
        };
        let size = upload.blob.size;
        (upload.on_progress)(here.offset);
        speed.end_sent = false;
        let mut last_chunk = None;
        let rest = match style {
            Style::Whole => {
                // Bytes that the registry has already cannot be sent again in one piece.
                if here.offset > 0 {
                    *here = self.begin().await?;
                }
                here.sent = size;
                0..size
            }
            Style::Chunks(index) => {
                upload.bookmark.save(here);
                while here.offset < size {
                    if index == 0
                        && speed.takes_ends
                        && speed.is_soon_done(size - here.offset, size)
                        && !here.unsure
                        && check.has_seen(here.offset)
                    {
                        break;
                    }
                    let chunk = if here.unsure {
                        PROBE
                    } else {
                        speed.chunk_size(index, size)
                    };
                    let chunk = chunk.max(here.min_chunk);
                    let end = here.offset.saturating_add(chunk).min(size);
                    // Whoever interrupts us waits until it is known where we stand.
                    let whole_chunk = self.session.client().chunk().await;
                    let (started, before) = (Instant::now(), here.offset);
                    self.patch(upload, here, end, check, speed.alone).await?;
                    upload.bookmark.save(here);
                    drop(whole_chunk);
                    if chunk > PROBE {
                        speed.measured(here.offset - before, started.elapsed());
                    }
                    (upload.on_progress)(here.offset);
                }
                if here.offset < size {
                    last_chunk = Some(self.session.client().chunk().await);
                    speed.end_sent = true;
                    here.sent = size;
                } else {
                    check.finish(upload.file, size)?;
                }
                here.offset..size
            }
        };
        let mut commit = here.location.clone();
        commit
            .query_pairs_mut()
            .append_pair("digest", upload.blob.digest.as_str());
        let mut headers = HeaderMap::new();
        if speed.end_sent
            && let Ok(range) = HeaderValue::from_str(&format!("{}-{}", rest.start, size - 1))
        {
            headers.insert(CONTENT_RANGE, range);
        }
        let reply = self
            .send_part(&Method::PUT, commit, upload, rest, headers, check)
            .await?;
        let taken = match reply.status() {
            // One that takes no bytes here may say that all is well.
            status if speed.end_sent && status.is_success() => {
                if !self.has_blob(upload.blob).await? {
                    let what = describe(&Method::PUT, reply.url());
                    let why = "the registry has taken it, and does not have it";
                    let status = Some(status);
                    return Err(Failure {
                        status,
                        ..Failure::protocol(what, why)
                    }
                    .into());
                }
                true
            }
            status => is_closed(status),
        };
        drop(last_chunk);
        if !taken {
            return Err(
                read_failure(&Method::PUT, reply, self.session.client().options.timeout)
                    .await
                    .into(),
            );
        }
        (upload.on_progress)(size);
        Ok(())
    }

    async fn patch(
        &self,
        upload: &Upload<'_>,
        here: &mut Place,
        end: u64,
        check: &Arc<Check>,
        alone: bool,
    ) -> Result<(), Trouble> {
        let mut headers = HeaderMap::new();
        if alone {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Ok(range) = HeaderValue::from_str(&format!("{}-{}", here.offset, end - 1)) {
            headers.insert(CONTENT_RANGE, range);
        }
        here.sent = here.sent.max(end);
        let reply = self
            .send_part(
                &Method::PATCH,
                here.location.clone(),
                upload,
                here.offset..end,
                headers,
                check,
            )
            .await?;
        if !reply.status().is_success() {
            return Err(
                read_failure(&Method::PATCH, reply, self.session.client().options.timeout)
                    .await
                    .into(),
            );
        }
        let what = describe(&Method::PATCH, reply.url());
        let has = match reply.headers().get(RANGE) {
            Some(range) => parse_range(range)
                .ok_or_else(|| Failure::protocol(&what, "the reply's Range makes no sense"))?,
            None => end,
        };
        if has <= here.offset || has > end {
            return Err(Failure::broken(
                what,
                format!("the registry has {has} bytes after {end} were sent"),
            )
            .into());
        }
        if let Some(next) = location(&reply) {
            here.location = next;
        }
        let taken = has - here.offset;
        here.offset = has;
        here.unsure = false;
        if has < end && taken < PROBE {
            let message = format!("the registry took {taken} bytes of what was sent");
            return Err(Failure::broken(what, message).into());
        }
        Ok(())
    }

    async fn send_part(
        &self,
        method: &Method,
        url: Url,
        upload: &Upload<'_>,
        range: std::ops::Range<u64>,
        headers: HeaderMap,
        check: &Arc<Check>,
    ) -> Result<Response, Trouble> {
        let mut request = Request {
            method: method.clone(),
            target: Target::Given(url),
            headers,
            body: Bytes::new(),
        };
        let (start, length) = (range.start, range.end - range.start);
        request
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
        request.headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        let meter = Arc::new(Meter::default());
        let body = (length > 0).then(|| body(upload.file, range, check, &meter));
        let built = self.session.build(&request, &request.target, body).await?;
        let stalled = Arc::clone(&meter).stalled(length, self.session.client().options.timeout);
        let reply = tokio::select! {
            reply = self.session.client().stream(built, stalled) => reply,
            never = tell(upload, start, &meter) => match never {},
        };
        // What the file's reader found is the reason, whatever the connection says.
        if let Some(message) = check.damage() {
            return Err(
                Failure::protocol(format!("reading `{}`", upload.file.display()), message).into(),
            );
        }
        let reply = reply?;
        if reply.status() == StatusCode::UNAUTHORIZED {
            return Err(Trouble::Unauthorized(method.clone(), Box::new(reply)));
        }
        Ok(reply)
    }

    async fn begin(&self) -> Result<Place, Failure> {
        let request =
            Request::new(Method::POST, self.path("blobs/uploads/")).with(CONTENT_LENGTH, "0");
        let reply = self
            .session
            .send(&request, |s| s == StatusCode::ACCEPTED)
            .await?;
        place_of(&reply, 0, None)
    }

    /// What the registry has of an upload.
    /// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-a-blob-in-chunks>
    async fn ask(&self, at: &Url) -> Result<Standing, Failure> {
        let mut request = Request::new(Method::GET, "");
        request.target = Target::Given(at.clone());
        let accept = |s: StatusCode| s.is_success();
        // Another host that the registry names need not be there.
        let own = self.session.host().is_own(at);
        let reply = match self.session.send_briefly(&request, own, accept).await {
            Ok(reply) => reply,
            Err(failure) if is_away(&failure) && (own || !failure.unconnected) => {
                return Err(failure);
            }
            Err(failure) if tells_nothing(&failure) => return Ok(Standing::Unsaid),
            Err(_) => return Ok(Standing::Gone),
        };
        let offset = match reply.headers().get(RANGE).map(parse_range) {
            Some(None) => return Ok(Standing::Gone),
            Some(Some(offset)) => offset,
            None => 0,
        };
        Ok(match place_of(&reply, offset, Some(at)) {
            Ok(place) => Standing::At(place),
            Err(_) => Standing::Gone,
        })
    }
}

/// Whether a registry has closed an upload, and has the blob.
fn is_closed(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK
    )
}

/// Tells how far a request's body is, as long as it is on its way.
async fn tell(upload: &Upload<'_>, start: u64, meter: &Meter) -> Infallible {
    loop {
        tokio::time::sleep(TELLING).await;
        (upload.on_progress)(start + meter.sent());
    }
}

/// What a registry says about an upload.
enum Standing {
    At(Place),
    Gone,
    /// It does not answer such questions.
    Unsaid,
}
