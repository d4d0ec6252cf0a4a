//! Signatures without a key: an identity that a CI vouches for, a certificate for some
//! minutes, a log that shows that it was used, and a clock that says when.
//!
//! The protocols are those of Sigstore, and so are the crates behind the feature
//! `keyless`; without it there is an error in their place, and nothing else changes.
//!
//! Spec: <https://github.com/sigstore/architecture-docs/blob/main/client-spec.md>.

use std::path::PathBuf;

pub mod token;

#[cfg(not(feature = "keyless"))]
mod absent;
#[cfg(feature = "keyless")]
mod authorities;
#[cfg(feature = "keyless")]
mod root;
#[cfg(feature = "keyless")]
mod signer;

#[cfg(not(feature = "keyless"))]
pub use absent::{Keyless, Root};
#[cfg(feature = "keyless")]
pub use root::Root;
#[cfg(feature = "keyless")]
pub use signer::Keyless;

/// Whether this build can do it.
pub const AVAILABLE: bool = cfg!(feature = "keyless");

/// With which identity, and which Sigstore, to sign.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Settings {
    /// Where the identity comes from.
    pub token: token::Source,
    /// The services to sign with, in cosign's form; else those of the public instance.
    pub signing_config: Option<PathBuf>,
    /// The services that are trusted, in cosign's form; else as above.
    pub trusted_root: Option<PathBuf>,
}
