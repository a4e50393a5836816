//! What a test may look at afterwards: what was called, published, consumed, kept as a dead letter, left waiting.

use std::collections::BTreeSet;

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use sinew_wire::{ContentType, Event, Headers, Request, header};

use super::{
    App, fail,
    server::{Entry, Note, Packet},
};
use crate::{DEAD_LETTERS, EVENTS};

/// Where a group's events wait that it puts off.
const PUT_OFF: &str = "redo-at.";

/// A dead letter, as it stands in the stream.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The service whose group could not handle it.
    pub service: String,
    /// The group.
    pub group: String,
    /// The code of the last problem.
    pub code: String,
    /// The last problem in words.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// All headers, those of the event among them.
    pub headers: Headers,
    /// The event's bytes as they came.
    pub payload: Bytes,
}

/// What groups put off until later: it leaves the consumer as if it were done, and comes back by the group's inlet.
struct PutOff<'a>(BTreeSet<&'a str>);

impl<'a> PutOff<'a> {
    fn among(notes: &'a [Note]) -> Self {
        let subjects = notes.iter().filter_map(|note| match note {
            Note::Published(packet) => packet.subject.strip_prefix(PUT_OFF),
            Note::Settled { .. } => None,
        });
        Self(subjects.collect())
    }

    /// Says whether the settled message is one of them.
    fn holds(&self, note: &Note) -> bool {
        let Note::Settled { stream, consumer, sequence, .. } = note else { return false };
        let key = format!("{}.{stream}-{sequence}", consumer.replace('+', "."));
        self.0.contains(key.as_str())
    }
}

impl App {
    /// Returns what the services published of `E`, in order of storage; what the test itself published is left out, as is
    /// what waits for a later time.
    ///
    /// # Panics
    /// When one cannot be read as `E`.
    #[track_caller]
    pub fn published<E: Event>(&self) -> Vec<E> {
        let own = format!("/services/{}", super::TEST);
        let theirs = |entry: &Entry| entry.headers.get("ce-source") != Some(own.as_str());
        self.events(|entry| entry.subject == E::SUBJECT && theirs(entry)).iter().map(decoded).collect()
    }

    /// Returns events that wait to be published and when they are due, the next one first.
    ///
    /// # Panics
    /// When one cannot be read as `E`.
    #[track_caller]
    pub fn scheduled<E: Event>(&self) -> Vec<(Timestamp, E)> {
        let target = |entry: &Entry| entry.headers.get("Nats-Schedule-Target") == Some(E::SUBJECT);
        let waiting = self.network.with(|server| server.waiting(EVENTS));
        let waiting = waiting.into_iter().filter(|(_, entry)| target(entry));
        waiting.map(|(due, entry)| (due, decoded(&entry))).collect()
    }

    /// Returns the events of type `E` that a consumer group is done with, in the order it was. The group is named as in
    /// [`Service::on`](crate::Service::on); `service/group` tells apart groups of the same name.
    ///
    /// # Panics
    /// When one cannot be read as `E`.
    #[track_caller]
    pub fn consumed<E: Event>(&self, group: &str) -> Vec<E> {
        let settled = self.network.with(|server| {
            let put_off = PutOff::among(server.notes());
            let mut consumed = Vec::new();
            for note in server.notes() {
                let Note::Settled { consumer, entry, .. } = note else { continue };
                let of =
                    consumer.split_once('+').is_some_and(|(service, name)| is_named(group, service, name));
                if of && published(entry) == E::SUBJECT && !put_off.holds(note) {
                    consumed.push(entry.clone());
                }
            }
            consumed
        });
        settled.iter().map(decoded).collect()
    }

    /// Returns the dead letters of a group, named as for [`App::consumed`], in order.
    pub fn dead_letters(&self, group: &str) -> Vec<DeadLetter> {
        let letters = self
            .network
            .with(|server| server.stored(DEAD_LETTERS).map(|(_, entry)| entry.clone()).collect::<Vec<_>>());
        let letters = letters.into_iter().filter_map(DeadLetter::read);
        letters.filter(|letter| is_named(group, &letter.service, &letter.group)).collect()
    }

    /// Returns the calls of `R` that anybody made, answered or not, in order.
    ///
    /// # Panics
    /// When one cannot be read as `R`.
    #[track_caller]
    pub fn calls<R: Request>(&self) -> Vec<R> {
        let calls = self.packets(|packet| packet.subject == R::SUBJECT && packet.reply.is_some());
        calls.iter().map(|packet| decode(&packet.subject, &packet.headers, &packet.payload)).collect()
    }

    /// Says in a line each what was sent on which subject since the beginning, for a failing test to print or to compare
    /// with.
    pub fn story(&self) -> String {
        self.network.with(|server| {
            let put_off = PutOff::among(server.notes());
            server.notes().iter().filter(|note| !put_off.holds(note)).filter_map(line).collect()
        })
    }

    fn events(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        self.network.with(|server| {
            server.stored(EVENTS).filter(|(_, entry)| wanted(entry)).map(|(_, entry)| entry.clone()).collect()
        })
    }

    fn packets(&self, wanted: impl Fn(&Packet) -> bool) -> Vec<Packet> {
        self.network.with(|server| {
            let packets = server.notes().iter().filter_map(|note| match note {
                Note::Published(packet) if wanted(packet) => Some(packet.clone()),
                _ => None,
            });
            packets.collect()
        })
    }
}

impl DeadLetter {
    fn read(entry: Entry) -> Option<Self> {
        let (service, group) = entry.subject.strip_prefix("dlq.")?.split_once('.')?;
        let told = |name| entry.headers.get(name).unwrap_or_default().to_owned();
        Some(Self {
            service: service.to_owned(),
            group: group.to_owned(),
            code: told("Sinew-Dead-Code"),
            reason: told("Sinew-Dead-Reason"),
            attempts: told("Sinew-Dead-Attempts").parse().unwrap_or_default(),
            payload: entry.payload.clone(),
            headers: entry.headers,
        })
    }

    /// Reads the event.
    ///
    /// # Panics
    /// When it is not an `E`, as poison never is.
    #[track_caller]
    pub fn event<E: Event>(&self) -> E {
        decode(E::SUBJECT, &self.headers, &self.payload)
    }
}

/// Says whether `wanted`, `group` or `service/group`, means this group.
fn is_named(wanted: &str, service: &str, group: &str) -> bool {
    wanted == group || wanted.split_once('/') == Some((service, group))
}

/// Returns the subject an event was published on.
fn published(entry: &Entry) -> &str {
    entry.headers.get(header::ORIGIN_SUBJECT).unwrap_or(&entry.subject)
}

/// Returns one line of a story; what nobody but the library cares for has none.
fn line(note: &Note) -> Option<String> {
    let packet = match note {
        Note::Settled { consumer, entry, .. } => {
            return Some(format!("done {} by {}\n", published(entry), consumer.replace('+', "/")));
        }
        Note::Published(packet) => packet,
    };
    let subject = &packet.subject;
    let verb = match subject.split('.').next()? {
        "svc" => "call",
        "evt" => "publish",
        "dlq" => "bury",
        "redo-at" => "put off",
        "evt-at" | "evt-every" => {
            return Some(format!("schedule {}\n", packet.headers.get("Nats-Schedule-Target")?));
        }
        _ => return None,
    };
    Some(format!("{verb} {subject}\n"))
}

#[track_caller]
fn decoded<T: DeserializeOwned>(entry: &Entry) -> T {
    decode(&entry.subject, &entry.headers, &entry.payload)
}

#[track_caller]
fn decode<T: DeserializeOwned>(subject: &str, headers: &Headers, payload: &Bytes) -> T {
    let read = ContentType::of(headers.media_type().as_deref())
        .map_err(|error| error.to_string())
        .and_then(|codec| sinew_wire::decode(codec, payload).map_err(|error| error.to_string()));
    match read {
        Ok(value) => value,
        Err(error) => fail(&format!("a message on {subject} is no {}: {error}", std::any::type_name::<T>())),
    }
}
