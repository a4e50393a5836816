//! Parked instances as their shard keeps them in memory: where each stands in the log, when it wakes, what lists show.
//! Knows nothing of their states.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use sinew_workflow::{Status, Timestamp};

use super::Compiled;
use crate::id::Id;

/// A timestamp no timer has.
const NEVER: i64 = i64::MAX;

/// All parked instances of a shard.
#[derive(Default)]
pub(super) struct Parked {
    spots: HashMap<Id, Spot>,
    /// When each is to be woken whose wake is not under way.
    wakes: BTreeSet<(Timestamp, Id)>,
    kinds: Vec<Kind>,
}

/// What is known of a parked instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// The record that holds it.
    pub(super) sequence: u64,
    pub(super) started: Timestamp,
    wake: Timestamp,
    kind: u32,
    pub(super) status: Status,
    /// Whether this owner has drawn all that ended.
    pub(super) drawn: bool,
}

/// What instances of one definition have in common.
#[derive(Clone)]
pub(super) struct Kind {
    pub(super) digest: Arc<str>,
    pub(super) workflow: Arc<str>,
    /// `None` when it is missing.
    pub(super) definition: Option<Compiled>,
    /// How many of them are parked.
    count: usize,
}

/// What is told of an instance that is to be parked.
pub(super) struct Summary {
    pub(super) sequence: u64,
    pub(super) started: Timestamp,
    pub(super) wake: Option<Timestamp>,
    pub(super) status: Status,
    pub(super) drawn: bool,
}

impl Parked {
    pub(super) fn len(&self) -> usize {
        self.spots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spots.is_empty()
    }

    pub(super) fn get(&self, id: &Id) -> Option<&Spot> {
        self.spots.get(id)
    }

    /// Parks an instance, in the place of what was known of it before.
    pub(super) fn insert(&mut self, id: Id, summary: &Summary, (digest, workflow): (&Arc<str>, &str)) {
        self.remove(&id);
        let kind = self.kind(digest, workflow);
        let Summary { sequence, started, wake, status, drawn } = *summary;
        if let Some(wake) = wake {
            self.wakes.insert((wake, id.clone()));
        }
        let wake = wake.unwrap_or(Timestamp::from_millis(NEVER));
        self.spots.insert(id, Spot { sequence, started, wake, kind, status, drawn });
    }

    /// Notes the definition that instances of a digest run.
    pub(super) fn define(&mut self, digest: &str, definition: Option<&Compiled>) {
        let kinds = self.kinds.iter_mut().filter(|kind| &*kind.digest == digest);
        kinds.for_each(|kind| kind.definition = definition.cloned());
    }

    pub(super) fn remove(&mut self, id: &Id) -> Option<(Spot, Kind)> {
        let spot = self.spots.remove(id)?;
        // One that is woken by its timer is not there any more.
        self.wakes.remove(&(spot.wake, id.clone()));
        if self.spots.capacity() > 4 * self.spots.len().max(1_024) {
            self.spots.shrink_to(2 * self.spots.len());
        }
        let kind = self.kinds.get_mut(place(spot.kind))?;
        kind.count -= 1;
        let common = kind.clone();
        if kind.count == 0 {
            kind.definition = None;
        }
        Some((spot, common))
    }

    /// Notes that an instance stands elsewhere in the log now; says whether it stood at `from`.
    pub(super) fn moved(&mut self, id: &Id, from: u64, to: u64) -> bool {
        let spot = self.spots.get_mut(id).filter(|spot| spot.sequence == from);
        spot.map(|spot| spot.sequence = to).is_some()
    }

    /// Returns when the next one is to be woken.
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Takes one whose time has come. It stays parked until it is removed.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<Id> {
        if self.next_wake()? > now {
            return None;
        }
        self.wakes.pop_first().map(|(_, id)| id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Id, &Spot)> {
        self.spots.iter()
    }

    pub(super) fn workflow(&self, spot: &Spot) -> &str {
        self.kinds.get(place(spot.kind)).map_or("", |kind| &kind.workflow)
    }

    pub(super) fn digests(&self) -> impl Iterator<Item = &Arc<str>> {
        self.kinds.iter().filter(|kind| kind.count > 0).map(|kind| &kind.digest)
    }

    fn kind(&mut self, digest: &Arc<str>, workflow: &str) -> u32 {
        let known = self.kinds.iter().position(|kind| kind.count > 0 && kind.digest == *digest);
        let at = known.unwrap_or_else(|| {
            let new = Kind { digest: digest.clone(), workflow: workflow.into(), definition: None, count: 0 };
            match self.kinds.iter().position(|kind| kind.count == 0) {
                Some(free) => {
                    self.kinds[free] = new;
                    free
                }
                None => {
                    self.kinds.push(new);
                    self.kinds.len() - 1
                }
            }
        });
        self.kinds[at].count += 1;
        u32::try_from(at).unwrap_or(u32::MAX)
    }
}

fn place(kind: u32) -> usize {
    usize::try_from(kind).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(sequence: u64, wake: Option<i64>) -> Summary {
        let (started, wake) = (Timestamp::default(), wake.map(Timestamp::from_millis));
        Summary { sequence, started, wake, status: Status::Running, drawn: true }
    }

    #[test]
    fn a_parked_instance_takes_little_room() {
        assert!(size_of::<(Id, Spot)>() <= 64 && size_of::<(Timestamp, Id)>() <= 32);
    }

    #[test]
    fn the_parked_wake_in_their_order_and_once() {
        let (mut parked, kind) = (Parked::default(), (&Arc::from("d"), "flow"));
        for (id, wake) in [("b", Some(20)), ("a", Some(10)), ("c", None), ("d", Some(15))] {
            parked.insert(Id::of(id), &summary(1, wake), kind);
        }
        parked.remove(&Id::of("d"));
        let due = |parked: &mut Parked| parked.due(Timestamp::from_millis(30)).map(|id| id.to_string());
        assert_eq!(parked.due(Timestamp::from_millis(9)), None);
        assert_eq!([due(&mut parked), due(&mut parked)], [Some("a".to_owned()), Some("b".to_owned())]);
        assert_eq!((due(&mut parked), parked.len()), (None, 3));
    }

    #[test]
    fn only_one_that_stands_where_it_is_said_to_moves() {
        let (mut parked, id) = (Parked::default(), Id::of("a"));
        parked.insert(id.clone(), &summary(7, None), (&Arc::from("d"), "flow"));
        assert!(!parked.moved(&id, 6, 9) && parked.moved(&id, 7, 9));
        assert_eq!(
            parked.remove(&id).map(|(spot, kind)| (spot.sequence, kind.workflow)),
            Some((9, "flow".into()))
        );
        assert!(parked.is_empty() && parked.digests().next().is_none());
    }
}
