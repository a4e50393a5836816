//! One dead letter, read from the stream. Pure.

use bytes::Bytes;
use jiff::Timestamp;
use sinew_wire::{CloudEvent, ContentType, Headers, TraceContext};

use super::field;
use crate::{bus::Stored, group::inlet, streams::EVENTS};

/// An event a group could not handle.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// Its sequence among the dead letters: what every action names it by.
    pub sequence: u64,
    /// The service whose group gave up.
    pub service: String,
    /// The group.
    pub group: String,
    /// The kind of event, `<domain>.<event>`.
    pub event: String,
    /// The event's logical id.
    pub id: Option<String>,
    /// The schema the event was written by, `<domain>.<event>.v<version>`.
    pub schema: Option<String>,
    /// Why, as the problem's code.
    pub code: String,
    /// Why, in words.
    pub reason: String,
    /// How often the group had the event in hand.
    pub attempts: u32,
    /// When the group gave up.
    pub time: Option<Timestamp>,
    /// The trace of the attempt that failed last.
    pub trace: Option<TraceContext>,
    /// The stream the event stands or stood in.
    pub stream: String,
    /// Its sequence there.
    pub origin: u64,
    /// The headers as the publisher wrote them.
    pub headers: Headers,
    /// The payload as the publisher wrote it, unless somebody edited it.
    pub payload: Payload,
    /// Where the first version is kept, if somebody edited the letter.
    pub original: Option<u64>,
}

/// Where the payload of a dead letter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// In the letter.
    Here(Bytes),
    /// In the stream the event was published to: it was too large for a letter, or no member ever saw it.
    Left,
    /// It was left in the stream and is not there any more.
    Gone,
}

impl Letter {
    /// Returns the media type of the payload.
    ///
    /// # Errors
    /// [`sinew_wire::CodecError`] for one that Sinew does not read.
    pub fn content_type(&self) -> Result<ContentType, sinew_wire::CodecError> {
        ContentType::of(self.headers.media_type().as_deref())
    }

    pub(super) fn read(stored: &Stored) -> Option<Self> {
        let (service, group) = stored.subject.strip_prefix("dlq.")?.split_once('.')?;
        let get = |name| stored.headers.get(name);
        let text = |name| get(name).unwrap_or_default().to_owned();
        let headers = inlet::published(&stored.headers);
        let subject = get(field::SUBJECT).unwrap_or_default();
        let time = get(field::TIME).or_else(|| get("Nats-Time-Stamp"));
        let left = get(field::PAYLOAD).is_some();
        Some(Self {
            sequence: stored.sequence,
            service: service.to_owned(),
            group: group.to_owned(),
            event: subject.strip_prefix("evt.").unwrap_or(subject).to_owned(),
            id: headers.get("ce-id").map(CloudEvent::decode),
            schema: headers.get("ce-type").map(CloudEvent::decode),
            code: text(field::CODE),
            reason: text(field::REASON),
            attempts: get(field::ATTEMPTS).and_then(|count| count.parse().ok()).unwrap_or_default(),
            time: time.and_then(|time| time.parse().ok()),
            trace: get(field::TRACE).and_then(|trace| trace.parse().ok()),
            stream: get(field::STREAM).unwrap_or(EVENTS).to_owned(),
            origin: get(field::SEQUENCE).and_then(|sequence| sequence.parse().ok()).unwrap_or_default(),
            headers,
            payload: if left { Payload::Left } else { Payload::Here(stored.payload.clone()) },
            original: get(field::ORIGINAL).and_then(|sequence| sequence.parse().ok()),
        })
    }

    /// Takes over what stands in the stream.
    pub(super) fn resolve(&mut self, left: Option<Stored>) {
        let Some(left) = left else {
            self.payload = Payload::Gone;
            return;
        };
        if self.headers.is_empty() {
            // Nobody could read them before: what can be sent on is kept.
            self.headers = inlet::published(&left.headers);
            self.id = self.headers.get("ce-id").map(CloudEvent::decode);
            self.schema = self.headers.get("ce-type").map(CloudEvent::decode);
        }
        self.payload = Payload::Here(left.payload);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(subject: &str, fields: &[(&'static str, &str)]) -> Stored {
        let mut headers = Headers::new();
        for (name, value) in fields {
            headers.set(*name, *value).unwrap();
        }
        Stored { subject: subject.into(), sequence: 9, headers, payload: Bytes::from_static(b"x") }
    }

    #[test]
    fn a_letter_of_an_older_version_is_read_too() {
        let old = stored(
            "dlq.mail.mailer",
            &[(field::SUBJECT, "evt.a.b"), (field::SEQUENCE, "4"), ("ce-id", "7%20")],
        );
        let letter = Letter::read(&old).unwrap();
        assert_eq!((letter.stream.as_str(), letter.origin, letter.event.as_str()), (EVENTS, 4, "a.b"));
        assert_eq!((letter.id.as_deref(), letter.time), (Some("7 "), None));
        assert_eq!(letter.payload, Payload::Here(Bytes::from_static(b"x")));
    }

    #[test]
    fn what_was_left_is_taken_from_the_stream_or_gone() {
        let reference = stored("dlq.mail.mailer", &[(field::PAYLOAD, field::LEFT)]);
        let mut letter = Letter::read(&reference).unwrap();
        assert_eq!(letter.payload, Payload::Left);
        letter.resolve(Some(stored("evt.a.b", &[("ce-id", "7"), ("Nats-Msg-Id", "m")])));
        assert_eq!((letter.id.as_deref(), letter.headers.iter().count()), (Some("7"), 1));
        letter.resolve(None);
        assert_eq!(letter.payload, Payload::Gone);
    }

    proptest! {
        #[test]
        fn whatever_stands_there_is_read_or_no_letter(subject in ".{0,20}", number in ".{0,10}", time in ".{0,30}") {
            let mut headers = Headers::new();
            for (name, value) in [(field::ATTEMPTS, &number), (field::SEQUENCE, &number), (field::TIME, &time)] {
                let _ = headers.set(name, value.as_str());
            }
            let read = Letter::read(&Stored { subject: subject.clone(), sequence: 1, headers, payload: Bytes::new() });
            prop_assert_eq!(read.is_some(), subject.starts_with("dlq.") && subject[4..].contains('.'));
        }
    }
}
