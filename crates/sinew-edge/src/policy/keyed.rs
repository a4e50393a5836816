//! Counts by key: as many as there is room for, whoever invents keys.
//!
//! A key that is as good as forgotten makes room for another one. While all of them count, those in the table stay, and
//! whoever comes on top is counted by the network it comes from, together with others: an attacker that invents keys
//! neither pushes out those of others nor gets a fresh limit with each.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{
    key::Digest,
    meter::{Count, Meter, Verdict},
};

/// Parts of a table that are locked apart.
const SHARDS: usize = 16;
/// Counts for who has no room in the table.
const LANES: usize = 256;
/// Shortest time between two searches for room in a part, in nanoseconds: each looks at every key of it.
const SEARCH_PAUSE: u64 = nanos_of_millis(100);
/// Shortest time between two warnings, in nanoseconds.
const WARN_PAUSE: u64 = nanos_of_millis(60_000);

/// The counts of one limit.
#[derive(Debug)]
pub(crate) struct Keyed {
    /// What the limit is called, here and on other replicas.
    pub(crate) id: String,
    meter: Meter,
    /// Keys for each part.
    room: usize,
    placing: RandomState,
    /// A plain lock: held for a few additions, never across an await, by two in a hundred requests at once at worst.
    shards: Vec<Mutex<Shard>>,
    lanes: Vec<Mutex<Count>>,
    /// Requests that had no room of their own.
    crowded: AtomicU64,
    /// When that was told last.
    told: AtomicU64,
    /// Whether what is counted is gathered for other replicas.
    gathers: bool,
    /// Requests that passed, and those that did not.
    passed: AtomicU64,
    refused: AtomicU64,
}

/// Where a request was counted, to take it back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Own(Digest),
    Lane(usize),
}

#[derive(Debug, Default)]
struct Shard {
    counts: HashMap<Digest, Counted>,
    /// Keys with something to tell other replicas.
    untold: Vec<Digest>,
    searched: Option<u64>,
}

#[derive(Debug)]
struct Counted {
    count: Count,
    /// What other replicas do not know.
    untold: u32,
}

impl Keyed {
    /// Makes a table with room for about `keys`.
    pub(crate) fn new(id: String, meter: Meter, keys: usize, gathers: bool) -> Self {
        Self {
            id,
            meter,
            room: keys.div_ceil(SHARDS).max(1),
            placing: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            lanes: (0..LANES).map(|_| Mutex::new(meter.fresh())).collect(),
            crowded: AtomicU64::new(0),
            told: AtomicU64::new(0),
            gathers,
            passed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Returns how many requests passed and how many did not.
    pub(crate) fn told(&self) -> (u64, u64) {
        (self.passed.load(Relaxed), self.refused.load(Relaxed))
    }

    /// Says whether other replicas are told.
    pub(crate) fn is_shared(&self) -> bool {
        self.gathers
    }

    /// Counts one request of `key` if it may pass; `network` is where it comes from.
    pub(crate) fn take(&self, key: Digest, network: u64, now: u64) -> (Verdict, Place) {
        let taken = self.take_own(key, network, now);
        let count = if taken.0.admitted { &self.passed } else { &self.refused };
        count.fetch_add(1, Relaxed);
        taken
    }

    fn take_own(&self, key: Digest, network: u64, now: u64) -> (Verdict, Place) {
        let mut shard = self.shard(&key);
        let Some(counted) = shard.counted(key, &self.meter, self.room, now) else {
            drop(shard);
            return self.take_lane(network, now);
        };
        let verdict = self.meter.take(&mut counted.count, now);
        if verdict.admitted && self.gathers {
            counted.untold = counted.untold.saturating_add(1);
            if counted.untold == 1 {
                shard.untold.push(key);
            }
        }
        (verdict, Place::Own(key))
    }

    /// Takes a request back that was counted at `then`.
    pub(crate) fn give_back(&self, place: Place, then: u64) {
        self.passed.fetch_sub(1, Relaxed);
        match place {
            Place::Lane(lane) => self.meter.give_back(&mut locked(&self.lanes[lane]), then),
            Place::Own(key) => {
                if let Some(counted) = self.shard(&key).counts.get_mut(&key) {
                    self.meter.give_back(&mut counted.count, then);
                    counted.untold = counted.untold.saturating_sub(1);
                }
            }
        }
    }

    /// Counts what passed on another replica. A key without room is not counted.
    pub(crate) fn add(&self, key: Digest, more: u32, now: u64) {
        if let Some(counted) = self.shard(&key).counted(key, &self.meter, self.room, now) {
            self.meter.add(&mut counted.count, more, now);
        }
    }

    /// Returns what was counted since it was asked last, and forgets that.
    pub(crate) fn untold(&self) -> Vec<(Digest, u32)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut shard = locked(shard);
            let Shard { counts, untold, .. } = &mut *shard;
            all.extend(untold.drain(..).filter_map(|key| {
                let count = std::mem::take(&mut counts.get_mut(&key)?.untold);
                (count > 0).then_some((key, count))
            }));
        }
        all
    }

    /// Forgets what is as good as forgotten, and says how many keys are left.
    pub(crate) fn sweep(&self, now: u64) -> usize {
        let sweep = |shard: &Mutex<Shard>| {
            let mut shard = locked(shard);
            shard.sweep(&self.meter, now);
            shard.counts.len()
        };
        self.shards.iter().map(sweep).sum()
    }

    fn take_lane(&self, network: u64, now: u64) -> (Verdict, Place) {
        let crowded = self.crowded.fetch_add(1, Relaxed) + 1;
        let told = self.told.load(Relaxed);
        let due = crowded == 1 || now.saturating_sub(told) >= WARN_PAUSE;
        if due && self.told.compare_exchange(told, now.max(1), Relaxed, Relaxed).is_ok() {
            tracing::warn!(
                limit = self.id,
                crowded,
                "there are more keys than room for them: new ones are counted by the network they come from"
            );
        }
        let lane = (self.placing.hash_one(network) % LANES as u64) as usize;
        (self.meter.take(&mut locked(&self.lanes[lane]), now), Place::Lane(lane))
    }

    fn shard(&self, key: &Digest) -> MutexGuard<'_, Shard> {
        // Drawn anew by each process: nobody can choose keys that meet in one part.
        locked(&self.shards[(self.placing.hash_one(key) % SHARDS as u64) as usize])
    }
}

impl Shard {
    /// Returns the count of a key, a fresh one where there is room.
    fn counted(&mut self, key: Digest, meter: &Meter, room: usize, now: u64) -> Option<&mut Counted> {
        if self.counts.len() >= room && !self.counts.contains_key(&key) && !self.make_room(meter, room, now) {
            return None;
        }
        Some(self.counts.entry(key).or_insert_with(|| Counted { count: meter.fresh(), untold: 0 }))
    }

    fn make_room(&mut self, meter: &Meter, room: usize, now: u64) -> bool {
        if self.searched.is_some_and(|at| now.saturating_sub(at) < SEARCH_PAUSE) {
            return false;
        }
        self.searched = Some(now);
        self.sweep(meter, now);
        self.counts.len() < room
    }

    fn sweep(&mut self, meter: &Meter, now: u64) {
        self.counts.retain(|_, counted| counted.untold > 0 || !meter.is_idle(&counted.count, now));
        if self.counts.len() * 4 < self.counts.capacity() {
            self.counts.shrink_to(self.counts.len() * 2);
        }
    }
}

/// A count is whole between any two steps, so a panic elsewhere leaves it sound.
fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

const fn nanos_of_millis(millis: u64) -> u64 {
    millis * 1_000_000
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;

    use super::*;
    use crate::config::RateLimit;

    const SECOND: u64 = 1_000_000_000;

    fn table(requests: u32, keys: usize) -> Keyed {
        let limit: RateLimit =
            serde_json::from_value(serde_json::json!({ "name": "x", "requests": requests, "per": "10s" }))
                .unwrap();
        Keyed::new("x".into(), Meter::new(&limit), keys, true)
    }

    fn key(number: u64) -> Digest {
        Digest::of(&number.to_be_bytes())
    }

    #[test]
    fn keys_count_apart_and_what_is_given_back_was_never_counted() {
        let table = table(2, 1_000);
        let now = SECOND;
        let (first, place) = table.take(key(1), 0, now);
        assert!(first.admitted && table.take(key(1), 0, now).0.admitted);
        assert!(!table.take(key(1), 0, now).0.admitted && table.take(key(2), 0, now).0.admitted);
        table.give_back(place, now);
        assert!(table.take(key(1), 0, now).0.admitted);
        let mut untold = table.untold();
        untold.sort_by_key(|(_, count)| *count);
        assert_eq!(untold, [(key(2), 1), (key(1), 2)]);
        assert_eq!(table.untold(), []);
    }

    #[test]
    fn invented_keys_push_nobody_out_and_share_the_limit_of_their_network() {
        let table = table(3, 64);
        let patient = key(0);
        while table.take(patient, 1, SECOND).0.admitted {}
        let mut passed = 0;
        for number in 1..10_000 {
            passed += u32::from(table.take(key(number), 7, SECOND).0.admitted);
        }
        // As many as there are places, and three by way of their network.
        assert!(passed <= 64 + 16 + 3, "{passed} requests of invented keys passed");
        assert!(!table.take(patient, 1, SECOND).0.admitted, "the limit of another key was lost");
        let newcomer = table.take(key(20_000), 8, SECOND).0;
        let other_lane = table.placing.hash_one(8_u64) % 256 != table.placing.hash_one(7_u64) % 256;
        assert_eq!(newcomer.admitted, other_lane, "another network has a count of its own");
    }

    #[test]
    fn what_is_as_good_as_forgotten_makes_room() {
        let table = table(3, 32);
        for number in 0..1_000 {
            table.take(key(number), 7, SECOND);
        }
        let full = table.sweep(SECOND);
        assert!(full > 16 && full <= 32, "{full}");
        table.untold();
        assert_eq!(table.sweep(30 * SECOND), 0);
        let (verdict, place) = table.take(key(5_000), 7, 31 * SECOND);
        assert!(verdict.admitted && matches!(place, Place::Own(_)));
    }

    proptest! {
        /// However requests are spread over two tables that tell each other, what is told is what passed.
        #[test]
        fn what_is_told_is_what_passed(requests in prop::collection::vec((0u64..8, any::<bool>()), 0..200)) {
            let (here, there) = (table(5, 1_000), table(5, 1_000));
            let mut passed = [0_u32; 8];
            for (number, local) in requests {
                if local {
                    passed[number as usize] += u32::from(here.take(key(number), 0, SECOND).0.admitted);
                } else {
                    here.untold().into_iter().for_each(|(key, count)| there.add(key, count, SECOND));
                }
            }
            here.untold().into_iter().for_each(|(key, count)| there.add(key, count, SECOND));
            for (number, passed) in passed.into_iter().enumerate() {
                let left = (0..5).filter(|_| there.take(key(number as u64), 0, SECOND).0.admitted).count();
                prop_assert_eq!(left as u32, 5 - passed);
            }
        }
    }
}
