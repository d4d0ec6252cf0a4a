//! (IO) Runs external programs: cargo, rustc, rustup, git.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cancel::Cancel;
use crate::error::Error;

/// Runs a program to its end and returns what it wrote to stdout.
///
/// # Errors
///
/// [`Error::Tool`] with the end of its stderr where it cannot be started or fails.
pub fn capture(command: &mut Command) -> Result<String, Error> {
    let program = name(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| not_started(&program, &e))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = stderr.lines().filter(|l| !l.trim().is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(5)..].join("; ");
    let message = if tail.is_empty() {
        output.status.to_string()
    } else {
        tail
    };
    Err(Error::Tool {
        program,
        message,
        hint: None,
    })
}

/// Runs a program whose stderr is the user's, handing over its stdout line by
/// line. On cancellation the program is asked to stop, as by the user's own Ctrl-C.
///
/// # Errors
///
/// [`Error::Tool`] where it cannot be started, [`Error::Interrupted`] where it was
/// cancelled. A program that fails is no error here: its status says so.
pub fn stream(
    command: &mut Command,
    cancel: &Cancel,
    mut line: impl FnMut(&str),
) -> Result<ExitStatus, Error> {
    let program = name(command);
    cancel.check()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| not_started(&program, &e))?;
    let stdout = child.stdout.take();
    let id = child.id();
    let done = AtomicBool::new(false);
    let status = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                if cancel.is_set() {
                    interrupt(id);
                    return;
                }
                std::thread::park_timeout(Duration::from_millis(50));
            }
        });
        if let Some(stdout) = stdout {
            let mut reader = BufReader::new(stdout);
            let mut buffer = Vec::new();
            while reader.read_until(b'\n', &mut buffer).is_ok_and(|n| n > 0) {
                line(String::from_utf8_lossy(&buffer).trim_end_matches(['\r', '\n']));
                buffer.clear();
            }
        }
        let status = child.wait();
        done.store(true, Ordering::SeqCst);
        watcher.thread().unpark();
        status
    });
    cancel.check()?;
    // The terminal's Ctrl-C may reach the program before it reaches us.
    if status.as_ref().is_ok_and(|status| was_interrupted(*status)) {
        return Err(Error::Interrupted);
    }
    status.map_err(|e| Error::Tool {
        program,
        message: e.to_string(),
        hint: None,
    })
}

fn name(command: &Command) -> String {
    let program: &OsStr = command.get_program();
    std::path::Path::new(program)
        .file_name()
        .unwrap_or(program)
        .to_string_lossy()
        .into_owned()
}

fn not_started(program: &str, error: &std::io::Error) -> Error {
    let hint = (error.kind() == std::io::ErrorKind::NotFound)
        .then(|| format!("install `{program}`, or add the folder that holds it to PATH"));
    Error::Tool {
        program: program.to_owned(),
        message: error.to_string(),
        hint,
    }
}

#[cfg(unix)]
fn interrupt(id: u32) {
    use rustix::process::{Pid, Signal, kill_process};
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::INT);
    }
}

#[cfg(unix)]
fn was_interrupted(status: ExitStatus) -> bool {
    use rustix::process::Signal;
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    [Signal::INT, Signal::TERM, Signal::HUP]
        .iter()
        .any(|s| signal == Some(s.as_raw()))
}

#[cfg(not(unix))]
fn was_interrupted(_: ExitStatus) -> bool {
    false
}

#[cfg(not(unix))]
fn interrupt(_: u32) {
    // The console's own Ctrl-C event reaches every process attached to it.
}
