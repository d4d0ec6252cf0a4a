//! (IO) Uploads of what is small and in memory, such as signatures: one request more
//! than the question whether it is there, and no resuming.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#post-then-put>.

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, Url};

use super::refused::is_final;
use super::{Remote, is_closed};
use crate::oci::Descriptor;
use crate::registry::failure::Failure;
use crate::registry::session::{Request, Target};

/// An upload that a registry waits for.
#[derive(Debug)]
pub struct Begun(Url);

impl Remote {
    /// Sends a small blob that is in memory, unless the repository has it.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn push_bytes(&self, blob: &Descriptor, bytes: &Bytes) -> Result<(), Failure> {
        if self.has_blob(blob).await? {
            return Ok(());
        }
        self.push_new_bytes(None, blob, bytes).await
    }

    /// Begins an upload of something small that is not known yet.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn begin_small(&self) -> Result<Begun, Failure> {
        Ok(Begun(self.begin().await?.location))
    }

    /// Sends a small blob that is in memory and was just made, so that nobody has it;
    /// into an upload that was begun before, if that is still there.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn push_new_bytes(
        &self,
        begun: Option<Begun>,
        blob: &Descriptor,
        bytes: &Bytes,
    ) -> Result<(), Failure> {
        let upload = match begun {
            Some(begun) => begun,
            None => self.begin_small().await?,
        };
        match self.fill(upload, blob, bytes).await {
            // The upload may have been forgotten, or closed by a request whose answer is lost.
            Err(failure)
                if failure.status.is_some_and(|s| s.is_client_error()) && !is_final(&failure) =>
            {
                if self.has_blob(blob).await? {
                    return Ok(());
                }
                let upload = self.begin_small().await?;
                self.fill(upload, blob, bytes).await
            }
            done => done,
        }
    }

    async fn fill(&self, upload: Begun, blob: &Descriptor, bytes: &Bytes) -> Result<(), Failure> {
        let Begun(mut location) = upload;
        location
            .query_pairs_mut()
            .append_pair("digest", blob.digest.as_str());
        let mut request = Request::new(Method::PUT, "")
            .with(CONTENT_TYPE, "application/octet-stream")
            .with(CONTENT_LENGTH, &blob.size.to_string());
        request.target = Target::Given(location);
        request.body = bytes.clone();
        self.session.send(&request, is_closed).await?;
        Ok(())
    }
}
