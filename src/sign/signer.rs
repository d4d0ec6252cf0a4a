//! What signs: it makes a bundle of a statement, and knows how its own bundles are told
//! from those of others.

use super::key::SigningKey;
use super::keyless::Keyless;
use super::trust::{SignedBy, Trust};
use super::{blob, bundle};
use crate::error::Error;
use crate::oci::Digest;

/// Who signs.
#[derive(Debug)]
pub enum Signer {
    /// Whoever holds a key.
    Key(SigningKey),
    /// Whom a certificate names.
    Keyless(Box<Keyless>),
}

impl Signer {
    /// Signs a statement about a manifest; a bundle's bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`]; without a key [`Error::Registry`] where a service cannot be
    /// reached, and [`Error::Signature`] where one refuses.
    pub async fn bundle(&self, manifest: &Digest, statement: &[u8]) -> Result<Vec<u8>, Error> {
        match self {
            Signer::Key(key) => bundle::make(statement, key),
            Signer::Keyless(keyless) => keyless.bundle(manifest, statement).await,
        }
    }

    /// Signs a file's bytes; the bytes of the bundle beside it.
    ///
    /// # Errors
    ///
    /// As [`Signer::bundle`].
    pub async fn bundle_of_file(&self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        match self {
            Signer::Key(key) => blob::make(bytes, key),
            Signer::Keyless(keyless) => keyless.bundle_of_file(bytes).await,
        }
    }

    /// What accepts its signatures, and those of nobody else, where this is known.
    ///
    /// # Errors
    ///
    /// As [`Signer::bundle`].
    pub async fn trust(&self) -> Result<Option<Trust>, Error> {
        match self {
            Signer::Key(key) => Ok(Some(Trust::Key(key.public().clone()))),
            Signer::Keyless(keyless) => keyless.trust().await,
        }
    }

    /// Who that is.
    ///
    /// # Errors
    ///
    /// As [`Signer::bundle`].
    pub async fn signed_by(&self) -> Result<SignedBy, Error> {
        match self {
            Signer::Key(key) => Ok(SignedBy::from(key.public())),
            Signer::Keyless(keyless) => keyless.signed_by().await,
        }
    }
}
