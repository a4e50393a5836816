//! Lanes by key: which event of an ordered group may begin next. Pure: no I/O, no clock, no randomness.
//!
//! A lane is a key's events that this member holds, oldest first; at most one of them runs. A failed event parks its
//! lane until its next attempt is due, and everything behind it waits. No lane knows of another.
//!
//! What makes order hard is what a member does *not* hold: events that the server handed to a member that died, or
//! that were lost on a broken connection, come again much later than newer events of the same key. They are
//! *suspects*. An event does not begin while a suspect of its key stands before it in the stream, and while it is not
//! known what is a suspect, the lanes are frozen and nothing begins. A suspect is cleared when it arrives, or when the
//! server no longer counts it among what is out ([`Lanes::is_certain`]).
//!
//! What waits behind a parked event may be *spilled*: appended to a store outside and no longer held. What goes there,
//! and what comes back and when, is in [`store`].

mod store;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use store::Spill;

/// Settled events that are remembered, so that one whose acknowledgement was lost does not run again.
const REMEMBERED: usize = 20_000;

/// Which lane an event belongs to: a hash of its key, the same in every process. Two keys with one hash share a lane,
/// which costs them some haste and no order.
pub(super) type Key = u64;

/// Returns the lane of a key.
pub(super) fn key(text: &str) -> Key {
    Sha256::digest(text.as_bytes()).iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// Where an event stands, and by that in which order those of one key begin.
///
/// What came by the group's own inlet was published long ago, so it goes first; nobody but the active member reads
/// there, so it is never a suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    /// At this sequence in the group's inlet.
    Inlet(u64),
    /// At this sequence in the stream of events.
    Stream(u64),
}

/// What to do with an event that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is new and waits for its turn.
    Held,
    /// It is held already: the server has lost its patience, or its memory.
    Again,
    /// It was settled or spilled before, and the server has not heard of it.
    Settled,
    /// It was spilled, and is to be left out at the server: its redelivery tells the next active member of the store.
    Anchor,
}

/// What a server says about its consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Everything up to this sequence is settled.
    pub(super) floor: u64,
    /// Nothing above this sequence was handed out.
    pub(super) delivered: u64,
    /// How many events are out.
    pub(super) pending: usize,
    /// How many of them were handed out more than once.
    pub(super) redelivered: usize,
}

/// An event to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// Which one.
    pub(super) place: Place,
    /// Which attempt of this member it is, from 1.
    pub(super) attempt: u32,
}

/// The events a member of an ordered group holds. Time is what the caller says it is, counted from any beginning.
#[derive(Debug)]
pub(super) struct Lanes {
    concurrency: usize,
    frozen: bool,
    lanes: HashMap<Key, Lane>,
    /// Every event that is held, running ones included.
    held: BTreeMap<Place, Held>,
    /// Lanes that may begin something; checked again when their turn comes.
    ready: VecDeque<Key>,
    parked: BTreeSet<(Duration, Key)>,
    running: usize,
    suspects: usize,
    settled: BTreeSet<Place>,
    /// Lanes of which something is, or is about to be, in the store.
    stored: BTreeSet<Key>,
    /// Whose turn it was last.
    turn: Key,
    /// What is left out at the server as long as anything is stored, and whether it was somebody else's before.
    anchor: Option<(u64, bool)>,
}

#[derive(Debug)]
struct Held {
    key: Key,
    /// Whether it came out of the store: the server does not count it among what is out.
    stored: bool,
    /// Whether it was somebody else's before.
    again: bool,
    failures: u32,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: BTreeSet<Place>,
    running: Option<Place>,
    parked: Option<Duration>,
    suspects: BTreeSet<Place>,
    /// Whether it stands in the queue of ready lanes.
    queued: bool,
    spill: Option<Spill>,
}

impl Lanes {
    /// Creates lanes of which up to `concurrency` run at once; they begin frozen.
    pub(super) fn new(concurrency: usize) -> Self {
        Self {
            concurrency,
            frozen: true,
            lanes: HashMap::new(),
            held: BTreeMap::new(),
            ready: VecDeque::new(),
            parked: BTreeSet::new(),
            running: 0,
            suspects: 0,
            settled: BTreeSet::new(),
            stored: BTreeSet::new(),
            turn: 0,
            anchor: None,
        }
    }

    /// Takes in a delivery; `again` says that it was delivered before, to whomever.
    pub(super) fn arrived(&mut self, place: Place, key: &Key, again: bool) -> Taken {
        if let Some(spilled) = self.arrived_spilled(place, *key, again) {
            self.found(place, key);
            return spilled;
        }
        if let Some(held) = self.held.get_mut(&place) {
            held.again |= again;
            return Taken::Again;
        }
        self.found(place, key);
        if self.settled.contains(&place) {
            return Taken::Settled;
        }
        self.held.insert(place, Held { key: *key, stored: false, again, failures: 0 });
        self.lane(key).waiting.insert(place);
        self.offer(key);
        Taken::Held
    }

    /// Returns the next event to begin. It runs from now on, until [`Lanes::done`] or [`Lanes::failed`].
    pub(super) fn start(&mut self) -> Option<Start> {
        if self.frozen || self.running >= self.concurrency {
            return None;
        }
        while let Some(key) = self.ready.pop_front() {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            lane.queued = false;
            let Some(place) = lane.head() else { continue };
            lane.waiting.remove(&place);
            lane.running = Some(place);
            self.running += 1;
            let failures = self.held.get(&place).map_or(0, |held| held.failures);
            return Some(Start { place, attempt: failures.saturating_add(1) });
        }
        None
    }

    /// The event is settled: handled, or kept as a dead letter.
    pub(super) fn done(&mut self, place: Place) {
        let Some(held) = self.held.remove(&place) else { return };
        self.settled.insert(place);
        if self.settled.len() > REMEMBERED {
            self.settled.pop_first();
        }
        self.stopped(&held.key);
        self.offer(&held.key);
    }

    /// The event failed and is tried again at `due`; its lane is parked until then.
    pub(super) fn failed(&mut self, place: Place, due: Duration) {
        let Some(held) = self.held.get_mut(&place) else { return };
        held.failures = held.failures.saturating_add(1);
        let key = held.key;
        self.stopped(&key);
        let lane = self.lane(&key);
        lane.waiting.insert(place);
        lane.parked = Some(due);
        self.parked.insert((due, key));
    }

    /// The event was not handled and is no longer held here.
    pub(super) fn handed_back(&mut self, place: Place) {
        let Some(held) = self.held.remove(&place) else { return };
        self.stopped(&held.key);
        self.forget_if_empty(&held.key);
    }

    /// Lets go what is due at `now`.
    pub(super) fn due(&mut self, now: Duration) {
        while self.next_due().is_some_and(|due| due <= now) {
            let Some((_, key)) = self.parked.pop_first() else { return };
            self.lane(&key).parked = None;
            self.offer(&key);
        }
    }

    /// Returns when the next parked lane is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.parked.first().map(|(due, _)| *due)
    }

    /// Says whether nothing may begin.
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Begins nothing until [`Lanes::thaw`]: it is not known what is out.
    pub(super) fn freeze(&mut self) {
        self.frozen = true;
    }

    /// Every suspect is named: lanes without one go on.
    pub(super) fn thaw(&mut self) {
        self.frozen = false;
    }

    /// Names an event that may be out, with somebody or nobody. Newer ones of its key wait for it.
    pub(super) fn suspect(&mut self, place: Place, key: &Key) {
        if self.is_known(place) || self.is_stored(place, *key) {
            return;
        }
        if self.lane(key).suspects.insert(place) {
            self.suspects += 1;
        }
    }

    /// Says whether an event is held or settled here.
    pub(super) fn is_known(&self, place: Place) -> bool {
        self.held.contains_key(&place) || self.settled.contains(&place)
    }

    /// Says whether everything that is out is held here. What came after the server spoke does not count.
    ///
    /// An event that is held here may be settled by a member that had it before and was only late. Then it is not out,
    /// and must not be taken for one that is: the number of those handed out more than once gives it away.
    pub(super) fn is_certain(&self, standing: &Standing) -> bool {
        let range = Place::Stream(0)..=Place::Stream(standing.delivered);
        let held = || self.held.range(range.clone()).filter(|(_, held)| !held.stored);
        let anchor = self.anchor.filter(|(sequence, _)| *sequence <= standing.delivered);
        let again = usize::from(anchor.is_some_and(|(_, again)| again));
        standing.pending <= held().count() + usize::from(anchor.is_some())
            && standing.redelivered >= held().filter(|(_, held)| held.again).count() + again
    }

    /// Nothing is out that is not held.
    pub(super) fn clear_suspects(&mut self) {
        let keys: Vec<Key> = self.with_suspects().copied().collect();
        self.suspects = 0;
        for key in keys {
            self.lane(&key).suspects.clear();
            self.offer(&key);
        }
    }

    /// Gives up everything that does not run, and freezes: another member is active. Returns what is to be handed back.
    pub(super) fn give_up(&mut self) -> Vec<Place> {
        self.frozen = true;
        self.suspects = 0;
        self.ready.clear();
        self.parked.clear();
        self.stored.clear();
        self.anchor = None;
        self.lanes.retain(|_, lane| {
            *lane = Lane { running: lane.running, ..Lane::default() };
            lane.running.is_some()
        });
        let running: BTreeSet<Place> = self.lanes.values().filter_map(|lane| lane.running).collect();
        let waiting: Vec<Place> = self.held.keys().copied().filter(|held| !running.contains(held)).collect();
        self.held.retain(|place, _| running.contains(place));
        waiting
    }

    /// Returns how many events are held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Returns how many lanes could begin something if there were a free hand.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Returns how many suspects are left.
    pub(super) fn suspects(&self) -> usize {
        self.suspects
    }

    fn with_suspects(&self) -> impl Iterator<Item = &Key> {
        self.lanes.iter().filter(|(_, lane)| !lane.suspects.is_empty()).map(|(key, _)| key)
    }

    fn found(&mut self, place: Place, key: &Key) {
        if self.suspects == 0 {
            return;
        }
        if self.lanes.get_mut(key).is_some_and(|lane| lane.suspects.remove(&place)) {
            self.suspects -= 1;
            self.offer(key);
        }
    }

    fn stopped(&mut self, key: &Key) {
        if self.lane(key).running.take().is_some() {
            self.running -= 1;
        }
    }

    fn lane(&mut self, key: &Key) -> &mut Lane {
        self.lanes.entry(*key).or_default()
    }

    /// Queues the lane if it may begin something, and forgets it if nothing is left of it.
    fn offer(&mut self, key: &Key) {
        self.close_unused(*key);
        let lane = self.lane(key);
        if lane.head().is_some() && !lane.queued {
            lane.queued = true;
            self.ready.push_back(*key);
        }
        self.forget_if_empty(key);
    }

    fn forget_if_empty(&mut self, key: &Key) {
        if self.lanes.get(key).is_some_and(Lane::is_empty) {
            self.lanes.remove(key);
        }
    }
}

impl Lane {
    /// Returns the event that may begin now.
    fn head(&self) -> Option<Place> {
        if self.running.is_some() || self.parked.is_some() {
            return None;
        }
        let head = *self.waiting.first()?;
        if self.spill.as_ref().is_some_and(|spill| spill.is_behind(head)) {
            return None;
        }
        self.suspects.first().is_none_or(|suspect| *suspect > head).then_some(head)
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
            && self.running.is_none()
            && self.parked.is_none()
            && self.suspects.is_empty()
            && self.spill.is_none()
    }
}

#[cfg(test)]
mod tests;
