//! Pull consumers: as many messages as there are free hands, never more, because `ack_wait` runs from delivery.
//!
//! Source: the JetStream consumer API, `CONSUMER.MSG.NEXT`, and ADR-15 for the acknowledgement subject.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::json;
use sinew_wire::Headers;
use tokio::{sync::watch, time::Instant};

use super::{Bus, Message, Subscription, jetstream::nanos};
use crate::Error;

/// How long one request for messages stands at the server.
const EXPIRES: Duration = Duration::from_secs(20);
/// The server says it is alive this often; twice the silence means the consumer is dead.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Pause before the server is asked again after it, or the way to it, failed.
const PAUSE: Duration = Duration::from_millis(100);

/// The settings of a durable consumer.
#[derive(Clone, Debug)]
pub struct PullConfig {
    /// The stream it reads.
    pub stream: String,
    /// Its durable name.
    pub durable: String,
    /// What it takes.
    pub filter: String,
    /// How long a message may stay unanswered before it is delivered again.
    pub ack_wait: Duration,
    /// Deliveries after which the server gives up, -1 for never; keep it above the application's own limit.
    pub max_deliver: i64,
    /// Messages that may be out at once, over all members.
    pub max_ack_pending: i64,
}

/// One member of a durable consumer.
pub struct Pull {
    bus: Bus,
    config: PullConfig,
    inbox: String,
    replies: Subscription,
    /// Messages the server still owes us.
    asked: usize,
    /// Until then only one message is asked for at a time.
    careful: Option<Instant>,
    connects: watch::Receiver<u64>,
    alive: Arc<AtomicBool>,
}

/// A message that has to be acknowledged.
#[derive(Clone, Debug)]
pub struct Delivery {
    bus: Bus,
    /// The message.
    pub message: Message,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// How often it was delivered, this time included.
    pub attempt: u32,
    /// Which delivery of the consumer it is, counted from 1.
    pub(crate) consumer_sequence: u64,
    /// When it was stored, by the server's clock.
    pub stored: SystemTime,
}

impl Bus {
    /// Joins a durable consumer, creating it where it does not stand.
    ///
    /// # Errors
    /// [`crate::Kind::JetStream`] when the server refuses the settings.
    pub async fn pull(&self, config: &PullConfig) -> Result<Pull, Error> {
        self.ensure_consumer(config).await?;
        let inbox = self.new_inbox();
        Ok(Pull {
            replies: self.subscribe(&inbox, None).await?,
            bus: self.clone(),
            config: config.clone(),
            inbox,
            asked: 0,
            careful: None,
            connects: self.connects(),
            alive: Arc::new(AtomicBool::new(true)),
        })
    }

    async fn ensure_consumer(&self, config: &PullConfig) -> Result<(), Error> {
        let PullConfig { stream, durable, .. } = config;
        let body = json!({
            "stream_name": stream,
            "config": {
                "durable_name": durable,
                "name": durable,
                "filter_subject": config.filter,
                "deliver_policy": "all",
                "ack_policy": "explicit",
                "ack_wait": nanos(config.ack_wait),
                "max_deliver": config.max_deliver,
                "max_ack_pending": config.max_ack_pending,
                "replay_policy": "instant",
            },
        });
        let made = self.api::<IgnoredAny>(&format!("CONSUMER.CREATE.{stream}.{durable}"), &body).await;
        made.map(|_| ()).map_err(|error| error.during(&format!("cannot create consumer {durable}")))
    }
}

impl Pull {
    /// Waits for the next message while `free` hands are free; `None` once the bus is closed.
    ///
    /// # Cancel safety
    /// Cancel safe: a message that was received is returned by the next call.
    pub async fn next(&mut self, free: usize) -> Option<Delivery> {
        loop {
            let patience = self.ask(free).await;
            let heard = tokio::select! {
                biased;
                heard = tokio::time::timeout(patience, self.replies.next()) => heard,
                Ok(()) = self.connects.changed() => {
                    // A message may have been what broke the connection: the next time it comes, it comes alone, and
                    // takes nothing along that was on its way with it.
                    self.careful = Some(Instant::now() + 3 * self.config.ack_wait);
                    self.forget().await;
                    continue;
                }
            };
            let Ok(message) = heard else {
                // Silence: our request is lost with the connection or the consumer's leader.
                self.alive.store(false, Ordering::Relaxed);
                self.forget().await;
                continue;
            };
            if let Some(delivery) = self.sort(message?).await {
                return Some(delivery);
            }
        }
    }

    /// Says whether the server has answered lately.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Returns what [`Pull::is_alive`] reads, for whoever watches from outside.
    pub(crate) fn life(&self) -> Arc<AtomicBool> {
        self.alive.clone()
    }

    /// Stops asking; what is still on its way is returned by [`Pull::left`].
    pub async fn stop(&mut self) {
        self.replies.drain().await;
    }

    /// Returns messages that arrived after [`Pull::stop`], to be handed back unstarted.
    pub async fn left(&mut self) -> Option<Delivery> {
        loop {
            let message = self.replies.next_drained().await?;
            if let Some(delivery) = Delivery::read(&self.bus, message) {
                return Some(delivery);
            }
        }
    }

    /// Tells a delivery from what the server says about our request.
    async fn sort(&mut self, message: Message) -> Option<Delivery> {
        // A publisher may have written a status line of its own, so the acknowledgement subject decides.
        let status = message.status();
        let pending = message.header("Nats-Pending-Messages").and_then(|count| count.parse().ok());
        if let Some(delivery) = Delivery::read(&self.bus, message) {
            self.alive.store(true, Ordering::Relaxed);
            self.asked = self.asked.saturating_sub(1);
            return Some(delivery);
        }
        match status {
            // An idle heartbeat: the request still stands.
            Some(100) => self.alive.store(true, Ordering::Relaxed),
            // Nobody there, or the consumer is gone: it may have been lost with the server's disk, so it is made anew.
            Some(409 | 500..) => {
                self.asked = 0;
                tokio::time::sleep(PAUSE).await;
                if let Err(error) = self.bus.ensure_consumer(&self.config).await {
                    tracing::debug!(consumer = self.config.durable, %error, "the consumer does not stand yet");
                }
            }
            // A request ended; another one, made later, may still stand.
            _ => {
                self.alive.store(true, Ordering::Relaxed);
                self.asked = self.asked.saturating_sub(pending.unwrap_or(self.asked));
            }
        }
        None
    }

    /// Gives up what was asked for. The server may remember it all the same, and would send more than there are hands
    /// for: so the answers go to a new inbox, and nobody listens at the old one.
    async fn forget(&mut self) {
        let inbox = self.bus.new_inbox();
        match self.bus.subscribe(&inbox, None).await {
            Ok(replies) => (self.inbox, self.replies) = (inbox, replies),
            Err(error) => tracing::debug!(%error, "old requests may still be answered"),
        }
        self.asked = 0;
    }

    /// Asks for as many messages as there are hands, and returns how long silence means nothing.
    async fn ask(&mut self, free: usize) -> Duration {
        if !self.bus.is_connected() {
            return PAUSE;
        }
        let free = if self.careful.is_some_and(|end| Instant::now() < end) { free.min(1) } else { free };
        // A second request while one stands is worth a message only when it would bring several.
        let lacking = free.saturating_sub(self.asked);
        if lacking == 0 || (self.asked > 0 && lacking < free.div_ceil(2)) {
            return 2 * HEARTBEAT;
        }
        let body = json!({
            "batch": lacking,
            "expires": nanos(EXPIRES),
            "idle_heartbeat": nanos(HEARTBEAT),
        });
        let PullConfig { stream, durable, .. } = &self.config;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}");
        let (inbox, body) = (Some(self.inbox.clone()), Bytes::from(body.to_string()));
        match self.bus.publish_reply(&subject, inbox, &Headers::new(), body).await {
            Ok(()) => {
                self.asked += lacking;
                2 * HEARTBEAT
            }
            Err(error) => {
                tracing::debug!(%error, "cannot ask for messages yet");
                PAUSE
            }
        }
    }
}

impl Delivery {
    /// Acknowledges: the group is done with the message.
    ///
    /// # Errors
    /// When it cannot be sent; the message is then delivered again.
    pub async fn ack(&self) -> Result<(), Error> {
        self.answer("+ACK").await
    }

    /// Hands the message back, to be delivered again after `delay`.
    ///
    /// The delay is always sent: the server's own back-off does not apply to a negative acknowledgement.
    ///
    /// # Errors
    /// When it cannot be sent; the message is then delivered again after `ack_wait`.
    pub async fn nak(&self, delay: Duration) -> Result<(), Error> {
        self.answer(&format!("-NAK {}", json!({ "delay": nanos(delay) }))).await
    }

    /// Tells the server that work goes on: `ack_wait` starts again.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub async fn progress(&self) -> Result<(), Error> {
        self.answer("+WPI").await
    }

    /// Ends deliveries of the message, whatever its count.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub async fn term(&self) -> Result<(), Error> {
        self.answer("+TERM").await
    }

    async fn answer(&self, body: &str) -> Result<(), Error> {
        let Some(reply) = self.message.reply_to() else { return Ok(()) };
        self.bus.publish(reply, &Headers::new(), Bytes::copy_from_slice(body.as_bytes())).await
    }

    pub(super) fn read(bus: &Bus, message: Message) -> Option<Self> {
        let Metadata { attempt, sequence, delivered, stored, .. } = metadata(message.reply_to()?)?;
        Some(Self { bus: bus.clone(), message, sequence, attempt, consumer_sequence: delivered, stored })
    }
}

/// What an acknowledgement subject tells.
#[derive(Debug, PartialEq)]
pub(super) struct Metadata {
    attempt: u32,
    sequence: u64,
    /// The consumer's own count of deliveries.
    pub(super) delivered: u64,
    stored: SystemTime,
    /// What the consumer has yet to deliver.
    pub(super) pending: u64,
}

/// Reads an acknowledgement subject in its old (9 tokens) and its new form (domain and account behind `$JS.ACK`, and
/// a random token at the end).
pub(super) fn metadata(reply: &str) -> Option<Metadata> {
    let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let rest = match tokens.len() {
        7 => &tokens[2..],
        9.. => &tokens[4..],
        _ => return None,
    };
    let stored = SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(rest[3].parse().ok()?))?;
    Some(Metadata {
        attempt: rest[0].parse().ok()?,
        sequence: rest[1].parse().ok()?,
        delivered: rest[2].parse().ok()?,
        stored,
        pending: rest[4].parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_acknowledgement_subject_are_read() {
        let stored = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_000_000_007);
        let told = Some(Metadata { attempt: 3, sequence: 77, delivered: 5, stored, pending: 9 });
        assert_eq!(metadata("$JS.ACK.EVENTS.mailer.3.77.5.1700000000000000007.9"), told);
        assert_eq!(metadata("$JS.ACK._.hash.EVENTS.mailer.3.77.5.1700000000000000007.9.rnd"), told);
        assert_eq!(metadata("$JS.ACK.EVENTS"), None);
        assert_eq!(metadata("orders.reply"), None);
    }
}
