//! The process exit codes, documented in `docs/exit-codes.md`.
//!
//! Scripts and the CI templates branch on these numbers: they only ever grow.

/// All went well.
pub const OK: u8 = 0;
/// Something failed that has no code of its own.
pub const ERROR: u8 = 1;
/// The command line, an environment variable or the configuration is wrong.
pub const USAGE: u8 = 2;
/// A binary is no Wasm, does not validate, or asks for an import that is not allowed.
pub const VALIDATION: u8 = 3;
/// A size budget is exceeded.
pub const BUDGET: u8 = 4;
/// A signature is missing or wrong, or a key cannot be used.
pub const SIGNATURE: u8 = 5;
/// A registry or its credentials failed.
pub const REGISTRY: u8 = 6;
/// Cargo failed; it has printed why.
pub const CARGO: u8 = 101;
/// Interrupted by a signal; outputs are as they were before.
pub const INTERRUPTED: u8 = 130;
