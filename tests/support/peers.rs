//! Registries and registry clients that others wrote: `tests/peers/registries` brings
//! them, and `EDGEPACK_PEERS` names their folder.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::tool::Place;

/// The folder of the peers' commands.
#[derive(Clone, Debug)]
pub struct Peers(PathBuf);

impl Peers {
    /// `None`, and a word about it, where they are not there; in CI they have to be.
    #[expect(clippy::print_stderr, reason = "what was not tested is to be seen")]
    pub fn find() -> Option<Self> {
        let found = env::var_os("EDGEPACK_PEERS").map(PathBuf::from);
        match found.filter(|folder| folder.join("oras").exists()) {
            Some(folder) => Some(Peers(folder)),
            None if env::var_os("CI").is_some_and(|ci| ci == "true") => {
                panic!("no peers: EDGEPACK_PEERS=$(tests/peers/registries), as tests/run does")
            }
            None => {
                eprintln!("NOT TESTED: no peers; run tests/run");
                None
            }
        }
    }

    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// A peer's command, which finds the home of this place only.
    pub fn command(&self, name: &str, place: &Place) -> Command {
        let mut command = Command::new(self.0.join(name));
        command.current_dir(place.path()).stdin(Stdio::null());
        place.at_home(&mut command);
        command
    }
}

/// The command that serves at a port, with a folder to store in.
type Serve = Box<dyn Fn(u16, &Path) -> Command>;

/// A registry of others, as a process of its own.
pub struct Server {
    command: Serve,
    storage: TempDir,
    port: u16,
    child: Child,
}

impl Server {
    /// docker-registry 2.8, which keeps its storage in files.
    pub fn docker(peers: &Peers) -> Self {
        let program = peers.0.join("docker-registry");
        Self::start(move |port, storage| {
            let config = storage.join("config.yml");
            let root = storage.join("data");
            let root = root.display();
            let text = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: \"{root}\"}}\n  \
                 delete: {{enabled: true}}\nhttp: {{addr: \"127.0.0.1:{port}\", secret: fixed}}\n"
            );
            fs::write(&config, text).unwrap();
            let mut command = Command::new(&program);
            command.arg("serve").arg(config);
            command
        })
    }

    /// `crane registry serve`, which keeps all in memory.
    pub fn crane(peers: &Peers) -> Self {
        let program = peers.0.join("crane");
        Self::start(move |port, _| {
            let mut command = Command::new(&program);
            command.args(["registry", "serve", "--address"]);
            command.arg(format!("127.0.0.1:{port}"));
            command
        })
    }

    fn start(command: impl Fn(u16, &Path) -> Command + 'static) -> Self {
        let storage = tempfile::tempdir().unwrap();
        let command: Serve = Box::new(command);
        for _ in 0..10 {
            // Free at this moment; somebody may be faster, hence the loop.
            let port = TcpListener::bind(("127.0.0.1", 0))
                .and_then(|l| l.local_addr())
                .unwrap()
                .port();
            if let Some(child) = run(command(port, storage.path()), port) {
                return Server {
                    command,
                    storage,
                    port,
                    child,
                };
            }
        }
        panic!("the registry does not start");
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host())
    }

    /// How many bytes it has in its storage.
    pub fn stored(&self) -> u64 {
        size(self.storage.path())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The same storage at the same port.
    pub fn start_again(&mut self) {
        self.kill();
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let command = (self.command)(self.port, self.storage.path());
            if let Some(child) = run(command, self.port) {
                self.child = child;
                return;
            }
            assert!(Instant::now() < until, "the registry does not start again");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Of all files below a folder; what vanishes meanwhile counts as nothing.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Starts it and waits until it answers; `None` where it ends before.
fn run(mut command: Command, port: u16) -> Option<Child> {
    command
        .env("OTEL_TRACES_EXPORTER", "none")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        if answers(port) {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let mut reply = Vec::new();
    let asked = stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    asked.is_ok() && stream.read_to_end(&mut reply).is_ok() && reply.starts_with(b"HTTP/1.1 200")
}
