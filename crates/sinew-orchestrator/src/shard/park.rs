//! Parking: the whole state of an instance that waits is written once more, and then kept in the log alone.
//!
//! *Invariant*: what happens to an instance after it was parked is preceded in the log by its state, so that a new owner
//! never has to look at what is parked. That is so from the moment on at which the parked state joins the batch.

use std::sync::Arc;

use bytes::Bytes;
use sinew_workflow::Timestamp;

use super::{
    Release, Shard, World,
    live::{Live, Place},
    parked::Summary,
};
use crate::{
    id::Id,
    journal::Journal,
    record::{self, Item},
};

/// Bytes of parked states that may join one record: reading one of them back means reading all of them.
const AT_ONCE: usize = 32 * 1024;
/// The same while there is a crowd, so that no more are started than parked: appends are few then, and large.
const AT_ONCE_IN_A_CROWD: usize = 384 * 1024;
/// Largest state that is parked; a larger one would make waking slow.
const LARGEST: usize = 64 * 1024;
/// Milliseconds until somebody who could not be parked for a passing reason is looked at again.
const AGAIN: u64 = 1_000;

/// Whether an instance can be left to the log.
enum Leave {
    /// At once.
    Now(Option<Timestamp>),
    /// Not yet.
    Later,
    /// Not before something happens to it.
    Busy,
}

impl<J: Journal, W: World> Shard<J, W> {
    /// Returns when somebody is to be looked at, if there is room for it in the batch.
    pub(super) fn next_idle(&self) -> Option<Timestamp> {
        let next = self.idle.next().filter(|_| self.has_room_to_park())?;
        Some(next.before(self.hurry()))
    }

    fn has_room_to_park(&self) -> bool {
        self.parking < if self.is_crowded() { AT_ONCE_IN_A_CROWD } else { AT_ONCE }
    }

    fn is_crowded(&self) -> bool {
        self.live.len() > self.config.park_above
    }

    /// Returns by how many milliseconds everybody is looked at sooner than usual.
    fn hurry(&self) -> u64 {
        if self.is_crowded() { self.config.park_after_ms() } else { 0 }
    }

    /// Sees to it that an instance is looked at when it has been idle for a while.
    pub(super) fn touch(&mut self, id: &str, now: Timestamp) {
        let Some(live) = self.live.get_mut(id) else { return };
        live.touched = now;
        if !std::mem::replace(&mut live.queued, true) {
            self.idle.push(now, self.config.park_after_ms(), live.id.clone());
        }
    }

    /// Parks those who have been idle for long enough, as far as the record has room.
    pub(super) fn park(&mut self) {
        let (now, after) = (self.clock.now(), self.config.park_after_ms());
        while self.has_room_to_park() && !self.ending {
            let hurry = self.hurry();
            let Some(id) = self.idle.due(now.after(hurry)) else { break };
            // Another instance of that id has an entry of its own.
            let live = self.live.get_mut(&*id).filter(|live| Arc::ptr_eq(&live.id, &id));
            let Some(live) = live else { continue };
            live.queued = false;
            let ready = live.touched.after(after).before(hurry);
            match may_leave(live, now) {
                _ if ready > now => {
                    live.queued = true;
                    self.idle.push(now, ready.since(now), id);
                }
                Leave::Now(_) => self.write_parked(&id),
                Leave::Later => {
                    live.queued = true;
                    // Not before that in a crowd either, or nothing else would be looked at.
                    self.idle.push_again(now, hurry.saturating_add(after.max(AGAIN)), id);
                }
                Leave::Busy => {}
            }
        }
        if self.live.capacity() > 4 * self.live.len().max(4_096) {
            self.live.shrink_to(2 * self.live.len());
        }
    }

    /// Puts the parked state of an instance into the batch, unless it stands in the log already.
    fn write_parked(&mut self, id: &str) {
        // What stands beside the log is no place to be read back from.
        let most = LARGEST.min(self.config.max_record_bytes);
        let Some(live) = self.live.get_mut(id) else { return };
        if let Place::Parked(sequence) = live.place {
            return self.leave(id, sequence);
        }
        let item = match live.parked(id) {
            Ok(Some(item)) if item.len() <= most => item,
            Ok(_) => return,
            Err(error) => {
                tracing::error!(instance = id, %error, "a state cannot be parked");
                return;
            }
        };
        self.parkings += 1;
        let (number, since) = (self.parkings, live.since);
        live.place = Place::Parking(number);
        live.obsolete.append(&mut live.claims);
        self.cleaner.moves(since, id);
        self.parking += item.len();
        self.batch.push(item, vec![Release::Parked { id: id.to_owned(), number }]);
    }

    /// The parked state of an instance is acknowledged.
    pub(super) fn was_parked(&mut self, id: &str, number: u64, sequence: u64) {
        self.cleaner.moved();
        // Otherwise something happened to it since, and its state follows.
        let live = self.live.get_mut(id).filter(|live| live.place == Place::Parking(number));
        let Some(live) = live else { return };
        live.place = Place::Parked(sequence);
        let obsolete = std::mem::take(&mut live.obsolete);
        self.discard(obsolete);
        self.stands(id, sequence);
        self.leave(id, sequence);
    }

    /// Leaves an instance to the record that holds it, unless somebody waits for it by now.
    fn leave(&mut self, id: &str, sequence: u64) {
        let now = self.clock.now();
        let Some(live) = self.live.get_mut(id).filter(|_| !self.ending) else { return };
        let Leave::Now(wake) = may_leave(live, now) else { return self.touch(id, now) };
        self.world.draw(&live.state, &mut live.spans);
        let Some(mut live) = self.live.remove(id) else { return };
        self.timers.clear(&live.id, &mut live.timers);
        self.cleaner.release(live.since, id);
        self.cleaner.shelve(sequence);
        let (started, status) = (live.state.started_at().unwrap_or_default(), live.state.status());
        let summary = Summary { sequence, started, wake, status, drawn: true };
        let kind = (&live.digest, live.state.workflow().name.as_str());
        self.parked.insert(Id::of(id), &summary, kind);
        self.parked.define(&live.digest, live.definition.as_ref());
    }
}

impl Live {
    /// Encodes it for parking; `None` when it waits for more than timers and events.
    fn parked(&self, id: &str) -> Result<Option<Bytes>, crate::Error> {
        let Some(parked) = record::Parked::of(&self.state) else { return Ok(None) };
        let (definition, parked) = (Some(self.digest.to_string()), Some(Box::new(parked?)));
        Item { definition, parked, ..Item::new(id) }.encode().map(Some)
    }
}

/// Says whether an instance waits for nothing but timers and events, and nobody for it.
fn may_leave(live: &mut Live, now: Timestamp) -> Leave {
    if live.state.is_closed() || live.definition.is_none() {
        return Leave::Busy;
    }
    let Some(wake) = record::wake(&live.state) else { return Leave::Busy };
    // Whoever owns the shard next tells them again to stop: it must know of them.
    if !live.given_up().is_empty() {
        return Leave::Busy;
    }
    let is_due = wake.is_some_and(|wake| wake <= now);
    if is_due || live.since == 0 || live.moves > 0 || live.is_awaited() {
        return Leave::Later;
    }
    Leave::Now(wake)
}
