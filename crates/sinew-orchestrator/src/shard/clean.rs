//! Keeping the log as short as what lives in it: whole states of old instances are written again, then what stands
//! before the oldest needed record is forgotten.
//!
//! The oldest go first, and as many bytes are written again as others wrote: so cleaning costs at most as much as the
//! work itself, never holds it up, rests when nothing happens, and the log stays within twice what lives in it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::Bytes;

use super::{
    Release, Shard, World,
    live::{Live, Place},
    notes::name_of,
};
use crate::{
    Error,
    id::Id,
    journal::Journal,
    record::{ParkedItem, split},
};

/// Records of parked instances written again at once.
const SHELVES: usize = 4;

/// Bytes of log behind which what stands still is moved, and the log is shortened. Records hold one entry or a thousand,
/// so that counting them alone would let a busy log grow long.
const STRETCH: usize = 16 * 1024 * 1024;

/// Where the instances stand in the log, and what may be forgotten.
pub(super) struct Cleaner {
    /// Instances by the oldest record they need. Those whose state is on its way to a newer place are not here.
    ages: BTreeSet<(u64, String)>,
    /// Records of parked instances.
    shelves: BTreeMap<u64, Shelf>,
    /// How many of those are being written again.
    emptying: usize,
    /// The old places of what is on its way, in the order in which it will leave them, and how many leave each.
    moving: VecDeque<u64>,
    leaving: BTreeMap<u64, usize>,
    /// Bytes that others wrote and the cleaner has not yet matched.
    credit: i64,
    /// Everything before this record is forgotten.
    forgotten: u64,
    trail: Trail,
}

/// The last records this owner wrote: as many as make a stretch.
#[derive(Default)]
struct Trail {
    records: VecDeque<(u64, usize)>,
    bytes: usize,
    /// Bytes written since the log was shortened.
    since: usize,
}

/// A record of parked instances.
#[derive(Default)]
struct Shelf {
    /// How many stand there.
    count: usize,
    /// Whether they are being written again.
    emptying: bool,
}

/// What stands longest in one place.
enum Laggard {
    Instance(u64, String),
    Shelf(u64),
}

impl Cleaner {
    pub(super) fn new(first: u64) -> Self {
        Self {
            ages: BTreeSet::new(),
            shelves: BTreeMap::new(),
            emptying: 0,
            moving: VecDeque::new(),
            leaving: BTreeMap::new(),
            credit: 0,
            forgotten: first,
            trail: Trail::default(),
        }
    }

    /// Notes that a record of so many bytes stands in the log.
    pub(super) fn appended(&mut self, sequence: u64, bytes: usize) {
        self.trail.push(sequence, bytes);
    }

    /// Notes that others wrote so much; unused credit does not grow beyond `most`.
    pub(super) fn earn(&mut self, bytes: usize, most: usize) {
        let signed = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
        self.credit = self.credit.saturating_add(signed(bytes)).min(signed(most));
    }

    /// Notes that an instance needs the log from record `since` on.
    pub(super) fn keep(&mut self, since: u64, id: &str) {
        self.ages.insert((since, id.to_owned()));
    }

    /// Notes that an instance needs the log no more.
    pub(super) fn release(&mut self, since: u64, id: &str) {
        self.ages.remove(&(since, id.to_owned()));
    }

    /// Notes that what stands at `since` is on its way to a newer place.
    pub(super) fn moves(&mut self, since: u64, id: &str) {
        self.release(since, id);
        self.goes(since);
    }

    fn goes(&mut self, since: u64) {
        self.moving.push_back(since);
        *self.leaving.entry(since).or_default() += 1;
    }

    /// Notes that the state of the instance that moved first is acknowledged in its new place.
    pub(super) fn moved(&mut self) {
        let Some(since) = self.moving.pop_front() else { return };
        if let Some(count) = self.leaving.get_mut(&since) {
            *count -= 1;
            if *count == 0 {
                self.leaving.remove(&since);
            }
        }
    }

    /// Notes that one more parked instance stands in a record.
    pub(super) fn shelve(&mut self, sequence: u64) {
        self.shelves.entry(sequence).or_default().count += 1;
    }

    /// Notes that one less stands there.
    pub(super) fn unshelve(&mut self, sequence: u64) {
        let Some(shelf) = self.shelves.get_mut(&sequence) else { return };
        shelf.count = shelf.count.saturating_sub(1);
        if shelf.count == 0 && !shelf.emptying {
            self.shelves.remove(&sequence);
        }
    }

    /// Notes that a record of parked instances is written again, or was.
    fn empties(&mut self, sequence: u64, begins: bool) {
        let Some(shelf) = self.shelves.get_mut(&sequence) else { return };
        if shelf.emptying != begins {
            shelf.emptying = begins;
            self.emptying = if begins { self.emptying + 1 } else { self.emptying.saturating_sub(1) };
        }
        if shelf.count == 0 && !begins {
            self.shelves.remove(&sequence);
        }
    }

    /// Returns the oldest record anybody needs, if anybody needs one.
    fn horizon(&self) -> Option<u64> {
        let oldest = self.ages.first().map(|(since, _)| *since);
        let leaving = self.leaving.first_key_value().map(|(since, _)| *since);
        let shelf = self.shelves.first_key_value().map(|(since, _)| *since);
        [oldest, leaving, shelf].into_iter().flatten().min()
    }

    fn spend(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_sub_unsigned(bytes.try_into().unwrap_or(u64::MAX));
    }

    /// Returns what stands longest in one place, when it stands before `limit`.
    fn laggard(&self, limit: u64) -> Option<Laggard> {
        let instance = self.ages.first().filter(|(since, _)| self.credit > 0 && *since < limit);
        // Those being emptied are the oldest, so few are passed over.
        let shelf = self.shelves.iter().find(|(_, shelf)| !shelf.emptying).map(|(since, _)| *since);
        let shelf = shelf.filter(|since| self.credit > 0 && *since < limit && self.emptying < SHELVES);
        match (instance, shelf) {
            (Some((since, _)), Some(shelf)) if shelf < *since => Some(Laggard::Shelf(shelf)),
            (Some((since, id)), _) => Some(Laggard::Instance(*since, id.clone())),
            (None, shelf) => shelf.map(Laggard::Shelf),
        }
    }
}

impl Trail {
    fn push(&mut self, sequence: u64, bytes: usize) {
        self.records.push_back((sequence, bytes));
        self.bytes += bytes;
        self.since += bytes;
        while let Some((_, oldest)) = self.records.front()
            && self.bytes - oldest >= STRETCH
        {
            self.bytes -= oldest;
            self.records.pop_front();
        }
    }

    /// Returns the newest record that a whole stretch begins with; everything before it stands far behind.
    fn stretch(&self) -> u64 {
        self.records.front().filter(|_| self.bytes >= STRETCH).map_or(0, |(sequence, _)| *sequence)
    }
}

impl<J: Journal, W: World> Shard<J, W> {
    /// Moves what stands too far behind, as far as the credit goes, and forgets what nobody needs.
    pub(super) fn clean(&mut self) {
        let every = self.config.clean_every;
        let limit = self.last.saturating_sub(every).max(self.cleaner.trail.stretch());
        while let Some(laggard) = self.cleaner.laggard(limit) {
            match laggard {
                Laggard::Instance(since, id) => {
                    if !self.write_again(since, &id) {
                        break;
                    }
                }
                Laggard::Shelf(sequence) => {
                    self.cleaner.empties(sequence, true);
                    self.want_shelf(sequence);
                }
            }
        }
        let horizon = self.cleaner.horizon().unwrap_or(self.last);
        let gained = horizon.saturating_sub(self.cleaner.forgotten);
        if gained >= every || gained > 0 && self.cleaner.trail.since >= STRETCH {
            self.cleaner.forgotten = horizon;
            self.cleaner.trail.since = 0;
            let (forget, told) = (self.journal.forget(horizon), self.world.told());
            self.work.spawn(async move {
                // What is not told yet stands nowhere else.
                if !told.await {
                    return;
                }
                if let Err(error) = forget.await {
                    tracing::debug!(%error, "the log could not be shortened this time");
                }
            });
        }
    }

    /// Puts an instance's whole state into the batch; says whether it could.
    fn write_again(&mut self, since: u64, id: &str) -> bool {
        if let Some(name) = name_of(id) {
            return self.note_again(since, name);
        }
        let Some(live) = self.live.get(id).filter(|live| !live.leaving) else { return false };
        let limit = self.config.max_record_bytes;
        let pieces = match pieces(live, id, limit) {
            Ok(pieces) => pieces,
            Err(error) => {
                tracing::error!(instance = id, %error, "a state cannot be written again: it holds the log up");
                // Not tried again before a good deal more was written.
                self.cleaner.spend(limit);
                return false;
            }
        };
        self.cleaner.spend(pieces.iter().map(Bytes::len).sum());
        self.write_state(since, id, pieces);
        true
    }

    /// Puts an instance's whole state into the batch: what stands before it is not needed once it is stored.
    pub(super) fn write_state(&mut self, since: u64, id: &str, pieces: Vec<Bytes>) {
        let Some(live) = self.live.get_mut(id) else { return };
        live.obsolete.append(&mut live.claims);
        live.place = Place::Log;
        live.moves += 1;
        self.cleaner.moves(since, id);
        let last = pieces.len() - 1;
        for (index, piece) in pieces.into_iter().enumerate() {
            let mut releases = Vec::new();
            if index == 0 {
                releases.push(Release::Moving { id: id.to_owned() });
            }
            if index == last {
                releases.push(Release::Moved { id: id.to_owned() });
            }
            self.batch.push(piece, releases);
        }
    }

    /// Puts those who are still parked in a record into the batch, as they stand there.
    pub(super) fn shelve_again(&mut self, sequence: u64, items: &HashMap<Id, ParkedItem>) {
        let stands = |id: &Id| self.parked.get(id).is_some_and(|spot| spot.sequence == sequence);
        let items: Vec<_> = items.iter().filter(|(id, _)| stands(id)).collect();
        let count = items.len();
        for (index, (id, item)) in items.into_iter().enumerate() {
            self.cleaner.spend(item.item.len());
            self.cleaner.goes(sequence);
            let (id, last) = (id.clone(), index + 1 == count);
            self.batch.push(item.item.clone(), vec![Release::Shelved { id, from: sequence, last }]);
        }
        let left = self.cleaner.shelves.get(&sequence).is_some_and(|shelf| shelf.count > 0);
        if count == 0 && !left {
            self.cleaner.empties(sequence, false);
        } else if count == 0 {
            tracing::error!(sequence, "a record of parked instances lacks them: it holds the log up");
        }
    }

    /// A parked instance is acknowledged in its new place.
    pub(super) fn shelved(&mut self, id: &Id, from: u64, sequence: u64, last: bool) {
        self.cleaner.moved();
        if self.parked.moved(id, from, sequence) {
            self.cleaner.shelve(sequence);
            self.cleaner.unshelve(from);
        } else {
            let id = id.to_string();
            if let Some(live) = self.live.get_mut(&id).filter(|live| live.place == Place::Parked(from)) {
                live.place = Place::Parked(sequence);
                self.stands(&id, sequence);
            }
        }
        if last {
            self.cleaner.empties(from, false);
        }
    }
}

/// Encodes the whole state of an instance in as many items as it takes.
pub(super) fn pieces(live: &Live, id: &str, limit: usize) -> Result<Vec<Bytes>, Error> {
    live.snapshot(id).encode().and_then(|item| split(id, item, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_begins_with_the_newest_record_that_has_enough_behind_it() {
        let mut trail = Trail::default();
        for sequence in 1..=8 {
            trail.push(sequence, STRETCH / 4);
            // Four records make a stretch.
            assert_eq!(trail.stretch(), if sequence < 4 { 0 } else { sequence - 3 });
        }
        trail.push(9, 2 * STRETCH);
        assert_eq!((trail.stretch(), trail.records.len()), (9, 1));
    }
}
