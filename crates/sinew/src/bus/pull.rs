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
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use sinew_wire::Headers;
use tokio::sync::watch;

use super::{Bus, Message, Subscription, jetstream::nanos};
use crate::{Error, Timestamp};

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
    /// What it takes; several subjects separated by commas.
    pub filter: String,
    /// How long a message may stay unanswered before it is delivered again.
    pub ack_wait: Duration,
    /// Deliveries after which the server gives up, -1 for never; keep it above the application's own limit.
    pub max_deliver: i64,
    /// Messages that may be out at once, over all members.
    pub max_ack_pending: i64,
    /// Where it begins when it is new.
    pub begin: Begin,
}

/// Where a new consumer, or a new group, begins. One that stands goes on where it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    /// With the first message that is kept.
    #[default]
    First,
    /// With what is stored from now on.
    Now,
    /// With this sequence of the stream.
    Sequence(u64),
    /// With the first message stored at this moment or later.
    Time(Timestamp),
}

/// One member of a durable consumer.
pub struct Pull {
    bus: Bus,
    config: PullConfig,
    inbox: String,
    replies: Subscription,
    /// Messages the server still owes us.
    asked: usize,
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
            connects: self.connects(),
            alive: Arc::new(AtomicBool::new(true)),
        })
    }

    async fn ensure_consumer(&self, config: &PullConfig) -> Result<(), Error> {
        let PullConfig { stream, durable, .. } = config;
        let mut settings = json!({
            "durable_name": durable,
            "name": durable,
            "ack_policy": "explicit",
            "ack_wait": nanos(config.ack_wait),
            "max_deliver": config.max_deliver,
            "max_ack_pending": config.max_ack_pending,
            "replay_policy": "instant",
        });
        config.write_filter(&mut settings);
        // Creating is a vote of the whole cluster, also where nothing changes: every member but the first only looks.
        if self.take_begin(config, &mut settings).await.is_some_and(|standing| covers(&standing, &settings)) {
            return Ok(());
        }
        let body = json!({ "stream_name": stream, "config": settings });
        let made = self.api::<IgnoredAny>(&format!("CONSUMER.CREATE.{stream}.{durable}"), &body).await;
        made.map(|_| ()).map_err(|error| error.during(&format!("cannot create consumer {durable}")))
    }

    /// Writes where a consumer begins: as one that stands has it, which cannot change. Returns the settings of that one.
    pub(super) async fn take_begin(&self, config: &PullConfig, settings: &mut Value) -> Option<Value> {
        let PullConfig { stream, durable, begin, .. } = config;
        let standing = self.api::<Standing>(&format!("CONSUMER.INFO.{stream}.{durable}"), &Value::Null).await;
        let standing = standing.ok().map(|Standing { config }| config);
        match &standing {
            None => begin.write(settings),
            Some(standing) => {
                for name in ["deliver_policy", "opt_start_seq", "opt_start_time"] {
                    if let Some(value) = standing.get(name) {
                        settings[name] = value.clone();
                    }
                }
            }
        }
        standing
    }
}

impl Begin {
    fn write(self, settings: &mut Value) {
        settings["deliver_policy"] = match self {
            Self::First => "all",
            Self::Now => "new",
            Self::Sequence(_) => "by_start_sequence",
            Self::Time(_) => "by_start_time",
        }
        .into();
        match self {
            Self::First | Self::Now => {}
            Self::Sequence(sequence) => settings["opt_start_seq"] = sequence.max(1).into(),
            Self::Time(time) => settings["opt_start_time"] = time.to_string().into(),
        }
    }
}

impl PullConfig {
    /// Writes what the consumer takes as the server reads it.
    pub(super) fn write_filter(&self, settings: &mut Value) {
        match self.filter.contains(',') {
            false => settings["filter_subject"] = self.filter.as_str().into(),
            true => settings["filter_subjects"] = self.filter.split(',').collect::<Vec<_>>().into(),
        }
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
            // What is here already needs no timer.
            if let Some(message) = self.replies.try_next() {
                match self.sort(message).await {
                    Some(delivery) => return Some(delivery),
                    None => continue,
                }
            }
            let heard = tokio::select! {
                biased;
                heard = tokio::time::timeout(patience, self.replies.next()) => heard,
                Ok(()) = self.connects.changed() => {
                    // The server forgot with the connection what was asked for.
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
        if let Some(delivery) = Delivery::read(&self.bus, message.clone()) {
            self.alive.store(true, Ordering::Relaxed);
            self.asked = self.asked.saturating_sub(1);
            return Some(delivery);
        }
        let pending = message.header("Nats-Pending-Messages").and_then(|count| count.parse().ok());
        match message.status() {
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
        let body = Bytes::from(body.to_string());
        match self.bus.post(&subject, Some(&self.inbox), &Headers::new(), &body).await {
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
        self.answer(Bytes::from_static(b"+ACK")).await
    }

    /// Hands the message back, to be delivered again after `delay`.
    ///
    /// The delay is always sent: the server's own back-off does not apply to a negative acknowledgement.
    ///
    /// # Errors
    /// When it cannot be sent; the message is then delivered again after `ack_wait`.
    pub async fn nak(&self, delay: Duration) -> Result<(), Error> {
        self.answer(format!("-NAK {}", json!({ "delay": nanos(delay) })).into()).await
    }

    /// Tells the server that work goes on: `ack_wait` starts again.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub async fn progress(&self) -> Result<(), Error> {
        self.answer(Bytes::from_static(b"+WPI")).await
    }

    /// Ends deliveries of the message, whatever its count.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub async fn term(&self) -> Result<(), Error> {
        self.answer(Bytes::from_static(b"+TERM")).await
    }

    /// Makes a delivery of a message that was read back from a stream. No server waits for its end.
    pub(crate) fn unasked(bus: &Bus, message: Message, sequence: u64, stored: SystemTime) -> Self {
        Self { bus: bus.clone(), message, sequence, attempt: 1, consumer_sequence: 0, stored }
    }

    async fn answer(&self, body: Bytes) -> Result<(), Error> {
        let Some(reply) = self.message.reply_to() else { return Ok(()) };
        self.bus.publish(reply, &Headers::new(), body).await
    }

    pub(super) fn read(bus: &Bus, message: Message) -> Option<Self> {
        let Metadata { attempt, sequence, delivered, stored, .. } = metadata(message.reply_to()?)?;
        Some(Self { bus: bus.clone(), message, sequence, attempt, consumer_sequence: delivered, stored })
    }
}

/// What stands at the server under a consumer's name.
#[derive(Deserialize)]
struct Standing {
    config: Value,
}

/// Says whether a consumer stands as it is wanted.
fn covers(standing: &Value, wanted: &Value) -> bool {
    let fields = wanted.as_object().into_iter().flatten();
    fields.into_iter().all(|(name, value)| standing.get(name) == Some(value))
}

/// What an acknowledgement subject tells.
#[derive(Debug, PartialEq)]
pub(super) struct Metadata {
    attempt: u32,
    pub(super) sequence: u64,
    /// The consumer's own count of deliveries.
    pub(super) delivered: u64,
    pub(super) stored: SystemTime,
    /// What the consumer has yet to deliver.
    pub(super) pending: u64,
}

/// Reads an acknowledgement subject in its old (9 tokens) and its new form (domain and account behind `$JS.ACK`, and
/// a random token at the end).
pub(super) fn metadata(reply: &str) -> Option<Metadata> {
    let mut tokens = [""; 10];
    let mut count = 0;
    for token in reply.strip_prefix("$JS.ACK.")?.split('.') {
        *tokens.get_mut(count)? = token;
        count += 1;
    }
    let rest = match count {
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
    fn a_consumer_is_made_again_only_where_it_differs() {
        let wanted = json!({ "durable_name": "a", "ack_wait": 5 });
        assert!(covers(&json!({ "durable_name": "a", "ack_wait": 5, "max_waiting": 512 }), &wanted));
        assert!(!covers(&json!({ "durable_name": "a", "ack_wait": 6 }), &wanted));
        assert!(!covers(&json!({ "durable_name": "a" }), &wanted));
    }

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
