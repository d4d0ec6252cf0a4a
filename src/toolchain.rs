//! (IO) The Rust toolchain: is the target there, and if not, can it be?

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::tool;

/// The folder that rustc keeps its targets in, as seen from `folder`.
///
/// # Errors
///
/// [`Error::Tool`] where rustc cannot be run.
pub fn sysroot(rustc: &Path, folder: &Path) -> Result<PathBuf, Error> {
    let out = tool::capture(
        Command::new(rustc)
            .args(["--print", "sysroot"])
            .current_dir(folder),
    )?;
    Ok(PathBuf::from(out.trim()))
}

/// Whether the standard library for `target` is in the sysroot.
#[must_use]
pub fn has_target(sysroot: &Path, target: &str) -> bool {
    sysroot
        .join("lib/rustlib")
        .join(target)
        .join("lib")
        .is_dir()
}

/// Installs `target` through rustup. `say` is told before it starts.
///
/// # Errors
///
/// [`Error::TargetMissing`], with the exact command as its hint, where the run is
/// offline or rustup cannot do it.
pub fn install_target(
    target: &str,
    sysroot: &Path,
    folder: &Path,
    offline: bool,
    say: impl FnOnce(&str),
) -> Result<(), Error> {
    let missing = |message: String| Error::TargetMissing {
        target: target.to_owned(),
        message,
    };
    if offline {
        return Err(missing("this run is offline".into()));
    }
    say(&format!(
        "installing the target: rustup target add {target}"
    ));
    let mut command = Command::new("rustup");
    command
        .args(["target", "add", target])
        .current_dir(folder)
        .env("RUST_BACKTRACE", "0");
    match tool::capture(&mut command) {
        Ok(_) if has_target(sysroot, target) => Ok(()),
        Ok(_) => Err(missing(format!(
            "rustup added it, but not to the toolchain in use, `{}`",
            sysroot.display()
        ))),
        Err(Error::Tool {
            message,
            hint: Some(_),
            ..
        }) => Err(missing(format!("rustup could not be started: {message}"))),
        Err(Error::Tool { message, .. }) => Err(missing(format!("rustup failed: {message}"))),
        Err(other) => Err(other),
    }
}
