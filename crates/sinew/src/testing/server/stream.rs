//! A stream: what is stored, under which numbers, and what is refused or forgotten. Pure: time is handed in.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use sinew_wire::Headers;

use super::{consumer::Consumer, later, schedule::Schedule, settings::StreamSettings, subject::matches};

/// Headers that order the server about; a scheduled copy does not repeat them.
const ORDERS: [&str; 4] = ["Nats-Msg-Id", "Nats-TTL", "Nats-Rollup", "Nats-Expected-"];
const EXPECTED_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
const MARKER_REASON: &str = "Nats-Marker-Reason";

/// A stored message.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) subject: String,
    pub(crate) headers: Headers,
    pub(crate) payload: Bytes,
    pub(crate) stored: Timestamp,
    expires: Option<Timestamp>,
}

/// Why the server says no: HTTP-like status, its own number, and words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) u16, pub(super) u64, pub(super) &'static str);

/// Where a message was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Appended {
    pub(super) sequence: u64,
    pub(super) duplicate: bool,
}

/// A stream and its consumers.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) settings: StreamSettings,
    /// The settings as they came, to be shown again.
    pub(super) config: Value,
    pub(super) created: Timestamp,
    pub(super) consumers: BTreeMap<String, Consumer>,
    pub(super) last: u64,
    entries: BTreeMap<u64, Entry>,
    by_subject: BTreeMap<String, BTreeSet<u64>>,
    /// Message ids and when they were seen.
    ids: HashMap<String, (u64, Timestamp)>,
    /// When scheduled messages are due.
    schedules: BTreeMap<u64, Timestamp>,
}

impl Stream {
    pub(super) fn new(settings: StreamSettings, config: Value, created: Timestamp) -> Self {
        Self {
            settings,
            config,
            created,
            consumers: BTreeMap::new(),
            last: 0,
            entries: BTreeMap::new(),
            by_subject: BTreeMap::new(),
            ids: HashMap::new(),
            schedules: BTreeMap::new(),
        }
    }

    pub(super) fn captures(&self, subject: &str) -> bool {
        self.settings.subjects.iter().any(|pattern| matches(pattern, subject))
    }

    pub(super) fn entries(&self) -> &BTreeMap<u64, Entry> {
        &self.entries
    }

    /// Returns the number of the oldest message, or of the next one where there is none.
    pub(super) fn first(&self) -> u64 {
        self.entries.keys().next().copied().unwrap_or(self.last + 1)
    }

    /// Returns the newest message on a subject; wildcards are allowed.
    pub(super) fn newest(&self, pattern: &str) -> Option<u64> {
        let subjects = self.by_subject.iter().filter(|(subject, _)| matches(pattern, subject));
        subjects.filter_map(|(_, sequences)| sequences.last().copied()).max()
    }

    /// Stores a message, in the order of checks the server has.
    pub(super) fn append(
        &mut self,
        now: Timestamp,
        subject: &str,
        headers: Headers,
        payload: Bytes,
    ) -> Result<Appended, Refused> {
        if headers.get("Nats-Expected-Stream").is_some_and(|name| name != self.settings.name) {
            return Err(Refused(400, 10_060, "expected stream does not match"));
        }
        let window = self.settings.duplicate_window();
        self.ids.retain(|_, (_, seen)| later(*seen, window) > now);
        let seen = headers.get("Nats-Msg-Id").and_then(|id| self.ids.get(id));
        if let Some((sequence, _)) = seen {
            return Ok(Appended { sequence: *sequence, duplicate: true });
        }
        self.expected(subject, &headers)?;
        let expires = self.expiry(now, &headers)?;
        let due = self.schedule(now, subject, &headers)?;
        self.roll_up(subject, &headers)?;
        let sequence = self.last + 1;
        if let Some(id) = headers.get("Nats-Msg-Id") {
            self.ids.insert(id.to_owned(), (sequence, now));
        }
        if let Some(due) = due {
            // A subject holds one schedule: the newest.
            let older = self.by_subject.get(subject).into_iter().flatten().copied().collect::<Vec<_>>();
            older.into_iter().for_each(|sequence| self.remove(sequence));
            self.schedules.insert(sequence, due);
        }
        self.insert(sequence, Entry { subject: subject.to_owned(), headers, payload, stored: now, expires });
        Ok(Appended { sequence, duplicate: false })
    }

    pub(super) fn remove(&mut self, sequence: u64) {
        let Some(entry) = self.entries.remove(&sequence) else { return };
        self.schedules.remove(&sequence);
        if let Some(sequences) = self.by_subject.get_mut(&entry.subject) {
            sequences.remove(&sequence);
            if sequences.is_empty() {
                self.by_subject.remove(&entry.subject);
            }
        }
    }

    /// Removes what `pattern` takes below `sequence`, all but the newest `keep`; says how much that was.
    pub(super) fn purge(&mut self, pattern: &str, below: u64, keep: usize) -> usize {
        let taken = self.entries.range(..below).filter(|(_, entry)| matches(pattern, &entry.subject));
        let mut doomed: Vec<u64> = taken.map(|(sequence, _)| *sequence).collect();
        doomed.truncate(doomed.len().saturating_sub(keep));
        doomed.iter().for_each(|sequence| self.remove(*sequence));
        doomed.len()
    }

    /// Returns when something is due next: an expiry or a schedule.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let expiries = self.entries.values().filter_map(|entry| self.expires(entry));
        expiries.chain(self.schedules.values().copied()).min()
    }

    /// Returns the scheduled messages and when they are due.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (Timestamp, Entry)> {
        self.schedules.iter().filter_map(|(sequence, due)| Some((*due, self.entries.get(sequence)?.clone())))
    }

    /// Forgets what has expired; the last message of a subject leaves a marker where the stream is set to.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let over = |entry: &Entry| self.expires(entry).is_some_and(|at| at <= now);
        let gone: Vec<u64> =
            self.entries.iter().filter(|(_, entry)| over(entry)).map(|(sequence, _)| *sequence).collect();
        for sequence in gone {
            let Some(entry) = self.entries.get(&sequence).cloned() else { continue };
            self.remove(sequence);
            let marker = Duration::from_nanos(self.settings.subject_delete_marker_ttl);
            let marks = entry.headers.get(MARKER_REASON).is_none();
            if !marker.is_zero() && marks && !self.by_subject.contains_key(&entry.subject) {
                let mut headers = Headers::new();
                let _ = headers.set(MARKER_REASON, "MaxAge");
                let _ = headers.set("Nats-TTL", format!("{}s", marker.as_secs()));
                let expires = Some(later(now, marker));
                let Entry { subject, .. } = entry;
                let marker = Entry { subject, headers, payload: Bytes::new(), stored: now, expires };
                self.insert(self.last + 1, marker);
            }
        }
    }

    /// Takes a scheduled message that is due: where it goes, and the copy that goes there.
    pub(super) fn fire(&mut self, now: Timestamp) -> Option<(String, Headers, Bytes)> {
        let (sequence, due) =
            self.schedules.iter().map(|(s, due)| (*s, *due)).min_by_key(|(s, due)| (*due, *s))?;
        if due > now {
            return None;
        }
        let entry = self.entries.get(&sequence)?.clone();
        let schedule = Schedule::parse(entry.headers.get("Nats-Schedule")?).ok()?;
        let next = schedule.after(due);
        match next {
            Some(next) => _ = self.schedules.insert(sequence, next),
            None => self.remove(sequence),
        }
        let target = entry.headers.get("Nats-Schedule-Target")?.to_owned();
        let next = next.map_or_else(|| "purge".to_owned(), |next| next.to_string());
        Some((target, fired(&entry, next), entry.payload))
    }

    fn insert(&mut self, sequence: u64, entry: Entry) {
        self.last = sequence;
        self.by_subject.entry(entry.subject.clone()).or_default().insert(sequence);
        let subject = entry.subject.clone();
        self.entries.insert(sequence, entry);
        if let Some(limit) = self.settings.max_per_subject() {
            let sequences = self.by_subject.get(&subject).into_iter().flatten().copied();
            let sequences: Vec<u64> = sequences.collect();
            let over = sequences.len().saturating_sub(limit);
            sequences[..over].iter().for_each(|sequence| self.remove(*sequence));
        }
        if let Some(limit) = self.settings.max_messages() {
            while self.entries.len() > limit {
                self.remove(self.first());
            }
        }
    }

    fn expires(&self, entry: &Entry) -> Option<Timestamp> {
        let aged = self.settings.max_age().map(|age| later(entry.stored, age));
        entry.expires.into_iter().chain(aged).min()
    }

    fn expected(&self, subject: &str, headers: &Headers) -> Result<(), Refused> {
        let number = |name| headers.get(name).map(|text: &str| text.parse::<u64>().unwrap_or(u64::MAX));
        if number("Nats-Expected-Last-Sequence").is_some_and(|expected| expected != self.last) {
            return Err(Refused(400, 10_071, "wrong last sequence"));
        }
        let about = headers.get("Nats-Expected-Last-Subject-Sequence-Subject").unwrap_or(subject);
        let stands = || self.newest(about).unwrap_or(0);
        if number(EXPECTED_SUBJECT_SEQUENCE).is_some_and(|expected| expected != stands()) {
            return Err(Refused(400, 10_071, "wrong last sequence"));
        }
        Ok(())
    }

    fn expiry(&self, now: Timestamp, headers: &Headers) -> Result<Option<Timestamp>, Refused> {
        let Some(text) = headers.get("Nats-TTL") else { return Ok(None) };
        if !self.settings.allow_msg_ttl {
            return Err(Refused(400, 10_166, "per-message TTL is disabled"));
        }
        if text == "never" {
            return Ok(None);
        }
        let seconds = text.parse().ok().map(Duration::from_secs);
        let ttl = seconds.or_else(|| super::schedule::interval(text).and_then(|ttl| ttl.try_into().ok()));
        match ttl {
            Some(ttl) => Ok((!ttl.is_zero()).then(|| later(now, ttl))),
            None => Err(Refused(400, 10_165, "invalid per-message TTL")),
        }
    }

    fn schedule(
        &self,
        now: Timestamp,
        subject: &str,
        headers: &Headers,
    ) -> Result<Option<Timestamp>, Refused> {
        let Some(text) = headers.get("Nats-Schedule") else { return Ok(None) };
        if !self.settings.allow_msg_schedules {
            return Err(Refused(400, 10_188, "message schedules is disabled"));
        }
        let schedule = Schedule::parse(text)
            .map_err(|_| Refused(400, 10_189, "message schedules pattern is invalid"))?;
        match headers.get("Nats-Schedule-Target") {
            Some(target) if target != subject && self.captures(target) => Ok(Some(schedule.first(now))),
            _ => Err(Refused(400, 10_190, "message schedules target is invalid")),
        }
    }

    fn roll_up(&mut self, subject: &str, headers: &Headers) -> Result<(), Refused> {
        let Some(rollup) = headers.get("Nats-Rollup") else { return Ok(()) };
        if !self.settings.allow_rollup_hdrs {
            return Err(Refused(400, 10_111, "rollup not permitted"));
        }
        let pattern = if rollup == "all" { ">" } else { subject };
        self.purge(pattern, u64::MAX, 0);
        Ok(())
    }
}

/// Returns the headers of the copy that a schedule publishes.
fn fired(entry: &Entry, next: String) -> Headers {
    let mut headers = Headers::new();
    let begins = |name: &str, prefix: &str| {
        name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
    };
    for (name, value) in entry.headers.iter() {
        let order = begins(name, "Nats-Schedule") || ORDERS.iter().any(|order| begins(name, order));
        if !order {
            let _ = headers.set(name, value);
        }
    }
    let _ = headers.set("Nats-Scheduler", entry.subject.clone());
    let _ = headers.set("Nats-Schedule-Next", next);
    if let Some(ttl) = entry.headers.get("Nats-Schedule-TTL") {
        let _ = headers.set("Nats-TTL", ttl);
    }
    headers
}
