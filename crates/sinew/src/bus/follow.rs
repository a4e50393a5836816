//! Following a stream: everything on some subjects from a place on, in order, each message once and for as long as wanted.
//!
//! An ordered consumer as ADR-17 has it: nothing is acknowledged, every delivery carries the consumer's own count, and
//! whatever breaks on the way is answered by a new consumer behind the last message that came. Where a follower goes on
//! after its own end is for whoever follows to remember.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use sinew_wire::Headers;
use tokio::sync::watch;

use super::{Bus, Message, Subscription, admin::Place, disconnected, jetstream::nanos, pull::metadata};
use crate::Error;

/// Pause before a broken consumer is made again.
const REOPEN_PAUSE: Duration = Duration::from_millis(200);
/// The server says it is alive this often; twice the silence means the consumer is gone.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long the server keeps a consumer nobody listens to.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// Follows a stream. Dropping it ends that; the server forgets the consumer within half a minute.
pub struct Follow {
    bus: Bus,
    stream: String,
    subjects: Vec<String>,
    from: Place,
    /// Everything up to this sequence that is on the subjects has been returned.
    reached: u64,
    connects: watch::Receiver<u64>,
    consumer: Option<Consumer>,
}

/// A message of the stream.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The message.
    pub message: Message,
    /// Its sequence.
    pub sequence: u64,
    /// When it was stored, by the server's clock.
    pub stored: SystemTime,
}

/// What is delivered by one consumer.
struct Consumer {
    /// What the server calls it.
    name: String,
    deliveries: Subscription,
    /// Its count of the newest delivery.
    delivered: u64,
    /// How far the stream went when the consumer was made.
    head: u64,
}

#[derive(Deserialize)]
struct Made {
    num_pending: u64,
}

impl Bus {
    /// Follows what a stream holds, and will hold, on `subjects`; none means all. They must not overlap.
    ///
    /// Nothing is asked of the server before [`Follow::next`].
    pub fn follow(&self, stream: &str, subjects: Vec<String>, from: Place) -> Follow {
        let (bus, stream, connects) = (self.clone(), stream.to_owned(), self.connects());
        Follow { bus, stream, subjects, from, reached: 0, connects, consumer: None }
    }
}

impl Follow {
    /// Returns up to which sequence everything on the subjects was returned, as far as that is known; zero before.
    pub fn reached(&self) -> u64 {
        self.reached
    }

    /// Returns the next message, or `None` when the end was reached for now: the next call waits for what is new.
    ///
    /// Trouble with the server is waited out.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Followed> {
        loop {
            let Some(consumer) = &mut self.consumer else {
                match self.open().await {
                    Ok(true) => return None,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::debug!(stream = self.stream, %error, "cannot follow yet");
                        tokio::time::sleep(REOPEN_PAUSE).await;
                    }
                }
                continue;
            };
            let heard = tokio::select! {
                biased;
                heard = tokio::time::timeout(2 * HEARTBEAT, consumer.deliveries.next()) => heard,
                // The consumer may not have outlived the connection, and silence would tell much later.
                Ok(()) = self.connects.changed() => {
                    self.consumer = None;
                    continue;
                }
            };
            match heard {
                Ok(Some(message)) => {
                    if let Some(followed) = self.hear(message).await {
                        return Some(followed);
                    }
                }
                Ok(None) if self.bus.is_closed() => return std::future::pending().await,
                Ok(None) | Err(_) => self.consumer = None,
            }
        }
    }

    /// Ends following, and tells the server that nobody needs the consumer any more.
    pub async fn end(self) {
        let Some(Consumer { name, .. }) = self.consumer else { return };
        let operation = format!("CONSUMER.DELETE.{}.{name}", self.stream);
        if let Err(error) = self.bus.api::<IgnoredAny>(&operation, &Value::Null).await {
            tracing::debug!(?error, "the server forgets a consumer only after a while");
        }
    }

    async fn hear(&mut self, message: Message) -> Option<Followed> {
        let Some(told) = message.reply_to().and_then(metadata) else {
            self.answer_control(&message).await;
            return None;
        };
        let consumer = self.consumer.as_mut()?;
        consumer.delivered += 1;
        if told.delivered != consumer.delivered {
            tracing::debug!(stream = self.stream, "something was missed: it is asked for again");
            self.consumer = None;
            return None;
        }
        self.from = Place::Sequence(told.sequence + 1);
        self.reached = told.sequence;
        if told.pending == 0 {
            self.reached = self.reached.max(consumer.head);
        }
        Some(Followed { message, sequence: told.sequence, stored: told.stored })
    }

    /// Flow control and heartbeats: the server waits for an answer before it sends on.
    async fn answer_control(&self, message: &Message) {
        let stalled = message.header("Nats-Consumer-Stalled");
        if let Some(subject) = message.reply_to().or(stalled)
            && let Err(error) = self.bus.publish(subject, &Headers::new(), Bytes::new()).await
        {
            tracing::debug!(%error, "flow control could not be answered");
        }
    }

    /// Makes a consumer; says whether it has nothing to deliver yet.
    async fn open(&mut self) -> Result<bool, Error> {
        self.connects.mark_unchanged();
        if !self.bus.is_connected() {
            return Err(disconnected());
        }
        let head = self.bus.stream_state(&self.stream).await?.last_sequence;
        let inbox = self.bus.new_inbox();
        // In place before the consumer is: its first delivery must find somebody.
        let deliveries = self.bus.subscribe(&inbox, None).await?;
        let name = uuid::Uuid::now_v7().simple().to_string();
        let made = self.make(&inbox, &name).await?;
        self.consumer = Some(Consumer { name, deliveries, delivered: 0, head });
        if made.num_pending == 0 {
            self.reached = self.reached.max(head);
        }
        Ok(made.num_pending == 0)
    }

    async fn make(&self, inbox: &str, name: &str) -> Result<Made, Error> {
        let mut config = json!({
            "name": name,
            "deliver_subject": inbox,
            "ack_policy": "none",
            "max_deliver": 1,
            "flow_control": true,
            "idle_heartbeat": nanos(HEARTBEAT),
            "inactive_threshold": nanos(FORGOTTEN_AFTER),
            "mem_storage": true,
            "num_replicas": 1,
        });
        let (policy, key, start) = match &self.from {
            Place::Sequence(sequence) => {
                ("by_start_sequence", "opt_start_seq", Value::from((*sequence).max(1)))
            }
            Place::Time(time) => ("by_start_time", "opt_start_time", Value::from(time.as_str())),
        };
        config["deliver_policy"] = policy.into();
        config[key] = start;
        if !self.subjects.is_empty() {
            config["filter_subjects"] = json!(self.subjects);
        }
        let body = json!({ "stream_name": self.stream, "action": "create", "config": config });
        let made = self.bus.api(&format!("CONSUMER.CREATE.{}.{name}", self.stream), &body).await;
        made.map_err(|error| error.during(&format!("cannot follow stream {}", self.stream)))
    }
}

impl Followed {
    /// Returns when it was stored, in milliseconds since 1970.
    pub fn stored_ms(&self) -> i64 {
        Timestamp::try_from(self.stored).map_or(0, Timestamp::as_millisecond)
    }
}
