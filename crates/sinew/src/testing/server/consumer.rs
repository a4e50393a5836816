//! A consumer: which message goes out next, what is out, and what comes again. Pure: time is handed in.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;

use super::{Packet, later, settings::ConsumerSettings, stream::Entry};

/// A message that was delivered and is not settled.
#[derive(Clone, Copy, Debug)]
struct Out {
    deliveries: u32,
    /// When it is delivered again.
    due: Timestamp,
    /// Whether it was handed back: then nobody is at work on it.
    handed_back: bool,
}

/// Somebody's wish for messages.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) inbox: String,
    pub(super) left: u64,
    pub(super) heartbeat: bool,
    /// What it has room for.
    pub(super) max_bytes: Option<usize>,
    /// How long it stands yet, by the machine's clock.
    pub(super) expires: Option<Duration>,
}

/// What an acknowledgement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Done,
    Again(Duration),
    Working,
    Never,
}

/// A message the server gives up, after so many deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GivenUp {
    pub(super) sequence: u64,
    pub(super) deliveries: u32,
}

/// A consumer of a stream.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) settings: ConsumerSettings,
    pub(super) config: Value,
    pub(super) created: Timestamp,
    /// Counts deliveries.
    pub(super) delivered: u64,
    /// The next message that was not delivered yet.
    next: u64,
    out: BTreeMap<u64, Out>,
    requests: VecDeque<Request>,
    /// Inboxes that messages were asked for from.
    members: BTreeSet<String>,
    asked: bool,
}

impl Consumer {
    pub(super) fn new(settings: ConsumerSettings, config: Value, created: Timestamp, next: u64) -> Self {
        Self {
            settings,
            config,
            created,
            delivered: 0,
            next,
            out: BTreeMap::new(),
            requests: VecDeque::new(),
            members: BTreeSet::new(),
            asked: false,
        }
    }

    /// Returns how many messages are delivered and not settled.
    pub(super) fn unsettled(&self) -> usize {
        self.out.len()
    }

    /// Returns how many requests for messages stand.
    pub(super) fn requests(&self) -> usize {
        self.requests.len()
    }

    /// Returns how many messages were not delivered yet.
    pub(super) fn pending(&self, entries: &BTreeMap<u64, Entry>) -> usize {
        entries.range(self.next..).filter(|(_, entry)| self.settings.takes(&entry.subject)).count()
    }

    /// Says whether somebody has a message in hand, other than those he has `parked`, or will have one as soon as he
    /// reaches for it.
    pub(super) fn is_busy(
        &self,
        now: Timestamp,
        entries: &BTreeMap<u64, Entry>,
        parked: &BTreeSet<u64>,
        interest: impl Fn(&str) -> bool,
    ) -> bool {
        if !self.settings.acknowledges() {
            return false;
        }
        let ready = |out: &Out| out.due <= now;
        let served = !self.asked || self.members.iter().any(|inbox| interest(inbox));
        let waiting = self.out.values().any(ready)
            || (self.out.len() < self.settings.max_ack_pending() && self.pending(entries) > 0);
        self.in_hand(now, parked).next().is_some() || (served && waiting)
    }

    /// Returns the messages somebody is at work on, and has not `parked`.
    pub(super) fn in_hand(&self, now: Timestamp, parked: &BTreeSet<u64>) -> impl Iterator<Item = u64> {
        let working = move |out: &Out| !out.handed_back && out.due > now;
        let in_hand = self.out.iter().filter(move |(_, out)| working(out)).map(|(sequence, _)| *sequence);
        in_hand.filter(|sequence| !parked.contains(sequence))
    }

    /// Returns when a message that is out comes again, if that is later than `now`.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.out.values().map(|out| out.due).filter(|due| *due > now).min()
    }

    /// Returns the stream sequences up to which all is settled, and up to which all was delivered.
    pub(super) fn progress(&self) -> (u64, u64) {
        let delivered = self.next - 1;
        (self.out.keys().next().map_or(delivered, |first| first - 1), delivered)
    }

    /// Returns how many messages are out that were delivered more than once.
    pub(super) fn redelivered(&self) -> usize {
        self.out.values().filter(|out| out.deliveries > 1).count()
    }

    pub(super) fn ask(&mut self, request: Request) {
        self.asked = true;
        self.members.insert(request.inbox.clone());
        self.requests.push_back(request);
    }

    /// Ends requests that have stood long enough, and returns what is said to those who made them.
    pub(super) fn expire_requests(&mut self, passed: Duration) -> Vec<Packet> {
        let mut ended = Vec::new();
        self.requests.retain_mut(|request| {
            request.expires = request.expires.map(|left| left.saturating_sub(passed));
            let stands = request.expires != Some(Duration::ZERO);
            if !stands {
                ended.push(end(request, 408));
            }
            stands
        });
        ended
    }

    /// Returns who is to be told that the server is alive.
    pub(super) fn heartbeats(&self) -> Vec<String> {
        let push = self.settings.deliver_subject.clone().filter(|_| self.settings.idle_heartbeat > 0);
        let mut inboxes: Vec<String> =
            self.requests.iter().filter(|r| r.heartbeat).map(|r| r.inbox.clone()).collect();
        inboxes.dedup();
        inboxes.extend(push);
        inboxes
    }

    /// Settles a message; says whether that was its end.
    pub(super) fn answer(&mut self, now: Timestamp, sequence: u64, word: Word) -> bool {
        let wait = self.settings.ack_wait();
        let Some(out) = self.out.get_mut(&sequence) else { return false };
        match word {
            Word::Done | Word::Never => return self.out.remove(&sequence).is_some(),
            Word::Again(delay) => (out.due, out.handed_back) = (later(now, delay), true),
            Word::Working => (out.due, out.handed_back) = (later(now, wait), false),
        }
        false
    }

    /// Takes back what was delivered often enough and not settled.
    pub(super) fn give_up(&mut self, now: Timestamp) -> Vec<GivenUp> {
        let Ok(limit) = u32::try_from(self.settings.max_deliver) else { return Vec::new() };
        let spent = |out: &Out| limit > 0 && out.due <= now && out.deliveries >= limit;
        let given_up: Vec<GivenUp> = self
            .out
            .iter()
            .filter(|(_, out)| spent(out))
            .map(|(sequence, out)| GivenUp { sequence: *sequence, deliveries: out.deliveries })
            .collect();
        for GivenUp { sequence, .. } in &given_up {
            self.out.remove(sequence);
        }
        given_up
    }

    /// Delivers one message, if there is one and somebody to take it: where to, and what.
    pub(super) fn deliver(
        &mut self,
        now: Timestamp,
        names: (&str, &str),
        entries: &BTreeMap<u64, Entry>,
        interest: impl Fn(&str) -> bool,
    ) -> Option<(String, Packet)> {
        let to = self.taker(interest)?;
        let room = self.requests.front().and_then(|request| request.max_bytes);
        if let Some(room) = room
            && self.peek(now, entries).is_some_and(|entry| entry.payload.len() > room)
            && let Some(small) = self.requests.pop_front()
        {
            return Some((to, end(&small, 409)));
        }
        let (sequence, deliveries) = self.choose(now, entries)?;
        let entry = entries.get(&sequence)?;
        self.delivered += 1;
        if let Some(request) = self.requests.front_mut() {
            request.left -= 1;
            if request.left == 0 {
                self.requests.pop_front();
            }
        }
        let (stream, name) = names;
        let reply = format!(
            "$JS.ACK.{stream}.{name}.{deliveries}.{sequence}.{}.{}.{}",
            self.delivered,
            entry.stored.as_nanosecond(),
            self.pending(entries)
        );
        let packet = Packet {
            subject: entry.subject.clone(),
            reply: Some(reply),
            headers: entry.headers.clone(),
            payload: entry.payload.clone(),
            status: None,
        };
        Some((to, packet))
    }

    fn taker(&mut self, interest: impl Fn(&str) -> bool) -> Option<String> {
        if let Some(subject) = &self.settings.deliver_subject {
            return interest(subject).then(|| subject.clone());
        }
        // Whoever asked and left is passed over, as the server does.
        self.requests.retain(|request| interest(&request.inbox));
        self.members.retain(|inbox| interest(inbox));
        self.requests.front().map(|request| request.inbox.clone())
    }

    /// Returns what would go out next.
    fn peek<'e>(&self, now: Timestamp, entries: &'e BTreeMap<u64, Entry>) -> Option<&'e Entry> {
        let again = self.out.iter().filter(|(_, out)| out.due <= now).min_by_key(|(s, out)| (out.due, **s));
        if let Some(entry) = again.and_then(|(sequence, _)| entries.get(sequence)) {
            return Some(entry);
        }
        let mut new = entries.range(self.next..).filter(|(_, entry)| self.settings.takes(&entry.subject));
        let free = self.out.len() < self.settings.max_ack_pending();
        new.next().map(|(_, entry)| entry).filter(|_| free)
    }

    /// Chooses what goes out: what comes again first, then what is new.
    fn choose(&mut self, now: Timestamp, entries: &BTreeMap<u64, Entry>) -> Option<(u64, u32)> {
        let due = later(now, self.settings.ack_wait());
        // What was removed from the stream meanwhile does not come again.
        self.out.retain(|sequence, out| out.due > now || entries.contains_key(sequence));
        let again = self.out.iter().filter(|(_, out)| out.due <= now).min_by_key(|(s, out)| (out.due, **s));
        if let Some(sequence) = again.map(|(sequence, _)| *sequence) {
            let out = self.out.get_mut(&sequence)?;
            *out = Out { deliveries: out.deliveries + 1, due, handed_back: false };
            return Some((sequence, out.deliveries));
        }
        if self.settings.acknowledges() && self.out.len() >= self.settings.max_ack_pending() {
            return None;
        }
        let mut new = entries.range(self.next..).filter(|(_, entry)| self.settings.takes(&entry.subject));
        let sequence = *new.next()?.0;
        self.next = sequence + 1;
        if self.settings.acknowledges() {
            self.out.insert(sequence, Out { deliveries: 1, due, handed_back: false });
        }
        Some((sequence, 1))
    }
}

/// Returns what the server says at the end of a request.
fn end(request: &Request, status: u16) -> Packet {
    let mut packet = Packet::status(request.inbox.clone(), status);
    let _ = packet.headers.set("Nats-Pending-Messages", request.left.to_string());
    packet
}

impl Word {
    /// Reads the payload of an acknowledgement.
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(payload).ok()?;
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "" | "+ACK" => Some(Self::Done),
            "+WPI" => Some(Self::Working),
            "+TERM" => Some(Self::Never),
            "-NAK" => {
                let told: Value = serde_json::from_str(rest).unwrap_or_default();
                let nanos = told["delay"].as_u64().unwrap_or(0);
                Some(Self::Again(Duration::from_nanos(nanos)))
            }
            _ => None,
        }
    }
}
