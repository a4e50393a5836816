//! Replies: one wildcard inbox for every request of the process. Knows tokens, not what was asked.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::oneshot;

use super::{Bus, Message, Subscription};

/// The table of requests that wait for a reply.
pub(super) struct Mux {
    prefix: String,
    next: AtomicU64,
    waiting: Arc<Table>,
}

/// A plain lock, held for one map operation and never across an await: a channel to an owning task would cost every
/// request two more hops between threads.
type Table = Mutex<HashMap<u64, oneshot::Sender<Message>>>;

/// One request's place in the table; dropping it gives the place back.
pub(super) struct Waiting {
    token: u64,
    table: Arc<Table>,
    receiver: oneshot::Receiver<Message>,
}

impl Mux {
    pub(super) fn new(prefix: String) -> Self {
        Self { prefix, next: AtomicU64::new(0), waiting: Arc::default() }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn wildcard(&self) -> String {
        format!("{}.r.*", self.prefix)
    }

    /// Takes a place in the table; the text is the subject to reply to.
    pub(super) fn expect(&self) -> (Waiting, String) {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(token, sender);
        (Waiting { token, table: self.waiting.clone(), receiver }, format!("{}.r.{token}", self.prefix))
    }

    fn settle(&self, message: Message) {
        let token = message.subject().rsplit('.').next().and_then(|token| token.parse().ok());
        let sender = token.and_then(|token: u64| lock(&self.waiting).remove(&token));
        if let Some(sender) = sender {
            // The requester may have given up a moment ago; then the reply is nobody's.
            let _ = sender.send(message);
        }
    }
}

impl Waiting {
    /// Waits for the reply; `None` once the bus is closed.
    pub(super) async fn reply(mut self) -> Option<Message> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.table).remove(&self.token);
    }
}

/// Hands every reply to its requester until the bus is closed.
pub(super) async fn run(bus: Bus, mut replies: Subscription) {
    while let Some(message) = replies.next().await {
        bus.shared.mux.settle(message);
    }
    lock(&bus.shared.mux.waiting).clear();
}

fn lock(table: &Table) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Message>>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}
