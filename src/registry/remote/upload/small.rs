//! (IO) Uploads of what is small and in memory, such as signatures: one request more
//! than the question whether it is there, and no resuming.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#post-then-put>.

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, StatusCode};

use super::Remote;
use crate::oci::Descriptor;
use crate::registry::failure::Failure;
use crate::registry::session::{Request, Target};

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
        self.push_new_bytes(blob, bytes).await
    }

    /// The same without a question whether it is there, for what was just made.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn push_new_bytes(&self, blob: &Descriptor, bytes: &Bytes) -> Result<(), Failure> {
        let mut location = self.begin().await?.location;
        location
            .query_pairs_mut()
            .append_pair("digest", blob.digest.as_str());
        let mut request = Request::new(Method::PUT, "")
            .with(CONTENT_TYPE, "application/octet-stream")
            .with(CONTENT_LENGTH, &blob.size.to_string());
        request.target = Target::Given(location);
        request.body = bytes.clone();
        self.session
            .send(&request, |s| s == StatusCode::CREATED)
            .await?;
        Ok(())
    }
}
