//! A small world of a server with its store, and two members that die, lag and take over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::{super::*, KEYS, Place::Stream, key};

/// What may happen in the world.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Publish,
    /// The server hands something out; it may be lost on its way.
    Deliver {
        lost: bool,
    },
    /// The server loses its patience with whatever nobody keeps alive.
    Expire,
    /// A member begins what it may.
    Start(usize),
    /// A member ends one that runs; the word of success may be lost.
    Finish {
        member: usize,
        at: usize,
        end: End,
    },
    /// A member goes on finding out what is out.
    Verify(usize),
    /// The active member dies and is started again.
    Crash,
    /// Another member is pinned; the one before does not know yet.
    Switch,
    /// A member hears that it is not the active one.
    Released(usize),
    Tick,
    /// A member begins to spill what has to be.
    Spill(usize),
    /// What a member spills is stored; the word of that may come later, or never.
    Land(usize),
    Appended(usize),
    /// A member begins to read back what may go on.
    Load(usize),
    Loaded(usize),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Well,
    WellUnheard,
    Badly,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let member = 0..2usize;
    let end = prop_oneof![6 => Just(End::Well), 1 => Just(End::WellUnheard), 3 => Just(End::Badly)];
    prop_oneof![
        6 => Just(Step::Publish),
        8 => Just(Step::Deliver { lost: false }),
        1 => Just(Step::Deliver { lost: true }),
        2 => Just(Step::Expire),
        8 => member.clone().prop_map(Step::Start),
        8 => (member.clone(), any::<usize>(), end)
            .prop_map(|(member, at, end)| Step::Finish { member, at, end }),
        6 => member.clone().prop_map(Step::Verify),
        1 => Just(Step::Crash),
        1 => Just(Step::Switch),
        2 => member.clone().prop_map(Step::Released),
        2 => Just(Step::Tick),
        5 => member.clone().prop_map(Step::Spill),
        2 => member.clone().prop_map(Step::Land),
        5 => member.clone().prop_map(Step::Appended),
        6 => member.clone().prop_map(Step::Load),
        6 => member.prop_map(Step::Loaded),
    ]
}

/// A server with one pinned consumer, and its two members.
#[derive(Default)]
pub(super) struct World {
    now: u64,
    published: u64,
    delivered: u64,
    /// What is out, who keeps it alive, and how often it was delivered.
    pub(super) pending: BTreeMap<u64, Out>,
    pub(super) acked: BTreeSet<u64>,
    again: VecDeque<u64>,
    active: usize,
    /// Counts pins.
    pin: u64,
    members: [Peer; 2],
    completed: Vec<u64>,
    /// The store, in the order it was appended to, and everything it ever took.
    pub(super) store: Vec<u64>,
    taken: BTreeSet<u64>,
    /// How often something came back.
    pub(super) returned: usize,
}

#[derive(Clone, Copy)]
pub(super) struct Out {
    kept_by: Option<usize>,
    deliveries: u32,
}

/// A member as the run loop drives it.
struct Peer {
    lanes: Lanes,
    running: Vec<u64>,
    pin: Option<u64>,
    gap: bool,
    stage: Stage,
    appending: Option<(Key, Vec<Place>)>,
    loading: Vec<Key>,
    anchor: Option<u64>,
}

#[derive(Clone, Default)]
enum Stage {
    #[default]
    Sure,
    Asking,
    Heard(Standing, Vec<Key>),
    Restoring(Vec<Key>),
    Reading(Standing),
}

impl Default for Peer {
    fn default() -> Self {
        let (lanes, running) = (Lanes::new(2), Vec::new());
        let (appending, loading) = (None, Vec::new());
        Self { lanes, running, pin: None, gap: false, stage: Stage::Sure, appending, loading, anchor: None }
    }
}

impl World {
    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Publish => self.published += 1,
            Step::Deliver { lost } => self.deliver(lost),
            Step::Expire => self.expire(),
            Step::Start(member) => self.start(member),
            Step::Finish { member, at, end } => self.finish(member, at, end),
            Step::Verify(member) => self.verify(member),
            Step::Crash => {
                self.members[self.active] = Peer::default();
                let dead = self.active;
                self.pending.values_mut().filter(|out| out.kept_by == Some(dead)).for_each(Out::drop);
                self.switch();
            }
            Step::Switch => self.switch(),
            Step::Released(member) if member != self.active => self.released(member),
            Step::Released(_) => {}
            Step::Tick => {
                self.now += 1;
                self.members.iter_mut().for_each(|peer| peer.lanes.due(Duration::from_secs(self.now)));
            }
            Step::Spill(member) => self.spill(member),
            Step::Land(member) => self.land(member),
            Step::Appended(member) => self.appended(member),
            Step::Load(member) => {
                let peer = &mut self.members[member];
                if peer.pin.is_some()
                    && let Some(key) = peer.lanes.begin_load(peer.loading.len())
                {
                    peer.loading.push(key);
                }
            }
            Step::Loaded(member) => self.loaded(member),
        }
    }

    fn switch(&mut self) {
        self.active = 1 - self.active;
        self.pin += 1;
    }

    fn deliver(&mut self, lost: bool) {
        let sequence = match self.again.pop_front() {
            Some(sequence) => sequence,
            None if self.delivered < self.published => {
                self.delivered += 1;
                self.delivered
            }
            None => return,
        };
        let deliveries = self.pending.get(&sequence).map_or(0, |out| out.deliveries) + 1;
        let kept_by = (!lost).then_some(self.active);
        self.pending.insert(sequence, Out { kept_by, deliveries });
        let peer = &mut self.members[self.active];
        if lost {
            peer.gap = true;
            return;
        }
        if peer.pin != Some(self.pin) || std::mem::take(&mut peer.gap) {
            peer.pin = Some(self.pin);
            peer.gap = false;
            peer.lanes.freeze();
            peer.stage = Stage::Asking;
        }
        match peer.lanes.arrived(Stream(sequence), &key(sequence), deliveries > 1) {
            Taken::Settled => self.ack(sequence),
            Taken::Anchor => peer.anchor = Some(sequence),
            Taken::Held | Taken::Again => {}
        }
    }

    fn spill(&mut self, member: usize) {
        let peer = &mut self.members[member];
        if peer.pin.is_none() || peer.appending.is_some() {
            return;
        }
        peer.appending = peer.lanes.begin_append(2);
        if peer.appending.is_none() && peer.lanes.spill_widest().is_some() {
            peer.appending = peer.lanes.begin_append(2);
        }
        if peer.lanes.weigh_anchor()
            && let Some(anchor) = peer.anchor.take()
        {
            self.ack(anchor);
        }
    }

    fn land(&mut self, member: usize) {
        for place in self.members[member].appending.iter().flat_map(|(_, places)| places) {
            let Stream(sequence) = *place else { continue };
            if self.taken.insert(sequence) {
                self.store.push(sequence);
            }
        }
    }

    fn appended(&mut self, member: usize) {
        self.land(member);
        let Some((key, places)) = self.members[member].appending.take() else { return };
        self.members[member].lanes.appended(key, &places);
        for place in places {
            let Stream(sequence) = place else { continue };
            if let Some(before) = self.members[member].anchor.replace(sequence) {
                self.ack(before);
            }
        }
    }

    fn loaded(&mut self, member: usize) {
        let Some(wanted) = self.members[member].loading.pop() else { return };
        let next = self.of_lane(wanted).first().copied();
        match (self.members[member].lanes.loaded(wanted, next), next) {
            (Taken::Settled, Some(settled)) => {
                self.store.retain(|sequence| *sequence != settled);
                self.members[member].loading.push(wanted);
            }
            (Taken::Again, Some(sequence)) => self.ack(sequence),
            (taken, _) => self.returned += usize::from(taken == Taken::Held),
        }
    }

    fn of_lane(&self, wanted: Key) -> Vec<u64> {
        self.store.iter().copied().filter(|sequence| key(*sequence) == wanted).collect()
    }

    fn restore(&mut self, member: usize, keys: &[Key]) {
        for key in keys {
            let stored = self.of_lane(*key);
            let (Some(first), Some(last)) = (stored.first(), stored.last()) else { continue };
            for copy in self.members[member].lanes.restore(*key, *first, *last) {
                let Stream(sequence) = copy else { continue };
                self.ack(sequence);
            }
        }
    }

    fn ack(&mut self, sequence: u64) {
        self.pending.remove(&sequence);
        self.again.retain(|other| *other != sequence);
        self.acked.insert(sequence);
    }

    fn expire(&mut self) {
        for (sequence, out) in &self.pending {
            if out.kept_by.is_none() && !self.again.contains(sequence) {
                self.again.push_back(*sequence);
            }
        }
    }

    fn start(&mut self, member: usize) {
        let peer = &mut self.members[member];
        while let Some(Start { place: Stream(sequence), .. }) = peer.lanes.start() {
            assert!(peer.running.iter().all(|other| key(*other) != key(sequence)));
            peer.running.push(sequence);
        }
    }

    fn finish(&mut self, member: usize, at: usize, end: End) {
        let peer = &mut self.members[member];
        if peer.running.is_empty() {
            return;
        }
        let sequence = peer.running.remove(at % peer.running.len());
        if matches!(end, End::Badly) && peer.pin.is_none() {
            peer.lanes.handed_back(Stream(sequence));
            self.forget(sequence, member);
            return;
        }
        if matches!(end, End::Badly) {
            return peer.lanes.failed(Stream(sequence), Duration::from_secs(self.now + 2));
        }
        let stored = peer.lanes.held.get(&Stream(sequence)).is_some_and(|held| held.stored);
        peer.lanes.done(Stream(sequence));
        self.completed.push(sequence);
        match end {
            End::Well if stored => self.store.retain(|other| *other != sequence),
            End::Well => self.ack(sequence),
            _ => self.forget(sequence, member),
        }
    }

    /// Nobody keeps the event alive any more, as far as this member is concerned.
    fn forget(&mut self, sequence: u64, member: usize) {
        if let Some(out) = self.pending.get_mut(&sequence).filter(|out| out.kept_by == Some(member)) {
            out.kept_by = None;
        }
    }

    fn verify(&mut self, member: usize) {
        let standing = self.standing();
        let listed: BTreeSet<Key> = self.store.iter().map(|sequence| key(*sequence)).collect();
        if let Stage::Restoring(keys) = self.members[member].stage.clone() {
            self.restore(member, &keys);
        }
        let peer = &mut self.members[member];
        peer.stage = match std::mem::take(&mut peer.stage) {
            Stage::Sure => Stage::Sure,
            Stage::Asking => Stage::Heard(standing, listed.into_iter().collect()),
            Stage::Heard(_, listed) if peer.lanes.unknown(&listed).is_some() => {
                Stage::Restoring(peer.lanes.unknown(&listed).unwrap())
            }
            Stage::Restoring(_) => Stage::Asking,
            Stage::Heard(standing, _) if peer.lanes.is_certain(&standing) => {
                peer.lanes.clear_suspects();
                peer.lanes.thaw();
                Stage::Sure
            }
            Stage::Heard(standing, _) if peer.lanes.is_frozen() => Stage::Reading(standing),
            Stage::Heard(..) => Stage::Asking,
            Stage::Reading(standing) => {
                for sequence in standing.floor + 1..=standing.delivered {
                    peer.lanes.suspect(Stream(sequence), &key(sequence));
                }
                peer.lanes.thaw();
                Stage::Asking
            }
        };
    }

    fn standing(&self) -> Standing {
        let floor = self.pending.keys().next().map_or(self.delivered, |first| first - 1);
        Standing {
            floor,
            delivered: self.delivered,
            pending: self.pending.len(),
            redelivered: self.pending.values().filter(|out| out.deliveries > 1).count(),
        }
    }

    fn released(&mut self, member: usize) {
        let peer = &mut self.members[member];
        (peer.pin, peer.stage, peer.appending) = (None, Stage::Sure, None);
        peer.loading.clear();
        let anchor = peer.anchor.take().map(Stream);
        for place in peer.lanes.give_up().into_iter().chain(anchor) {
            let Stream(sequence) = place else { continue };
            let mine = self.pending.get(&sequence).is_some_and(|out| out.kept_by == Some(member));
            self.forget(sequence, member);
            if mine && !self.again.contains(&sequence) {
                self.again.push_back(sequence);
            }
        }
    }

    /// From now on nothing goes wrong.
    pub(super) fn heal(&mut self) {
        self.take(Step::Released(1 - self.active));
        for round in 0..50 * (self.published + 4) {
            let end = if round < 4 { End::Badly } else { End::Well };
            if self.acked.len() as u64 == self.published && self.store.is_empty() {
                return;
            }
            for step in [Step::Tick, Step::Expire, Step::Deliver { lost: false }] {
                self.take(step);
            }
            for member in 0..2 {
                for step in [Step::Verify(member), Step::Start(member), Step::Spill(member)] {
                    self.take(step);
                }
                for step in [Step::Appended(member), Step::Load(member), Step::Loaded(member)] {
                    self.take(step);
                }
                self.take(Step::Finish { member, at: 0, end });
            }
        }
    }

    pub(super) fn check(&self) {
        assert_eq!(self.acked.len() as u64, self.published, "nothing is forgotten");
        let completed: BTreeSet<u64> = self.completed.iter().copied().collect();
        assert!(completed.into_iter().eq(1..=self.published), "everything is completed");
        for wanted in 0..u64::from(KEYS) {
            let mut seen = BTreeSet::new();
            let of_key = self.completed.iter().filter(|sequence| *sequence % u64::from(KEYS) == wanted);
            let first: Vec<u64> = of_key.copied().filter(|sequence| seen.insert(*sequence)).collect();
            assert!(first.is_sorted(), "key {wanted} was completed in the order {first:?}");
        }
    }
}

impl Out {
    fn drop(&mut self) {
        self.kept_by = None;
    }
}
