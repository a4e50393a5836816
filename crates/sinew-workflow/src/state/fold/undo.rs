//! How compensations run and end.

use std::sync::Arc;

use super::Fold;
use crate::entry::{Decided, UndoFailed, UndoStarted};
use crate::state::{Frame, Saga};
use crate::step::UndoStatus;
use crate::{Attempt, AttemptOutcome, Decision, Error, Fault, TaskId, Undo};

impl Fold<'_> {
    pub(super) fn undo_started(mut self, started: &UndoStarted) -> Result<(), Error> {
        let at = self.at;
        if !self.state.frames.contains_key(&started.task) {
            let frame = self.undo_frame(started)?;
            self.state.frames.insert(started.task, Arc::new(frame));
        }
        self.state.next_task = self.state.next_task.max(started.task.0.saturating_add(1));
        let frame = self.frame(started.task)?;
        if started.attempt != frame.attempts + 1 {
            return Err(self.illegal("a run of a compensation follows the one before"));
        }
        frame.attempts = started.attempt;
        frame.visits.clear();
        (frame.timer, frame.touched, frame.refused) = (None, false, false);
        if started.attempt == 1 {
            self.state.saga = Saga::Compensating;
        }
        let undo = self.undo(started.of)?;
        undo.status = UndoStatus::Running;
        undo.started_at.get_or_insert(at);
        let number = started.attempt;
        undo.attempts.push(Attempt {
            number,
            started_at: at,
            ended_at: None,
            outcome: None,
            fault: None,
            claims: None,
            by: None,
        });
        Ok(())
    }

    pub(super) fn undo_failed(mut self, failed: &UndoFailed) -> Result<(), Error> {
        self.interrupt_inside(failed.task)?;
        self.note_timer(failed.timer);
        let frame = self.frame(failed.task)?;
        frame.timer = failed.timer;
        let of = frame
            .undoes
            .ok_or(Error::Illegal { entry: "undo-failed", reason: "the task runs no compensation" })?;
        let outcome = match (frame.touched, frame.refused) {
            (true, _) => AttemptOutcome::Unknown,
            (false, true) => AttemptOutcome::Refused,
            (false, false) => AttemptOutcome::NotSent,
        };
        self.end_undo_attempt(of, outcome, Some(&failed.fault))?;
        if failed.timer.is_none() {
            self.undo(of)?.status = UndoStatus::Stuck;
            if failed.park || !self.is_undoing() {
                self.state.saga = Saga::Stuck;
            }
        }
        Ok(())
    }

    pub(super) fn undo_ended(mut self, task: TaskId) -> Result<(), Error> {
        self.interrupt_inside(task)?;
        let frame = self.take(task)?;
        let of = frame.undoes.ok_or(self.illegal("the task runs no compensation"))?;
        self.end_undo_attempt(of, AttemptOutcome::Completed, None)?;
        self.settle(of, UndoStatus::Compensated)
    }

    pub(super) fn decided(mut self, of: TaskId, action: Decided, decision: &Decision) -> Result<(), Error> {
        let at = self.at;
        let undo = self.undo(of)?;
        if undo.status != UndoStatus::Stuck {
            return Err(self.illegal("only stuck compensations are decided about"));
        }
        undo.decided = Some(decision.clone());
        self.state.saga = Saga::Compensating;
        let open =
            self.state.frames.iter().find(|(_, frame)| frame.undoes == Some(of)).map(|(task, _)| *task);
        match action {
            Decided::Retry => {
                let task = open.ok_or(self.illegal("the compensation is not open"))?;
                let frame = self.frame(task)?;
                (frame.started_at, frame.spent) = (at, frame.attempts);
                self.undo(of)?.status = UndoStatus::Pending;
                return Ok(());
            }
            Decided::Skip => self.settle(of, UndoStatus::Skipped)?,
            Decided::Resolve => self.settle(of, UndoStatus::Resolved)?,
            Decided::Abandon => return self.abandon(),
        }
        open.into_iter().for_each(|task| drop(self.state.frames.remove(&task)));
        Ok(())
    }

    /// The bound on undoing everything is reached: what runs is stuck, for an operator to see.
    pub(super) fn gave_up(mut self, fault: &Fault) -> Result<(), Error> {
        let running: Vec<(TaskId, TaskId)> =
            self.state.frames.iter().filter_map(|(task, frame)| Some((*task, frame.undoes?))).collect();
        for (task, of) in running {
            self.interrupt_inside(task)?;
            self.frame(task)?.timer = None;
            if self.undo(of)?.status == UndoStatus::Running {
                self.end_undo_attempt(of, AttemptOutcome::Unknown, Some(fault))?;
                self.undo(of)?.status = UndoStatus::Stuck;
            }
        }
        if let Some(recovery) = &mut self.state.recovery {
            recovery.timer = None;
        }
        self.state.saga = Saga::Stuck;
        Ok(())
    }

    fn undo_frame(&self, started: &UndoStarted) -> Result<Frame, Error> {
        let record =
            self.state.records.get(&started.of).ok_or(self.illegal("the task has nothing to undo"))?;
        let step = self.state.step(started.of).ok_or(self.illegal("the task never started"))?;
        Ok(Frame {
            undo: Some(started.task),
            undoes: Some(started.of),
            name: Arc::clone(&step.name),
            pointer: Arc::clone(&step.pointer),
            key: format!("{}/undo", step.key).into(),
            started_at: self.at,
            raw: Arc::clone(&record.output),
            input: Arc::clone(&record.input),
            data: Arc::clone(&record.output),
            context: Arc::clone(&record.context),
            ..Frame::blank()
        })
    }

    pub(super) fn abandon(mut self) -> Result<(), Error> {
        self.state.frames.retain(|_, frame| frame.undo.is_none());
        for task in self.state.records.keys().copied().collect::<Vec<_>>() {
            if self.state.step(task).is_some_and(|step| step.undo.is_some()) {
                self.settle(task, UndoStatus::Abandoned)?;
            }
        }
        Ok(())
    }

    pub(super) fn settle(&mut self, of: TaskId, status: UndoStatus) -> Result<(), Error> {
        let at = self.at;
        let undo = self.undo(of)?;
        (undo.status, undo.ended_at) = (status, Some(at));
        self.state.records.remove(&of);
        if !self.is_undoing() && self.has(UndoStatus::Stuck) {
            self.state.saga = Saga::Stuck;
        }
        self.calm();
        Ok(())
    }

    fn end_undo_attempt(
        &mut self,
        of: TaskId,
        outcome: AttemptOutcome,
        fault: Option<&Fault>,
    ) -> Result<(), Error> {
        let at = self.at;
        let undo = self.undo(of)?;
        undo.fault = fault.cloned();
        if let Some(attempt) = undo.attempts.last_mut() {
            (attempt.ended_at, attempt.outcome, attempt.fault) = (Some(at), Some(outcome), fault.cloned());
        }
        Ok(())
    }

    /// Says how a saga stands that has more to undo: as before, when something is stuck that the rest may wait for.
    pub(super) fn undoing(&self) -> Saga {
        if self.has(UndoStatus::Stuck) { Saga::Stuck } else { Saga::Compensating }
    }

    /// Says whether a compensation runs or has yet to.
    pub(super) fn is_undoing(&self) -> bool {
        self.has(UndoStatus::Pending) || self.has(UndoStatus::Running)
    }

    pub(super) fn has(&self, status: UndoStatus) -> bool {
        self.state.steps.iter().any(|step| step.undo.as_ref().is_some_and(|undo| undo.status == status))
    }

    fn undo(&mut self, of: TaskId) -> Result<&mut Undo, Error> {
        let entry = self.entry;
        let undo = self.state.step_mut(of).and_then(|step| step.undo.as_mut());
        undo.ok_or(Error::Illegal { entry, reason: "the task has nothing to undo" })
    }
}
