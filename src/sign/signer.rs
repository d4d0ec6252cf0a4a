//! What signs: it makes a bundle of a statement, and knows how its own bundles are told
//! from those of others.

use super::bundle;
use super::key::SigningKey;
use super::trust::{SignedBy, Trust};
use crate::error::Error;

/// Who signs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Signer {
    /// Whoever holds a key.
    Key(SigningKey),
}

impl Signer {
    /// Signs a statement; a bundle's bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    #[expect(
        clippy::unused_async,
        reason = "not all that sign do so on this machine"
    )]
    pub async fn bundle(&self, statement: &[u8]) -> Result<Vec<u8>, Error> {
        match self {
            Signer::Key(key) => bundle::make(statement, key),
        }
    }

    /// What accepts its signatures, and those of nobody else.
    ///
    /// # Errors
    ///
    /// None with a key.
    #[expect(clippy::unused_async, reason = "not all that sign know it beforehand")]
    pub async fn trust(&self) -> Result<Trust, Error> {
        match self {
            Signer::Key(key) => Ok(Trust::Key(key.public().clone())),
        }
    }

    /// Who that is.
    ///
    /// # Errors
    ///
    /// As [`Signer::trust`].
    #[expect(clippy::unused_async, reason = "not all that sign know it beforehand")]
    pub async fn signed_by(&self) -> Result<SignedBy, Error> {
        match self {
            Signer::Key(key) => Ok(SignedBy::from(key.public())),
        }
    }
}
