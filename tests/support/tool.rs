//! Runs `cargo-edgepack` as a user would, and copies fixtures to where a test may
//! build and change them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// The folder of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// What a run of the tool gave.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Fails the test, with all that was printed, unless the exit code is this one.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout:\n{}\nstderr:\n{}",
            self.stdout, self.stderr
        );
        self
    }

    /// Fails the test unless stderr holds this text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "`{text}` is missing in:\n{}",
            self.stderr
        );
        self
    }

    /// Fails the test if stderr holds this text.
    #[track_caller]
    pub fn says_not(self, text: &str) -> Self {
        assert!(
            !self.stderr.contains(text),
            "`{text}` is in:\n{}",
            self.stderr
        );
        self
    }

    /// stdout, as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e} in:\n{}", self.stdout))
    }
}

/// A folder to work in, with a cache of its own.
pub struct Place {
    folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Place {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        path
    }

    /// Copies a fixture here, without what was built of it, and returns its folder.
    pub fn fixture(&self, name: &str) -> PathBuf {
        self.fixture_as(name, name)
    }

    /// The same under another name.
    pub fn fixture_as(&self, name: &str, to: &str) -> PathBuf {
        let target = self.join(to);
        copy(&repository().join("tests/fixtures").join(name), &target);
        target
    }

    /// Shrinks `m.wasm` to `o.wasm` with more arguments, and gives the report's package.
    pub fn shrunk(&self, args: &[&str]) -> serde_json::Value {
        let fixed = ["shrink", "m.wasm", "-o", "o.wasm", "--message-format=json"];
        let report = self.run([&fixed, args].concat()).exits(0).json();
        report["packages"][0].clone()
    }

    /// The command, ready to be changed and run.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-edgepack"));
        command
            .args(args)
            .current_dir(self.path())
            .env("EDGEPACK_CACHE_DIR", self.join(".cache"))
            .env("NO_COLOR", "1")
            .env("EDGEPACK_RETRY_BASE_MS", "1")
            .stdin(Stdio::null());
        self.away_from_home(&mut command);
        for name in [
            "CARGO_INCREMENTAL",
            "CARGO_TARGET_DIR",
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "SOURCE_DATE_EPOCH",
            "CARGO_TERM_COLOR",
            "EDGEPACK_WASM_OPT",
            // In a CI that gives identities, tests would sign with them.
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
            "SIGSTORE_ID_TOKEN",
            "GITHUB_ACTIONS",
            "GITLAB_CI",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// Lets a command find no credentials but those of this place, and no proxy.
    pub fn away_from_home(&self, command: &mut Command) {
        let home = self.join(".home");
        for (name, path) in [
            ("DOCKER_CONFIG", ".docker"),
            ("XDG_RUNTIME_DIR", "run"),
            ("XDG_CONFIG_HOME", ".config"),
        ] {
            command.env(name, home.join(path));
        }
        for name in [
            "REGISTRY_AUTH_FILE",
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "no_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "NO_PROXY",
        ] {
            command.env_remove(name);
        }
    }

    /// The same for a command that looks into the home itself. The compiler lives in
    /// there too: it is for commands that do not build.
    pub fn at_home(&self, command: &mut Command) {
        self.away_from_home(command);
        fs::create_dir_all(self.join(".home/run")).unwrap();
        command.env("HOME", self.join(".home"));
    }

    /// Runs the tool to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        run(&mut self.command(args))
    }

    /// Names of all files below the folder, without the cache and the home.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(self.path(), self.path(), &mut found);
        found.retain(|f| !f.starts_with(".cache") && !f.starts_with(".home"));
        found.sort();
        found
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn list(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(root, &path, found);
        } else {
            found.push(
                path.strip_prefix(root)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned(),
            );
        }
    }
}

/// Copies a folder, without what was built in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name == "target" {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}
