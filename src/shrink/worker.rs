//! (IO) Runs the optimiser in a process of its own.
//!
//! Binaryen is C++: it may abort, overrun its stack, or take all memory there is.
//! So it never runs in the process that holds the user's work. This side starts
//! the tool itself once more, under a hidden command, hands the module over in a
//! temporary file, and judges what comes back by how the process ended.
#![expect(
    clippy::disallowed_methods,
    reason = "temporary files in a folder of its own"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::distrust;
use super::external::{self, WasmOpt};
use super::recipe::Program;
use super::{Attempt, OptimizeError, Optimizer, Producer};
use crate::cancel::Cancel;
use crate::error::Error;
use crate::wasm::has_names;

/// The hidden command of the executable that does the work.
pub const COMMAND: &str = "optimize-worker";
/// The worker's exit code for a module that Binaryen cannot read.
pub const EXIT_UNREADABLE: u8 = 10;
/// The worker's exit code where the recipe has nothing to do.
pub const EXIT_NOTHING: u8 = 12;
/// The worker's exit code for an input or output file that cannot be used.
pub const EXIT_IO: u8 = 11;

/// Changes whenever what the worker makes of a module may change.
const RECIPE: &str = "binaryen-116/recipe-6";

/// What one run of the worker may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Address space, in bytes.
    pub memory: u64,
    /// Wall-clock time.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory: 12 << 30,
            time: Duration::from_secs(1800),
        }
    }
}

/// An [`Optimizer`] that starts an executable for each module.
#[derive(Clone, Debug)]
pub struct Worker {
    executable: PathBuf,
    limits: Limits,
    cancel: Arc<Cancel>,
    external: Option<WasmOpt>,
}

impl Worker {
    /// A worker that runs `executable`, which must be a `cargo-edgepack`.
    #[must_use]
    pub fn new(executable: PathBuf, limits: Limits, cancel: Arc<Cancel>) -> Self {
        Worker {
            executable,
            limits,
            cancel,
            external: None,
        }
    }

    /// The same, with a program of the user's to try beside its own.
    #[must_use]
    pub fn with_external(self, external: Option<WasmOpt>) -> Self {
        Worker { external, ..self }
    }

    /// The program of the user's, where the attempt is for that.
    fn external(&self, attempt: &Attempt<'_>) -> Option<&WasmOpt> {
        self.external.as_ref().filter(|_| attempt.producer > 0)
    }

    fn own_command(&self, attempt: &Attempt<'_>) -> Command {
        let mut command = Command::new(&self.executable);
        command
            .arg(COMMAND)
            .args(["--recipe", attempt.recipe.name])
            .args(["--proposals", &attempt.proposals.bits().to_string()])
            .args(
                attempt
                    .assume
                    .iter()
                    .map(|a| format!("--assume={}", a.name())),
            )
            .args(["--memory", &self.limits.memory.to_string()])
            .args(["--time", &self.limits.time.as_secs().to_string()]);
        command
    }

    fn start(
        &self,
        folder: &Path,
        attempt: &Attempt<'_>,
        names: bool,
    ) -> Result<std::process::Child, Error> {
        let stderr =
            std::fs::File::create(folder.join("stderr")).map_err(Error::io("create", folder))?;
        let mut command = match self.external(attempt) {
            None => self.own_command(attempt),
            Some(external) => external.command(&self.executable, &self.limits, attempt),
        };
        if attempt.threads > 0 {
            command.env("BINARYEN_CORES", attempt.threads.to_string());
        }
        command.arg(folder.join("in.wasm"));
        if self.external(attempt).is_some() {
            command.args(names.then_some("-g")).arg("-o");
        }
        command
            .arg(folder.join("out.wasm"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(Error::io("start", &self.executable))
    }

    /// Waits for the end, the time limit or an interruption.
    fn wait(
        &self,
        child: &mut std::process::Child,
    ) -> Result<Option<std::process::ExitStatus>, Error> {
        let started = Instant::now();
        let mut pause = Duration::from_micros(500);
        loop {
            if let Some(status) = child
                .try_wait()
                .map_err(Error::io("wait for", &self.executable))?
            {
                return Ok(Some(status));
            }
            let over = started.elapsed() > self.limits.time;
            if over || self.cancel.is_set() {
                external::end(child);
                self.cancel.check()?;
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }
}

impl Optimizer for Worker {
    fn producers(&self) -> Vec<Producer> {
        let own = Producer {
            name: RECIPE.to_owned(),
            program: Program::Own,
        };
        let external = self.external.as_ref().map(WasmOpt::producer);
        [own].into_iter().chain(external).collect()
    }

    fn optimize(&self, module: &[u8], attempt: &Attempt<'_>) -> Result<Vec<u8>, OptimizeError> {
        let fatal = OptimizeError::Fatal;
        self.cancel.check().map_err(fatal)?;
        // Lowering changes single instructions, and none of those.
        let version = self
            .external(attempt)
            .map_or(distrust::OWN, WasmOpt::number);
        if attempt.recipe.optimize > 0
            && let Ok(Some(why)) = distrust::misread(version, module, attempt.proposals)
        {
            return Err(OptimizeError::Unreadable(why.into()));
        }
        let folder = tempfile::Builder::new()
            .prefix("edgepack-")
            .tempdir()
            .map_err(Error::io(crate::error::TEMPORARY, std::env::temp_dir()))
            .map_err(fatal)?;
        let input = folder.path().join("in.wasm");
        std::fs::write(&input, module)
            .map_err(Error::io("write", &input))
            .map_err(fatal)?;
        let names = has_names(module);
        let mut child = self.start(folder.path(), attempt, names).map_err(fatal)?;
        let Some(status) = self.wait(&mut child).map_err(fatal)? else {
            return Err(OptimizeError::Limit(format!(
                "no result after {} s",
                self.limits.time.as_secs()
            )));
        };
        let said = last_line(&folder.path().join("stderr"));
        let output = folder.path().join("out.wasm");
        if self.external(attempt).is_some() {
            ended(status, &said)?;
            let bytes = std::fs::read(&output)
                .map_err(|error| OptimizeError::Failed(format!("no result: {error}")))?;
            return Ok(external::without_custom_sections(bytes, names));
        }
        match status.code() {
            Some(code) if code == i32::from(EXIT_UNREADABLE) => {
                Err(OptimizeError::Unreadable(said))
            }
            Some(code) if code == i32::from(EXIT_NOTHING) => Err(OptimizeError::Nothing(said)),
            Some(code) if code == i32::from(EXIT_IO) => Err(fatal(Error::Tool {
                program: "the optimiser".into(),
                message: said,
                hint: Some("check the room left in the folder for temporary files (TMPDIR)".into()),
            })),
            _ => ended(status, &said),
        }?;
        std::fs::read(&output)
            .map_err(Error::io("read", &output))
            .map_err(fatal)
    }
}

/// An error for every end but a good one.
fn ended(status: std::process::ExitStatus, said: &str) -> Result<(), OptimizeError> {
    if status.success() {
        return Ok(());
    }
    let how = describe(status);
    let message = if said.is_empty() {
        how
    } else {
        format!("{how}: {said}")
    };
    Err(if was_killed(status) {
        OptimizeError::Limit(message)
    } else if status.code().is_some() && external::cannot_read(said) {
        OptimizeError::Unreadable(said.to_owned())
    } else {
        OptimizeError::Failed(message)
    })
}

/// Whether somebody ended it, for want of memory or of time: no crash of its own.
#[cfg(unix)]
fn was_killed(status: std::process::ExitStatus) -> bool {
    use rustix::process::Signal;
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    [Signal::KILL, Signal::XCPU]
        .iter()
        .any(|s| signal == Some(s.as_raw()))
}

#[cfg(not(unix))]
fn was_killed(_: std::process::ExitStatus) -> bool {
    false
}

pub(super) fn describe(status: std::process::ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("ended by signal {signal}");
    }
    status.code().map_or_else(
        || "ended".to_owned(),
        |code| format!("ended with code {code}"),
    )
}

/// The last line that is not empty, cut to what fits into a message.
fn last_line(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let tail = &bytes[bytes.len().saturating_sub(2000)..];
    let text = String::from_utf8_lossy(tail);
    let line = text
        .lines()
        .rev()
        .find(|l| !l.trim().is_empty())
        .unwrap_or_default();
    line.trim().chars().take(200).collect()
}
