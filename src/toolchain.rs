//! (IO) The Rust toolchain: is the target there, and if not, can it be?

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::project;
use crate::provenance::Toolchain;
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

/// What the programs of a toolchain say about themselves. `rustc` is asked where the
/// toolchain's folder has none.
///
/// # Errors
///
/// [`Error::Tool`] where rustc cannot be run.
pub fn describe(sysroot: &Path, rustc: &Path, folder: &Path) -> Result<Toolchain, Error> {
    let own = |name: &str| {
        let path = sysroot
            .join("bin")
            .join(name)
            .with_extension(std::env::consts::EXE_EXTENSION);
        path.is_file().then_some(path)
    };
    let rustc = own("rustc").unwrap_or_else(|| rustc.to_owned());
    let said = tool::capture(Command::new(rustc).arg("-vV").current_dir(folder))?;
    let cargo = own("cargo").unwrap_or_else(project::cargo);
    Ok(Toolchain {
        rustc: said
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        cargo: tool::capture(Command::new(cargo).arg("-V").current_dir(folder))
            .ok()
            .map(|said| said.trim().trim_start_matches("cargo ").to_owned()),
    })
}

/// The name under which a toolchain's standard library was compiled: rustc puts the
/// real folder in its place where the sources are installed (`rust-src`), and what it
/// compiles would depend on that. None where they are not.
#[must_use]
pub fn library_sources(sysroot: &Path) -> Option<(PathBuf, String)> {
    let sources = sysroot.join("lib/rustlib/src/rust");
    if !sources.is_dir() {
        return None;
    }
    let version = tool::capture(Command::new(sysroot.join("bin/rustc")).arg("-vV")).ok()?;
    let field = |name: &str| {
        let mut lines = version.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
    };
    let hash = field("commit-hash:").filter(|hash| hash != "unknown");
    Some((
        sources,
        format!("/rustc/{}", hash.or_else(|| field("release:"))?),
    ))
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

/// Installs `target` through rustup, for the toolchain that rustup calls so or else
/// the one in use. `say` is told before it starts.
///
/// # Errors
///
/// [`Error::TargetMissing`], with the exact command as its hint, where the run is
/// offline or rustup cannot do it.
pub fn install_target(
    target: &str,
    toolchain: Option<&str>,
    sysroot: &Path,
    folder: &Path,
    offline: bool,
    say: impl FnOnce(&str),
) -> Result<(), Error> {
    let missing = |message: String| Error::TargetMissing {
        target: target.to_owned(),
        toolchain: toolchain.map(str::to_owned),
        message,
    };
    let mut words = vec!["target", "add", target];
    words.extend(toolchain.iter().flat_map(|name| ["--toolchain", name]));
    if offline {
        return Err(missing("this run is offline".into()));
    }
    say(&format!(
        "installing the target: rustup {}",
        words.join(" ")
    ));
    let mut command = Command::new("rustup");
    command
        .args(&words)
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

/// A toolchain that takes unstable flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nightly {
    /// Rustup's name for it; none where it is the toolchain in use.
    pub name: Option<&'static str>,
    /// The folder that it lives in.
    pub sysroot: PathBuf,
    /// The minor version of its rustc.
    minor: u32,
}

/// The first version of rustc with `-Cpanic=immediate-abort`; those before had a
/// feature of the standard library for it.
const IMMEDIATE_ABORT: u32 = 92;

impl Nightly {
    /// The toolchain in use, where it takes unstable flags, else rustup's `nightly`.
    ///
    /// # Errors
    ///
    /// [`Error::Tool`] where there is none.
    pub fn find(rustc: &Path, sysroot: &Path, folder: &Path) -> Result<Self, Error> {
        let version = |command: &mut Command| {
            tool::capture(command.arg("-vV").current_dir(folder)).map(|text| release(&text))
        };
        let (unstable, minor) = version(&mut Command::new(rustc))?;
        let bootstrap = std::env::var_os("RUSTC_BOOTSTRAP").is_some_and(|v| v == "1");
        if unstable || bootstrap {
            return Ok(Nightly {
                name: None,
                sysroot: sysroot.to_owned(),
                minor,
            });
        }
        let name = "nightly";
        let missing = |_| Error::Tool {
            program: "rustc".into(),
            message: "build.size = \"nightly\" takes a nightly toolchain, and there is none".into(),
            hint: Some(
                "run: rustup toolchain install nightly --component rust-src; \
                 or use build.size = \"stable\""
                    .into(),
            ),
        };
        let run = |args: &[&str]| {
            let mut command = Command::new("rustup");
            command.args(["run", name, "rustc"]).args(args);
            tool::capture(command.current_dir(folder)).map_err(missing)
        };
        let (_, minor) = release(&run(&["-vV"])?);
        let sysroot = run(&["--print", "sysroot"])?;
        Ok(Nightly {
            name: Some(name),
            sysroot: PathBuf::from(sysroot.trim()),
            minor,
        })
    }

    /// Whether its rustc knows `-Cpanic=immediate-abort`.
    #[must_use]
    pub fn has_immediate_abort(&self) -> bool {
        self.minor >= IMMEDIATE_ABORT
    }

    /// Installs the sources of the standard library, unless they are there.
    ///
    /// # Errors
    ///
    /// [`Error::Tool`], with the exact command as its hint, where the run is offline
    /// or rustup cannot do it.
    pub fn install_sources(
        &self,
        folder: &Path,
        offline: bool,
        say: impl FnOnce(&str),
    ) -> Result<(), Error> {
        let sources = self.sysroot.join("lib/rustlib/src/rust/library/Cargo.lock");
        if sources.is_file() {
            return Ok(());
        }
        let mut words = vec!["component", "add", "rust-src"];
        words.extend(self.name.iter().flat_map(|name| ["--toolchain", name]));
        let command = format!("rustup {}", words.join(" "));
        let missing = |why: &str| Error::Tool {
            program: "cargo".into(),
            message: format!("the sources of the standard library are missing: {why}"),
            hint: Some(format!("run: {command}")),
        };
        if offline {
            return Err(missing("this run is offline"));
        }
        say(&format!(
            "installing the sources of the standard library: {command}"
        ));
        let mut rustup = Command::new("rustup");
        rustup
            .args(&words)
            .current_dir(folder)
            .env("RUST_BACKTRACE", "0");
        match tool::capture(&mut rustup) {
            Ok(_) if sources.is_file() => Ok(()),
            Ok(_) => Err(missing("rustup added them to another toolchain")),
            Err(Error::Tool { message, .. }) => Err(missing(&format!("rustup failed: {message}"))),
            Err(other) => Err(other),
        }
    }
}

/// Whether the rustc that says this takes unstable flags, and its minor version.
fn release(version: &str) -> (bool, u32) {
    let release = version
        .lines()
        .find_map(|line| line.strip_prefix("release: "))
        .unwrap_or_default();
    let minor = release.split('.').nth(1).and_then(|n| n.parse().ok());
    let unstable = release.contains("-nightly") || release.contains("-dev");
    (unstable, minor.unwrap_or_default())
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a toolchain that is none is made of files"
)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_rustc() {
        let stable = "rustc 1.95.0 (59807616e 2026-04-14)\nrelease: 1.95.0\nLLVM version: 22.1.2\n";
        assert_eq!(release(stable), (false, 95));
        assert_eq!(release("release: 1.90.0-nightly\n"), (true, 90));
        assert_eq!(release("gibberish"), (false, 0));
    }

    #[test]
    fn missing_sources_are_named_with_what_installs_them() {
        let folder = tempfile::tempdir().unwrap();
        let nightly = Nightly {
            name: Some("nightly"),
            sysroot: folder.path().to_owned(),
            minor: 95,
        };
        let error = nightly
            .install_sources(folder.path(), true, |_| panic!("nothing is installed"))
            .unwrap_err();
        assert!(error.to_string().contains("offline"), "{error}");
        assert_eq!(
            error.hint().as_deref(),
            Some("run: rustup component add rust-src --toolchain nightly")
        );
        let sources = folder.path().join("lib/rustlib/src/rust/library");
        std::fs::create_dir_all(&sources).unwrap();
        std::fs::write(sources.join("Cargo.lock"), "").unwrap();
        nightly
            .install_sources(folder.path(), true, |_| panic!("nothing is installed"))
            .unwrap();
    }
}
