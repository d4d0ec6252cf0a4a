//! Places where artifacts are kept.

pub mod layout;
