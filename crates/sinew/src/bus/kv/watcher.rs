//! The watcher of a bucket: an ordered consumer of its stream, made anew whenever anything on the way to it broke.
//!
//! Ordered as ADR-17 has it: nothing is acknowledged, every delivery carries the consumer's own count, and a gap in it
//! means that something was lost.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use sinew_wire::Headers;
use tokio::sync::watch;

use super::{Kv, view::View};
use crate::{
    Error,
    bus::{Message, Subscription, disconnected, jetstream::nanos, pull::metadata},
};

/// Pause before a broken watch is opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(200);
/// The server says it is alive this often; twice the silence means the consumer is gone.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long the server keeps a consumer nobody listens to.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// The one watcher of a bucket in this process. After a lost connection it starts again and learns the difference.
pub(super) struct Watcher {
    kv: Kv,
    view: watch::Sender<View>,
    connects: watch::Receiver<u64>,
    inner: Option<Consumer>,
    seen: BTreeSet<String>,
    current: bool,
}

/// The consumer behind a watch.
struct Consumer {
    deliveries: Subscription,
    /// Its count of the newest delivery.
    delivered: u64,
}

/// What the server says of a consumer it made.
#[derive(Deserialize)]
struct Made {
    num_pending: u64,
}

impl Watcher {
    pub(super) fn new(kv: Kv, view: watch::Sender<View>) -> Self {
        Self { connects: kv.bus.connects(), kv, view, inner: None, seen: BTreeSet::new(), current: false }
    }

    /// Watches until nobody reads along any more, or the bus is closed.
    pub(super) async fn run(mut self) {
        let (stop, view) = (self.kv.bus.shared.stop.clone(), self.view.clone());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = view.closed() => {
                    if self.kv.bus.shared.watchers.leave(&self.kv.bucket) {
                        return;
                    }
                }
                () = self.step() => {}
            }
        }
    }

    async fn step(&mut self) {
        let Some(consumer) = &mut self.inner else {
            if let Err(error) = self.open().await {
                tracing::debug!(bucket = self.kv.bucket, %error, "cannot watch yet");
                tokio::time::sleep(REOPEN_PAUSE).await;
            }
            return;
        };
        let heard = tokio::select! {
            biased;
            heard = tokio::time::timeout(2 * HEARTBEAT, consumer.deliveries.next()) => heard,
            // The consumer may not have outlived the connection, and silence would tell much later.
            Ok(()) = self.connects.changed() => {
                self.inner = None;
                return;
            }
        };
        match heard {
            Ok(Some(message)) => self.hear(message).await,
            Ok(None) | Err(_) => self.inner = None,
        }
    }

    async fn hear(&mut self, message: Message) {
        let Some(told) = message.reply_to().and_then(metadata) else {
            return self.answer_control(&message).await;
        };
        let Some(consumer) = &mut self.inner else { return };
        consumer.delivered += 1;
        if told.delivered != consumer.delivered {
            tracing::debug!(bucket = self.kv.bucket, "the watch missed something and is opened again");
            self.inner = None;
            return;
        }
        self.note(&message, told.sequence);
        if told.pending == 0 && !self.current {
            self.caught_up();
        }
    }

    /// Flow control and heartbeats: the server waits for an answer before it sends on.
    async fn answer_control(&self, message: &Message) {
        let stalled = message.header("Nats-Consumer-Stalled");
        if let Some(subject) = message.reply_to().or(stalled) {
            let answered = self.kv.bus.publish(subject, &Headers::new(), Bytes::new()).await;
            if let Err(error) = answered {
                tracing::debug!(%error, "flow control could not be answered");
            }
        }
    }

    fn note(&mut self, message: &Message, revision: u64) {
        let prefix = self.kv.subject("");
        let Some(key) = message.subject().strip_prefix(&prefix) else { return };
        if !self.current {
            self.seen.insert(key.to_owned());
        }
        let removed = super::MARKS.iter().any(|mark| message.header(mark).is_some());
        // Copied: watched values are kept for long, and must not keep what came with them.
        let value = (!removed).then(|| Bytes::copy_from_slice(message.payload()));
        self.view.send_modify(|view| view.learn(key, revision, value));
    }

    /// What stood before a break and is not there any more has gone meanwhile.
    fn caught_up(&mut self) {
        self.current = true;
        let seen = std::mem::take(&mut self.seen);
        self.view.send_modify(|view| view.only(&seen));
    }

    async fn open(&mut self) -> Result<(), Error> {
        self.connects.mark_unchanged();
        let bus = &self.kv.bus;
        if !bus.is_connected() {
            return Err(disconnected());
        }
        let inbox = bus.new_inbox();
        // In place before the consumer is: its first delivery must find somebody.
        let deliveries = bus.subscribe(&inbox, None).await?;
        let made = self.make(&inbox).await?;
        self.inner = Some(Consumer { deliveries, delivered: 0 });
        self.seen.clear();
        self.current = false;
        if made.num_pending == 0 {
            // No entry will come to say that it was the last.
            self.caught_up();
        }
        Ok(())
    }

    async fn make(&self, inbox: &str) -> Result<Made, Error> {
        let stream = format!("KV_{}", self.kv.bucket);
        let name = uuid::Uuid::now_v7().simple().to_string();
        let body = json!({
            "stream_name": stream,
            "action": "create",
            "config": {
                "name": name,
                "deliver_subject": inbox,
                "deliver_policy": "all",
                "ack_policy": "none",
                "max_deliver": 1,
                "flow_control": true,
                "idle_heartbeat": nanos(HEARTBEAT),
                "inactive_threshold": nanos(FORGOTTEN_AFTER),
                "mem_storage": true,
                "num_replicas": 1,
            },
        });
        let made = self.kv.bus.api(&format!("CONSUMER.CREATE.{stream}.{name}"), &body).await;
        made.map_err(|error| error.during("cannot watch the bucket"))
    }
}
