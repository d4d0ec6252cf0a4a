//! Glue for passwords, which come from stdin alone: an argument would show them to others.

use std::io::{IsTerminal, Read};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use edgepack::error::Error;
use edgepack::registry::credentials::Secret;

use super::App;

/// A password that is longer is none.
const MAX_PASSWORD: u64 = 1 << 20;
/// How often it is looked whether somebody wants to stop.
const TICK: Duration = Duration::from_millis(20);

impl App {
    /// From stdin, without the newline that `echo` puts behind it. A signal ends the
    /// waiting for somebody who types it, or for a pipe that stays open.
    pub(super) fn read_password(&self, example: &str) -> Result<Secret, Error> {
        if std::io::stdin().is_terminal() {
            self.printer
                .note("type the password, which is shown, and end it with Ctrl-D");
        }
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            let read = std::io::stdin()
                .take(MAX_PASSWORD)
                .read_to_string(&mut text);
            // Nobody may be there any more.
            let _ = sender.send(read.map(|_| text));
        });
        let read = loop {
            match receiver.recv_timeout(TICK) {
                Ok(read) => break read,
                Err(RecvTimeoutError::Timeout) => self.cancel.check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    break Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
        };
        let text = read.map_err(Error::io("read", "stdin"))?;
        let password = text.strip_suffix('\n').unwrap_or(&text);
        let password = password.strip_suffix('\r').unwrap_or(password);
        if password.is_empty() {
            return Err(Error::Usage {
                message: "there is no password on stdin".into(),
                hint: Some(format!("pipe it in, for example: {example}")),
            });
        }
        Ok(Secret::new(password.to_owned()))
    }
}
