//! The broker inside a test: a function of messages. What was published goes in, deliveries come out.
//!
//! It speaks the subjects a nats-server does (`$JS.API.>`, `$JS.ACK.>`, `$KV.>`), so everything above the connection
//! runs unchanged. Pure: no clock, no randomness, no I/O; time passes when [`Server::advance`] says so.

mod api;
mod consumer;
mod read;
mod schedule;
mod settings;
mod stream;
mod subject;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sinew_wire::Headers;

use consumer::{GivenUp, Word};
use stream::{Refused, Stream};

pub(crate) use stream::Entry;
use subject::matches;

/// One subscription: the connection's number, and the subscription's there.
pub(crate) type Place = (u64, u64);

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) subject: String,
    pub(crate) reply: Option<String>,
    pub(crate) headers: Headers,
    pub(crate) payload: Bytes,
    /// What a server writes where it answers itself.
    pub(crate) status: Option<u16>,
}

/// Something a test may want to know.
#[derive(Clone, Debug)]
pub(crate) enum Note {
    /// A client published this.
    Published(Packet),
    /// A consumer is done with this message.
    Settled {
        /// The stream's name.
        stream: String,
        /// The consumer's name.
        consumer: String,
        /// Its sequence.
        sequence: u64,
        /// What it was.
        entry: Entry,
    },
}

/// A delivery, and to whom.
pub(crate) type Delivery = (Place, Packet);

/// The broker's state.
#[derive(Debug)]
pub(crate) struct Server {
    now: Timestamp,
    subscriptions: BTreeMap<Place, Subscription>,
    streams: BTreeMap<String, Stream>,
    /// Whose turn it is in queue groups.
    turn: usize,
    queue: VecDeque<Packet>,
    deliveries: Vec<Delivery>,
    notes: Vec<Note>,
    /// What waits in somebody's hands for a moment to come.
    parked: BTreeMap<u64, Parked>,
}

#[derive(Debug)]
struct Parked {
    until: Timestamp,
    /// Streams, consumers and sequences.
    messages: BTreeSet<(String, String, u64)>,
}

#[derive(Debug)]
struct Subscription {
    pattern: String,
    group: Option<String>,
}

impl Packet {
    pub(crate) fn new(subject: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        let (subject, payload) = (subject.into(), payload.into());
        Self { subject, reply: None, headers: Headers::new(), payload, status: None }
    }

    fn status(subject: impl Into<String>, status: u16) -> Self {
        Self { status: Some(status), ..Self::new(subject, Bytes::new()) }
    }
}

impl Server {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            now,
            subscriptions: BTreeMap::new(),
            streams: BTreeMap::new(),
            turn: 0,
            queue: VecDeque::new(),
            deliveries: Vec::new(),
            notes: Vec::new(),
            parked: BTreeMap::new(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// Returns what happened so far.
    pub(crate) fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Returns what a stream holds.
    pub(crate) fn stored(&self, stream: &str) -> impl Iterator<Item = (u64, &Entry)> {
        let entries = self.streams.get(stream).map(Stream::entries);
        entries.into_iter().flatten().map(|(sequence, entry)| (*sequence, entry))
    }

    /// Returns the scheduled messages of a stream by the time they are due.
    pub(crate) fn waiting(&self, stream: &str) -> Vec<(Timestamp, Entry)> {
        let mut waiting: Vec<_> = self.streams.get(stream).into_iter().flat_map(Stream::waiting).collect();
        waiting.sort_by_key(|(due, _)| *due);
        waiting
    }

    pub(crate) fn subscribe(&mut self, place: Place, pattern: &str, group: Option<&str>) -> Vec<Delivery> {
        let group = group.map(str::to_owned);
        self.subscriptions.insert(place, Subscription { pattern: pattern.to_owned(), group });
        self.settle()
    }

    pub(crate) fn unsubscribe(&mut self, place: Place) -> Vec<Delivery> {
        self.subscriptions.remove(&place);
        self.settle()
    }

    /// Takes a message from a client, and returns what is to be delivered.
    pub(crate) fn publish(&mut self, packet: Packet) -> Vec<Delivery> {
        if !packet.subject.starts_with('$') && !packet.subject.starts_with("_INBOX") {
            self.notes.push(Note::Published(packet.clone()));
        }
        self.queue.push_back(packet);
        self.settle()
    }

    /// Returns the next moment at which something happens by itself.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let streams = self.streams.values().filter_map(Stream::next_due);
        let consumers = self.streams.values().flat_map(|stream| stream.consumers.values());
        let again = consumers.filter_map(|consumer| consumer.next_due(self.now));
        let parked = self.parked.values().map(|parked| parked.until).filter(|until| *until > self.now);
        streams.chain(again).chain(parked).min()
    }

    /// Notes that deliveries, named by the subjects of their acknowledgements, wait for a moment in somebody's hands. The
    /// server's patience with them begins then: their holder shows life by the machine's clock, which a test does not move.
    pub(crate) fn park(&mut self, number: u64, until: Timestamp, replies: &[String]) -> Vec<Delivery> {
        let messages: BTreeSet<_> = replies.iter().filter_map(|reply| delivered(reply)).collect();
        for (stream, consumer, sequence) in &messages {
            let stream = self.streams.get_mut(stream);
            if let Some(consumer) = stream.and_then(|stream| stream.consumers.get_mut(consumer)) {
                consumer.answer(until, *sequence, Word::Working);
            }
        }
        self.parked.insert(number, Parked { until, messages });
        self.settle()
    }

    /// Gives back what was noted under this number.
    pub(crate) fn unpark(&mut self, number: u64) -> Vec<Delivery> {
        self.parked.remove(&number);
        self.settle()
    }

    fn parked(&self, stream: &str, consumer: &str) -> BTreeSet<u64> {
        let waiting = self.parked.values().filter(|parked| parked.until > self.now);
        let messages = waiting.flat_map(|parked| &parked.messages);
        messages
            .filter(|(at, of, _)| at == stream && of == consumer)
            .map(|(.., sequence)| *sequence)
            .collect()
    }

    /// Sets the clock, never back, and returns what is to be delivered then.
    pub(crate) fn advance(&mut self, to: Timestamp) -> Vec<Delivery> {
        self.now = self.now.max(to);
        for stream in self.streams.values_mut() {
            stream.expire(self.now);
            while let Some((subject, headers, payload)) = stream.fire(self.now) {
                self.queue.push_back(Packet { headers, ..Packet::new(subject, payload) });
            }
        }
        self.settle()
    }

    /// Tells whoever waits for messages that the server is alive, and ends requests that have stood long enough;
    /// `passed` is the machine's time since the last beat.
    pub(crate) fn heartbeat(&mut self, passed: Duration) -> Vec<Delivery> {
        let consumers = self.streams.values_mut().flat_map(|stream| stream.consumers.values_mut());
        let ended: Vec<Packet> = consumers.flat_map(|consumer| consumer.expire_requests(passed)).collect();
        for packet in ended {
            self.route(&packet.subject.clone(), &packet);
        }
        let consumers = self.streams.values().flat_map(|stream| stream.consumers.values());
        let inboxes: Vec<String> = consumers.flat_map(consumer::Consumer::heartbeats).collect();
        for inbox in inboxes {
            self.route(&inbox, &Packet::status(inbox.clone(), 100));
        }
        std::mem::take(&mut self.deliveries)
    }

    /// Returns what consumers have in hand or can reach for, in words; empty when everything is settled for now.
    pub(crate) fn unsettled(&self) -> Vec<String> {
        let mut busy = Vec::new();
        for (name, stream) in &self.streams {
            for (consumer, state) in &stream.consumers {
                let parked = self.parked(name, consumer);
                if state.is_busy(self.now, stream.entries(), &parked, |inbox| self.has_interest(inbox)) {
                    let hands: Vec<String> = state
                        .in_hand(self.now, &parked)
                        .filter_map(|sequence| Some((sequence, stream.entries().get(&sequence)?)))
                        .map(|(sequence, entry)| format!("{name} #{sequence} on {}", entry.subject))
                        .collect();
                    let waiting = state.pending(stream.entries());
                    let hands = if hands.is_empty() { "nothing".to_owned() } else { hands.join(", ") };
                    busy.push(format!("{consumer} has {hands} in hand and {waiting} more to come"));
                }
            }
        }
        busy
    }

    /// Works off what was published, then delivers from streams, until neither is left.
    fn settle(&mut self) -> Vec<Delivery> {
        loop {
            while let Some(packet) = self.queue.pop_front() {
                self.take(packet);
            }
            self.pump();
            if self.queue.is_empty() {
                return std::mem::take(&mut self.deliveries);
            }
        }
    }

    fn take(&mut self, packet: Packet) {
        if let Some(operation) = packet.subject.strip_prefix("$JS.API.") {
            let operation = operation.to_owned();
            return self.api(&operation, &packet);
        }
        if packet.subject.starts_with("$JS.ACK.") {
            return self.acknowledge(&packet);
        }
        let heard = self.route(&packet.subject.clone(), &packet);
        let stream = self.streams.values_mut().find(|stream| stream.captures(&packet.subject));
        let Some(stream) = stream else {
            if let Some(reply) = packet.reply.filter(|_| !heard) {
                self.route(&reply, &Packet::status(reply.clone(), 503));
            }
            return;
        };
        let name = stream.settings.name.clone();
        let stored = stream.append(self.now, &packet.subject, packet.headers, packet.payload);
        if let Some(reply) = packet.reply {
            let answer = match stored {
                Ok(stored) if stored.duplicate => {
                    json!({ "stream": name, "seq": stored.sequence, "duplicate": true })
                }
                Ok(stored) => json!({ "stream": name, "seq": stored.sequence }),
                Err(refused) => refusal(refused),
            };
            self.queue.push_back(Packet::new(reply, answer.to_string()));
        }
    }

    fn acknowledge(&mut self, packet: &Packet) {
        let (Some((stream, name, sequence)), Some(word)) =
            (delivered(&packet.subject), Word::parse(&packet.payload))
        else {
            return;
        };
        if let Some(stands) = self.streams.get_mut(&stream)
            && let Some(consumer) = stands.consumers.get_mut(&name)
            && consumer.answer(self.now, sequence, word)
        {
            if let Some(entry) = stands.entries().get(&sequence).filter(|_| word == Word::Done) {
                self.notes.push(Note::Settled { stream, consumer: name, sequence, entry: entry.clone() });
            }
            if stands.settings.is_work_queue() {
                stands.remove(sequence);
            }
        }
        if let Some(reply) = &packet.reply {
            self.queue.push_back(Packet::new(reply.clone(), Bytes::new()));
        }
    }

    /// Delivers from every consumer as far as somebody takes it.
    fn pump(&mut self) {
        let mut out = Vec::new();
        let subscriptions = &self.subscriptions;
        let interest = |inbox: &str| subscriptions.values().any(|one| matches(&one.pattern, inbox));
        for (name, stream) in &mut self.streams {
            let mut consumers = std::mem::take(&mut stream.consumers);
            for (consumer, state) in &mut consumers {
                for given_up in state.give_up(self.now) {
                    self.queue.push_back(advisory(self.now, name, consumer, given_up));
                }
                while let Some(delivery) =
                    state.deliver(self.now, (name, consumer), stream.entries(), interest)
                {
                    out.push(delivery);
                }
            }
            stream.consumers = consumers;
        }
        for (inbox, packet) in out {
            self.route(&inbox, &packet);
        }
    }

    fn has_interest(&self, subject: &str) -> bool {
        self.subscriptions.values().any(|one| matches(&one.pattern, subject))
    }

    /// Delivers to every subscription of `subject`, to one of each queue group; says whether there was any.
    fn route(&mut self, subject: &str, packet: &Packet) -> bool {
        let mut groups: BTreeMap<(&str, &str), Vec<Place>> = BTreeMap::new();
        let mut places = Vec::new();
        for (place, one) in self.subscriptions.iter().filter(|(_, one)| matches(&one.pattern, subject)) {
            match &one.group {
                Some(group) => groups.entry((&one.pattern, group)).or_default().push(*place),
                None => places.push(*place),
            }
        }
        for members in groups.values() {
            places.push(members[self.turn % members.len()]);
        }
        self.turn = self.turn.wrapping_add(usize::from(!groups.is_empty()));
        let heard = !places.is_empty();
        self.deliveries.extend(places.into_iter().map(|place| (place, packet.clone())));
        heard
    }
}

/// Returns the moment `by` after `at`, or the last one there is.
fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Reads which delivery the subject of an acknowledgement is about: of which stream, to which consumer, which message.
fn delivered(subject: &str) -> Option<(String, String, u64)> {
    let mut tokens = subject.strip_prefix("$JS.ACK.")?.split('.');
    let (stream, consumer) = (tokens.next()?.to_owned(), tokens.next()?.to_owned());
    Some((stream, consumer, tokens.nth(1)?.parse().ok()?))
}

fn refusal(Refused(status, code, text): Refused) -> Value {
    json!({ "error": { "code": status, "err_code": code, "description": text } })
}

fn advisory(now: Timestamp, stream: &str, consumer: &str, given_up: GivenUp) -> Packet {
    let body = json!({
        "type": "io.nats.jetstream.advisory.v1.max_deliver",
        "timestamp": now.to_string(),
        "stream": stream,
        "consumer": consumer,
        "stream_seq": given_up.sequence,
        "deliveries": given_up.deliveries,
    });
    let subject = format!("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{stream}.{consumer}");
    Packet::new(subject, body.to_string())
}
