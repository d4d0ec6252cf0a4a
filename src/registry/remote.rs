//! (IO) A repository in a registry: manifests, tags, blobs, referrers.
//!
//! The crate `oci-client` lends the grammar of references and of error replies; the
//! requests are ours, since no upload of its can be resumed, repeated or watched, and
//! no reply of a registry may be trusted: see `docs/design/004-why-our-own-push.md`.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LINK};
use reqwest::{Method, Response, StatusCode, Url};

use crate::error::Error;
use crate::json;
use crate::oci::{Descriptor, Digest, Index, MEDIA_TYPE_INDEX, MEDIA_TYPE_MANIFEST};
use crate::registry::credentials::Credential;
use crate::registry::failure::{Failure, Retry, describe};
use crate::registry::http::{Authorized, Client, MAX_REPLY, read_body};
use crate::registry::reference::{Repository, is_tag};
use crate::registry::session::{Request, Session, Target};

pub mod download;
pub mod upload;

const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";
const DIGEST_HEADER: &str = "docker-content-digest";
const SUBJECT_HEADER: &str = "oci-subject";
/// A list of tags that goes on for longer is not believed.
const MAX_PAGES: usize = 1000;
/// Nor is one with more of them: it is held in memory.
const MAX_TAGS: usize = 200_000;
/// Nor is a list of referrers with more pages.
const MAX_REFERRER_PAGES: usize = 20;
/// How often the index of a tag is changed again because somebody else did too.
const MAX_INDEX_TRIES: u32 = 8;
const MIN_OUTLIVING: Duration = Duration::from_millis(5);
const MAX_OUTLIVING: Duration = Duration::from_secs(5);

/// What may be done in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
}

/// A manifest as a registry has it.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Its type, digest and size.
    pub descriptor: Descriptor,
    /// Its exact bytes.
    pub bytes: Bytes,
}

/// A repository in a registry.
pub struct Remote {
    repository: Repository,
    session: Session,
    // Changing the index of referrers reads it first: one at a time.
    referrers_lock: tokio::sync::Mutex<()>,
}

impl Remote {
    /// The repository, to be used with the user's credentials for it.
    ///
    /// # Errors
    ///
    /// [`Error::Registry`] where credentials are there and cannot be read.
    pub fn open(
        client: &Arc<Client>,
        repository: &Repository,
        rights: Rights,
    ) -> Result<Self, Error> {
        let credential = client.credential(repository)?;
        let actions = match rights {
            Rights::Pull => "pull",
            Rights::Push => "pull,push",
        };
        let scopes = vec![format!("repository:{}:{actions}", repository.path())];
        Ok(Remote {
            session: Session::new(Arc::clone(client), repository.host(), scopes, credential),
            repository: repository.clone(),
            referrers_lock: tokio::sync::Mutex::default(),
        })
    }

    /// Which repository it is.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.repository.path())
    }

    /// The digest that a tag or digest stands for; none where the registry has no
    /// such manifest.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn resolve(&self, version: &str) -> Result<Option<Digest>, Failure> {
        let request = Request::new(Method::HEAD, self.path(&format!("manifests/{version}")))
            .with(ACCEPT, ACCEPTED);
        let no_heads = |s| s == StatusCode::METHOD_NOT_ALLOWED || s == StatusCode::NOT_IMPLEMENTED;
        let reply = self
            .session
            .send(&request, |s| found_or_not(s) || no_heads(s))
            .await?;
        if reply.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        match stated_digest(&reply).filter(|_| reply.status().is_success()) {
            Some(digest) => Ok(Some(digest)),
            // Not all registries say it: the manifest itself does.
            None => Ok(self.manifest(version).await?.map(|m| m.descriptor.digest)),
        }
    }

    /// The manifest that a tag or digest stands for.
    ///
    /// # Errors
    ///
    /// [`Failure`], also where the bytes do not have the digest that was asked for
    /// or that the registry states.
    pub async fn manifest(&self, version: &str) -> Result<Option<Fetched>, Failure> {
        let request = Request::new(Method::GET, self.path(&format!("manifests/{version}")))
            .with(ACCEPT, ACCEPTED);
        let mut attempt = 0;
        loop {
            match self.manifest_once(&request, version).await {
                Ok(fetched) => return Ok(fetched),
                Err(failure) => self.session.client().back_off(failure, attempt).await?,
            }
            attempt += 1;
        }
    }

    async fn manifest_once(
        &self,
        request: &Request,
        version: &str,
    ) -> Result<Option<Fetched>, Failure> {
        let reply = self.session.send_once(request, found_or_not).await?;
        if reply.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let what = describe(&Method::GET, reply.url());
        let stated = stated_digest(&reply);
        let media_type = reply
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.split(';').next())
            .map_or_else(|| MEDIA_TYPE_MANIFEST.to_owned(), |v| v.trim().to_owned());
        let bytes = read_body(
            &what,
            reply,
            MAX_REPLY,
            self.session.client().options.timeout,
        )
        .await?;
        let digest = Digest::of(&bytes);
        for expected in [version.parse().ok(), stated].into_iter().flatten() {
            if expected != digest {
                return Err(Failure::altered(
                    what,
                    format!("the manifest has the digest {digest}, not {expected}"),
                ));
            }
        }
        Ok(Some(Fetched {
            descriptor: Descriptor::of(&media_type, &bytes),
            bytes,
        }))
    }

    /// All tags, from every page of the list.
    /// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-tags>
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn tags(&self) -> Result<Vec<String>, Failure> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut request = Request::new(Method::GET, self.path("tags/list?n=1000"));
        let mut tags = Vec::new();
        for _ in 0..MAX_PAGES {
            let reply = self.session.send(&request, |s| s.is_success()).await?;
            let (what, bytes, next) = self.page(reply).await?;
            let page: Page = json::object(&bytes).map_err(|why| {
                Failure::protocol(what, format!("the list of tags makes no sense: {why}"))
            })?;
            // What is no tag cannot be asked for.
            let found = page.tags.unwrap_or_default();
            tags.extend(found.into_iter().filter(|tag| is_tag(tag)));
            match next {
                _ if tags.len() > MAX_TAGS => break,
                Some(url) => request.target = Target::Given(url),
                None => return Ok(tags),
            }
        }
        Err(Failure::protocol(
            format!("GET {}", self.path("tags/list")),
            format!(
                "the list of tags does not end, after {} of them",
                tags.len()
            ),
        ))
    }

    /// A page of a list: where it is from, what it says, and where the next one is.
    async fn page(&self, reply: Response) -> Result<(String, Bytes, Option<Url>), Failure> {
        let next = next_page(&reply);
        let what = describe(&Method::GET, reply.url());
        let timeout = self.session.client().options.timeout;
        let bytes = read_body(&what, reply, MAX_REPLY, timeout).await?;
        Ok((what, bytes, next))
    }

    /// Stores a manifest under a tag or its digest. Says whether the registry took
    /// note of its subject.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn put_manifest(
        &self,
        version: &str,
        media_type: &str,
        bytes: &Bytes,
    ) -> Result<bool, Failure> {
        let mut request = Request::new(Method::PUT, self.path(&format!("manifests/{version}")))
            .with(CONTENT_TYPE, media_type);
        request.body = bytes.clone();
        let digest = Digest::of(bytes);
        let mut attempt = 0;
        let reply = loop {
            match self.session.send_once(&request, |s| s.is_success()).await {
                Ok(reply) => break reply,
                Err(failure) if attempt > 0 && is_refusal(&failure) => {
                    // A try of before, whose answer was lost, may have been carried out: where
                    // tags cannot be moved, it is then refused to do so again.
                    return match self.resolve(version).await {
                        Ok(Some(found)) if found == digest => Ok(false),
                        _ => Err(failure),
                    };
                }
                Err(failure) => self.session.client().back_off(failure, attempt).await?,
            }
            attempt += 1;
        };
        let wrong = |why| Failure::protocol(describe(&Method::PUT, reply.url()), why);
        let stated = stated_digest(&reply);
        if let Some(stated) = &stated
            && *stated != digest
        {
            return Err(wrong(format!(
                "the registry says that it stored {stated}, which is not what was sent"
            )));
        }
        // Something between us and a registry may have answered.
        let doubtful = reply.status() != StatusCode::CREATED && stated.is_none();
        if doubtful && self.resolve(version).await? != Some(digest) {
            let status = reply.status();
            return Err(wrong(format!(
                "the answer is {status}, and the manifest is not there"
            )));
        }
        Ok(reply.headers().contains_key(SUBJECT_HEADER))
    }

    /// Whether the registry has a blob.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn has_blob(&self, blob: &Descriptor) -> Result<bool, Failure> {
        let request = Request::new(Method::HEAD, self.path(&format!("blobs/{}", blob.digest)));
        let reply = self.session.send(&request, found_or_not).await?;
        if reply.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        let length = reply
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        // A blob of another length under this digest is one to replace.
        Ok(length.is_none_or(|length| length == blob.size))
    }

    /// The manifests whose subject is `digest`, by the registry's own list, or by
    /// the index that stands in for it.
    /// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers>
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, Failure> {
        let mut request = Request::new(Method::GET, self.path(&format!("referrers/{digest}")))
            .with(ACCEPT, MEDIA_TYPE_INDEX);
        let mut found = Vec::new();
        for page in 0..MAX_REFERRER_PAGES {
            let missing = |s: StatusCode| {
                page == 0
                    && (s == StatusCode::NOT_FOUND
                        || s == StatusCode::METHOD_NOT_ALLOWED
                        || s == StatusCode::NOT_IMPLEMENTED
                        || s == StatusCode::BAD_REQUEST)
            };
            let reply = self
                .session
                .send(&request, |s| s == StatusCode::OK || missing(s))
                .await?;
            if reply.status() != StatusCode::OK {
                return Ok(self.referrers_index(digest).await?.manifests);
            }
            let (what, bytes, next) = self.page(reply).await?;
            found.extend(parse_index(&what, &bytes)?.manifests);
            match next {
                Some(url) => request.target = Target::Given(url),
                None => return Ok(found),
            }
        }
        Err(Failure::protocol(
            format!("GET {}", self.path(&format!("referrers/{digest}"))),
            format!("the list of referrers has more than {MAX_REFERRER_PAGES} pages"),
        ))
    }

    async fn referrers_index(&self, digest: &Digest) -> Result<Index, Failure> {
        let tag = fallback_tag(digest);
        match self.manifest(&tag).await? {
            Some(fetched) => parse_index(&format!("GET {tag}"), &fetched.bytes),
            None => Ok(Index::default()),
        }
    }

    /// Notes a referrer in the index of its subject, for registries that do not by
    /// themselves.
    /// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema>
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn add_referrer(
        &self,
        subject: &Digest,
        referrer: &Descriptor,
    ) -> Result<(), Failure> {
        let _one_at_a_time = self.referrers_lock.lock().await;
        let tag = fallback_tag(subject);
        for _ in 0..MAX_INDEX_TRIES {
            let started = Instant::now();
            let mut index = self.referrers_index(subject).await?;
            if index.manifests.iter().any(|m| m.digest == referrer.digest) {
                return Ok(());
            }
            index.manifests.push(referrer.clone());
            let bytes = Bytes::from(
                serde_json::to_vec(&index).map_err(|e| Failure::protocol(&tag, e.to_string()))?,
            );
            self.put_manifest(&tag, MEDIA_TYPE_INDEX, &bytes).await?;
            outlive(started).await;
        }
        let index = self.referrers_index(subject).await?;
        if index.manifests.iter().any(|m| m.digest == referrer.digest) {
            return Ok(());
        }
        Err(Failure::protocol(
            format!("PUT {}", self.path(&format!("manifests/{tag}"))),
            "others change the list of referrers all the time",
        ))
    }
}

/// Waits, behind the change of a tag that began with reading it. Another client may have
/// read it before we wrote, and be about to write what it made of that. It takes about as
/// long as we did, and whoever looks after this sees whether our change has outlived it.
pub(crate) async fn outlive(started: Instant) {
    let wait = started.elapsed().mul_f64(1.5 + 1.5 * fastrand::f64());
    tokio::time::sleep(wait.clamp(MIN_OUTLIVING, MAX_OUTLIVING)).await;
}

/// Asks a registry whether it lets somebody in; says whether it wanted to know who it is.
///
/// # Errors
///
/// [`Error::Registry`] where it does not.
pub async fn ping(client: &Arc<Client>, host: &str, credential: Credential) -> Result<bool, Error> {
    let session = Session::new(Arc::clone(client), host, Vec::new(), Some(credential));
    let reply = session
        .send(&Request::new(Method::GET, "/v2/"), |s| s.is_success())
        .await
        .map_err(|failure| match failure.status {
            // To log in is what failed.
            Some(StatusCode::UNAUTHORIZED) => Failure {
                hint: Some("check the name and the password, or whether a token has ended".into()),
                ..failure
            },
            _ => failure,
        })?;
    Ok(Authorized::behind(&reply).0.is_some())
}

/// The address in `Link: <…>; rel="next"`.
fn next_page(reply: &Response) -> Option<Url> {
    let text = reply.headers().get(LINK)?.to_str().ok()?;
    let (address, _) = text.strip_prefix('<')?.split_once('>')?;
    reply.url().join(address).ok()
}

fn fallback_tag(digest: &Digest) -> String {
    format!("sha256-{}", digest.hex())
}

fn parse_index(what: &str, bytes: &[u8]) -> Result<Index, Failure> {
    json::object(bytes).map_err(|why| {
        Failure::protocol(what, format!("the list of referrers makes no sense: {why}"))
    })
}

fn is_refusal(failure: &Failure) -> bool {
    failure.retry == Retry::Never && failure.status.is_some_and(|s| s.is_client_error())
}

fn found_or_not(status: StatusCode) -> bool {
    status == StatusCode::OK || status == StatusCode::NOT_FOUND
}

fn stated_digest(reply: &Response) -> Option<Digest> {
    reply
        .headers()
        .get(DIGEST_HEADER)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}
