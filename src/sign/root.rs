//! The services that vouch for identities: certificate authority, logs, clocks.

use std::path::Path;

use crate::error::Error;
use crate::registry::http::Client;

/// The services that are trusted.
#[derive(Debug)]
pub enum Root {}

impl Root {
    /// Reads a file of cosign's form, or fetches that of the public instance.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`].
    #[expect(clippy::unused_async, reason = "they may have to be fetched")]
    pub async fn open(_file: Option<&Path>, _client: &Client) -> Result<Self, Error> {
        Err(Error::Usage {
            message: "verifying an identity (keyless) is not there yet".into(),
            hint: Some("verify with a key: --key PATH".into()),
        })
    }
}
