//! (IO) A `wasm-opt` that the user named: one more program for [`super::worker`] to
//! try, under the same limits, with flags in place of recipes of our own.
//!
//! The tool starts itself under a hidden command ([`run`]), which limits itself and
//! then becomes that program. Whatever the program does costs its candidate only.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wasmparser::WasmFeatures;

use super::recipe::{Passes, Program};
use super::worker::{Limits, describe};
use super::{Attempt, Producer};
use crate::error::Error;
use crate::wasm::proposals::Proposals;
use crate::wasm::{CUSTOM_SECTION, Edit, rewrite};

/// The hidden command of the executable that becomes the program.
pub const COMMAND: &str = "optimize-external";
/// Its exit code where that fails, as in shells.
pub const EXIT_NOT_STARTED: u8 = 127;

/// Changes whenever other flags are given to the same version.
const FLAGS: &str = "flags-2";
/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(20);
const HINT: &str = "--wasm-opt and EDGEPACK_WASM_OPT name the wasm-opt of a Binaryen: \
                    its path, or a name that is looked for in PATH";

/// A `wasm-opt` that answered.
#[derive(Clone, Debug)]
pub struct WasmOpt {
    program: OsString,
    version: String,
}

impl WasmOpt {
    /// Asks a program for its version.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where it does not start, or does not answer as `wasm-opt` does.
    pub fn find(program: &Path) -> Result<Self, Error> {
        let wrong = |why: String| Error::Usage {
            message: format!("`{}` is no wasm-opt: {why}", program.display()),
            hint: Some(HINT.into()),
        };
        let mut command = Command::new(program);
        command
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        alone(&mut command);
        let mut child = command
            .spawn()
            .map_err(|error| wrong(format!("it does not start: {error}")))?;
        let started = Instant::now();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if started.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                _ => {
                    end(&mut child);
                    return Err(wrong("it does not answer to --version".into()));
                }
            }
        };
        if !status.success() {
            return Err(wrong(format!(
                "asked for --version, it {}",
                describe(status)
            )));
        }
        let mut line = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let _ = BufReader::new(stdout.take(1000)).read_until(b'\n', &mut line);
        }
        let line = String::from_utf8_lossy(&line);
        let version = version(&line).ok_or_else(|| {
            let said: String = line.trim().escape_debug().take(60).collect();
            wrong(format!("asked for --version, it says `{said}`"))
        })?;
        Ok(WasmOpt {
            program: program.as_os_str().to_owned(),
            version,
        })
    }

    /// The number that the version begins with.
    pub(super) fn number(&self) -> u32 {
        let digits = self.version.split(|c: char| !c.is_ascii_digit());
        let first = digits.map(str::parse).next();
        first.and_then(Result::ok).unwrap_or_default()
    }

    pub(super) fn producer(&self) -> Producer {
        Producer {
            name: format!("wasm-opt-{}/{FLAGS}", self.version),
            program: Program::External,
        }
    }

    /// What is to be run; `executable` is a `cargo-edgepack`.
    pub(super) fn command(
        &self,
        executable: &Path,
        limits: &Limits,
        attempt: &Attempt<'_>,
    ) -> Command {
        let mut command = if cfg!(unix) {
            let mut command = Command::new(executable);
            command
                .arg(COMMAND)
                .args(["--memory", &limits.memory.to_string()])
                .args(["--time", &limits.time.as_secs().to_string()])
                .arg("--")
                .arg(&self.program);
            command
        } else {
            Command::new(&self.program)
        };
        alone(&mut command);
        command.args(flags(attempt));
        command
    }
}

/// `wasm-opt version 131 (version_131)`, as one word.
fn version(line: &str) -> Option<String> {
    let text = line.trim().strip_prefix("wasm-opt version ")?;
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)));
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    let number = words.first()?.starts_with(|c: char| c.is_ascii_digit());
    number.then(|| words.join("-"))
}

/// The flags for an attempt, without the files.
fn flags(attempt: &Attempt<'_>) -> Vec<String> {
    let mut flags = vec!["--mvp-features".to_owned()];
    flags.extend(features(attempt.proposals).map(|name| format!("--enable-{name}")));
    if let Passes::Flags(passes) = attempt.recipe.passes {
        flags.extend(passes.iter().map(|&flag| flag.to_owned()));
    }
    flags.extend(attempt.assume.iter().map(|a| format!("--{}", a.name())));
    flags
}

/// Its names for the proposals that it may use.
fn features(proposals: Proposals) -> impl Iterator<Item = &'static str> {
    let named = FEATURES
        .iter()
        .filter(move |(ours, _)| proposals.uses(*ours));
    named.map(|(_, theirs)| *theirs)
}

/// Which of its features a proposal needs. A version that does not know one says so
/// and ends: it could not have read the module.
const FEATURES: &[(WasmFeatures, &str)] = &[
    (WasmFeatures::THREADS, "threads"),
    (WasmFeatures::MUTABLE_GLOBAL, "mutable-globals"),
    (
        WasmFeatures::SATURATING_FLOAT_TO_INT,
        "nontrapping-float-to-int",
    ),
    (WasmFeatures::SIMD.union(WasmFeatures::RELAXED_SIMD), "simd"),
    (WasmFeatures::BULK_MEMORY, "bulk-memory"),
    (WasmFeatures::SIGN_EXTENSION, "sign-ext"),
    (
        WasmFeatures::EXCEPTIONS.union(WasmFeatures::LEGACY_EXCEPTIONS),
        "exception-handling",
    ),
    (WasmFeatures::TAIL_CALL, "tail-call"),
    (
        WasmFeatures::REFERENCE_TYPES
            .difference(WasmFeatures::CALL_INDIRECT_OVERLONG)
            .union(WasmFeatures::FUNCTION_REFERENCES)
            .union(WasmFeatures::GC),
        "reference-types",
    ),
    (WasmFeatures::MULTI_VALUE, "multivalue"),
    (
        WasmFeatures::GC.union(WasmFeatures::FUNCTION_REFERENCES),
        "gc",
    ),
    (WasmFeatures::MEMORY64, "memory64"),
    (WasmFeatures::RELAXED_SIMD, "relaxed-simd"),
    (WasmFeatures::EXTENDED_CONST, "extended-const"),
    (WasmFeatures::MULTI_MEMORY, "multimemory"),
    (WasmFeatures::STACK_SWITCHING, "stack-switching"),
    (WasmFeatures::SHARED_EVERYTHING_THREADS, "shared-everything"),
    (WasmFeatures::CUSTOM_DESCRIPTORS, "custom-descriptors"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom-page-sizes"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide-arithmetic"),
    (WasmFeatures::COMPACT_IMPORTS, "compact-imports"),
    (WasmFeatures::ACQUIRE_RELEASE_ATOMICS, "relaxed-atomics"),
    (WasmFeatures::MULTIBYTE_ARRAY_ACCESS, "multibyte"),
];

/// Whether the last that it said means that the module is beyond it.
pub(super) fn cannot_read(said: &str) -> bool {
    let starts = ["Fatal: error parsing", "Fatal: error validating input"];
    starts.iter().any(|start| said.starts_with(start))
}

/// It is given names at most; whatever it adds of its own is not the module's.
pub(super) fn without_custom_sections(bytes: Vec<u8>, names: bool) -> Vec<u8> {
    let without = rewrite::<wasmparser::Error>(&bytes, |section| {
        let is_kept = names && section.name == Some("name");
        Ok(if section.id == CUSTOM_SECTION && !is_kept {
            Edit::Drop
        } else {
            Edit::Keep
        })
    });
    without.unwrap_or(bytes)
}

/// The hidden command: takes limits on, and becomes the program. Where this fails,
/// the exit code and a line for stderr.
#[cfg(unix)]
#[must_use]
pub fn run(memory: u64, time: u64, program: &OsStr, args: &[OsString]) -> (u8, String) {
    use std::os::unix::process::CommandExt;
    super::limits::limit(memory, time);
    let error = Command::new(program).args(args).exec();
    (EXIT_NOT_STARTED, format!("it does not start: {error}"))
}

/// Not used: the program is started as it is, under the parent's clock alone.
#[cfg(not(unix))]
#[must_use]
pub fn run(_: u64, _: u64, _: &OsStr, _: &[OsString]) -> (u8, String) {
    (EXIT_NOT_STARTED, "this system has no limits".into())
}

/// Has the command start a group of processes: what it starts can be ended with it.
fn alone(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}

/// Ends a process that stands [`alone`], and all that it started.
pub(super) fn end(child: &mut std::process::Child) {
    #[cfg(unix)]
    {
        use rustix::process::{Pid, Signal, kill_process_group};
        if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shrink::recipe::rounds;
    use crate::shrink::{Assumption, Level, Measure};

    #[test]
    fn versions_are_one_word() {
        for (line, expected) in [
            ("wasm-opt version 131\n", Some("131")),
            (
                "wasm-opt version 116 (version_116)\n",
                Some("116-version_116"),
            ),
            (
                "wasm-opt version 132 (version_131-12-gabc)",
                Some("132-version_131-12-gabc"),
            ),
            ("wasm-opt version", None),
            ("wasm-opt version unknown", None),
            ("wasm-tools 1.2.3", None),
            ("", None),
        ] {
            assert_eq!(version(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn flags_name_the_proposals_of_the_module_and_no_others() {
        let attempt = |proposals, level| {
            let recipes = rounds(Program::External, level, Measure::Raw, proposals).concat();
            flags(&Attempt {
                producer: 1,
                recipe: recipes.last().unwrap(),
                proposals,
                assume: &[Assumption::FastMath],
                threads: 0,
            })
        };
        assert_eq!(
            attempt(Proposals::none(), Level::Default),
            ["--mvp-features", "-Oz", "--fast-math"]
        );
        let proposals = Proposals::of(WasmFeatures::SIMD | WasmFeatures::MULTI_VALUE);
        assert_eq!(
            attempt(proposals, Level::Max),
            [
                "--mvp-features",
                "--enable-simd",
                "--enable-multivalue",
                "-Oz",
                "--converge",
                "--fast-math"
            ]
        );
    }
}
