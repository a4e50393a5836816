//! What a shard keeps in memory: live instances, their timers, and a short memory of those that ended.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use sinew::{Tracer, workflow::WorkflowInstance};
use sinew_workflow::{State, TaskId, Timestamp};

use super::{Compiled, command::Reply};
use crate::{history::HistoryRecord, record::Item, spans, spans::Origin, view};

/// Ended instances that are still listed and recognised without asking the history.
const RECENT: usize = 1_000;

/// An instance.
pub(super) struct Live {
    pub(super) state: State,
    /// `None` when the definition is missing; then the instance waits for it.
    pub(super) definition: Option<Compiled>,
    pub(super) digest: Arc<str>,
    /// The oldest record the instance still needs.
    pub(super) since: u64,
    /// Whether that record is acknowledged.
    pub(super) stored: bool,
    /// Who waits for the end.
    pub(super) waiters: Vec<Reply>,
    spans: spans::Exported,
}

impl Live {
    pub(super) fn new(state: State, definition: Option<Compiled>, digest: Arc<str>) -> Self {
        let spans = spans::Exported::default();
        Self { state, definition, digest, since: 0, stored: false, waiters: Vec::new(), spans }
    }

    /// Says whether starting this again with `input` is a repetition.
    pub(super) fn is_same(&self, workflow: &str, input: &serde_json::Value) -> bool {
        self.state.workflow().name == workflow && self.state.input() == input
    }

    pub(super) fn origin(&self) -> Origin {
        Origin::of(&self.state)
    }

    pub(super) fn export_spans(&mut self, tracer: &Tracer) {
        if tracer.is_on() {
            spans::export(tracer, &self.state, &mut self.spans);
        }
    }

    pub(super) fn history(&self, instance: WorkflowInstance) -> HistoryRecord {
        HistoryRecord::new(instance, self.state.input(), &self.digest)
    }

    pub(super) fn snapshot(&self, id: &str) -> Item {
        Item {
            definition: Some(self.digest.to_string()),
            snapshot: Some(Box::new(self.state.clone())),
            ..Item::entries(id, None, Vec::new())
        }
    }
}

/// What ended lately, the newest last.
#[derive(Default)]
pub(super) struct Recent {
    ended: VecDeque<(WorkflowInstance, u64)>,
}

impl Recent {
    pub(super) fn push(&mut self, live: &Live) {
        if self.ended.len() == RECENT {
            self.ended.pop_front();
        }
        let instance = view::instance(&live.state);
        self.ended.push_back((instance, view::digest_of(live.state.input())));
    }

    /// Returns an ended instance and the digest of its input.
    pub(super) fn get(&self, id: &str) -> Option<&(WorkflowInstance, u64)> {
        self.ended.iter().rev().find(|(instance, _)| instance.id == id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &WorkflowInstance> {
        self.ended.iter().rev().map(|(instance, _)| instance)
    }
}

/// Timers of all instances, the earliest first. A timer that no longer matters is ignored by the engine.
#[derive(Default)]
pub(super) struct Timers {
    set: BTreeSet<(Timestamp, String, TaskId, u32)>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Timestamp, id: &str, task: TaskId, timer: u32) {
        self.set.insert((at, id.to_owned(), task, timer));
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.set.first().map(|(at, ..)| *at)
    }

    /// Takes one timer that is due.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<(String, TaskId, u32)> {
        if self.next()? > now {
            return None;
        }
        self.set.pop_first().map(|(_, id, task, timer)| (id, task, timer))
    }
}
