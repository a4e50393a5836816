//! Spilled lanes: which events go to the store outside, and when the next one comes back. Pure.
//!
//! The store is a queue of each lane. It holds the lane's events from one sequence to another without a gap, so what
//! comes from the server between the two is a copy, and what comes above them goes behind. What stands before them was
//! held here or is a suspect, and goes first. An event that comes back takes the place it always had.
//!
//! The active member's successor is only known to the server once it is handed an event, so one that was spilled, the
//! *anchor*, is left out at the server as long as the store holds anything.

use std::ops::Bound::{Excluded, Unbounded};

use super::{Held, Key, Lane, Lanes, Place, Taken};

/// The part of a lane that is in the store; nothing yet while `last` is below `first`.
#[derive(Debug)]
pub(super) struct Spill {
    first: u64,
    last: u64,
    /// Whether something is on its way there, or back.
    busy: bool,
}

impl Spill {
    /// Says whether the place comes after what is in the store.
    pub(super) fn is_behind(&self, place: Place) -> bool {
        place > Place::Stream(self.last)
    }

    fn covers(&self, place: Place) -> bool {
        (Place::Stream(self.first)..=Place::Stream(self.last)).contains(&place)
    }

    fn is_unused(&self) -> bool {
        self.last < self.first
    }
}

impl Lanes {
    /// Returns how many events wait in parked lanes.
    pub(in super::super) fn stalled(&self) -> usize {
        self.parked.iter().filter_map(|(_, key)| self.lanes.get(key)).map(|lane| lane.waiting.len()).sum()
    }

    /// Decides to spill the parked lane in which most wait. Returns how many, none where nothing can be spilled.
    pub(in super::super) fn spill_widest(&mut self) -> Option<usize> {
        if self.frozen {
            return None;
        }
        let lanes = self.parked.iter().filter_map(|(_, key)| Some((*key, self.lanes.get(key)?)));
        let (key, waiting, first) = lanes
            .filter(|(_, lane)| lane.spill.is_none() && lane.suspects.is_empty())
            .filter_map(|(key, lane)| {
                let mut followers = lane.waiting.iter().skip(1).filter_map(Place::in_stream);
                let first = followers.next()?;
                Some((key, followers.count() + 1, first))
            })
            .max_by_key(|(_, waiting, _)| *waiting)?;
        self.lane(&key).spill = Some(Spill { first, last: first.saturating_sub(1), busy: false });
        self.stored.insert(key);
        Some(waiting)
    }

    /// Returns up to `limit` events of one lane to append to the store, in this order, until [`Lanes::appended`].
    pub(in super::super) fn begin_append(&mut self, limit: usize) -> Option<(Key, Vec<Place>)> {
        if self.frozen {
            return None;
        }
        let key = self.next_stored(|lane| lane.may_move() && lane.excess().next().is_some())?;
        let lane = self.lanes.get_mut(&key)?;
        let places = lane.excess().take(limit).collect();
        lane.spill.as_mut()?.busy = true;
        Some((key, places))
    }

    /// These events, the first ones of those that were to be appended, are in the store. The last one is the anchor.
    pub(in super::super) fn appended(&mut self, key: Key, places: &[Place]) {
        for place in places {
            let Some(held) = self.held.remove(place) else { continue };
            let lane = self.lane(&key);
            lane.waiting.remove(place);
            if let (Some(spill), Some(sequence)) = (&mut lane.spill, place.in_stream()) {
                spill.last = sequence;
                self.anchor = Some((sequence, held.again));
            }
        }
        self.at_rest(key);
        self.offer(&key);
    }

    /// Returns a lane whose next event is to be read from the store, until [`Lanes::loaded`].
    pub(in super::super) fn begin_load(&mut self, loading: usize) -> Option<Key> {
        if self.frozen || self.running + loading >= self.concurrency {
            return None;
        }
        let key = self.next_stored(Lane::is_hungry)?;
        self.lanes.get_mut(&key)?.spill.as_mut()?.busy = true;
        Some(key)
    }

    /// The next event of a lane came back, or the store has none of it any more. [`Taken::Settled`] says that it is to
    /// be forgotten there and the next one to be read; [`Taken::Again`] that the server counts on it too.
    pub(in super::super) fn loaded(&mut self, key: Key, sequence: Option<u64>) -> Taken {
        let Some(sequence) = sequence else {
            self.close(key);
            self.offer(&key);
            return Taken::Settled;
        };
        let place = Place::Stream(sequence);
        if self.settled.contains(&place) {
            return Taken::Settled;
        }
        if let Some(spill) = &mut self.lane(&key).spill {
            (spill.first, spill.last) = (spill.first.min(sequence), spill.last.max(sequence));
        }
        let held = Held { key, stored: true, again: false, failures: 0 };
        let taken = if self.held.insert(place, held).is_some() { Taken::Again } else { Taken::Held };
        self.lane(&key).waiting.insert(place);
        self.at_rest(key);
        self.offer(&key);
        taken
    }

    /// Returns those of `listed` that are not known to be spilled.
    pub(in super::super) fn unknown(&self, listed: &[Key]) -> Option<Vec<Key>> {
        let unknown: Vec<Key> = listed.iter().copied().filter(|key| !self.stored.contains(key)).collect();
        (!unknown.is_empty()).then_some(unknown)
    }

    /// Another member has spilled this part of a lane. Returns what is held here of it, and is not any more.
    pub(in super::super) fn restore(&mut self, key: Key, first: u64, last: u64) -> Vec<Place> {
        let spill = Spill { first: first.min(last), last: first.max(last), busy: false };
        let lane = self.lane(&key);
        let copies: Vec<Place> = lane.waiting.iter().copied().filter(|place| spill.covers(*place)).collect();
        for place in &copies {
            lane.waiting.remove(place);
        }
        lane.spill = Some(spill);
        self.stored.insert(key);
        for place in &copies {
            self.held.remove(place);
        }
        copies
    }

    /// Says whether the anchor is not needed any more, and forgets it.
    pub(in super::super) fn weigh_anchor(&mut self) -> bool {
        self.stored.is_empty() && self.anchor.take().is_some()
    }

    /// Says what an arrival is that was spilled before.
    pub(super) fn arrived_spilled(&mut self, place: Place, key: Key, again: bool) -> Option<Taken> {
        let sequence = place.in_stream()?;
        if let Some((anchor, before)) = &mut self.anchor
            && *anchor == sequence
        {
            *before |= again;
            return Some(Taken::Anchor);
        }
        if !self.is_stored(place, key) {
            return None;
        }
        if self.anchor.is_some() {
            return Some(Taken::Settled);
        }
        self.anchor = Some((sequence, again));
        Some(Taken::Anchor)
    }

    /// Says whether the store holds the event, or held it lately.
    pub(super) fn is_stored(&self, place: Place, key: Key) -> bool {
        let lane = || self.lanes.get(&key)?.spill.as_ref();
        self.stored.contains(&key) && lane().is_some_and(|spill| spill.covers(place))
    }

    /// Makes a lane an ordinary one again of which nothing went to the store before its head was settled.
    pub(super) fn close_unused(&mut self, key: Key) {
        let unused = |lane: &Lane| {
            let unused = lane.spill.as_ref().is_some_and(|spill| spill.is_unused() && !spill.busy);
            unused && lane.is_through()
        };
        if !self.stored.is_empty() && self.lanes.get(&key).is_some_and(unused) {
            self.close(key);
        }
    }

    fn close(&mut self, key: Key) {
        self.lane(&key).spill = None;
        self.stored.remove(&key);
    }

    fn at_rest(&mut self, key: Key) {
        if let Some(spill) = &mut self.lane(&key).spill {
            spill.busy = false;
        }
    }

    /// Returns the next lane, in turns, that `may`.
    fn next_stored(&mut self, may: impl Fn(&Lane) -> bool) -> Option<Key> {
        let after = self.stored.range((Excluded(self.turn), Unbounded));
        let mut all = after.chain(self.stored.range(..=self.turn));
        let key = *all.find(|key| self.lanes.get(*key).is_some_and(&may))?;
        self.turn = key;
        Some(key)
    }
}

impl Lane {
    /// Says whether something of it may go to the store or come back.
    fn may_move(&self) -> bool {
        self.suspects.is_empty() && self.spill.as_ref().is_some_and(|spill| !spill.busy)
    }

    /// Says whether it can only go on with what is in the store.
    fn is_hungry(&self) -> bool {
        self.may_move() && self.is_through() && self.spill.as_ref().is_some_and(|spill| !spill.is_unused())
    }

    /// Says whether nothing is left that stands before or in what was spilled.
    fn is_through(&self) -> bool {
        let left = self
            .waiting
            .first()
            .is_some_and(|head| self.spill.as_ref().is_none_or(|spill| !spill.is_behind(*head)));
        self.running.is_none() && self.parked.is_none() && !left
    }

    /// Returns what has to go behind what was spilled.
    fn excess(&self) -> impl Iterator<Item = Place> {
        let last = self.spill.as_ref().map(|spill| Place::Stream(spill.last));
        last.into_iter().flat_map(|last| self.waiting.range((Excluded(last), Unbounded)).copied())
    }
}

impl Place {
    /// Returns the sequence in the stream of events.
    fn in_stream(&self) -> Option<u64> {
        match self {
            Self::Stream(sequence) => Some(*sequence),
            Self::Inlet(_) => None,
        }
    }
}
