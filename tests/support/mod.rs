//! What the integration tests share.

pub mod artifact;
pub mod ci;
pub mod engine;
pub mod line;
pub mod peak;
pub mod peers;
pub mod registry;
pub mod script;
pub mod shrinking;
pub mod signed;
pub mod sigstore;
pub mod tool;
