//! What the integration tests share.

pub mod artifact;
pub mod ci;
pub mod engine;
pub mod peak;
pub mod peers;
pub mod registry;
pub mod script;
pub mod signed;
pub mod tool;
