//! What stands between a socket and the HTTP implementation: every byte of a client is looked at before it is parsed.
//!
//! The implementation answers what it cannot read with an empty response, and reads some things that others read
//! differently. So a head comes through only when it is whole and exactly as written in RFC 9112. In place of one that is
//! not, the guard hands on a request of its own, and [`Line`] tells the service which one that is and what to answer:
//! the refusal is a problem document like any other, in its turn behind the requests before it, and the last thing on
//! its connection. A body that is framed wrongly breaks off. Of HTTP/2 only frames are counted; a flood of them ends the
//! connection. Bytes that come in one piece are looked at where they are and not copied.

mod chunks;
mod frames;
mod head;

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use futures::task::AtomicWaker;
use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use crate::{Config, problem::Refusal};
use chunks::{Chunks, Seen};
use frames::{Frames, PREFACE};
use head::{Framing, Head, Method};

/// Handed on in place of a head that is refused.
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// The same where the client expects no body.
const HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// Settings of a stream, which are none: the HTTP/2 implementation says goodbye.
const WRONG_FRAME: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 1];
/// How long, and how much, a client may still send that was refused: a connection closed over unread bytes is reset,
/// and the answer may be lost.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 1024 * 1024;
const PIECE: usize = 4 * 1024;
const LATE: &str = "send the whole head of a request at once";

/// How much of a client is read before it has said anything sensible.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) head_bytes: usize,
    pub(crate) fields: usize,
    /// Longest time from the first byte of a head to its last.
    pub(crate) head_time: Duration,
}

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    status: StatusCode,
    detail: &'static str,
}

/// Why a connection was ended without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A body was framed wrongly.
    Framing,
    /// Too many frames of HTTP/2 asked for nothing.
    Flood,
}

/// What the guard of a connection and the service behind it tell each other.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Requests that reached the service.
    begun: AtomicU64,
    /// The request that stands for a refused one, and why.
    refused: OnceLock<(u64, Fault)>,
    /// The last one that asked for the bare connection and was answered.
    decided: AtomicU64,
    /// Whether it got it.
    upgraded: AtomicBool,
    guard: AtomicWaker,
    /// Why the guard ended it, where it did.
    ended: OnceLock<Ended>,
}

/// A socket whose bytes are looked at.
pub(crate) struct Guard<S> {
    socket: S,
    line: Arc<Line>,
    limits: Limits,
    stage: Stage,
    /// Heads that were handed on.
    heads: u64,
    /// What was read and is not to be handed on yet.
    held: BytesMut,
    /// What is to be handed on before anything else.
    released: BytesMut,
    /// When the rest of a head comes too late. Made when a head comes in parts, which few do.
    due: Option<Pin<Box<Sleep>>>,
    shut: bool,
    linger: Option<Pin<Box<Sleep>>>,
    swallowed: usize,
}

/// What is expected next.
#[derive(Debug)]
enum Stage {
    /// The beginning of HTTP/2, or the first head.
    Opening,
    Head(Head),
    Length {
        left: u64,
        upgrades: bool,
    },
    Chunks {
        chunks: Chunks,
        upgrades: bool,
    },
    /// Nothing, until the service has said whether the client gets the bare connection.
    Asked,
    Frames(Frames),
    /// Anything: it is not HTTP any more.
    Open,
    /// Nothing that matters. This is handed on instead.
    Refusing(&'static [u8]),
    Refused,
    /// A body went wrong.
    Broken,
}

impl Limits {
    pub(crate) fn of(config: &Config) -> Self {
        let head_time = config.header_timeout();
        Self { head_bytes: config.max_header_bytes, fields: config.max_headers, head_time }
    }
}

impl Fault {
    const fn malformed(detail: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, detail }
    }

    /// Says what the client is told.
    pub(crate) fn refusal(self) -> Refusal {
        let (code, title) = match self.status {
            StatusCode::URI_TOO_LONG => ("uri-too-long", "the uri is too long"),
            StatusCode::REQUEST_TIMEOUT => ("request-timeout", "the request's head did not come in time"),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                ("header-fields-too-large", "the head is too large")
            }
            StatusCode::NOT_IMPLEMENTED => ("unknown-transfer-coding", "unknown transfer coding"),
            StatusCode::HTTP_VERSION_NOT_SUPPORTED => ("unknown-http-version", "unknown version of HTTP"),
            _ => return Refusal::malformed(self.detail),
        };
        Refusal::new(self.status, code, title).detail(self.detail)
    }
}

impl Line {
    /// Counts a request of HTTP/1; returns its number and, where it stands for a refused one, why.
    pub(crate) fn begin(&self) -> (u64, Option<Fault>) {
        // Requests of one connection begin one after another.
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let refused = self.refused.get().filter(|(refused, _)| *refused == number);
        (number, refused.map(|(_, fault)| *fault))
    }

    /// Says why the guard ended the connection, where it did.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.ended.get().copied()
    }

    /// Says whether anything was asked yet.
    pub(crate) fn is_used(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > 0
    }

    /// Says whether a request that asked for the bare connection gets it.
    pub(crate) fn decide(&self, number: u64, upgraded: bool) {
        self.upgraded.store(upgraded, Ordering::Release);
        self.decided.store(number, Ordering::Release);
        self.guard.wake();
    }

    fn poll_decided(&self, number: u64, cx: &mut Context<'_>) -> Poll<bool> {
        self.guard.register(cx.waker());
        match self.decided.load(Ordering::Acquire) >= number {
            true => Poll::Ready(self.upgraded.load(Ordering::Acquire)),
            false => Poll::Pending,
        }
    }
}

impl<S> Guard<S> {
    pub(crate) fn new(socket: S, line: Arc<Line>, limits: Limits) -> Self {
        Self {
            socket,
            line,
            limits,
            stage: Stage::Opening,
            heads: 0,
            held: BytesMut::new(),
            released: BytesMut::new(),
            due: None,
            shut: false,
            linger: None,
            swallowed: 0,
        }
    }

    /// Returns how many of the bytes may pass; the others are not looked at before more have come.
    fn judge(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        while passed < bytes.len() {
            let rest = &bytes[passed..];
            match self.look(rest) {
                Some(good) => passed += good,
                None => break,
            }
        }
        passed
    }

    /// Looks at what comes next; `None` where nothing of it may pass for now.
    fn look(&mut self, rest: &[u8]) -> Option<usize> {
        match &mut self.stage {
            Stage::Opening => {
                let common = rest.len().min(PREFACE.len());
                if rest[..common] != PREFACE[..common] {
                    self.stage = Stage::Head(Head::default());
                    return Some(0);
                }
                (common == PREFACE.len()).then(|| self.stage = Stage::Frames(Frames::default()))?;
                Some(common)
            }
            Stage::Head(head) => match head.read(rest, &self.limits) {
                Ok(end) => {
                    let (end, head) = (end?, *head);
                    self.behind(&head);
                    Some(end)
                }
                Err(fault) => {
                    let instead = if head.method == Method::Head { HEAD } else { GET };
                    self.refuse(fault, instead);
                    None
                }
            },
            Stage::Length { left, upgrades } => {
                let good = (*left).min(rest.len() as u64);
                *left -= good;
                if *left == 0 {
                    self.stage = next(*upgrades);
                }
                Some(good as usize)
            }
            Stage::Chunks { chunks, upgrades } => match chunks.read(rest) {
                Seen::More => Some(rest.len()),
                Seen::End(end) => {
                    self.stage = next(*upgrades);
                    Some(end)
                }
                Seen::Wrong(at) => {
                    let _ = self.line.ended.set(Ended::Framing);
                    self.stage = Stage::Broken;
                    Some(at)
                }
            },
            Stage::Frames(frames) => match frames.read(rest, Instant::now) {
                Ok(good) => Some(good).filter(|good| *good > 0),
                Err(good) => {
                    tracing::debug!("a client sends too many frames that ask for nothing");
                    let _ = self.line.ended.set(Ended::Flood);
                    self.stage = Stage::Refusing(WRONG_FRAME);
                    Some(good)
                }
            },
            Stage::Open => Some(rest.len()),
            Stage::Asked | Stage::Refusing(_) | Stage::Refused | Stage::Broken => None,
        }
    }

    fn refuse(&mut self, fault: Fault, instead: &'static [u8]) {
        let _ = self.line.refused.set((self.heads + 1, fault));
        self.stage = Stage::Refusing(instead);
    }

    /// Goes on behind a head.
    fn behind(&mut self, head: &Head) {
        self.heads += 1;
        self.due = None;
        let upgrades = head.upgrades();
        self.stage = match head.framing() {
            Framing::Length(0) => next(upgrades),
            Framing::Length(left) => Stage::Length { left, upgrades },
            Framing::Chunked => Stage::Chunks { chunks: Chunks::default(), upgrades },
        };
    }

    /// Judges once more what was held back.
    fn release(&mut self) {
        let held = std::mem::take(&mut self.held);
        let passed = self.judge(&held);
        self.held = held;
        self.released = self.held.split_to(passed);
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    /// Reads more behind what is held back; `false` at the end.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut piece = [0; PIECE];
        let mut buffer = ReadBuf::new(&mut piece);
        match Pin::new(&mut self.socket).poll_read(cx, &mut buffer)? {
            Poll::Ready(()) => {}
            Poll::Pending if self.waits_for_head() => {
                ready!(self.due(cx));
                self.refuse(Fault { status: StatusCode::REQUEST_TIMEOUT, detail: LATE }, GET);
                return Poll::Ready(Ok(true));
            }
            Poll::Pending => return Poll::Pending,
        }
        self.held.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(!buffer.filled().is_empty()))
    }

    /// Says whether what is held back is a part of a head.
    fn waits_for_head(&self) -> bool {
        matches!(self.stage, Stage::Opening | Stage::Head(_))
    }

    fn due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limits.head_time;
        self.due.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit))).as_mut().poll(cx)
    }

    /// Reads into `buffer`, and holds back what may not pass. Says whether anything passed, or nothing more comes.
    fn poll_fresh(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        let fresh = &buffer.filled()[before..];
        if fresh.is_empty() {
            return Poll::Ready(Ok(true));
        }
        let passed = self.judge(fresh);
        self.held.extend_from_slice(&fresh[passed..]);
        buffer.set_filled(before + passed);
        Poll::Ready(Ok(passed > 0))
    }

    /// Takes what a refused client still sends, for a while.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = self.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut piece = [0; PIECE];
        while self.swallowed < LINGER_BYTES {
            let mut buffer = ReadBuf::new(&mut piece);
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.swallowed += buffer.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.released.is_empty() {
                let piece = this.released.len().min(buffer.remaining());
                buffer.put_slice(&this.released[..piece]);
                this.released.advance(piece);
                return Poll::Ready(Ok(()));
            }
            match &this.stage {
                Stage::Open if this.held.is_empty() => {
                    return Pin::new(&mut this.socket).poll_read(cx, buffer);
                }
                Stage::Asked => {
                    let upgraded = ready!(this.line.poll_decided(this.heads, cx));
                    this.stage = if upgraded { Stage::Open } else { Stage::Head(Head::default()) };
                    this.release();
                    continue;
                }
                Stage::Refusing(instead) => {
                    this.released = BytesMut::from(*instead);
                    this.stage = Stage::Refused;
                    continue;
                }
                // The implementation answers and closes; it would take an end for a client that is gone.
                Stage::Refused => return Poll::Pending,
                Stage::Broken => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "wrongly framed body",
                    )));
                }
                _ => {}
            }
            if this.held.is_empty() {
                if ready!(this.poll_fresh(cx, buffer))? {
                    return Poll::Ready(Ok(()));
                }
            } else {
                if !ready!(this.poll_held(cx))? {
                    return Poll::Ready(Ok(()));
                }
                this.release();
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.shut {
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
            this.shut = true;
        }
        match this.stage {
            Stage::Refused | Stage::Broken => this.poll_linger(cx).map(Ok),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

/// What comes behind a request.
fn next(upgrades: bool) -> Stage {
    if upgrades { Stage::Asked } else { Stage::Head(Head::default()) }
}

#[cfg(test)]
mod tests;
