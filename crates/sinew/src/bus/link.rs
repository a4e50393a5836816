//! What carries messages: a NATS server, or a broker inside this process.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use sinew_wire::Headers;
use tokio::sync::watch;

use super::nats::{Client, Taken};
use crate::{Error, Kind};

/// The version an in-process carrier passes for.
const IN_PROCESS: &str = "in-process";
/// The largest message an in-process carrier takes: the default of a server.
const IN_PROCESS_LIMIT: usize = 1 << 20;

/// A broker inside this process. It was given the [`super::Inlets`] that its deliveries go to.
pub(crate) trait Carrier: Send + Sync + 'static {
    /// Takes one message; never waits.
    fn publish(&self, subject: &str, reply: Option<&str>, headers: &Headers, payload: &Bytes);
    /// Delivers what is published on `subject` to inlet `sid` from now on.
    fn subscribe(&self, subject: &str, group: Option<&str>, sid: u64);
    /// Delivers nothing more to inlet `sid`.
    fn unsubscribe(&self, sid: u64);
    /// Returns what its clock shows.
    fn now(&self) -> Timestamp;
    /// Waits until its clock shows `until`; the deliveries with these reply subjects wait for nothing else.
    fn park(&self, until: Timestamp, deliveries: Vec<String>) -> BoxFuture<'static, ()>;
}

/// A message on its way out.
#[derive(Clone, Copy)]
pub(super) struct Outbound<'a> {
    pub(super) subject: &'a str,
    pub(super) reply: Option<&'a str>,
    pub(super) headers: &'a Headers,
    pub(super) payload: &'a Bytes,
}

/// The way to the other services.
pub(super) enum Link {
    Nats(Client),
    #[cfg_attr(
        not(any(test, feature = "testing")),
        allow(dead_code, reason = "only the testing kit makes one")
    )]
    InProcess {
        carrier: Arc<dyn Carrier>,
        connects: watch::Sender<u64>,
    },
}

impl Outbound<'_> {
    /// Returns how much of the server's limit it takes: its headers and what it carries.
    pub(super) fn len(&self) -> usize {
        let headers = if self.headers.is_empty() { 0 } else { self.headers.wire_len() };
        headers + self.payload.len()
    }
}

impl Link {
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn in_process(carrier: Arc<dyn Carrier>, replies: &str) -> Self {
        carrier.subscribe(replies, None, super::inlets::REPLIES);
        Self::InProcess { carrier, connects: watch::Sender::new(1) }
    }

    pub(super) fn publish(&self, message: Outbound<'_>) -> Result<Taken, Error> {
        match self {
            Self::Nats(client) => client.publish(message),
            Self::InProcess { carrier, .. } => {
                let Outbound { subject, reply, headers, payload } = message;
                if message.len() > IN_PROCESS_LIMIT {
                    return Err(too_large(IN_PROCESS_LIMIT));
                }
                carrier.publish(subject, reply, headers, payload);
                Ok(Taken::Yes)
            }
        }
    }

    pub(super) async fn writable(&self) {
        if let Self::Nats(client) = self {
            client.writable().await;
        }
    }

    pub(super) fn subscribe(&self, subject: &str, group: Option<&str>, sid: u64) {
        match self {
            Self::Nats(client) => client.subscribe(subject, group, sid),
            Self::InProcess { carrier, .. } => carrier.subscribe(subject, group, sid),
        }
    }

    pub(super) fn unsubscribe(&self, sid: u64) {
        match self {
            Self::Nats(client) => client.unsubscribe(sid),
            Self::InProcess { carrier, .. } => carrier.unsubscribe(sid),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        match self {
            Self::Nats(client) => client.is_connected(),
            Self::InProcess { .. } => true,
        }
    }

    pub(super) fn server_version(&self) -> String {
        match self {
            Self::Nats(client) => client.info().version.clone(),
            Self::InProcess { .. } => IN_PROCESS.to_owned(),
        }
    }

    pub(super) fn max_payload(&self) -> usize {
        match self {
            Self::Nats(client) => client.info().max_payload,
            Self::InProcess { .. } => IN_PROCESS_LIMIT,
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        match self {
            Self::Nats(_) => Timestamp::now(),
            Self::InProcess { carrier, .. } => carrier.now(),
        }
    }

    /// Returns the carrier, where it is one that keeps its own time.
    pub(super) fn carrier(&self) -> Option<&Arc<dyn Carrier>> {
        match self {
            Self::Nats(_) => None,
            Self::InProcess { carrier, .. } => Some(carrier),
        }
    }

    /// Draws a number from 0 to 1. In a test every draw is the highest, so that what comes later comes when it says.
    pub(super) fn dice(&self) -> f64 {
        match self {
            Self::Nats(_) => fastrand::f64(),
            Self::InProcess { .. } => 1.0,
        }
    }

    pub(super) fn connects(&self) -> watch::Receiver<u64> {
        match self {
            Self::Nats(client) => client.connects(),
            Self::InProcess { connects, .. } => connects.subscribe(),
        }
    }
}

/// Returns the error of a message that no carrier with such a limit takes.
pub(super) fn too_large(limit: usize) -> Error {
    Error::new(Kind::TooLarge, format!("the message is larger than the server's limit of {limit} bytes"))
}
