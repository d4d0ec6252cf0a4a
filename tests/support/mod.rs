//! What the integration tests share.
#![expect(
    clippy::allow_attributes,
    reason = "whether a test uses all of it varies"
)]

#[allow(dead_code)]
pub mod artifact;
#[allow(dead_code)]
pub mod engine;
#[allow(dead_code)]
pub mod peak;
#[allow(dead_code)]
pub mod peers;
#[allow(dead_code)]
pub mod registry;
pub mod script;
#[allow(dead_code)]
pub mod signed;
#[allow(dead_code)]
pub mod tool;
