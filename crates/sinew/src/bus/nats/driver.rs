//! The task that owns the socket: carries bytes both ways, notices when nobody is there, and connects again.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    address::Address,
    dial::{Connection, Dialer, Stream},
    protocol::{self, Frame},
};
use crate::{Kind, bus::inlets::REPLIES};

/// Bytes of memory taken for reading at a time. Messages share it until they are gone.
const CHUNK: usize = 32 << 10;
/// With fewer free bytes than these, reading takes new memory. Before that it goes on in the old: messages that come
/// one by one and stay must not keep a whole chunk each.
const TOO_FEW: usize = 4 << 10;
/// A server that has been silent for this long is asked whether it is there.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// How long the last bytes may take to leave when the connection ends.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// A connection that held for this long is made again at once when it breaks. Others are not: a server that sends us
/// away as soon as we are there must not be run over.
const STEADY: Duration = Duration::from_secs(10);

/// Why a connection ended.
enum End {
    /// This process closes it.
    Stopped,
    /// It broke, or the server sent us away.
    Lost(io::Error),
}

/// Carries messages until `stop`, over one connection after the other.
pub(super) async fn run(shared: Arc<Shared>, mut dialer: Dialer, first: Connection, stop: CancellationToken) {
    let _over = Over { shared: &shared, stop: &stop };
    let (mut connection, mut attempt) = (first, 0);
    loop {
        tracing::debug!(name = dialer.name(), server = %connection.address, "connected to nats");
        dialer.learn(&connection.info, &connection.address);
        let began = Instant::now();
        let end = carry(&shared, &mut dialer, connection, &stop).await;
        shared.outgoing.close();
        let End::Lost(error) = end else { break };
        if began.elapsed() >= STEADY {
            attempt = 0;
        }
        tracing::warn!(name = dialer.name(), %error, "the connection to nats is lost and is made again");
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            made = reconnect(&mut dialer, &mut attempt) => connection = made,
        }
        shared.begin(&connection);
    }
}

/// However the task ends, nobody waits for it any longer.
struct Over<'a> {
    shared: &'a Shared,
    stop: &'a CancellationToken,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.stop.cancel();
        self.shared.outgoing.close();
        self.shared.inlets.shut_all();
    }
}

async fn reconnect(dialer: &mut Dialer, attempt: &mut u32) -> Connection {
    loop {
        if let Some(failed) = attempt.checked_sub(1) {
            tokio::time::sleep(reconnect_delay(failed)).await;
        }
        *attempt = attempt.saturating_add(1);
        match dialer.next().await {
            Ok(connection) => return connection,
            // Being refused does not pass by itself, so somebody should see it: now and then, not every second.
            Err(error) if error.kind() != Kind::Disconnected && attempt.is_power_of_two() => {
                tracing::warn!(name = dialer.name(), %error, "the connection to nats cannot be made again");
            }
            Err(error) => tracing::debug!(name = dialer.name(), %error, "no connection to nats yet"),
        }
    }
}

/// Waits longer and longer, up to a second; a crowd of clients comes back spread.
fn reconnect_delay(attempt: u32) -> Duration {
    let ceiling = Duration::from_millis((10u64 << attempt.min(7)).min(1_000));
    ceiling.mul_f64(0.5 + fastrand::f64() / 2.0)
}

async fn carry(
    shared: &Shared,
    dialer: &mut Dialer,
    connection: Connection,
    stop: &CancellationToken,
) -> End {
    let Connection { stream, buffer, address, .. } = connection;
    let (mut from, to) = tokio::io::split(stream);
    let signs = Signs::default();
    let mut writer = Writer { to, signs: &signs, batch: Vec::new(), at: 0, unflushed: false };
    let reader = Reader { shared, signs: &signs, buffer, leaving: None };
    let error = tokio::select! {
        error = reader.run(&mut from, dialer, &address) => error,
        error = writer.run(shared) => error,
        error = look(shared, &signs, LOOK_EVERY) => error,
        () = stop.cancelled() => {
            writer.finish(shared).await;
            return End::Stopped;
        }
    };
    End::Lost(error)
}

/// Signs of life. Read and written by one task only.
#[derive(Default)]
struct Signs {
    /// Whether anything came since the last look.
    heard: AtomicBool,
    /// Whether bytes wait for the socket to take them.
    writing: AtomicBool,
    /// Whether it took any since the last look.
    wrote: AtomicBool,
}

/// The reading side of one connection.
struct Reader<'a> {
    shared: &'a Shared,
    signs: &'a Signs,
    buffer: BytesMut,
    /// Until when the server may take to confirm that we are leaving it.
    leaving: Option<tokio::time::Instant>,
}

impl Reader<'_> {
    /// Reads until the connection is of no use any more.
    async fn run(mut self, from: &mut ReadHalf<Stream>, dialer: &mut Dialer, address: &Address) -> io::Error {
        loop {
            match self.dispatch() {
                Ok(None) => {}
                Ok(Some(info)) => {
                    dialer.learn(&info, address);
                    let leaves = info.lame_duck && dialer.has_choice();
                    self.shared.info.store(Arc::new(*info));
                    if leaves && self.leaving.is_none() {
                        self.shared.leave();
                        self.leaving = Some(tokio::time::Instant::now() + LAST_WORDS);
                    }
                }
                Err(error) => return error,
            }
            if self.buffer.capacity() - self.buffer.len() < TOO_FEW {
                self.buffer.reserve(CHUNK);
            }
            match self.read(from).await {
                Ok(0) => return io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it"),
                Ok(_) => self.signs.heard.store(true, Ordering::Relaxed),
                Err(error) => return error,
            }
        }
    }

    async fn read(&mut self, from: &mut ReadHalf<Stream>) -> io::Result<usize> {
        let read = from.read_buf(&mut self.buffer);
        match self.leaving {
            Some(at) => tokio::time::timeout_at(at, read).await?,
            None => read.await,
        }
    }

    /// Hands out every whole frame; returns what the server said of itself last.
    fn dispatch(&mut self) -> io::Result<Option<Box<protocol::ServerInfo>>> {
        let mut told = None;
        let inlets = &self.shared.inlets;
        let mut table = None;
        while let Some(frame) = protocol::next(&mut self.buffer).map_err(io::Error::other)? {
            match frame {
                Frame::Message { sid: REPLIES, message } => inlets.settle(message),
                Frame::Message { sid, message } => {
                    let table = table.get_or_insert_with(|| inlets.subscriptions());
                    inlets.deliver_among(table, sid, message);
                }
                // Nothing is owed to a server that asks and asks and never reads: then there is no room.
                Frame::Ping => _ = self.shared.outgoing.push(|out| out.extend_from_slice(b"PONG\r\n")),
                Frame::Pong if self.leaving.is_some() => {
                    return Err(io::Error::other("the server is about to stop"));
                }
                Frame::Pong | Frame::Ok => {}
                Frame::Info(info) => told = Some(info),
                Frame::Err(text) => {
                    // Refusals are noted in the same table.
                    table = None;
                    complain(self.shared, &text);
                }
            }
        }
        Ok(told)
    }
}

/// The writing side of one connection.
struct Writer<'a> {
    to: WriteHalf<Stream>,
    signs: &'a Signs,
    batch: Vec<u8>,
    /// How much of the batch is written.
    at: usize,
    /// Whether an encrypted stream may still hold some of it.
    unflushed: bool,
}

impl Writer<'_> {
    /// Writes what gathers until that fails.
    ///
    /// # Cancel safety
    /// Cancel safe: what was not written yet is kept, and [`Writer::finish`] goes on there.
    async fn run(&mut self, shared: &Shared) -> io::Error {
        let mut appended = 0;
        loop {
            if let Err(error) = self.empty().await {
                return error;
            }
            // Who sends one message at a time is not kept waiting.
            appended = shared.outgoing.take(&mut self.batch, appended > 1).await;
        }
    }

    /// Writes the batch.
    async fn empty(&mut self) -> io::Result<()> {
        self.signs.writing.store(true, Ordering::Relaxed);
        while self.at < self.batch.len() {
            match self.to.write(&self.batch[self.at..]).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.at += written,
            }
            self.unflushed = true;
            self.signs.wrote.store(true, Ordering::Relaxed);
        }
        self.batch.clear();
        self.at = 0;
        if self.unflushed {
            self.to.flush().await?;
            self.unflushed = false;
        }
        self.signs.writing.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Writes what is left and ends the connection, in bounded time.
    async fn finish(&mut self, shared: &Shared) {
        let last = async {
            loop {
                self.empty().await?;
                if !shared.outgoing.take_now(&mut self.batch) {
                    return self.to.shutdown().await;
                }
            }
        };
        if !matches!(tokio::time::timeout(LAST_WORDS, last).await, Ok(Ok(()))) {
            tracing::debug!("the connection ended before everything was sent");
        }
    }
}

/// Looks for signs of life, and asks a silent server for one; returns when there is none.
async fn look(shared: &Shared, signs: &Signs, every: Duration) -> io::Error {
    let (mut silent, mut stuck) = (false, false);
    loop {
        tokio::time::sleep(every).await;
        let (was_silent, was_stuck) = (silent, stuck);
        silent = !signs.heard.swap(false, Ordering::Relaxed);
        stuck = !signs.wrote.swap(false, Ordering::Relaxed) && signs.writing.load(Ordering::Relaxed);
        if silent && was_silent {
            return io::Error::new(io::ErrorKind::TimedOut, "the server is silent");
        }
        if stuck && was_stuck {
            return io::Error::new(io::ErrorKind::TimedOut, "the server reads nothing");
        }
        if silent {
            shared.outgoing.push(|out| out.extend_from_slice(b"PING\r\n"));
        }
    }
}

fn complain(shared: &Shared, text: &str) {
    tracing::warn!(error = text, "nats reports an error");
    // `Permissions Violation for Publish to "a.b"`, or `for Subscription to "a.b" using queue "c"`.
    let Some(denied) = text.strip_prefix("Permissions Violation for ") else { return };
    match denied.split('"').nth(1) {
        Some(subject) if denied.starts_with("Publish to") => shared.inlets.deny_publishing(subject),
        Some(subject) if denied.starts_with("Subscription to") => shared.inlets.deny_subscribing(subject),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::inlets::Inlets;

    fn shared() -> Shared {
        let shared = Shared {
            outgoing: Default::default(),
            inlets: Arc::new(Inlets::new("_INBOX.x".to_owned())),
            info: Default::default(),
            connects: Default::default(),
        };
        shared.outgoing.open(|_| ());
        shared
    }

    fn waiting(shared: &Shared) -> Vec<u8> {
        let mut batch = Vec::new();
        shared.outgoing.take_now(&mut batch);
        batch
    }

    #[tokio::test]
    async fn a_silent_server_is_asked_and_one_that_stays_silent_given_up() {
        let (shared, every) = (shared(), Duration::from_millis(5));
        let error = look(&shared, &Signs::default(), every).await;
        assert_eq!(error.to_string(), "the server is silent");
        assert_eq!(waiting(&shared), b"PING\r\n");
    }

    #[tokio::test]
    async fn a_server_that_talks_and_never_reads_is_given_up() {
        let (shared, signs) = (shared(), Signs::default());
        signs.writing.store(true, Ordering::Relaxed);
        let talks = async {
            loop {
                signs.heard.store(true, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            error = look(&shared, &signs, Duration::from_millis(5)) => {
                assert_eq!(error.to_string(), "the server reads nothing");
            }
            () = talks => {}
        }
        assert_eq!(waiting(&shared), b"", "it need not be asked");
    }

    #[test]
    fn a_server_that_asks_and_asks_is_not_answered_without_bound() {
        let (shared, signs) = (shared(), Signs::default());
        let buffer = BytesMut::from(b"PING\r\n".repeat(1 << 20).as_slice());
        let mut reader = Reader { shared: &shared, signs: &signs, buffer, leaving: None };
        assert!(reader.dispatch().unwrap().is_none());
        let answers = waiting(&shared).len();
        assert!((1 << 20..5 << 20).contains(&answers), "{answers} bytes of answers");
    }

    #[tokio::test]
    async fn however_the_task_ends_nobody_waits_for_it() {
        let (shared, stop) = (shared(), CancellationToken::new());
        let (waiting, _) = shared.inlets.enlist("a");
        drop(Over { shared: &shared, stop: &stop });
        assert!(waiting.reply().await.is_none() && stop.is_cancelled() && !shared.outgoing.is_open());
    }
}
