//! Places where artifacts are kept: image layouts on disk, and registries.

pub mod auth;
pub mod credentials;
pub mod failure;
pub mod host;
pub mod http;
pub mod layout;
pub mod package;
pub mod reference;
pub mod remote;
pub mod session;
mod tls;
