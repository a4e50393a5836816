//! The task that owns the socket: carries bytes both ways, notices when nobody is there, and connects again.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
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
use crate::bus::inlets::REPLIES;

/// Free bytes the read buffer has before each read. Messages share it until they are gone.
const CHUNK: usize = 32 << 10;
/// A server that has been silent for this long is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long the last bytes may take to leave when the connection ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why a connection ended.
enum End {
    /// This process closes it.
    Stopped,
    /// It broke, or the server sent us away.
    Lost(io::Error),
}

/// Carries messages until `stop`, over one connection after the other.
pub(super) async fn run(shared: Arc<Shared>, mut dialer: Dialer, first: Connection, stop: CancellationToken) {
    let mut connection = first;
    loop {
        tracing::debug!(name = dialer.name(), server = %connection.address, "connected to nats");
        dialer.learn(&connection.info, &connection.address);
        let end = carry(&shared, &mut dialer, connection, &stop).await;
        shared.outgoing.close();
        let End::Lost(error) = end else { break };
        tracing::warn!(name = dialer.name(), %error, "the connection to nats is lost and is made again");
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            made = reconnect(&mut dialer) => connection = made,
        }
        shared.begin(&connection);
    }
    shared.inlets.shut_all();
}

async fn reconnect(dialer: &mut Dialer) -> Connection {
    let mut attempt = 0;
    loop {
        match dialer.next().await {
            Ok(connection) => return connection,
            Err(error) => tracing::debug!(name = dialer.name(), %error, "no connection to nats yet"),
        }
        tokio::time::sleep(reconnect_delay(attempt)).await;
        attempt += 1;
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
    let mut writer = Writer { to, batch: Vec::new(), at: 0, unflushed: false };
    let reader = Reader { shared, signs: &signs, buffer };
    let end = tokio::select! {
        error = reader.run(&mut from, dialer, &address) => End::Lost(error),
        error = writer.run(shared) => End::Lost(error),
        error = ask(shared, &signs) => End::Lost(error),
        () = stop.cancelled() => End::Stopped,
    };
    writer.finish(shared).await;
    end
}

/// Signs of life. Read and written by one task only.
#[derive(Default)]
struct Signs {
    /// Whether anything came since the last look.
    heard: AtomicBool,
}

/// The reading side of one connection.
struct Reader<'a> {
    shared: &'a Shared,
    signs: &'a Signs,
    buffer: BytesMut,
}

impl Reader<'_> {
    /// Reads until the connection is of no use any more.
    async fn run(mut self, from: &mut ReadHalf<Stream>, dialer: &mut Dialer, address: &Address) -> io::Error {
        loop {
            match self.dispatch() {
                Ok(None) => {}
                Ok(Some(info)) => {
                    dialer.learn(&info, address);
                    let leaving = info.lame_duck && dialer.has_choice();
                    self.shared.info.store(Arc::new(*info));
                    if leaving {
                        return io::Error::other("the server is about to stop");
                    }
                }
                Err(error) => return error,
            }
            self.buffer.reserve(CHUNK);
            match from.read_buf(&mut self.buffer).await {
                Ok(0) => return io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it"),
                Ok(_) => self.signs.heard.store(true, Ordering::Relaxed),
                Err(error) => return error,
            }
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
                Frame::Ping => self.shared.outgoing.order(|out| out.extend_from_slice(b"PONG\r\n")),
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
struct Writer {
    to: WriteHalf<Stream>,
    batch: Vec<u8>,
    /// How much of the batch is written.
    at: usize,
    /// Whether an encrypted stream may still hold some of it.
    unflushed: bool,
}

impl Writer {
    /// Writes what gathers until that fails.
    ///
    /// # Cancel safety
    /// Cancel safe: what was not written yet is kept, and [`Writer::finish`] goes on there.
    async fn run(&mut self, shared: &Shared) -> io::Error {
        loop {
            if let Err(error) = self.empty().await {
                return error;
            }
            shared.outgoing.take(&mut self.batch).await;
        }
    }

    /// Writes the batch.
    async fn empty(&mut self) -> io::Result<()> {
        while self.at < self.batch.len() {
            match self.to.write(&self.batch[self.at..]).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.at += written,
            }
            self.unflushed = true;
        }
        self.batch.clear();
        self.at = 0;
        if self.unflushed {
            self.to.flush().await?;
            self.unflushed = false;
        }
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

/// Asks a silent server whether it is there, until it does not answer.
async fn ask(shared: &Shared, signs: &Signs) -> io::Error {
    let mut asked = false;
    loop {
        tokio::time::sleep(PING_EVERY).await;
        if signs.heard.swap(false, Ordering::Relaxed) {
            asked = false;
        } else if asked {
            return io::Error::new(io::ErrorKind::TimedOut, "the server is silent");
        } else {
            asked = true;
            shared.outgoing.order(|out| out.extend_from_slice(b"PING\r\n"));
        }
    }
}

fn complain(shared: &Shared, text: &str) {
    tracing::warn!(error = text, "nats reports an error");
    // `Permissions Violation for Publish to "a.b"`, and the same for subscriptions.
    if text.starts_with("Permissions Violation")
        && let Some(subject) = text.split('"').nth(1)
    {
        shared.inlets.deny(subject);
    }
}
