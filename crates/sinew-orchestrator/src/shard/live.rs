//! An instance as its shard keeps it in memory.

use std::sync::Arc;

use sinew::{
    bus::Object,
    wire::{ContentType, encode},
};
use sinew_workflow::{State, Status, Step, StepStatus, Timestamp};

use super::{
    Compiled,
    command::{Answer, Reply},
    timers::OwnTimers,
};
use crate::{
    calls::id_of,
    history::Finished,
    record::Item,
    spans::{Exported, Origin},
    view,
};

/// An instance.
pub(super) struct Live {
    pub(super) id: Arc<str>,
    pub(super) state: State,
    /// `None` when the definition is missing; then the instance does nothing.
    pub(super) definition: Option<Compiled>,
    pub(super) digest: Arc<str>,
    /// The oldest record the instance needs; 0 until it is acknowledged.
    pub(super) since: u64,
    /// Where its state begins that is being written again.
    pub(super) moving: u64,
    /// How often its state is on its way to the log.
    pub(super) moves: u32,
    /// Where its state stands, when nothing stands behind it.
    pub(super) place: Place,
    /// When something happened to it last.
    pub(super) touched: Timestamp,
    /// Whether it is in the queue of those who may be idle.
    pub(super) queued: bool,
    /// Whether the word that it is not needed any more is on its way to the log.
    pub(super) leaving: bool,
    /// How it ended, once that is acknowledged.
    pub(super) ended: Option<Arc<Finished>>,
    pub(super) timers: OwnTimers,
    pub(super) spans: Exported,
    /// Values beside the log that its entries name.
    pub(super) claims: Vec<Object>,
    /// Those that a state written again makes superfluous.
    pub(super) obsolete: Vec<Object>,
    waiters: Vec<Reply>,
}

/// Where the log holds an instance that may be parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In what happened to it.
    Log,
    /// Its parked state, the one with this number, is on its way.
    Parking(u64),
    /// In the parked state of this record.
    Parked(u64),
}

impl Live {
    pub(super) fn new(id: &str, state: State, definition: Option<Compiled>, digest: Arc<str>) -> Self {
        Self {
            id: id.into(),
            state,
            definition,
            digest,
            since: 0,
            moving: 0,
            moves: 0,
            place: Place::Log,
            touched: Timestamp::default(),
            queued: false,
            leaving: false,
            ended: None,
            timers: OwnTimers::default(),
            spans: Exported::default(),
            claims: Vec::new(),
            obsolete: Vec::new(),
            waiters: Vec::new(),
        }
    }

    /// Says whether starting this again with `input` is a repetition.
    pub(super) fn is_same(&self, workflow: &str, input: &serde_json::Value) -> bool {
        self.state.workflow().name == workflow && self.state.input() == input
    }

    pub(super) fn origin(&self) -> Origin {
        Origin::of(&self.state)
    }

    /// Notes somebody who waits for the end; those who gave up make room.
    pub(super) fn wait(&mut self, reply: Reply) {
        self.waiters.retain(|waiter| !waiter.is_abandoned());
        self.waiters.push(reply);
    }

    /// Says whether somebody waits for the end.
    pub(super) fn is_awaited(&mut self) -> bool {
        self.waiters.retain(|waiter| !waiter.is_abandoned());
        !self.waiters.is_empty()
    }

    /// Hands out those who wait for the end.
    pub(super) fn take_waiters(&mut self) -> Vec<Reply> {
        std::mem::take(&mut self.waiters)
    }

    /// Returns the ids of the workflows that ran as children of this one.
    pub(super) fn children(&self) -> impl Iterator<Item = String> {
        self.state.children().map(|step| id_of(&step.key))
    }

    /// Returns those of them that this instance gave up: their word to stop may have been lost with its owner.
    pub(super) fn given_up(&self) -> Vec<String> {
        let given_up = |step: &&Step| {
            matches!(step.status, StepStatus::Unknown | StepStatus::Failed | StepStatus::Refused)
        };
        self.state.children().filter(given_up).map(|step| id_of(&step.key)).collect()
    }

    /// Makes the record of an instance that ended, and what those are told who wait for its end.
    pub(super) fn finish(&mut self) -> (Arc<Finished>, Answer) {
        let instance = view::instance(&self.state);
        let told = match encode(ContentType::MessagePack, &instance) {
            Ok(bytes) if self.state.status() == Status::Completed => Answer::Completed(bytes),
            _ => Answer::of(instance.clone()),
        };
        let finished = Arc::new(Finished::of(instance, self.state.input(), &self.digest));
        self.ended = Some(finished.clone());
        (finished, told)
    }

    pub(super) fn snapshot(&self, id: &str) -> Item {
        let (definition, snapshot) = (Some(self.digest.to_string()), Some(Box::new(self.state.clone())));
        Item { definition, snapshot, ..Item::new(id) }
    }
}
