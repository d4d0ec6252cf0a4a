//! Faults, and the bodies that carry them out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use tokio::time::{Sleep, sleep};

/// What a fault is decided by.
#[derive(Clone, Debug)]
pub struct RequestInfo {
    /// Counted from 0.
    pub n: usize,
    pub method: String,
    pub path: String,
    pub query: String,
    /// What it says of its body.
    pub length: Option<u64>,
}

impl RequestInfo {
    /// Whether it is a GET of something below this, as `/manifests/`.
    pub fn gets(&self, part: &str) -> bool {
        self.method == "GET" && self.path.contains(part)
    }
}

#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection is reset before the body is read; nothing is done.
    Reset,
    /// The connection is reset after so much of the request's body.
    ResetAfter(u64),
    /// All is done as asked; then the connection is reset and the answer is lost.
    LoseAnswer,
    /// Another answer; nothing is done.
    Status(u16, Vec<(&'static str, String)>, String),
    /// The answer ends after so many bytes of its body, whatever its length says.
    Truncate(usize),
    /// So much of the answer's body comes at once, and then so many bytes ten times a second.
    Drip(usize, usize),
    /// The answer takes this long to begin.
    Stall(Duration),
    /// The answer's body does not end (after 8 GiB it does).
    Endless,
    /// The answer's body is replaced, its other headers stay.
    Body(Vec<u8>),
    /// These bytes instead of an answer; not over TLS.
    Raw(Vec<u8>),
}

impl Fault {
    pub fn status(status: u16) -> Self {
        Fault::Status(status, Vec::new(), String::new())
    }

    /// 429, with the seconds to wait.
    pub fn too_many(seconds: u32) -> Self {
        Fault::Status(
            429,
            vec![("Retry-After", seconds.to_string())],
            String::new(),
        )
    }

    pub fn redirect(status: u16, to: impl Into<String>) -> Self {
        Fault::Status(status, vec![("Location", to.into())], String::new())
    }
}

/// A body that breaks off.
pub struct Cut {
    bytes: Option<Bytes>,
    /// What was sent has to leave before the connection breaks.
    wait: Pin<Box<Sleep>>,
}

impl Cut {
    pub fn new(bytes: Bytes) -> Self {
        let wait = Box::pin(sleep(Duration::from_millis(20)));
        Cut {
            bytes: Some(bytes),
            wait,
        }
    }
}

impl Body for Cut {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(bytes) = self.bytes.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        ready!(self.wait.as_mut().poll(context));
        Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())))
    }
}

/// A body that is slow behind its beginning.
pub struct Dripping {
    left: Bytes,
    next: usize,
    drop: usize,
    wait: Pin<Box<Sleep>>,
}

impl Dripping {
    pub fn new(left: Bytes, at_once: usize, drop: usize) -> Self {
        Dripping {
            left,
            next: at_once,
            drop,
            wait: Box::pin(sleep(Duration::ZERO)),
        }
    }
}

impl Body for Dripping {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        ready!(self.wait.as_mut().poll(context));
        self.wait = Box::pin(sleep(Duration::from_millis(100)));
        let length = self.next.min(self.left.len());
        self.next = self.drop;
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(length)))))
    }
}

/// Zeros, for ever as far as a client is concerned.
pub struct Endless {
    block: Bytes,
    left: usize,
}

impl Endless {
    pub fn new() -> Self {
        let block = Bytes::from(vec![b' '; 1 << 16]);
        Endless {
            block,
            left: 1 << 17,
        }
    }
}

impl Body for Endless {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(self.block.clone()))))
    }
}
