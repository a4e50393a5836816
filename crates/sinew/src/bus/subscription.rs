//! Subscriptions: streams of messages that outlive the connection they were made on.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::mpsc;

use super::{
    Bus, Message,
    inlets::{Held, Outlet},
    nats,
};
use crate::{Error, Kind};

/// A stream of messages. It ends only when it is closed or the bus is; dropping it unsubscribes.
pub struct Subscription {
    bus: Bus,
    subject: String,
    sid: u64,
    messages: mpsc::Receiver<Message>,
    held: Held,
    denied: Denial,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// Whether the server refused a subscription; outlives it.
#[derive(Clone, Debug)]
pub(crate) struct Denial(Arc<AtomicBool>);

impl Denial {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Subscription {
    pub(super) fn open(bus: Bus, subject: &str, group: Option<&str>) -> Result<Self, Error> {
        if bus.is_closed() {
            return Err(Error::closed());
        }
        if !nats::is_subscribable(subject, group) {
            let hint =
                "a subject has no spaces and no empty tokens, `>` stands last, and a line takes 3,500 bytes";
            return Err(Error::new(Kind::Config, format!("cannot subscribe to {subject:?}: {hint}")));
        }
        let Outlet { sid, messages, held, denied } = bus.shared.inlets.open(subject, group);
        bus.shared.link.subscribe(subject, group, sid);
        Ok(Self { bus, subject: subject.to_owned(), sid, messages, held, denied: Denial(denied) })
    }

    /// Returns the next message; `None` once closed.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await.inspect(|message| self.held.give(message))
    }

    /// Returns a message that is here already.
    pub(crate) fn try_next(&mut self) -> Option<Message> {
        self.messages.try_recv().ok()
    }

    /// Waits for messages and appends up to `limit` of them to `batch`; 0 once closed, or drained and read.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is lost when the future is dropped.
    pub async fn next_many(&mut self, batch: &mut Vec<Message>, limit: usize) -> usize {
        let taken = self.messages.recv_many(batch, limit).await;
        batch[batch.len() - taken..].iter().for_each(|message| self.held.give(message));
        taken
    }

    /// Says whether the server refused it: the account may not subscribe to the subject. Known once
    /// [`Bus::barrier`] has returned.
    pub fn is_denied(&self) -> bool {
        self.denied.is_set()
    }

    /// Returns what [`Subscription::is_denied`] reads.
    pub(crate) fn denial(&self) -> Denial {
        self.denied.clone()
    }

    /// Stops taking new messages; what the server already sent can still be read until `None`.
    ///
    /// The server is told first; its confirmation comes behind the last message, and only then is the subscription
    /// given up.
    pub async fn drain(&mut self) {
        self.bus.shared.inlets.end(self.sid);
        self.bus.shared.link.unsubscribe(self.sid);
        if let Err(error) = self.bus.barrier().await {
            tracing::debug!(subject = self.subject, %error, "the server did not confirm the end of a subscription");
        }
        self.bus.shared.inlets.shut(self.sid);
    }

    /// Reads what is left after [`Subscription::drain`]; `None` when all is read.
    pub async fn next_drained(&mut self) -> Option<Message> {
        self.next().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.bus.shared.inlets.shut(self.sid);
        self.bus.shared.link.unsubscribe(self.sid);
    }
}
