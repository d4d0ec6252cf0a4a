//! (IO) Credential helpers: programs that keep secrets for docker and podman.
//!
//! They are somebody else's: one that hangs, prints without end or does not read its
//! input must not take us along. What they print on stdout may be a secret and is
//! never shown.
//!
//! Protocol: <https://github.com/docker/docker-credential-helpers>.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Credential, Secret};
use crate::cancel;
use crate::error::Error;
use crate::registry::failure::printable;

/// Some ask another service, or the user.
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_OUTPUT: usize = 1 << 20;
/// How long the last of what it printed may take to come, once it has ended.
const GRACE: Duration = Duration::from_secs(1);

/// Go's parser, which these programs are written for, minds no case.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(alias = "username")]
    username: Option<String>,
    #[serde(alias = "secret")]
    secret: Option<String>,
}

/// Asks a helper for the credential of a server; none where it has none.
pub(super) fn get(helper: &str, server: &str) -> Result<Option<Credential>, Error> {
    let Some((username, secret)) = ask(helper, server)? else {
        return Ok(None);
    };
    if username.is_empty() || secret.is_empty() {
        let half = if username.is_empty() {
            "a secret and no name"
        } else {
            "a name and no secret"
        };
        return Err(failed(helper, "get", &format!("its answer has {half}")));
    }
    let secret = Secret::new(secret);
    Ok(Some(if username == "<token>" {
        Credential::IdentityToken(secret)
    } else {
        Credential::Password {
            username,
            password: secret,
        }
    }))
}

/// Whether a helper has something for a server, of use or not.
pub(super) fn knows(helper: &str, server: &str) -> Result<bool, Error> {
    Ok(ask(helper, server)?.is_some())
}

/// The name and the secret that a helper has for a server, if it has one of them.
fn ask(helper: &str, server: &str) -> Result<Option<(String, String)>, Error> {
    let said = match run(helper, "get", server)? {
        Ended::Well(stdout) => stdout,
        // All helpers put this message on stdout, and end with a failure.
        Ended::Badly { stdout, .. } if stdout.to_ascii_lowercase().contains("not found") => {
            return Ok(None);
        }
        Ended::Badly { stderr, .. } => return Err(failed(helper, "get", &stderr)),
    };
    let senseless = || failed(helper, "get", "its answer makes no sense");
    if !said.trim_start().starts_with('{') {
        return Err(senseless());
    }
    let answer: Answer = serde_json::from_str(&said).map_err(|_| senseless())?;
    let username = answer.username.unwrap_or_default();
    let secret = answer.secret.unwrap_or_default();
    // So say some of what they do not have.
    if username.is_empty() && secret.is_empty() {
        return Ok(None);
    }
    Ok(Some((username, secret)))
}

/// Has a helper store or erase something.
pub(super) fn tell(helper: &str, action: &str, input: &str) -> Result<(), Error> {
    match run(helper, action, input)? {
        Ended::Well(_) => Ok(()),
        Ended::Badly { stderr, .. } => Err(failed(helper, action, &stderr)),
    }
}

enum Ended {
    Well(String),
    Badly { stdout: String, stderr: String },
}

fn failed(helper: &str, action: &str, why: &str) -> Error {
    let why = why.trim();
    let why = if why.is_empty() {
        "it does not say why"
    } else {
        why
    };
    Error::Registry {
        message: format!("`docker-credential-{helper} {action}` failed: {}", printable(why)),
        hint: Some(
            "docker's or podman's auth file names it, under credsStore or credHelpers: mend it, or take it out there"
                .into(),
        ),
    }
}

fn run(helper: &str, action: &str, input: &str) -> Result<Ended, Error> {
    let problem = |e: std::io::Error| failed(helper, action, &e.to_string());
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(problem)?;
    let stdout = reader(child.stdout.take());
    let stderr = reader(child.stderr.take());
    if let Some(mut stdin) = child.stdin.take() {
        // One that knows the answer need not read the question.
        let _ = stdin.write_all(input.as_bytes());
    }
    let success = match wait(&mut child, PATIENCE).map_err(problem)? {
        Waited::Ended(success) => success,
        Waited::TooLong => {
            let seconds = PATIENCE.as_secs();
            let why = format!("it has not answered within {seconds} seconds");
            return Err(failed(helper, action, &why));
        }
        Waited::Interrupted => return Err(Error::Interrupted),
    };
    let [stdout, stderr] = [stdout, stderr].map(Output::take);
    Ok(if success {
        Ended::Well(stdout)
    } else {
        Ended::Badly { stdout, stderr }
    })
}

/// What a program prints, as far as it has been read.
struct Output {
    text: Arc<Mutex<Vec<u8>>>,
    ended: mpsc::Receiver<()>,
}

impl Output {
    /// All that a program which has ended printed. One that it started and left behind may
    /// hold the pipe open for ever: what that says is not waited for.
    fn take(self) -> String {
        let _ = self.ended.recv_timeout(GRACE);
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Reads up to a limit; the pipe is closed then, and the program ends or hangs.
fn reader(pipe: Option<impl Read + Send + 'static>) -> Output {
    let text = Arc::new(Mutex::new(Vec::new()));
    let (end, ended) = mpsc::channel();
    let read = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut left = MAX_OUTPUT;
        let mut buffer = [0; 4096];
        if let Some(mut pipe) = pipe {
            while let Ok(length @ 1..) = pipe.read(&mut buffer)
                && left > 0
            {
                left = left.saturating_sub(length);
                let mut text = read.lock().unwrap_or_else(PoisonError::into_inner);
                text.extend_from_slice(&buffer[..length]);
            }
        }
        // Nobody may be there any more.
        let _ = end.send(());
    });
    Output { text, ended }
}

#[derive(Debug, PartialEq, Eq)]
enum Waited {
    /// Whether well.
    Ended(bool),
    TooLong,
    Interrupted,
}

/// Waits for its end, and ends it where that takes too long.
fn wait(child: &mut Child, patience: Duration) -> std::io::Result<Waited> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Waited::Ended(status.success()));
        }
        let interrupted = cancel::is_signalled();
        if interrupted || started.elapsed() > patience {
            child.kill()?;
            child.wait()?;
            return Ok(if interrupted {
                Waited::Interrupted
            } else {
                Waited::TooLong
            });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn does_not_wait_for_ever() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let waited = wait(&mut child, Duration::from_millis(50)).unwrap();
        assert_eq!(waited, Waited::TooLong);
        assert!(child.try_wait().unwrap().is_some(), "it was ended");
        let mut child = Command::new("true").spawn().unwrap();
        assert_eq!(wait(&mut child, PATIENCE).unwrap(), Waited::Ended(true));
    }
}
