//! The connection to NATS. The only place that talks to a server; every fact that bites is handled here.
//!
//! A [`Bus`] is a cheap handle. Behind it one task owns the socket (`nats`): it connects again whenever that is lost,
//! and every [`Subscription`] moves over. Requests go through one wildcard inbox, so a timed-out or dropped request
//! leaves nothing behind. Nothing is kept for a connection that may never come: while there is none, publishing waits
//! in bounded time and then says so. The connection ends with [`Bus::close`], or without a word when the last handle is
//! dropped.

pub mod admin;
mod api;
mod batch;
mod clock;
mod follow;
mod hangup;
mod inlets;
mod inspect;
mod jetstream;
mod kv;
mod link;
mod lost;
mod message;
mod nats;
mod objects;
mod pin;
mod pull;
mod subscription;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use sinew_wire::Headers;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Calls, Config, Error, Kind, Tracer, policy::Dependencies};

pub use batch::Reader;
pub(crate) use clock::Clock;
pub use follow::{Follow, Followed};
pub use inspect::{ConsumerInfo, StreamInfo};
pub use jetstream::{PubAck, Retention, Storage, Stored, StreamConfig, StreamState};
pub use kv::{Kv, KvChange, KvEntry, KvWatch};
pub use message::Message;
pub use objects::{Expect, Named, Object, Objects, Pieces};
pub(crate) use pin::{Heard, PinConfig, Pinned};
pub use pull::{Begin, Delivery, Pull, PullConfig};
pub use subscription::Subscription;

use inlets::Denied;
pub(crate) use inlets::Inlets;
#[cfg(any(test, feature = "testing"))]
pub(crate) use link::Carrier;
use link::{Link, Outbound};
use nats::Taken;

/// How long publishing may wait for a connection, or for room in front of it.
const ENQUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request waits that names no end.
const LONGEST: Duration = Duration::from_secs(3_600 * 24 * 365);
/// How long closing waits for the last bytes to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A handle on the connection to NATS; clones share the connection.
#[derive(Clone)]
pub struct Bus {
    shared: Arc<Shared>,
    /// The policies of the calls made through this handle.
    dependencies: Dependencies,
    /// Copies of what this handle creates, in a cluster.
    replicas: usize,
}

struct Shared {
    config: Config,
    link: Link,
    inlets: Arc<Inlets>,
    tracer: Tracer,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Who watches buckets on behalf of this process.
    watchers: kv::Watchers,
}

impl Bus {
    /// Connects, and returns once the server has confirmed the reply inbox.
    ///
    /// # Errors
    /// [`Kind::Disconnected`] when no server answers in time, [`Kind::Permission`] when it refuses the identity,
    /// [`Kind::Config`] for an unusable setting, [`Kind::Unsupported`] when the server is older than Sinew needs.
    pub async fn connect(config: Config) -> Result<Self, Error> {
        let tracer = Tracer::start(&config)?;
        let inlets = Arc::new(Inlets::new(inbox(&config)));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let client = nats::Client::connect(&config, inlets.clone(), &tasks, stop.clone()).await?;
        let watchers = kv::Watchers::default();
        let replicas = config.replicas;
        let shared = Shared { config, link: Link::Nats(client), inlets, tracer, tasks, stop, watchers };
        let dependencies = Dependencies::new(Calls::new(), TaskTracker::new());
        let bus = Self { shared: Arc::new(shared), dependencies, replicas };
        bus.barrier().await?;
        Ok(bus)
    }

    /// Returns a handle on the same connection whose calls follow `calls`.
    #[must_use]
    pub fn with_calls(&self, calls: Calls) -> Self {
        self.with_dependencies(Dependencies::new(calls, self.dependencies.tasks().clone()))
    }

    pub(crate) fn with_dependencies(&self, dependencies: Dependencies) -> Self {
        Self { dependencies, ..self.clone() }
    }

    /// Returns a handle on the same connection that keeps `replicas` copies of each stream and bucket it creates, in a
    /// cluster; more where those ask for more. What stands already with fewer is given as many, and never loses any.
    #[must_use]
    pub fn with_replicas(&self, replicas: usize) -> Self {
        Self { replicas: replicas.max(1), ..self.clone() }
    }

    pub(crate) fn dependencies(&self) -> &Dependencies {
        &self.dependencies
    }

    /// Connects to a broker in this process, which delivers to the inlets it is given.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) async fn in_process(
        config: Config,
        join: impl FnOnce(Arc<Inlets>) -> Arc<dyn Carrier>,
    ) -> Result<Self, Error> {
        let tracer = Tracer::start(&config)?;
        let inlets = Arc::new(Inlets::new(inbox(&config)));
        let link = Link::in_process(join(inlets.clone()), &inlets.wildcard());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let dependencies = Dependencies::new(Calls::new(), TaskTracker::new());
        let watchers = kv::Watchers::default();
        let replicas = config.replicas;
        let shared = Arc::new(Shared { config, link, inlets, tracer, tasks, stop, watchers });
        let bus = Self { shared, dependencies, replicas };
        bus.barrier().await?;
        Ok(bus)
    }

    /// Returns the time: this machine's, or a test's.
    pub fn now(&self) -> Timestamp {
        self.shared.link.now()
    }

    /// Draws a number from 0 to 1, for delays that are to be spread.
    pub(crate) fn dice(&self) -> f64 {
        self.shared.link.dice()
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
        self.shared.link.is_connected() && !self.is_closed()
    }

    /// Returns the server's version.
    pub fn server_version(&self) -> String {
        self.shared.link.server_version()
    }

    /// Returns the server's limit for a message, in bytes, headers included.
    pub fn max_payload(&self) -> usize {
        self.shared.link.max_payload()
    }

    /// Returns how many messages were dropped because this process read too slowly.
    pub fn dropped(&self) -> u64 {
        self.shared.inlets.dropped()
    }

    /// Waits until the connection is up.
    ///
    /// # Errors
    /// [`Kind::Disconnected`] after `limit`, [`Kind::Closed`] when this process closed it.
    pub async fn connected(&self, limit: Duration) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => Err(Error::closed()),
            up = tokio::time::timeout(limit, self.shared.link.writable()) => up.map_err(|_| disconnected()),
        }
    }

    /// Sends a request and waits for its one reply.
    ///
    /// # Errors
    /// [`Kind::NoResponders`], [`Kind::Disconnected`] and [`Kind::TooLarge`] mean that nothing was done;
    /// [`Kind::TimedOut`] means that it may have been. [`Kind::Permission`] when the account may not publish there.
    ///
    /// # Cancel safety
    /// Dropping the future forgets the request: a late reply is discarded, and a service is told to stop working on it.
    pub async fn request(
        &self,
        subject: &str,
        headers: &Headers,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Message, Error> {
        self.request_within(subject, headers, &payload, Instant::now(), limit).await
    }

    /// As [`Bus::request`], for who waits long: when the connection is lost meanwhile, and the service says after the next
    /// one is made that nobody works on the request any more, or says nothing, the waiting ends within a few seconds. A
    /// reply that comes over the new connection counts.
    ///
    /// # Errors
    /// As [`Bus::request`]; [`Kind::TimedOut`] also when the reply was lost.
    ///
    /// # Cancel safety
    /// As [`Bus::request`].
    pub async fn request_unless_lost(
        &self,
        subject: &str,
        headers: &Headers,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Message, Error> {
        let connects = self.connects();
        self.ask(subject, headers, &payload, (Instant::now(), limit), Some(connects)).await
    }

    /// As [`Bus::request`], for somebody who has just looked at the clock.
    pub(crate) async fn request_within(
        &self,
        subject: &str,
        headers: &Headers,
        payload: &Bytes,
        began: Instant,
        limit: Duration,
    ) -> Result<Message, Error> {
        self.ask(subject, headers, payload, (began, limit), None).await
    }

    /// Sends a request; with `connects` it is given up when its reply was lost with a connection.
    async fn ask(
        &self,
        subject: &str,
        headers: &Headers,
        payload: &Bytes,
        (began, limit): (Instant, Duration),
        connects: Option<watch::Receiver<u64>>,
    ) -> Result<Message, Error> {
        if !self.is_connected() {
            return Err(self.unusable());
        }
        let (waiting, reply) = self.shared.inlets.enlist(subject);
        let at = began.checked_add(limit).unwrap_or_else(|| began + LONGEST);
        // Written in place: kept in a variable first, it would take its room twice.
        let answer = timeout_at(at, async {
            self.send(Outbound { subject, reply: Some(&reply), headers, payload }).await?;
            // From here on somebody may be at work on it; dropped before the reply, it says that nobody waits.
            let hangup = hangup::Hangup { bus: self, subject, reply: &reply, headers, began, limit };
            let reply = match connects {
                None => waiting.reply().await,
                Some(connects) => {
                    lost::Sent { bus: self, subject, reply: &reply, connects }.reply(waiting).await?
                }
            };
            hangup.disarm();
            reply.ok_or_else(Error::closed)
        });
        let answer = answer.await.map_err(|_| Error::timed_out(subject, limit))??;
        let message = answer.map_err(|denied| denied.into_error(subject))?;
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
        self.post(subject, Some(&inbox), headers, &payload).await?;
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
        self.post(subject, None, headers, &payload).await
    }

    /// As [`Bus::publish`], of what the caller keeps, with a place for answers.
    pub(crate) async fn post(
        &self,
        subject: &str,
        reply: Option<&str>,
        headers: &Headers,
        payload: &Bytes,
    ) -> Result<(), Error> {
        let message = Outbound { subject, reply, headers, payload };
        // Nearly always taken at once, and then no timer is needed.
        if self.offer(message)? == Taken::Yes {
            return Ok(());
        }
        let sent = self.send_later(message);
        // Boxed: whoever is taken at once does not carry the room that waiting needs.
        let sent = Box::pin(tokio::time::timeout(ENQUEUE_TIMEOUT, sent)).await;
        sent.unwrap_or_else(|_| Err(self.unusable()))
    }

    /// Subscribes to `subject`, wildcards allowed; with a group, members share the messages.
    ///
    /// The server may not know of it yet on return: [`Bus::barrier`] waits for that.
    ///
    /// # Errors
    /// [`Kind::Config`] for a malformed subject or group, [`Kind::Disconnected`] when the connection stays down.
    pub async fn subscribe(&self, subject: &str, group: Option<&str>) -> Result<Subscription, Error> {
        Subscription::open(self.clone(), subject, group)
    }

    /// Returns a fresh inbox subject of this connection.
    pub fn new_inbox(&self) -> String {
        self.shared.inlets.inbox()
    }

    /// Waits until the server has processed everything this process sent so far, subscriptions included.
    ///
    /// Everything that reached it: what a connection that broke took with it stays lost, and the next one confirms.
    ///
    /// # Errors
    /// [`Kind::TimedOut`] when the round trip takes more than five seconds, [`Kind::Closed`] after [`Bus::close`],
    /// [`Kind::Permission`] when the account may not use its inbox.
    pub async fn barrier(&self) -> Result<(), Error> {
        if self.is_closed() {
            return Err(Error::closed());
        }
        let (waiting, inbox) = self.shared.inlets.enlist_barrier();
        let round_trip = async {
            let (headers, payload) = (&Headers::new(), &Bytes::new());
            self.send(Outbound { subject: &inbox, reply: None, headers, payload }).await?;
            let reply = waiting.reply().await.ok_or_else(Error::closed)?;
            reply.map(drop).map_err(|denied| denied.into_error(&inbox))
        };
        match tokio::time::timeout(CLOSE_TIMEOUT, round_trip).await {
            Ok(done) => done,
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
        let shielded = self.dependencies.tasks();
        shielded.close();
        if tokio::time::timeout(CLOSE_TIMEOUT, shielded.wait()).await.is_err() {
            tracing::warn!(name = self.name(), left = shielded.len(), "shielded work is abandoned");
        }
        self.shared.stop.cancel();
        self.shared.inlets.shut_all();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.tracer.shutdown().await;
    }

    /// Runs a task that ends when the bus is closed; [`Bus::close`] waits for it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.tasks.spawn(task);
    }

    /// Counts connections made, the first one included.
    pub(crate) fn connects(&self) -> watch::Receiver<u64> {
        self.shared.link.connects()
    }

    fn offer(&self, message: Outbound<'_>) -> Result<Taken, Error> {
        if self.is_closed() {
            return Err(Error::closed());
        }
        self.shared.link.publish(message)
    }

    /// Sends as soon as that is possible; the caller bounds the time.
    async fn send(&self, message: Outbound<'_>) -> Result<(), Error> {
        match self.offer(message)? {
            Taken::Yes => Ok(()),
            // Boxed, as above.
            Taken::NotNow => Box::pin(self.send_later(message)).await,
        }
    }

    /// As [`Bus::send`], for what was not taken at once.
    async fn send_later(&self, message: Outbound<'_>) -> Result<(), Error> {
        loop {
            tokio::select! {
                () = self.shared.link.writable() => {}
                () = self.shared.stop.cancelled() => return Err(Error::closed()),
            }
            if self.offer(message)? == Taken::Yes {
                return Ok(());
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.shared.stop.is_cancelled()
    }

    fn unusable(&self) -> Error {
        if self.is_closed() { Error::closed() } else { disconnected() }
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

impl Denied {
    fn into_error(self, subject: &str) -> Error {
        let hint = "`sinew describe` prints what a service needs";
        let text = match self {
            Self::Publishing => {
                format!("the account may not publish to {subject}: ask for publish permission, {hint}")
            }
            Self::Replies => format!(
                "the account may not hear replies: ask for subscribe permission below its inbox prefix, {hint}"
            ),
        };
        Error::new(Kind::Permission, text)
    }
}

/// Returns an inbox prefix no other connection has.
fn inbox(config: &Config) -> String {
    format!("{}.{}", config.inbox_prefix, uuid::Uuid::now_v7().simple())
}
