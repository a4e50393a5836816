//! Undoing: compensations in the reverse order of starts, retried until done, or stuck for an operator.

use std::sync::Arc;

use serde_json::json;

use super::catch::Tries;
use super::env::Env;
use super::{Driver, Todo};
use crate::entry::{Fact, UndoFailed, UndoStarted};
use crate::state::Saga;
use crate::step::UndoStatus;
use crate::{Error, Fault, Status, TaskId};

/// Faults that running again cannot cure: the definition itself is wrong.
const INCURABLE: [&str; 3] = ["expression", "configuration", "compensation"];

impl Driver<'_> {
    /// Starts the compensations whose turn it is, and settles the saga when none is left.
    pub(super) fn recover(&mut self) -> Result<(), Error> {
        if self.state.is_closed() {
            return Ok(());
        }
        let policy = &self.definition.plan.saga;
        let stuck = self.stuck().is_some();
        if self.with_status(UndoStatus::Running).is_some() && !policy.parallel || stuck && policy.park {
            return Ok(());
        }
        while let Some(of) = self.with_status(UndoStatus::Pending) {
            // One that an operator wants again is still open.
            let open = self.state.frames.iter().find(|(_, frame)| frame.undoes == Some(of));
            let fresh = (TaskId(self.state.next_task), 1);
            let (task, attempt) = open.map_or(fresh, |(task, frame)| (*task, frame.attempts + 1));
            self.run_undo(task, of, attempt)?;
            if !policy.parallel {
                return Ok(());
            }
        }
        // What lost a race is undone while the work goes on, and a completed child waits for its parent.
        let over = self.state.status() != Status::Running && self.state.saga() != Saga::Pending;
        if over && self.with_status(UndoStatus::Running).is_none() && !stuck {
            self.record(Fact::Settled { abandoned: false })?;
        }
        Ok(())
    }

    /// Runs a compensation, for the first time or again.
    pub(super) fn run_undo(&mut self, task: TaskId, of: TaskId, attempt: u32) -> Result<(), Error> {
        self.record(Fact::UndoStarted(Box::new(UndoStarted { task, of, attempt })))?;
        let frame = self.state.frame(task)?;
        let (_, plan) = self.planned(frame)?;
        match plan.compensate {
            Some(compensation) => {
                self.todo.push(Todo::Enter { parent: task, task: compensation, branch: None })
            }
            None => return Err(Error::UnknownTask { pointer: format!("{}/compensate", frame.pointer) }),
        }
        Ok(())
    }

    /// A compensation did its work.
    pub(super) fn undone(&mut self, task: TaskId) -> Result<(), Error> {
        self.record(Fact::UndoEnded { task })?;
        self.recover()
    }

    /// A run of a compensation failed: it runs again later, or is stuck.
    pub(super) fn undo_failed(&mut self, task: TaskId, fault: Box<Fault>) -> Result<(), Error> {
        let frame = self.state.frame(task)?;
        let (_, plan) = self.planned(frame)?;
        let retry = &self.definition.plan.saga.retry;
        let tries = Tries {
            number: frame.attempts.saturating_sub(frame.spent),
            since: frame.started_at,
            key: &frame.key,
        };
        let env = Env::inside(self, task, frame, plan).with("error", Arc::new(json!(fault)));
        let pause = if INCURABLE.contains(&fault.kind()) {
            None
        } else {
            self.pause(retry, &tries, &env, &frame.data).ok().flatten()
        };
        match pause {
            None => self.undo_stuck(task, fault),
            Some(millis) => {
                let timer = Some(self.next_timer(millis));
                self.record(Fact::UndoFailed(Box::new(UndoFailed { task, fault, timer, park: false })))
            }
        }
    }

    /// A compensation will not run again by itself.
    pub(super) fn undo_stuck(&mut self, task: TaskId, fault: Box<Fault>) -> Result<(), Error> {
        let park = self.definition.plan.saga.park;
        self.record(Fact::UndoFailed(Box::new(UndoFailed { task, fault, timer: None, park })))?;
        self.recover()
    }

    /// Undoing everything took longer than the policy allows.
    pub(super) fn give_up(&mut self) -> Result<(), Error> {
        self.record(Fact::GaveUp { fault: Fault::timeout("the saga was not undone in time") })
    }

    /// Returns the stuck compensation an operator decides about: the one whose step started last.
    pub(super) fn stuck(&self) -> Option<TaskId> {
        self.with_status(UndoStatus::Stuck)
    }

    fn with_status(&self, status: UndoStatus) -> Option<TaskId> {
        let steps = self.state.steps.iter().rev();
        let mut matching = steps.filter(|step| step.undo.as_ref().is_some_and(|undo| undo.status == status));
        matching.next().map(|step| step.task)
    }
}
