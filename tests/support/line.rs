//! A line to a registry that can be slow, that breaks, and that counts what goes over it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How a line treats what goes over it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quality {
    /// Each connection breaks after so many bytes from the client.
    pub breaks_after: Option<u64>,
    /// Bytes a second from the client, over each connection.
    pub rate: Option<u64>,
}

/// The line. It ends when it is dropped.
pub struct Line {
    port: u16,
    sent: Arc<AtomicU64>,
    broken: Arc<AtomicU64>,
    closed: Arc<AtomicBool>,
}

impl Line {
    /// To a server at `HOST:PORT`.
    pub fn to(server: &str, quality: Quality) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let line = Line {
            port: listener.local_addr().unwrap().port(),
            sent: Arc::default(),
            broken: Arc::default(),
            closed: Arc::default(),
        };
        let server = server.to_owned();
        let (sent, broken) = (Arc::clone(&line.sent), Arc::clone(&line.broken));
        let closed = Arc::clone(&line.closed);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if closed.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&server)) else {
                    continue;
                };
                let (sent, broken) = (Arc::clone(&sent), Arc::clone(&broken));
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    copy(server, client, Quality::default(), &AtomicU64::new(0))
                });
                std::thread::spawn(move || {
                    if copy(from, to, quality, &sent) {
                        broken.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        line
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Bytes that clients have sent since this was asked last.
    pub fn sent(&self) -> u64 {
        self.sent.swap(0, Ordering::SeqCst)
    }

    /// Waits until clients have sent so many bytes.
    pub fn wait_for(&self, bytes: u64) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.sent.load(Ordering::SeqCst) < bytes {
            assert!(Instant::now() < until, "nothing goes over the line");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Connections that it broke.
    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::SeqCst)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        // So that the thread sees it.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Whether it broke the connection.
fn copy(mut from: TcpStream, mut to: TcpStream, quality: Quality, count: &AtomicU64) -> bool {
    let mut buffer = vec![0; 64 << 10];
    let (mut passed, started) = (0, Instant::now());
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
        passed += read as u64;
        count.fetch_add(read as u64, Ordering::SeqCst);
        if quality.breaks_after.is_some_and(|limit| passed >= limit) {
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
            return true;
        }
        if let Some(rate) = quality.rate {
            let due = Duration::from_micros(passed * 1_000_000 / rate);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
    }
    let _ = (from.shutdown(Shutdown::Read), to.shutdown(Shutdown::Write));
    false
}
