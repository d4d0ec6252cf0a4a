//! Runs workflows of GitHub with `act`, and checks what belongs to them:
//! `tests/peers/ci` brings the programs, and `EDGEPACK_CI_TOOLS` names their folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::tool::{Place, copy, repository};

/// What the tests say in place of the commit that a user pins.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The folder of the programs.
#[derive(Clone, Debug)]
pub struct Tools(PathBuf);

impl Tools {
    /// `None`, and a word about it, where they are not there; in CI they have to be.
    #[expect(clippy::print_stderr, reason = "what was not tested is to be seen")]
    pub fn find() -> Option<Self> {
        let found = env::var_os("EDGEPACK_CI_TOOLS").map(PathBuf::from);
        match found.filter(|folder| folder.join("act").exists()) {
            Some(folder) => Some(Tools(folder)),
            None if env::var_os("CI").is_some_and(|ci| ci == "true") => {
                panic!("no act: EDGEPACK_CI_TOOLS=$(tests/peers/ci), as tests/run does")
            }
            None => {
                eprintln!("NOT TESTED: no act and gitlab-ci-local; run tests/run");
                None
            }
        }
    }

    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.0.join(name));
        command.stdin(Stdio::null());
        command
    }

    /// For those who look for programs.
    pub fn folder(&self) -> &Path {
        &self.0
    }
}

/// What a pipeline or a workflow gave: all that it printed, and whether it passed.
#[derive(Debug)]
pub struct Log {
    pub passed: bool,
    pub text: String,
}

impl Log {
    /// Runs a command.
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text += &String::from_utf8_lossy(&output.stderr);
        Log {
            passed: output.status.success(),
            text,
        }
    }

    /// Whether a step of the action began to keep commands from the runner and did not end.
    fn breaks_off(&self) -> bool {
        let mut begun = self.text.split("::stop-commands::").skip(1);
        begun.any(|rest| {
            let token = rest.split_whitespace().next().unwrap_or_default();
            !self.text.contains(&format!("::{token}::"))
        })
    }

    #[track_caller]
    pub fn passes(self) -> Self {
        assert!(self.passed, "{}", self.text);
        self
    }

    #[track_caller]
    pub fn fails(self) -> Self {
        assert!(!self.passed, "{}", self.text);
        self
    }

    #[track_caller]
    pub fn has(self, text: &str) -> Self {
        assert!(
            self.text.contains(text),
            "`{text}` is missing in:\n{}",
            self.text
        );
        self
    }

    #[track_caller]
    pub fn lacks(self, text: &str) -> Self {
        assert!(!self.text.contains(text), "`{text}` is in:\n{}", self.text);
        self
    }

    /// The text between two words, at their first place.
    #[track_caller]
    pub fn between(&self, start: &str, end: &str) -> &str {
        let found = self
            .text
            .split_once(start)
            .and_then(|(_, rest)| rest.split_once(end));
        found
            .unwrap_or_else(|| panic!("no {start}…{end} in:\n{}", self.text))
            .0
    }
}

/// A checkout of a project, and the action beside it.
pub struct Checkout<'a> {
    pub tools: &'a Tools,
    pub place: Place,
}

impl<'a> Checkout<'a> {
    /// Of a program that prints a line.
    pub fn new(tools: &'a Tools) -> Self {
        Self::empty(tools).package("", "app", "")
    }

    /// Without a package.
    pub fn empty(tools: &'a Tools) -> Self {
        let place = Place::new();
        fs::create_dir_all(place.join("repo")).unwrap();
        copy(&repository().join("action"), &place.join("tool/action"));
        place.write("repo/.gitignore", "target\n");
        Checkout { tools, place }
    }

    /// Adds a package; `more` stands at the end of its manifest.
    pub fn package(self, folder: &str, name: &str, more: &str) -> Self {
        let name = format!(
            "[package]\nname = \"{name}\"\nversion = \"1.2.3\"\nedition = \"2024\"\n{more}"
        );
        self.place.write(&format!("repo/{folder}/Cargo.toml"), name);
        self.place.write(
            &format!("repo/{folder}/src/main.rs"),
            "fn main() { println!(\"hello\"); }\n",
        );
        self
    }

    /// The folder of the project.
    pub fn folder(&self) -> PathBuf {
        self.place.join("repo")
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        self.place.write(&format!("repo/{name}"), contents);
    }

    pub fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=test", "-c", "user.email=test@example.org"])
            .args([
                "-c",
                "init.defaultBranch=main",
                "-c",
                "commit.gpgsign=false",
            ])
            .args(args)
            .current_dir(self.folder())
            .output()
            .unwrap();
        assert!(output.status.success(), "git {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Commits everything.
    pub fn commit(&self) -> String {
        if !self.folder().join(".git").exists() {
            self.git(&["init", "--quiet"]);
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "all"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Sets a program's home, so that it finds nothing of this machine but Rust.
    pub fn at_home(&self, command: &mut Command) {
        let home = self.place.join("home");
        fs::create_dir_all(&home).unwrap();
        let rust = |name: &str, folder: &str| {
            env::var_os(name).map_or_else(
                || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(folder),
                PathBuf::from,
            )
        };
        let path = env::var_os("PATH").unwrap_or_default();
        let ours = Path::new(env!("CARGO_BIN_EXE_cargo-edgepack"))
            .parent()
            .unwrap()
            .to_owned();
        let path = [ours, self.tools.folder().to_owned()]
            .into_iter()
            .chain(env::split_paths(&path));
        command
            .env_clear()
            .env("RUSTUP_HOME", rust("RUSTUP_HOME", ".rustup"))
            .env("CARGO_HOME", rust("CARGO_HOME", ".cargo"))
            .env("HOME", home)
            .env("PATH", env::join_paths(path).unwrap())
            .env("LC_ALL", "C.UTF-8")
            .current_dir(self.folder())
            .stdin(Stdio::null());
    }

    /// Runs the workflows of the last commit as after a push. `OWNER/cargo-edgepack` is
    /// this project, and the tool that was built is on PATH.
    pub fn act(&self) -> Log {
        self.act_with(&[])
    }

    pub fn act_with(&self, more: &[&str]) -> Log {
        self.commit();
        let mut command = self.tools.command("act");
        self.at_home(&mut command);
        command
            .args([
                "push",
                "-P",
                "ubuntu-latest=-self-hosted",
                "--local-repository",
            ])
            .arg(format!(
                "OWNER/cargo-edgepack@{COMMIT}={}",
                self.place.join("tool").display()
            ))
            .args(more);
        // On a machine that is busy, act may lose the end of what a step prints: the terminal
        // that it reads from is gone before it has read all.
        let mut log = Log::of(&mut command);
        for _ in 0..2 {
            if !log.breaks_off() {
                break;
            }
            log = Log::of(&mut command);
        }
        log
    }

    /// Writes a workflow of one job whose steps these are, and runs it.
    pub fn steps(&self, steps: &str) -> Log {
        self.workflow(&format!(
            "on: push\njobs:\n  job:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n{steps}"
        ))
    }

    /// Writes a workflow, and runs it.
    pub fn workflow(&self, text: &str) -> Log {
        self.write(".github/workflows/test.yml", text.replace("<sha>", COMMIT));
        self.act()
    }
}
