//! Timers of all instances, the earliest first. A timer that no longer matters is ignored by the engine.

use std::{collections::BTreeSet, sync::Arc};

use sinew_workflow::{Effect, State, TaskId, Timestamp};

/// Timers of one instance beyond which it is looked which of them still matter.
const PRUNE: usize = 64;

#[derive(Default)]
pub(super) struct Timers {
    set: BTreeSet<(Timestamp, Arc<str>, TaskId, u32)>,
}

/// The timers of one instance, so that they go when it goes.
pub(super) struct OwnTimers {
    set: Vec<(Timestamp, TaskId, u32)>,
    prune_at: usize,
}

impl Default for OwnTimers {
    fn default() -> Self {
        Self { set: Vec::new(), prune_at: PRUNE }
    }
}

impl Timers {
    pub(super) fn set(
        &mut self,
        id: &Arc<str>,
        own: &mut OwnTimers,
        state: &State,
        timer: (Timestamp, TaskId, u32),
    ) {
        let (at, task, number) = timer;
        if self.set.insert((at, id.clone(), task, number)) {
            own.set.push(timer);
        }
        if own.set.len() >= own.prune_at {
            self.prune(id, own, state);
        }
    }

    /// Forgets the timers of an instance.
    pub(super) fn clear(&mut self, id: &Arc<str>, own: &mut OwnTimers) {
        for (at, task, number) in own.set.drain(..) {
            self.set.remove(&(at, id.clone(), task, number));
        }
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.set.first().map(|(at, ..)| *at)
    }

    /// Takes one timer that is due.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<(Arc<str>, TaskId, u32)> {
        if self.next()? > now {
            return None;
        }
        self.set.pop_first().map(|(_, id, task, number)| (id, task, number))
    }

    /// Forgets those the instance does not wait for any more, as a long loop leaves many behind.
    fn prune(&mut self, id: &Arc<str>, own: &mut OwnTimers, state: &State) {
        self.clear(id, own);
        let waited = state.due().into_iter().filter_map(|effect| match effect {
            Effect::Timer { task, timer, at } => Some((at, task, timer)),
            _ => None,
        });
        own.set = waited.collect();
        self.set.extend(own.set.iter().map(|(at, task, number)| (*at, id.clone(), *task, *number)));
        own.prune_at = PRUNE.max(own.set.len() * 2);
    }
}
