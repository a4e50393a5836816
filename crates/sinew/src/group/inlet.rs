//! A group's own inlet: events that are due for one group only, because it tries again, was told to, or reads the past.
//!
//! They stand in a stream of their own, as copies with the original bytes and headers, and say where they come from. An
//! event the publisher sent cannot claim to be one: only what came out of that stream is read this way.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use sinew_wire::{Headers, header};

use crate::{
    Error,
    bus::{Begin, Delivery, PullConfig},
    schedule,
    streams::{EVENTS, REDELIVERIES},
};

/// An event older than this begins a trace of its own: that of its publisher has long been looked at.
const PROMPT: Duration = Duration::from_secs(60);

/// Why a group has an event in hand that it was not just given by the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Redelivery {
    /// An earlier attempt failed, and the delay was too long to wait at the consumer.
    Retry,
    /// Somebody retried a dead letter: the attempts begin anew.
    Redrive,
    /// Somebody replays a range of the stream: the group may have handled the event long ago.
    Replay,
}

/// Where an event was published, and what the group did with it so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Its sequence in the stream of events.
    pub(crate) sequence: u64,
    /// How often the group had it in hand before it came to the inlet.
    pub(crate) attempts: u32,
    /// Why it came to the inlet; `None` for an event that came straight from its publisher.
    pub(crate) why: Option<Redelivery>,
}

/// A delivery with its history.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) delivery: Delivery,
    pub(crate) origin: Origin,
    inlet: bool,
    /// Where it stands in the stream of lanes, if it was spilled.
    pub(super) spilled: Option<u64>,
}

/// Returns the subject of a group's inlet.
pub(crate) fn subject(service: &str, group: &str) -> String {
    format!("redo.{service}.{group}")
}

/// Returns the settings of the group's second consumer, those of the first in hand.
pub(crate) fn consumer(events: &PullConfig, service: &str, group: &str) -> PullConfig {
    let filter = subject(service, group);
    PullConfig { stream: REDELIVERIES.to_owned(), filter, begin: Begin::First, ..events.clone() }
}

impl Redelivery {
    /// Returns the word that stands in the header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Redrive => "redrive",
            Self::Replay => "replay",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Retry, Self::Redrive, Self::Replay].into_iter().find(|why| why.as_str() == text)
    }
}

impl Origin {
    /// Writes what the inlet's reader needs to know.
    pub(crate) fn write(&self, headers: &mut Headers, subject: &str) -> Result<(), Error> {
        headers.set(header::ATTEMPT, self.attempts.to_string())?;
        headers.set(header::ORIGIN_SUBJECT, subject)?;
        headers.set(header::ORIGIN_SEQUENCE, self.sequence.to_string())?;
        if let Some(why) = self.why {
            headers.set(header::REDELIVERY, why.as_str())?;
        }
        Ok(())
    }

    /// Reads what [`Origin::write`] wrote; what is missing or malformed is taken for the harmless value.
    pub(super) fn read<'a>(get: impl Fn(&str) -> Option<&'a str>, sequence: u64) -> Self {
        let number = |name| get(name).and_then(|text| text.parse().ok());
        Self {
            sequence: number(header::ORIGIN_SEQUENCE).unwrap_or(sequence),
            attempts: number(header::ATTEMPT).and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
            why: get(header::REDELIVERY).and_then(Redelivery::parse),
        }
    }
}

impl Arrival {
    /// Takes an event that came straight from its publisher.
    pub(crate) fn direct(delivery: Delivery) -> Self {
        let origin = Origin { sequence: delivery.sequence, attempts: 0, why: None };
        Self { delivery, origin, inlet: false, spilled: None }
    }

    /// Takes an event out of the group's inlet.
    pub(crate) fn redelivered(delivery: Delivery) -> Self {
        let origin = Origin::read(|name| delivery.message.header(name), delivery.sequence);
        Self { delivery, origin, inlet: true, spilled: None }
    }

    /// Takes an event that was spilled to `place` in the stream of lanes.
    pub(super) fn spilled(delivery: Delivery, place: u64) -> Self {
        Self { spilled: Some(place), ..Self::direct(delivery) }
    }

    /// Returns the subject the event was published on.
    pub(crate) fn subject(&self) -> &str {
        let message = &self.delivery.message;
        let told = self.inlet.then(|| message.header(header::ORIGIN_SUBJECT)).flatten();
        told.unwrap_or(message.subject())
    }

    /// Returns how often the group had the event in hand, this time included.
    pub(crate) fn attempt(&self) -> u32 {
        self.origin.attempts.saturating_add(self.delivery.attempt)
    }

    /// Returns how long the event has been standing in its stream.
    fn age(&self) -> Duration {
        SystemTime::now().duration_since(self.delivery.stored).unwrap_or_default()
    }

    /// Returns a name for this very message: the same whenever the server delivers it, another for each copy.
    pub(crate) fn key(&self) -> String {
        let stream = if self.inlet { REDELIVERIES } else { EVENTS };
        format!("{stream}-{}", self.delivery.sequence)
    }

    /// Returns the logical id of the event, if it says one.
    fn id(&self) -> Option<String> {
        let message = &self.delivery.message;
        let id = message.header("ce-id")?;
        Some(schedule::logical_id(id, message.header(schedule::FIRED), self.origin.sequence))
    }

    /// Says whether it comes fresh from its publisher, who may still be looked at.
    pub(crate) fn is_prompt(&self) -> bool {
        let message = &self.delivery.message;
        self.attempt() == 1
            && self.origin.why.is_none()
            && message.header(schedule::FIRED).is_none()
            && self.age() < PROMPT
    }

    /// Returns the headers as the publisher wrote them: without orders to the server, which were carried out when the
    /// event was stored, and without what the inlet added.
    pub(crate) fn headers(&self) -> Headers {
        let mut headers = published(&self.delivery.message.headers());
        if let Some(id) = self.id() {
            // It was readable as a header, so it can be written as one.
            let _ = headers.set("ce-id", id);
        }
        headers
    }

    /// Returns what the copy carries that waits in the inlet until `due`.
    pub(crate) fn postponed(&self, target: &str, due: Timestamp) -> Result<Headers, Error> {
        let mut headers = self.headers();
        let attempts = self.attempt();
        let why = Some(self.origin.why.unwrap_or(Redelivery::Retry));
        Origin { attempts, why, ..self.origin }.write(&mut headers, self.subject())?;
        schedule::order(&mut headers, due, target)?;
        Ok(headers)
    }
}

/// Leaves out of `headers` what the server and this library put there.
pub(crate) fn published(headers: &Headers) -> Headers {
    const OURS: [&str; 4] =
        [header::ATTEMPT, header::ORIGIN_SEQUENCE, header::ORIGIN_SUBJECT, header::REDELIVERY];
    let begins = |name: &str, prefix: &str| {
        name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
    };
    let mut own = Headers::new();
    for (name, value) in headers.iter() {
        let ours = OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name));
        if !ours && !begins(name, "nats-") && !begins(name, "sinew-dead-") {
            let _ = own.set(name, value);
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn why() -> impl Strategy<Value = Option<Redelivery>> {
        prop_oneof![
            Just(None),
            Just(Some(Redelivery::Retry)),
            Just(Some(Redelivery::Redrive)),
            Just(Some(Redelivery::Replay)),
        ]
    }

    proptest! {
        #[test]
        fn an_origin_survives_the_headers(sequence: u64, attempts: u32, why in why()) {
            let origin = Origin { sequence, attempts, why };
            let mut headers = Headers::new();
            origin.write(&mut headers, "evt.orders.placed").unwrap();
            prop_assert_eq!(Origin::read(|name| headers.get(name), 1), origin);
            prop_assert!(published(&headers).is_empty());
        }

        #[test]
        fn headers_that_are_not_ours_are_believed_as_little_as_possible(attempt in ".{0,12}", why in ".{0,12}") {
            let get = |name: &str| match name {
                header::ATTEMPT | header::ORIGIN_SEQUENCE => Some(attempt.as_str()),
                header::REDELIVERY => Some(why.as_str()),
                _ => None,
            };
            let origin = Origin::read(get, 7);
            prop_assert_eq!(origin.attempts.to_string() == attempt || origin.attempts == 0, true);
        }
    }

    #[test]
    fn what_the_publisher_wrote_is_kept() {
        let mut headers = Headers::new();
        for name in
            ["ce-id", "x-mark", "Nats-Msg-Id", "nats-ttl", "Sinew-Dead-Code", "sinew-attempt", "traceparent"]
        {
            headers.set(name, "1").unwrap();
        }
        let kept = published(&headers);
        assert_eq!(kept.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["ce-id", "x-mark", "traceparent"]);
    }
}
