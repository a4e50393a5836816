//! Our NATS client: one task that owns the socket, a buffer into it, a table of who reads what out of it.
//!
//! Why not a library: every message of every role passes here, and the one there is pays a channel, a hash map of
//! headers and several allocations for each; gives its connection up at a stray byte in somebody's header; and answers
//! "sent" while it is disconnected. This one encodes straight into the buffer, hands a reply to its requester from the
//! task that read it, trusts lengths and never contents, and refuses to send what it cannot send now.

mod address;
mod auth;
mod dial;
mod driver;
mod outgoing;
mod protocol;

use std::sync::Arc;

use arc_swap::ArcSwap;
use sinew_wire::{Headers, header};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{inlets::Inlets, link::Outbound};
use crate::{Config, Error, Kind};

pub(super) use outgoing::Taken;
pub(super) use protocol::{ServerInfo, is_subscribable};

use outgoing::Outgoing;

/// Tells the server to leave the trace of a message alone.
///
/// For each message of a trace that somebody records, a server takes all headers apart, to tell an account's `msg_trace` of
/// it: more work than everything a span costs its process, and our configurations set no `msg_trace`. This value is what
/// servers themselves write to have it left out further on.
const LEAVE_TRACE: &str = "Nats-Trace-Dest: trace disabled\r\n";

/// The connection to NATS; the task behind it reconnects until it is told to stop.
#[derive(Debug)]
pub(super) struct Client {
    shared: Arc<Shared>,
}

/// What handle and task have in common.
#[derive(Debug)]
struct Shared {
    outgoing: Outgoing,
    inlets: Arc<Inlets>,
    info: ArcSwap<ServerInfo>,
    /// Counts connections: whatever stood at the server may be gone with the last one.
    connects: watch::Sender<u64>,
}

impl Client {
    /// Connects, and spawns the task that keeps the connection.
    ///
    /// # Errors
    /// As [`super::Bus::connect`].
    pub(super) async fn connect(
        config: &Config,
        inlets: Arc<Inlets>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        if !is_subscribable(&inlets.wildcard(), None) {
            let text = "the inbox prefix is no subject: use letters, digits and single dots";
            return Err(Error::new(Kind::Config, text));
        }
        let mut dialer = dial::Dialer::new(config).await?;
        let connection = dialer.first().await?;
        let shared = Arc::new(Shared {
            outgoing: Outgoing::default(),
            inlets,
            info: ArcSwap::from_pointee(ServerInfo::default()),
            connects: watch::Sender::default(),
        });
        // Up before the task has run once: what is sent now is buffered for this connection.
        shared.begin(&connection);
        tasks.spawn(driver::run(shared.clone(), dialer, connection, stop));
        Ok(Self { shared })
    }

    /// Offers one message; never waits.
    ///
    /// # Errors
    /// [`Kind::TooLarge`], or [`Kind::Config`] for a subject that cannot be sent.
    pub(super) fn publish(&self, message: Outbound<'_>) -> Result<Taken, Error> {
        let Outbound { subject, reply, headers, payload } = message;
        if !protocol::is_sendable(subject, reply) {
            let text = "the subject cannot be published to: it is empty, has spaces, or is too long";
            return Err(Error::new(Kind::Config, text));
        }
        let info = self.shared.info.load();
        let lines = if info.leaves_traces && is_traced_request(subject, headers) { LEAVE_TRACE } else { "" };
        let limit = info.max_payload;
        if lines.len() + message.len() > limit {
            return Err(super::link::too_large(limit));
        }
        Ok(self.shared.outgoing.push(|out| protocol::publish(out, subject, reply, (lines, headers), payload)))
    }

    /// Waits until [`Client::publish`] is worth trying again.
    pub(super) async fn writable(&self) {
        self.shared.outgoing.writable().await;
    }

    /// Asks the server for what a subscription takes. Without a connection, the next one begins with it.
    pub(super) fn subscribe(&self, subject: &str, group: Option<&str>, sid: u64) {
        self.shared.outgoing.order(|out| protocol::subscribe(out, subject, group, sid));
    }

    /// Tells the server that a subscription ends.
    pub(super) fn unsubscribe(&self, sid: u64) {
        self.shared.outgoing.order(|out| protocol::unsubscribe(out, sid));
    }

    pub(super) fn is_connected(&self) -> bool {
        self.shared.outgoing.is_open()
    }

    pub(super) fn info(&self) -> arc_swap::Guard<Arc<ServerInfo>> {
        self.shared.info.load()
    }

    pub(super) fn connects(&self) -> watch::Receiver<u64> {
        self.shared.connects.subscribe()
    }
}

impl Shared {
    /// Opens the way out over a new connection: first of all, every subscription is made again.
    fn begin(&self, connection: &dial::Connection) {
        self.info.store(Arc::new(connection.info.clone()));
        let subscriptions = self.inlets.subscriptions();
        self.outgoing.open(|out| {
            protocol::subscribe(out, &self.inlets.wildcard(), None, super::inlets::REPLIES);
            for (sid, inlet) in subscriptions.iter().filter(|(_, inlet)| !inlet.ending) {
                protocol::subscribe(out, &inlet.subject, inlet.group.as_deref(), *sid);
            }
        });
        drop(subscriptions);
        self.connects.send_modify(|count| *count += 1);
    }

    /// Closes the way out and tells the server that we go. Its `PONG` says that it has taken all that was sent, and will
    /// hand us nothing more that another member of a group could have had.
    fn leave(&self) {
        let subscriptions = self.inlets.subscriptions();
        self.outgoing.end(|out| {
            for (sid, _) in subscriptions.iter().filter(|(_, inlet)| !inlet.ending) {
                protocol::unsubscribe(out, *sid);
            }
            out.extend_from_slice(b"PING\r\n");
        });
    }
}

/// Says whether a message is a request in a trace that is recorded, and names no place where the servers are to tell of it.
/// What is no request may be stored, and then every reader would get the line.
fn is_traced_request(subject: &str, headers: &Headers) -> bool {
    subject.starts_with("svc.")
        && headers.get(header::TRACEPARENT).is_some_and(|text| !text.ends_with("00"))
        && headers.get(header::BROKER_TRACE).is_none()
}

/// The server is of no use to us if it is too old; whatever is no version number is believed.
fn supported(info: &ServerInfo) -> Result<(), Error> {
    let version = &info.version;
    match version.parse::<crate::broker::Version>() {
        Ok(parsed) if !parsed.is_supported() => Err(Error::new(
            Kind::Unsupported,
            format!("the nats server is version {version}: Sinew needs 2.12 or later, please upgrade it"),
        )),
        _ => Ok(()),
    }
}
