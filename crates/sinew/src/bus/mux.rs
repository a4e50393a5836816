//! Replies: one wildcard inbox for every request of the process. Knows tokens, not what was asked.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::StreamExt;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Message;

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

    /// Hands every reply of one client to its requester, until that client is dead or the bus is closed.
    pub(super) fn run(
        &self,
        mut replies: async_nats::Subscriber,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let table = self.waiting.clone();
        async move {
            let mut stopped = std::pin::pin!(stop.cancelled());
            loop {
                tokio::select! {
                    biased;
                    reply = replies.next() => match reply {
                        Some(reply) => settle(&table, Message::new(reply)),
                        // Who waits goes on waiting: an answer may still come by way of the next client.
                        None => return,
                    },
                    () = &mut stopped => return lock(&table).clear(),
                }
            }
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

fn settle(table: &Table, reply: Message) {
    let token = reply.subject().rsplit('.').next().and_then(|token| token.parse().ok());
    let sender = token.and_then(|token: u64| lock(table).remove(&token));
    if let Some(sender) = sender {
        // The requester may have given up a moment ago; then the reply is nobody's.
        let _ = sender.send(reply);
    }
}

fn lock(table: &Table) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Message>>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply_on(subject: String) -> Message {
        Message::new(async_nats::Message {
            subject: subject.into(),
            reply: None,
            payload: bytes::Bytes::new(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        })
    }

    #[tokio::test]
    async fn a_reply_reaches_its_requester_and_leaves_no_place_behind() {
        let mux = Mux::new("_INBOX.x".to_owned());
        let (waiting, subject) = mux.expect();
        settle(&mux.waiting, reply_on(subject));
        assert!(waiting.reply().await.is_some());
        assert!(lock(&mux.waiting).is_empty());
    }

    #[tokio::test]
    async fn a_dropped_request_leaves_nothing_behind_and_its_late_reply_is_nobodys() {
        let mux = Mux::new("_INBOX.x".to_owned());
        let (given_up, late) = mux.expect();
        let (waiting, other) = mux.expect();
        drop(given_up);
        assert_eq!(lock(&mux.waiting).len(), 1);
        settle(&mux.waiting, reply_on(late));
        settle(&mux.waiting, reply_on(other.clone()));
        assert_eq!(waiting.reply().await.map(|reply| reply.subject().to_owned()), Some(other));
        assert!(lock(&mux.waiting).is_empty());
    }
}
