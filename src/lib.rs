//! Builds, validates, shrinks and packs Wasm modules and components.
//!
//! This is the library behind `cargo edgepack`. It decides and does; it prints
//! nothing, parses no command line and never ends the process. The way that bytes
//! take is in [`pipeline`]; `docs/architecture.md` draws it.
//!
//! ```
//! use edgepack::validate::validate;
//! use edgepack::wasm::Wasm;
//!
//! let wasm = Wasm::new(b"\0asm\x01\0\0\0".to_vec()).unwrap();
//! let module = validate(wasm).unwrap();
//! assert!(module.proposals().names().is_empty());
//! ```

pub mod build;
pub mod cache;
pub mod cancel;
pub mod changes;
pub mod ci;
pub mod compare;
pub mod config;
pub mod destination;
pub mod environment;
pub mod error;
pub mod exit_code;
pub mod finding;
mod flags;
pub mod inspect;
mod json;
pub mod levers;
pub mod oci;
pub mod output;
pub mod pack;
pub mod pipeline;
pub mod plan;
pub mod policy;
pub mod project;
pub mod provenance;
pub mod publish;
pub mod pull;
pub mod registry;
pub mod report;
pub mod sbom;
pub mod share;
pub mod shrink;
pub mod sign;
pub mod size;
pub mod source;
pub mod tags;
pub mod tool;
pub mod toolchain;
pub mod unpack;
pub mod validate;
pub mod wasm;
