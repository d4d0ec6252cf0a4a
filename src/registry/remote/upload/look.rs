//! (IO) Whether a blob has to be sent at all.
//!
//! To mount a blob from the very repository that it is for asks whether it is there,
//! and begins an upload if it is not: one request in place of two. Registries may answer
//! every mount with an upload, though, and then only HEAD tells.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#mounting-a-blob-from-another-repository>.

use reqwest::header::CONTENT_LENGTH;
use reqwest::{Method, StatusCode};

use super::{Place, Remote, Uploaded, place_of};
use crate::oci::Descriptor;
use crate::registry::failure::Failure;
use crate::registry::session::{Request, Target};

/// Up to this size a blob is sent rather than asked for once more.
const MAX_UNASKED: u64 = 256 << 10;

/// What came of looking for a blob.
pub(super) enum Look {
    /// The repository has it.
    There(Uploaded),
    /// It has not; an upload may have been begun.
    Missing(Option<Place>),
}

enum Mount {
    Done,
    Upload(Place),
    Refused,
}

impl Remote {
    /// Whether the repository has a blob, or gets it from another repository.
    pub(super) async fn look(
        &self,
        blob: &Descriptor,
        mount_from: Option<&str>,
    ) -> Result<Look, Failure> {
        let own = self.repository.path();
        let from = mount_from.unwrap_or(own);
        let host = self.session.host();
        // Nothing but HEAD says it there.
        if host.ignores_mounts() {
            return Ok(if self.has_blob(blob).await? {
                Look::There(Uploaded::Present)
            } else {
                Look::Missing(None)
            });
        }
        match self.mount(blob, from).await {
            Mount::Done if from == own => Ok(Look::There(Uploaded::Present)),
            Mount::Done => Ok(Look::There(Uploaded::Mounted)),
            Mount::Upload(begun) => {
                if blob.size > MAX_UNASKED && self.has_blob(blob).await? {
                    if from == own {
                        host.set_ignores_mounts();
                    }
                    self.give_up(begun).await;
                    return Ok(Look::There(Uploaded::Present));
                }
                Ok(Look::Missing(Some(begun)))
            }
            Mount::Refused if self.has_blob(blob).await? => Ok(Look::There(Uploaded::Present)),
            Mount::Refused => Ok(Look::Missing(None)),
        }
    }

    /// Ends an upload that is not needed. Registries forget it in time anyway.
    async fn give_up(&self, upload: Place) {
        let mut request = Request::new(Method::DELETE, "");
        request.target = Target::Given(upload.location);
        let _ = self.session.send_once(&request, |_| true).await;
    }

    /// Asks for a blob of another repository. That it does not work is no failure: the
    /// other repository may be gone, or not ours to read.
    async fn mount(&self, blob: &Descriptor, from: &str) -> Mount {
        let path = self.path(&format!("blobs/uploads/?mount={}&from={from}", blob.digest));
        let request = Request::new(Method::POST, path).with(CONTENT_LENGTH, "0");
        let other;
        let session = if from == self.repository.path() {
            &self.session
        } else {
            other = self.session.with_scope(format!("repository:{from}:pull"));
            &other
        };
        let busy = |s: StatusCode| {
            s == StatusCode::TOO_MANY_REQUESTS || s == StatusCode::SERVICE_UNAVAILABLE
        };
        match session.send_briefly(&request, true, |s| !busy(s)).await {
            Ok(reply) if reply.status() == StatusCode::CREATED => Mount::Done,
            Ok(reply) if reply.status() == StatusCode::ACCEPTED => {
                place_of(&reply, 0, None).map_or(Mount::Refused, Mount::Upload)
            }
            _ => Mount::Refused,
        }
    }
}
