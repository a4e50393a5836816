//! Pinned pull consumers: of all members the server hands messages to one, the others stand by. Source: NATS ADR-42.
//!
//! The server pins whoever gets the first message, and names the pin in every delivery and in every later request of
//! that member. It holds for [`PinConfig::hold`] from the last request, so a member at work asks three times in that
//! time, also when it wants nothing. Being pinned is no exclusivity: a member whose requests did not get through may
//! learn of the next one late. So it counts its own lease, from when it *sent* a request that the server answered.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use sinew_wire::Headers;
use tokio::{sync::watch, time::Instant};

use super::{Bus, Delivery, Message, PullConfig, Subscription, jetstream::nanos};
use crate::Error;

/// The one priority group of each such consumer.
const GROUP: &str = "lanes";
/// Pause before the server is asked again after it, or the way to it, failed.
const PAUSE: Duration = Duration::from_millis(100);

/// The settings of a pinned consumer.
#[derive(Clone, Debug)]
pub(crate) struct PinConfig {
    /// The consumer's own.
    pub(crate) consumer: PullConfig,
    /// How long the server waits for a member's next request before it pins another.
    pub(crate) hold: Duration,
}

/// What a member hears.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message.
    Delivery {
        /// The message itself.
        delivery: Delivery,
        /// Whether it directly follows the one before it. Otherwise this member has only now become the active one,
        /// or something was lost on the way.
        follows: bool,
    },
    /// The connection was made anew: what was on its way may be lost.
    Reconnected,
    /// This member may take itself for the active one again, after a while in which it could not know.
    Renewed,
    /// Another member is, or will be, the active one.
    Released,
}

/// How far a consumer has come, and what it waits for.
#[derive(Clone, Debug)]
pub(crate) struct ConsumerProgress {
    /// The stream sequence up to which everything is acknowledged.
    pub(crate) floor: u64,
    /// The highest stream sequence that was delivered.
    pub(crate) delivered: u64,
    /// Messages that were delivered and not acknowledged.
    pub(crate) pending: usize,
    /// How many of them were delivered more than once.
    pub(crate) redelivered: usize,
    /// The pin it knows; empty when none is in force.
    pub(crate) pin: String,
}

/// One member of a pinned consumer.
pub(crate) struct Pinned {
    bus: Bus,
    config: PinConfig,
    inbox: String,
    replies: Subscription,
    pin: Option<String>,
    /// Until when this member may take itself for the active one.
    lease: Option<Instant>,
    /// Requests that the server has not ended, oldest first.
    asks: VecDeque<Ask>,
    number: u64,
    asked_at: Option<Instant>,
    heard_at: Instant,
    /// The consumer sequence of the last delivery.
    last: u64,
    connects: watch::Receiver<u64>,
    reconnected: bool,
    /// When to make the consumer anew.
    mend: Option<Instant>,
    alive: Arc<AtomicBool>,
}

/// A request for messages.
#[derive(Debug)]
struct Ask {
    number: u64,
    at: Instant,
    /// Messages the server still owes us for it; none for one that only shows that the member is there.
    left: usize,
    renewal: bool,
    pin: Option<String>,
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    delivered: Position,
    #[serde(default)]
    ack_floor: Position,
    #[serde(default)]
    num_ack_pending: usize,
    #[serde(default)]
    num_redelivered: usize,
    #[serde(default)]
    priority_groups: Vec<PriorityGroup>,
}

#[derive(Deserialize)]
struct PriorityGroup {
    #[serde(default)]
    pinned_client_id: String,
}

#[derive(Deserialize, Default)]
struct Position {
    #[serde(default)]
    stream_seq: u64,
}

impl Bus {
    /// Joins a pinned consumer, creating it where it does not stand.
    ///
    /// # Errors
    /// [`crate::Kind::JetStream`] when the server refuses the settings.
    pub(crate) async fn pinned(&self, config: &PinConfig) -> Result<Pinned, Error> {
        self.ensure_pinned(config).await?;
        let inbox = self.new_inbox();
        Ok(Pinned {
            replies: self.subscribe(&format!("{inbox}.*"), None).await?,
            bus: self.clone(),
            config: config.clone(),
            inbox,
            pin: None,
            lease: None,
            asks: VecDeque::new(),
            number: 0,
            asked_at: None,
            heard_at: Instant::now(),
            last: 0,
            connects: self.connects(),
            reconnected: false,
            mend: None,
            alive: Arc::new(AtomicBool::new(true)),
        })
    }

    /// Asks what a consumer has delivered and what is acknowledged.
    ///
    /// # Errors
    /// [`crate::Kind::JetStream`] when there is no such consumer, otherwise as [`Bus::request`].
    pub(crate) async fn consumer_progress(&self, config: &PullConfig) -> Result<ConsumerProgress, Error> {
        let PullConfig { stream, durable, .. } = config;
        let asked = self.api::<Info>(&format!("CONSUMER.INFO.{stream}.{durable}"), &Value::Null).await;
        let answer = asked.map_err(|error| error.during(&format!("cannot ask about consumer {durable}")))?;
        Ok(ConsumerProgress {
            floor: answer.ack_floor.stream_seq,
            delivered: answer.delivered.stream_seq,
            pending: answer.num_ack_pending,
            redelivered: answer.num_redelivered,
            pin: answer
                .priority_groups
                .into_iter()
                .next()
                .map(|own| own.pinned_client_id)
                .unwrap_or_default(),
        })
    }

    async fn ensure_pinned(&self, config: &PinConfig) -> Result<(), Error> {
        let PullConfig { stream, durable, ack_wait, max_deliver, max_ack_pending, .. } = &config.consumer;
        let mut body = json!({
            "stream_name": stream,
            "config": {
                "durable_name": durable,
                "name": durable,
                "ack_policy": "explicit",
                "replay_policy": "instant",
                "ack_wait": nanos(*ack_wait),
                "max_deliver": max_deliver,
                "max_ack_pending": max_ack_pending,
                "priority_policy": "pinned_client",
                "priority_groups": [GROUP],
                "priority_timeout": nanos(config.hold),
            },
        });
        config.consumer.write_filter(&mut body["config"]);
        self.take_begin(&config.consumer, &mut body["config"]).await;
        let made = self.api::<IgnoredAny>(&format!("CONSUMER.CREATE.{stream}.{durable}"), &body).await;
        made.map(|_| ()).map_err(|error| error.during(&format!("cannot create consumer {durable}")))
    }
}

impl Pinned {
    /// Waits for what comes next while there is room for `free` messages of `bytes` in all; `None` once the bus is
    /// closed.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing that was received is lost.
    pub(crate) async fn next(&mut self, free: usize, bytes: usize) -> Option<Heard> {
        loop {
            self.mend().await;
            if self.reconnected {
                self.forget().await;
                self.reconnected = false;
                return Some(Heard::Reconnected);
            }
            let patience = self.ask(free, bytes).await;
            let heard = tokio::select! {
                biased;
                heard = tokio::time::timeout(patience, self.replies.next()) => heard,
                Ok(()) = self.connects.changed() => {
                    self.reconnected = true;
                    continue;
                }
            };
            match heard {
                Ok(message) => {
                    if let Some(heard) = self.sort(message?) {
                        return Some(heard);
                    }
                }
                Err(_) if self.heard_at.elapsed() > self.config.hold => {
                    // Silence: the requests are lost with the connection or the consumer's leader.
                    self.alive.store(false, Ordering::Relaxed);
                    self.heard_at = Instant::now();
                    self.reconnected = true;
                }
                Err(_) => {}
            }
        }
    }

    /// Says whether this member may take itself for the active one just now.
    pub(crate) fn is_active(&self) -> bool {
        self.lease.is_some_and(|end| Instant::now() < end)
    }

    /// Hears which pin the server knows. Returns false when it is not the one of this member, which is then not the
    /// active one: while none is in force, the server takes requests with any.
    pub(crate) fn is_confirmed(&mut self, pin: &str) -> bool {
        let mine = self.pin.as_deref() == Some(pin);
        if !mine {
            (self.pin, self.lease) = (None, None);
        }
        mine
    }

    /// Says whether this member was the active one when it last heard of it.
    pub(crate) fn is_pinned(&self) -> bool {
        self.pin.is_some()
    }

    /// Returns what says from outside whether the server answers.
    pub(crate) fn life(&self) -> Arc<AtomicBool> {
        self.alive.clone()
    }

    /// Returns the consumer's settings.
    pub(crate) fn config(&self) -> &PinConfig {
        &self.config
    }

    /// Stops asking; what is still on its way is returned by [`Pinned::left`].
    pub(crate) async fn stop(&mut self) {
        self.replies.drain().await;
    }

    /// Returns messages that arrived after [`Pinned::stop`], to be handed back unstarted.
    pub(crate) async fn left(&mut self) -> Option<Delivery> {
        loop {
            let message = self.replies.next_drained().await?;
            if let Some(delivery) = Delivery::read(&self.bus, message) {
                return Some(delivery);
            }
        }
    }

    /// Lets another member become the active one at once.
    pub(crate) async fn release(&mut self) {
        // The request names no pin: a member that may not be the active one any more must not take it from another.
        let was_active = self.is_active();
        (self.pin, self.lease) = (None, None);
        if !was_active {
            return;
        }
        let PullConfig { stream, durable, .. } = &self.config.consumer;
        let (operation, body) = (format!("CONSUMER.UNPIN.{stream}.{durable}"), json!({ "group": GROUP }));
        if let Err(error) = self.bus.api::<IgnoredAny>(&operation, &body).await {
            tracing::debug!(consumer = durable, ?error, "another member takes over only after a while");
        }
    }

    /// Tells a delivery from what the server says about our requests.
    fn sort(&mut self, message: Message) -> Option<Heard> {
        let (status, subject) = (message.status(), message.subject().to_owned());
        let owed = message.header("Nats-Pending-Messages").and_then(|count| count.parse().ok());
        // A server without pins names none: then there is only this member.
        let pin = message.last_header("Nats-Pin-Id").unwrap_or_default().to_owned();
        self.heard_at = Instant::now();
        // A publisher may have written a status line of its own, so the acknowledgement subject decides.
        if let Some(delivery) = Delivery::read(&self.bus, message) {
            self.alive.store(true, Ordering::Relaxed);
            return Some(self.take(delivery, pin));
        }
        let number = subject.strip_prefix(&self.inbox).and_then(|rest| rest.strip_prefix('.')?.parse().ok());
        let status = status.unwrap_or_default();
        if status != 100 && status < 500 {
            self.alive.store(true, Ordering::Relaxed);
        }
        match status {
            100 => None,
            423 => {
                let ask = self.ended(number?, owed)?;
                (ask.pin.is_some() && ask.pin == self.pin).then(|| self.lose())
            }
            503 => {
                self.asks.clear();
                self.mend = Some(Instant::now() + PAUSE);
                None
            }
            _ => {
                let ask = self.ended(number?, owed)?;
                let was_active = self.is_active();
                self.confirm(&ask);
                // The message may have been larger than the room; it may also be that the consumer is gone.
                if status == 409 && ask.left > 0 {
                    self.mend = Some(Instant::now() + PAUSE);
                }
                (!was_active && self.is_active()).then_some(Heard::Renewed)
            }
        }
    }

    fn take(&mut self, delivery: Delivery, pin: String) -> Heard {
        if let Some(at) = self.asks.iter().position(|ask| ask.left > 0) {
            self.asks[at].left -= 1;
            if self.asks[at].left == 0
                && let Some(filled) = self.asks.remove(at)
            {
                self.confirm(&filled);
            }
        }
        let same = self.pin.as_ref() == Some(&pin);
        if !same {
            // The pin was given to one of the requests that stood, so its time began after the oldest was sent.
            let since = self.asks.front().map(|ask| ask.at).or(self.asked_at).unwrap_or_else(Instant::now);
            self.lease = Some(since + self.config.hold);
            self.pin = Some(pin);
            tracing::debug!(consumer = self.config.consumer.durable, "this member is the active one");
        }
        let follows = same && delivery.consumer_sequence == self.last + 1;
        self.last = delivery.consumer_sequence;
        Heard::Delivery { delivery, follows }
    }

    /// Forgets a request that the server has ended while it still `owed` some of it.
    ///
    /// A delivery does not say for which request it is. Where several stand, the server takes turns while we count from
    /// the oldest, so at the end of one of them the books are put right.
    fn ended(&mut self, number: u64, owed: Option<usize>) -> Option<Ask> {
        let at = self.asks.iter().position(|ask| ask.number == number);
        let ask = at.and_then(|at| self.asks.remove(at));
        if ask.as_ref().is_some_and(|ask| ask.renewal) {
            return ask;
        }
        let counted = ask.as_ref().map_or(0, |ask| ask.left);
        let mut surplus = owed.unwrap_or(counted).saturating_sub(counted);
        for other in &mut self.asks {
            let taken = surplus.min(other.left);
            (other.left, surplus) = (other.left - taken, surplus - taken);
        }
        self.asks.retain(|ask| ask.left > 0 || ask.renewal);
        if let Some(other) = self.asks.iter_mut().find(|ask| !ask.renewal) {
            other.left += counted.saturating_sub(owed.unwrap_or(counted));
        }
        ask
    }

    /// The server has taken this request for one of the active member.
    fn confirm(&mut self, ask: &Ask) {
        if ask.pin.is_some() && ask.pin == self.pin {
            self.lease = self.lease.max(Some(ask.at + self.config.hold));
        }
    }

    fn lose(&mut self) -> Heard {
        (self.pin, self.lease) = (None, None);
        tracing::debug!(consumer = self.config.consumer.durable, "another member is the active one");
        Heard::Released
    }

    /// Makes a consumer anew that may have been lost with the server's disk.
    async fn mend(&mut self) {
        let Some(at) = self.mend.filter(|_| self.bus.is_connected()) else { return };
        tokio::time::sleep_until(at).await;
        self.mend = None;
        if let Err(error) = self.bus.ensure_pinned(&self.config).await {
            tracing::debug!(consumer = self.config.consumer.durable, %error, "the consumer does not stand yet");
        }
    }

    /// Gives up what was asked for, and listens where nobody has been told of.
    async fn forget(&mut self) {
        let inbox = self.bus.new_inbox();
        match self.bus.subscribe(&format!("{inbox}.*"), None).await {
            Ok(replies) => (self.inbox, self.replies) = (inbox, replies),
            Err(error) => tracing::debug!(%error, "old requests may still be answered"),
        }
        self.asks.clear();
        self.asked_at = None;
    }

    /// Asks for as many messages as there is room for, and returns when to ask again.
    async fn ask(&mut self, free: usize, bytes: usize) -> Duration {
        if !self.bus.is_connected() {
            return PAUSE;
        }
        let (now, renew) = (Instant::now(), self.config.hold / 3);
        // The server ends every request in time, and its word for that may be lost.
        self.asks.retain(|ask| now < ask.at + 2 * renew);
        let standing: usize = self.asks.iter().map(|ask| ask.left).sum();
        let lacking = free.saturating_sub(standing);
        let due = self.asked_at.map(|at| at + renew);
        let renewing = due.is_none_or(|due| due <= now);
        // A second request while one stands is worth a message only when it would bring several.
        let worth = lacking > 0 && (standing == 0 || lacking >= free.div_ceil(2));
        if !worth && !renewing {
            return due.map_or(PAUSE, |due| due.saturating_duration_since(now));
        }
        // Nothing fits into one byte: this only shows that the member is there.
        let (batch, max_bytes) = if lacking == 0 { (1, 1) } else { (lacking, bytes.max(1)) };
        let mut body = json!({
            "batch": batch, "max_bytes": max_bytes, "expires": nanos(renew), "group": GROUP,
        });
        if let (Some(pin), Value::Object(body)) = (self.pin.as_ref().filter(|pin| !pin.is_empty()), &mut body)
        {
            body.insert("id".to_owned(), pin.clone().into());
        }
        self.number += 1;
        let PullConfig { stream, durable, .. } = &self.config.consumer;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}");
        let (inbox, body) = (format!("{}.{}", self.inbox, self.number), Bytes::from(body.to_string()));
        match self.bus.post(&subject, Some(&inbox), &Headers::new(), &body).await {
            Ok(()) => {
                let (number, pin, renewal) = (self.number, self.pin.clone(), lacking == 0);
                self.asks.push_back(Ask { number, at: now, left: lacking, renewal, pin });
                self.asked_at = Some(now);
                renew
            }
            Err(error) => {
                tracing::debug!(%error, "cannot ask for messages yet");
                PAUSE
            }
        }
    }
}
