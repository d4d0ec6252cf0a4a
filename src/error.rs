//! The error that ends a command: one text, one exit code, and a hint where
//! there is something to do about it.
//!
//! Texts are lower-case fragments. What is wrong with a module is no error of
//! this kind but a [`crate::finding::Finding`].

use std::path::{Path, PathBuf};

use crate::exit_code;
use crate::wasm::NotWasm;

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag, an environment variable or the combination of several is wrong.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to write instead.
        hint: Option<String>,
    },
    /// The configuration in a manifest is wrong.
    #[error("invalid configuration in `{}`: {message}", manifest.display())]
    Config {
        /// The manifest that holds it.
        manifest: PathBuf,
        /// Key and problem.
        message: String,
        /// What to write instead.
        hint: Option<String>,
    },
    /// A file does not hold Wasm.
    #[error("`{}`: {reason}", path.display())]
    NotWasm {
        /// The file.
        path: PathBuf,
        /// What it holds.
        reason: NotWasm,
    },
    /// A file or folder could not be read or written.
    #[error("failed to {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An external program could not be started or failed.
    #[error("failed to run `{program}`: {message}")]
    Tool {
        /// Its name.
        program: String,
        /// The end of what it printed, or why it did not start.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// Cargo failed and has printed its own diagnostics.
    #[error("cargo failed: {message}")]
    Cargo {
        /// Which command, and with which status.
        message: String,
        /// What to do, where it is not in cargo's own words.
        hint: Option<String>,
        /// Whether it was the code that did not compile, and not the project that
        /// cargo could not load.
        in_code: bool,
    },
    /// A compile target is missing.
    #[error("the target `{target}` is not installed: {message}")]
    TargetMissing {
        /// The target triple.
        target: String,
        /// Rustup's name for the toolchain; none where it is the one in use.
        toolchain: Option<String>,
        /// Why it was not installed by itself.
        message: String,
    },
    /// Cargo succeeded, but nothing that it made is Wasm.
    #[error("{message}")]
    NoOutput {
        /// Which packages, and what they are.
        message: String,
        /// What to change.
        hint: Option<String>,
    },
    /// A registry, or the credentials for it, failed.
    #[error("{message}")]
    Registry {
        /// The request and what became of it.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A signature is missing or wrong, or a key cannot be used.
    #[error("{message}")]
    Signature {
        /// What does not hold.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A reply or an intermediate result makes no sense: a bug, here or there.
    #[error("{0}")]
    Internal(String),
    /// A signal asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The exit code that this error ends the process with: see [`exit_code`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage { .. } | Error::Config { .. } => exit_code::USAGE,
            Error::NotWasm { .. } => exit_code::VALIDATION,
            Error::Cargo { .. } => exit_code::CARGO,
            Error::Registry { .. } => exit_code::REGISTRY,
            Error::Signature { .. } => exit_code::SIGNATURE,
            Error::Interrupted => exit_code::INTERRUPTED,
            Error::Io { .. }
            | Error::Tool { .. }
            | Error::TargetMissing { .. }
            | Error::NoOutput { .. }
            | Error::Internal(_) => exit_code::ERROR,
        }
    }

    /// What the user can do, where something can be done.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Usage { hint, .. }
            | Error::Config { hint, .. }
            | Error::NoOutput { hint, .. }
            | Error::Cargo { hint, .. }
            | Error::Registry { hint, .. }
            | Error::Signature { hint, .. }
            | Error::Tool { hint, .. } => hint.clone(),
            Error::NotWasm { reason, .. } => reason.hint(),
            Error::Io { action, source, .. } => io_hint(action, source),
            Error::TargetMissing {
                target, toolchain, ..
            } => Some(target_hint(target, toolchain.as_deref())),
            Error::Internal(_) => {
                Some("please report this, with the input if you can share it".into())
            }
            Error::Interrupted => None,
        }
    }

    /// A usage error without a hint.
    pub fn usage(message: impl Into<String>) -> Self {
        Error::Usage {
            message: message.into(),
            hint: None,
        }
    }

    /// Cargo's own failure, which it has explained.
    pub fn cargo(message: impl Into<String>) -> Self {
        Error::Cargo {
            message: message.into(),
            hint: None,
            in_code: false,
        }
    }

    /// For `map_err` on IO: what was tried, with which file.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Error::Io {
            action,
            path,
            source,
        }
    }
}

fn target_hint(target: &str, toolchain: Option<&str>) -> String {
    let toolchain = toolchain.map_or_else(String::new, |name| format!(" --toolchain {name}"));
    let near = did_you_mean(target, WASM_TARGETS.iter().copied())
        .filter(|_| !WASM_TARGETS.contains(&target));
    match near {
        Some(near) => {
            format!("did you mean `{near}`? If not, run: rustup target add {target}{toolchain}")
        }
        None => format!("run: rustup target add {target}{toolchain}"),
    }
}

fn io_hint(action: &str, error: &std::io::Error) -> Option<String> {
    use std::io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem, StorageFull};
    Some(
        match error.kind() {
            _ if action == TEMPORARY => "set TMPDIR to a folder that exists and can be written to",
            PermissionDenied if action == "read" => "check the permissions of the file",
            NotFound if action == "write" => "make the folder first, or check the path",
            NotFound => "check the path; it is relative to the current folder",
            PermissionDenied | ReadOnlyFilesystem => {
                "choose a folder that you may write to, for example with --target-dir"
            }
            StorageFull => "free some space and run the same command again",
            _ => return None,
        }
        .into(),
    )
}

/// Targets that Rust has for Wasm.
pub const WASM_TARGETS: &[&str] = &[
    "wasm32-wasip1",
    "wasm32-wasip2",
    "wasm32-unknown-unknown",
    "wasm32-wasip1-threads",
    "wasm32v1-none",
    "wasm64-unknown-unknown",
];

/// What [`Error::Io`] says was tried where a temporary folder could not be made.
pub const TEMPORARY: &str = "make a temporary folder in";

/// What `candidates` hold that looks like `unknown`: "did you mean".
#[must_use]
pub fn did_you_mean<'a>(
    unknown: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (strsim::jaro_winkler(unknown, c), c))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_near_names_only() {
        let keys = ["target", "profile", "shrink"];
        assert_eq!(did_you_mean("tagret", keys), Some("target"));
        assert_eq!(did_you_mean("zzz", keys), None);
    }
}
