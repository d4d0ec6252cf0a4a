//! What stands in for the services in a build without the feature `keyless`.

use std::path::Path;
use std::sync::Arc;

use super::Settings;
use crate::error::Error;
use crate::oci::Digest;
use crate::registry::http::Client;
use crate::sign::refusal::Refusal;
use crate::sign::trust::{Identity, SignedBy, Trust};

/// There are none.
#[derive(Clone, Debug)]
pub enum Root {}

/// There is none.
#[derive(Debug)]
pub enum Keyless {}

fn absent() -> Error {
    Error::Usage {
        message: "this build can neither sign nor verify without a key (keyless)".into(),
        hint: Some("install cargo-edgepack with the feature `keyless`, or use --key".into()),
    }
}

impl Root {
    /// # Errors
    ///
    /// [`Error::Usage`].
    #[expect(
        clippy::unused_async,
        reason = "where there are services, it waits for them"
    )]
    pub async fn open(_file: Option<&Path>, _client: &Client) -> Result<Self, Error> {
        Err(absent())
    }

    /// # Errors
    ///
    /// [`Error::Usage`].
    pub fn read(_file: &Path) -> Result<Self, Error> {
        Err(absent())
    }

    /// Never called.
    ///
    /// # Errors
    ///
    /// None.
    pub fn check(
        &self,
        _bundle: &[u8],
        _payload: &[u8],
        _manifest: &Digest,
        _identity: &Identity,
    ) -> Result<SignedBy, Refusal> {
        match *self {}
    }
}

impl Root {
    /// Never called.
    ///
    /// # Errors
    ///
    /// None.
    pub fn check_file(
        &self,
        _bundle: &[u8],
        _bytes: &[u8],
        _identity: &Identity,
    ) -> Result<SignedBy, Refusal> {
        match *self {}
    }
}

impl Keyless {
    /// # Errors
    ///
    /// [`Error::Usage`].
    pub fn new(_settings: Settings, _client: Arc<Client>) -> Result<Self, Error> {
        Err(absent())
    }

    /// Never called.
    ///
    /// # Errors
    ///
    /// None.
    #[expect(
        clippy::unused_async,
        reason = "where there are services, it waits for them"
    )]
    pub async fn bundle(&self, _manifest: &Digest, _statement: &[u8]) -> Result<Vec<u8>, Error> {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    ///
    /// None.
    #[expect(
        clippy::unused_async,
        reason = "where there are services, it waits for them"
    )]
    pub async fn bundle_of_file(&self, _bytes: &[u8]) -> Result<Vec<u8>, Error> {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    ///
    /// None.
    #[expect(
        clippy::unused_async,
        reason = "where there are services, it waits for them"
    )]
    pub async fn trust(&self) -> Result<Option<Trust>, Error> {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    ///
    /// None.
    #[expect(
        clippy::unused_async,
        reason = "where there are services, it waits for them"
    )]
    pub async fn signed_by(&self) -> Result<SignedBy, Error> {
        match *self {}
    }
}
