//! Pull consumers: as many messages as there are free hands, never more, because `ack_wait` runs from delivery.
//!
//! Source: the JetStream consumer API, `CONSUMER.MSG.NEXT`, and ADR-15 for the acknowledgement subject.

use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy};
use bytes::Bytes;
use serde_json::json;
use sinew_wire::Headers;

use super::{Bus, Message, Subscription, jetstream::refused};
use crate::Error;

/// How long one request for messages stands at the server.
const EXPIRES: Duration = Duration::from_secs(20);
/// The server says it is alive this often; twice the silence means the consumer is dead.
const HEARTBEAT: Duration = Duration::from_secs(5);

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
    /// Deliveries after which the server gives up; keep it above the application's own limit.
    pub max_deliver: i64,
    /// Messages that may be out at once, over all members.
    pub max_ack_pending: i64,
}

/// One member of a durable consumer.
pub struct Pull {
    bus: Bus,
    subject: String,
    inbox: String,
    replies: Subscription,
    asked: usize,
    missed: u32,
}

/// A message that has to be acknowledged.
#[derive(Debug)]
pub struct Delivery {
    bus: Bus,
    /// The message.
    pub message: Message,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// How often it was delivered, this time included.
    pub attempt: u32,
}

impl Bus {
    /// Joins a durable consumer, creating it where it does not stand.
    ///
    /// # Errors
    /// [`crate::Kind::JetStream`] when the server refuses the settings.
    pub async fn pull(&self, config: &PullConfig) -> Result<Pull, Error> {
        let wanted = consumer::pull::Config {
            durable_name: Some(config.durable.clone()),
            filter_subject: config.filter.clone(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: config.ack_wait,
            deliver_policy: DeliverPolicy::All,
            max_deliver: config.max_deliver,
            max_ack_pending: config.max_ack_pending,
            ..consumer::pull::Config::default()
        };
        let made = self.jetstream().create_consumer_on_stream(wanted, config.stream.as_str()).await;
        made.map_err(|error| refused(&format!("cannot create consumer {}", config.durable), error))?;
        let inbox = self.new_inbox();
        Ok(Pull {
            replies: self.subscribe(&inbox, None).await?,
            subject: format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", config.stream, config.durable),
            bus: self.clone(),
            inbox,
            asked: 0,
            missed: 0,
        })
    }
}

impl Pull {
    /// Waits for the next message while `free` hands are free; `None` once the bus is closed.
    ///
    /// # Cancel safety
    /// Cancel safe: a message that was received is returned by the next call.
    pub async fn next(&mut self, free: usize) -> Option<Delivery> {
        loop {
            if let Err(error) = self.ask(free).await {
                tracing::debug!(%error, "cannot ask for messages yet");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            let Ok(message) = tokio::time::timeout(2 * HEARTBEAT, self.replies.next()).await else {
                // The server fell silent: our request is lost with the connection or the consumer's leader.
                self.asked = 0;
                self.missed += 1;
                continue;
            };
            let message = message?;
            self.missed = 0;
            match message.status() {
                None => {
                    self.asked = self.asked.saturating_sub(1);
                    if let Some(delivery) = Delivery::read(&self.bus, message) {
                        return Some(delivery);
                    }
                }
                // An idle heartbeat: the request still stands.
                Some(100) => {}
                // Expired, nothing there, or the consumer's leader moved: ask anew.
                Some(status) => {
                    self.asked = 0;
                    if status >= 500 {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
    }

    /// Says whether the server has answered lately.
    pub fn is_alive(&self) -> bool {
        self.missed == 0
    }

    /// Stops asking; what is still on its way is returned by [`Pull::left`].
    pub async fn stop(&mut self) {
        self.replies.drain().await;
    }

    /// Returns messages that arrived after [`Pull::stop`], to be handed back unstarted.
    pub async fn left(&mut self) -> Option<Delivery> {
        loop {
            let message = self.replies.next_drained().await?;
            if message.status().is_none() {
                return Delivery::read(&self.bus, message);
            }
        }
    }

    async fn ask(&mut self, free: usize) -> Result<(), Error> {
        // A second request while one stands is worth a message only when it would bring several.
        let lacking = free.saturating_sub(self.asked);
        if lacking == 0 || (self.asked > 0 && lacking < free.div_ceil(2)) {
            return Ok(());
        }
        let body = json!({
            "batch": lacking,
            "expires": u64::try_from(EXPIRES.as_nanos()).unwrap_or(u64::MAX),
            "idle_heartbeat": u64::try_from(HEARTBEAT.as_nanos()).unwrap_or(u64::MAX),
        });
        let inbox = Some(self.inbox.clone());
        self.bus.publish_reply(&self.subject, inbox, &Headers::new(), Bytes::from(body.to_string())).await?;
        self.asked += lacking;
        Ok(())
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
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        self.answer(&format!("-NAK {}", json!({ "delay": nanos }))).await
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

    fn read(bus: &Bus, message: Message) -> Option<Self> {
        let (attempt, sequence) = metadata(message.reply_to()?)?;
        Some(Self { bus: bus.clone(), message, sequence, attempt })
    }
}

/// Reads the delivery count and stream sequence out of an acknowledgement subject, in its old (9 tokens) and its new
/// form (domain and account behind `$JS.ACK`, and a random token at the end).
fn metadata(reply: &str) -> Option<(u32, u64)> {
    let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let rest = match tokens.len() {
        7 => &tokens[2..],
        9.. => &tokens[4..],
        _ => return None,
    };
    Some((rest[0].parse().ok()?, rest[1].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::metadata;

    #[test]
    fn both_forms_of_the_acknowledgement_subject_are_read() {
        assert_eq!(metadata("$JS.ACK.EVENTS.mailer.3.77.5.1700000000.0"), Some((3, 77)));
        assert_eq!(metadata("$JS.ACK._.hash.EVENTS.mailer.3.77.5.1700000000.0.rnd"), Some((3, 77)));
        assert_eq!(metadata("$JS.ACK.EVENTS"), None);
        assert_eq!(metadata("orders.reply"), None);
    }
}
