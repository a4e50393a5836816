//! The connection to NATS. The only place that talks to the client library; every fact that bites is handled here.
//!
//! A [`Bus`] is a cheap handle. Behind it a supervisor task owns the connection: it notices when the client library's
//! own task has died (one malformed header from anywhere is enough), builds a new client and lets every
//! [`Subscription`] move over to it. Requests go through one wildcard inbox, so a timed-out or dropped request leaves
//! nothing behind. The connection ends with [`Bus::close`], or without a word when the last handle is dropped.

mod api;
mod batch;
mod connection;
mod jetstream;
mod kv;
mod message;
mod mux;
mod pull;
mod subscription;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use sinew_wire::Headers;
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Config, Error, Kind, Tracer};

pub use batch::Reader;
pub use jetstream::{PubAck, Retention, Storage, Stored, StreamConfig, StreamState};
pub use kv::{Kv, KvChange, KvEntry, KvWatch};
pub use message::Message;
pub use pull::{Delivery, Pull, PullConfig};
pub use subscription::Subscription;

/// How long publishing may wait for room in the client's queue.
const ENQUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long closing waits for the last bytes to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A handle on the connection to NATS; clones share the connection.
#[derive(Clone)]
pub struct Bus {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    client: ArcSwap<async_nats::Client>,
    /// Counts clients: a subscription made on an older one has to be made again.
    generation: watch::Receiver<u64>,
    /// Tells the supervisor which client was found dead.
    dead: mpsc::UnboundedSender<u64>,
    /// Set while no client is to be used: the last one was found dead, or the bus is closed. The library's own state
    /// goes on saying "connected" when its task has died.
    down: AtomicBool,
    signals: Arc<connection::Signals>,
    mux: mux::Mux,
    next_inbox: AtomicU64,
    tracer: Tracer,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Bus {
    /// Connects, and returns once the server has confirmed the reply inbox.
    ///
    /// # Errors
    /// [`Kind::Disconnected`] when no server answers in time, [`Kind::Permission`] when it refuses the identity,
    /// [`Kind::Config`] for an unusable setting, [`Kind::Unsupported`] when the server is older than Sinew needs.
    pub async fn connect(config: Config) -> Result<Self, Error> {
        let tracer = Tracer::start(&config)?;
        let signals = Arc::new(connection::Signals::default());
        let mux = mux::Mux::new(connection::inbox(&config));
        let (client, replies) = connection::connect(&config, &signals, &mux).await?;
        let (dead, reports) = mpsc::unbounded_channel();
        let (generation_tx, generation) = watch::channel(0);
        let shared = Arc::new(Shared {
            client: ArcSwap::from_pointee(client),
            generation,
            dead,
            down: AtomicBool::new(false),
            signals,
            mux,
            next_inbox: AtomicU64::new(0),
            tracer,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            config,
        });
        shared.hear(replies, 0);
        let supervisor =
            connection::supervise(Arc::downgrade(&shared), shared.stop.clone(), reports, generation_tx);
        shared.tasks.spawn(supervisor);
        let bus = Self { shared };
        bus.barrier().await?;
        Ok(bus)
    }

    /// Returns the name this connection was made under.
    pub fn name(&self) -> &str {
        &self.shared.config.name
    }

    /// Returns the recorder of spans; it does nothing when no endpoint was configured.
    pub fn tracer(&self) -> &Tracer {
        &self.shared.tracer
    }

    /// Says whether the connection is up just now.
    pub fn is_connected(&self) -> bool {
        !self.shared.down.load(Ordering::Relaxed)
            && self.client().connection_state() == async_nats::connection::State::Connected
    }

    /// Returns the server's version.
    pub fn server_version(&self) -> String {
        self.client().server_info().version
    }

    /// Returns the server's limit for a message, in bytes, headers included.
    pub fn max_payload(&self) -> usize {
        self.client().max_payload()
    }

    /// Returns how many messages were dropped because this process read too slowly.
    pub fn dropped(&self) -> u64 {
        self.shared.signals.dropped.load(Ordering::Relaxed)
    }

    /// Waits until the connection is up.
    ///
    /// # Errors
    /// [`Kind::Disconnected`] after `limit`, [`Kind::Closed`] when this process closed it.
    pub async fn connected(&self, limit: Duration) -> Result<(), Error> {
        let up = async {
            while !self.is_connected() {
                if self.is_closed() {
                    return Err(Error::closed());
                }
                // The library tells state changes only by polling; 20 ms is well under any human's or lease's patience.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        tokio::time::timeout(limit, up).await.unwrap_or_else(|_| Err(disconnected()))
    }

    /// Sends a request and waits for its one reply.
    ///
    /// # Errors
    /// [`Kind::NoResponders`], [`Kind::Disconnected`] and [`Kind::TooLarge`] mean that nothing was done;
    /// [`Kind::TimedOut`] means that it may have been.
    ///
    /// # Cancel safety
    /// Dropping the future forgets the request: a late reply is discarded.
    pub async fn request(
        &self,
        subject: &str,
        headers: &Headers,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Message, Error> {
        if !self.is_connected() {
            return Err(self.unusable());
        }
        let began = Instant::now();
        let (waiting, reply) = self.shared.mux.expect();
        let exchange = async {
            self.send(subject, Some(reply), headers, payload).await?;
            waiting.reply().await.ok_or_else(Error::closed)
        };
        let message =
            tokio::time::timeout(limit, exchange).await.map_err(|_| Error::timed_out(subject, limit))??;
        if began.elapsed() > limit {
            // The reply was there when this task was woken, but the caller's time was over before that.
            return Err(Error::timed_out(subject, limit));
        }
        match message.status() {
            Some(503) => Err(Error::new(Kind::NoResponders, format!("nobody serves {subject}"))),
            _ => Ok(message),
        }
    }

    /// Sends a request that several may answer, and collects what comes within `limit`; nobody serving it is an empty
    /// list.
    ///
    /// # Errors
    /// [`Kind::Disconnected`], [`Kind::TooLarge`]: nothing was sent.
    ///
    /// # Cancel safety
    /// Dropping the future forgets the request and the replies that came.
    pub async fn gather(
        &self,
        subject: &str,
        headers: &Headers,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Vec<Message>, Error> {
        let inbox = self.new_inbox();
        let mut replies = self.subscribe(&inbox, None).await?;
        self.publish_reply(subject, Some(inbox), headers, payload).await?;
        let mut gathered = Vec::new();
        let collect = async {
            while let Some(message) = replies.next().await {
                if message.status() == Some(503) {
                    return;
                }
                gathered.push(message);
            }
        };
        // The end of the time is the regular end: nobody knows how many there are.
        let _ = tokio::time::timeout(limit, collect).await;
        Ok(gathered)
    }

    /// Publishes without waiting for anybody to take it.
    ///
    /// # Errors
    /// [`Kind::TooLarge`], [`Kind::Codec`]; [`Kind::Disconnected`] when the connection stays down.
    pub async fn publish(&self, subject: &str, headers: &Headers, payload: Bytes) -> Result<(), Error> {
        self.publish_reply(subject, None, headers, payload).await
    }

    pub(crate) async fn publish_reply(
        &self,
        subject: &str,
        reply: Option<String>,
        headers: &Headers,
        payload: Bytes,
    ) -> Result<(), Error> {
        let sent = self.send(subject, reply, headers, payload);
        tokio::time::timeout(ENQUEUE_TIMEOUT, sent).await.unwrap_or_else(|_| Err(self.unusable()))
    }

    /// Subscribes to `subject`, wildcards allowed; with a group, members share the messages.
    ///
    /// The server may not know of it yet on return: [`Bus::barrier`] waits for that.
    ///
    /// # Errors
    /// [`Kind::Config`] for a malformed subject or group, [`Kind::Disconnected`] when the connection stays down.
    pub async fn subscribe(&self, subject: &str, group: Option<&str>) -> Result<Subscription, Error> {
        Subscription::open(self.clone(), subject, group).await
    }

    /// Returns a fresh inbox subject of this connection.
    pub fn new_inbox(&self) -> String {
        let number = self.shared.next_inbox.fetch_add(1, Ordering::Relaxed);
        format!("{}.s{number}", self.shared.mux.prefix())
    }

    /// Waits until the server has processed everything this process sent so far, subscriptions included.
    ///
    /// # Errors
    /// [`Kind::TimedOut`] when the round trip takes more than five seconds, [`Kind::Closed`] after [`Bus::close`].
    pub async fn barrier(&self) -> Result<(), Error> {
        if self.is_closed() {
            return Err(Error::closed());
        }
        let (waiting, inbox) = self.shared.mux.expect();
        let round_trip = async {
            self.send(&inbox, None, &Headers::new(), Bytes::new()).await?;
            waiting.reply().await.ok_or_else(Error::closed)
        };
        match tokio::time::timeout(CLOSE_TIMEOUT, round_trip).await {
            Ok(done) => done.map(|_| ()),
            Err(_) => Err(Error::timed_out("the server's confirmation", CLOSE_TIMEOUT)),
        }
    }

    /// Sends what is queued, exports the last spans, ends every task of the connection and the connection itself.
    ///
    /// Requests that still wait end with [`Kind::Closed`], as does everything asked of any clone from now on.
    pub async fn close(&self) {
        let connected = self.is_connected();
        if connected && self.barrier().await.is_err() {
            tracing::warn!(
                name = self.name(),
                "closing although the server did not confirm the last messages"
            );
        }
        self.shared.stop.cancel();
        self.shared.down.store(true, Ordering::Relaxed);
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        if connected {
            // Clones may live on in handlers that hang; their connection must not. Nothing is in flight any more.
            #[expect(clippy::disallowed_methods, reason = "replies are settled and confirmed, above")]
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.client().drain()).await;
        }
        self.shared.tracer.shutdown().await;
    }

    fn client(&self) -> arc_swap::Guard<Arc<async_nats::Client>> {
        self.shared.client.load()
    }

    async fn send(
        &self,
        subject: &str,
        reply: Option<String>,
        headers: &Headers,
        payload: Bytes,
    ) -> Result<(), Error> {
        let generation = *self.shared.generation.borrow();
        let client = self.shared.client.load_full();
        let sent = message::send(&client, subject, reply, headers, payload).await;
        if sent.as_ref().is_err_and(|error| error.kind() == Kind::Closed) {
            // The library's connection task is gone. The supervisor builds a new one; this message was not sent.
            let _ = self.shared.dead.send(generation);
            return Err(self.unusable());
        }
        sent
    }

    fn is_closed(&self) -> bool {
        self.shared.stop.is_cancelled()
    }

    fn unusable(&self) -> Error {
        if self.is_closed() { Error::closed() } else { disconnected() }
    }
}

impl Shared {
    /// Hands the replies of one client to their requesters, and reports that client dead when they end.
    fn hear(&self, replies: async_nats::Subscriber, generation: u64) {
        let dead = self.dead.clone();
        let heard = self.mux.run(replies, self.stop.clone());
        self.tasks.spawn(async move {
            heard.await;
            let _ = dead.send(generation);
        });
    }
}

/// Nobody can close a bus whose last handle is gone, so its tasks end with it.
impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("name", &self.name()).finish_non_exhaustive()
    }
}

fn disconnected() -> Error {
    Error::new(Kind::Disconnected, "the connection to nats is down: it is being rebuilt, try again shortly")
}
