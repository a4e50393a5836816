//! How tasks end, and what of them may have to be undone.

use std::sync::Arc;

use serde_json::Value;

use super::Fold;
use crate::entry::{Ended, Left, Timer, Trigger};
use crate::state::{Frame, Record, Recovery, Work};
use crate::{AttemptOutcome, Error, Fault, Status, StepStatus, TaskId, Undo};

impl Fold<'_> {
    pub(super) fn close_completed(&mut self, left: &Left) -> Result<(), Error> {
        let frame = self.take(left.task)?;
        if let Some(winner) = left.winner {
            self.lose(left.task, winner);
        }
        let output = left.output.or(frame.outcome());
        if let Some(context) = left.context.value() {
            match frame.undo {
                Some(undo) => self.frame(undo)?.context = Arc::clone(context),
                None => self.state.context = Arc::clone(context),
            }
        }
        let at = self.at;
        if let Some(step) = self.state.step_mut(left.task).filter(|_| frame.undo.is_none()) {
            (step.status, step.ended_at) = (StepStatus::Completed, Some(at));
        }
        if frame.compensate && self.may_record(&frame) {
            // A composite that completed is undone as a whole, whatever its parts could do.
            self.forget_inside(left.task);
            self.remember(left.task, &frame, Arc::clone(&output));
        }
        if frame.pivot && frame.undo.is_none() {
            self.commit();
        }
        let parent = self.leave(&frame)?;
        if left.chosen.is_some() {
            parent.chosen.clone_from(&left.chosen);
        }
        match frame.branch {
            Some(branch) => drop(parent.results.insert(branch, output)),
            None => parent.data = output,
        }
        Ok(())
    }

    /// Closes a task that raised an error or was interrupted, with the tasks inside already closed.
    pub(super) fn close_failed(&mut self, task: TaskId, fault: Option<&Fault>) -> Result<(), Error> {
        let mut frame = self.take(task)?;
        if !matches!(frame.work, Work::None | Work::Listen(_)) {
            Arc::make_mut(&mut frame).touched = true;
            self.end_attempt(task, AttemptOutcome::Unknown, fault);
        }
        let unsure = frame.touched && frame.answer.is_none();
        let recorded = frame.compensate && self.may_record(&frame) && self.remember_failed(task, &frame);
        let status = match frame.attempts {
            0 if recorded && unsure => StepStatus::Unknown,
            0 => StepStatus::Failed,
            _ if unsure => StepStatus::Unknown,
            _ if frame.refused => StepStatus::Refused,
            _ => StepStatus::Failed,
        };
        let at = self.at;
        if let Some(step) = self.state.step_mut(task).filter(|_| frame.undo.is_none()) {
            (step.status, step.ended_at, step.fault) = (status, Some(at), fault.cloned());
        }
        self.leave(&frame)?;
        Ok(())
    }

    /// Interrupts every open task inside a task, the innermost first: their outcome is unknown where they had asked for
    /// anything.
    pub(super) fn interrupt_inside(&mut self, task: TaskId) -> Result<(), Error> {
        while let Some(inner) = self.last_inside(task) {
            self.close_failed(inner, None)?;
        }
        Ok(())
    }

    /// Ends the forward work: interrupts what is open, and begins to undo when asked to and when there is anything.
    pub(super) fn ended(mut self, ended: &Ended) -> Result<(), Error> {
        if self.state.status != Some(Status::Running) {
            return Err(self.illegal("the forward work has already ended"));
        }
        self.interrupt_inside(TaskId::WORKFLOW)?;
        let root = self.take(TaskId::WORKFLOW)?;
        self.note_timer(ended.timer);
        (self.state.paused, self.state.kept) = (false, Vec::new());
        self.state.status = Some(ended.status);
        self.state.fault = ended.fault.as_deref().cloned();
        if ended.status == Status::Completed {
            self.state.output = Some(ended.output.or(&root.data));
        }
        match (ended.trigger, &ended.fault) {
            (Some(trigger), Some(fault)) if !self.state.records.is_empty() => {
                self.undo_all(trigger, fault, ended.timer);
            }
            _ => self.stand(),
        }
        Ok(())
    }

    /// Begins to undo everything that may have to be.
    pub(super) fn undo_all(&mut self, trigger: Trigger, fault: &Fault, timer: Option<Timer>) {
        let started_at = self.at;
        self.state.recovery = Some(Recovery { trigger, fault: fault.clone(), started_at, timer });
        self.state.saga = self.undoing();
        self.plan_undos(self.state.records.keys().copied().collect(), false);
    }

    fn plan_undos(&mut self, tasks: Vec<TaskId>, lost: bool) {
        for task in tasks {
            if let Some(step) = self.state.step_mut(task) {
                // What lost before is on its way already.
                step.undo.get_or_insert_with(|| Undo::pending(lost));
            }
        }
    }

    /// Begins to undo what the losing branches of a fork did.
    fn lose(&mut self, fork: TaskId, winner: TaskId) {
        let records = self.state.records.keys().copied();
        let lost: Vec<TaskId> = records
            .filter(|record| {
                self.state.is_part(*record, fork) && *record != winner && !self.state.is_part(*record, winner)
            })
            .collect();
        if !lost.is_empty() {
            self.state.saga = self.undoing();
            self.plan_undos(lost, true);
        }
    }

    /// What was done stands: nothing of it is undone any more, except what is on its way already.
    fn commit(&mut self) {
        self.state.committed = true;
        self.forget(|_, _| true);
        self.calm();
    }

    /// Notes a failed task for undoing when something of it may have been done and its parts do not answer for that.
    fn remember_failed(&mut self, task: TaskId, frame: &Frame) -> bool {
        let known = self.state.records.contains_key(&task);
        let parts = self.state.records.keys().any(|record| self.state.is_part(*record, task));
        let due = frame.touched && !known && !parts;
        if due {
            self.remember(task, frame, frame.answer.clone().unwrap_or_else(|| Arc::new(Value::Null)));
        }
        due || known
    }

    fn remember(&mut self, task: TaskId, frame: &Frame, output: Arc<Value>) {
        let context = Arc::clone(&self.state.context);
        self.state.records.insert(task, Record { output, input: Arc::clone(&frame.input), context });
    }

    fn forget_inside(&mut self, task: TaskId) {
        self.forget(|fold, record| fold.state.is_part(record, task));
    }

    /// Forgets records whose undo has not begun.
    pub(super) fn forget(&mut self, which: impl Fn(&Self, TaskId) -> bool) {
        let idle = |record: TaskId| self.state.step(record).is_none_or(|step| step.undo.is_none());
        let records = self.state.records.keys().copied();
        let forgotten: Vec<TaskId> = records.filter(|record| idle(*record) && which(self, *record)).collect();
        forgotten.iter().for_each(|record| drop(self.state.records.remove(record)));
    }

    /// Says whether a forward task may still be undone: nothing past the pivot is.
    fn may_record(&self, frame: &Frame) -> bool {
        frame.undo.is_none() && !self.state.committed
    }

    /// Finds the open task inside a task that started last. Those inside always started after it.
    fn last_inside(&self, task: TaskId) -> Option<TaskId> {
        let parent = |task: TaskId| self.state.frames.get(&task).and_then(|frame| frame.parent);
        let inside = |inner: TaskId| {
            std::iter::successors(parent(inner), |task| parent(*task)).any(|ancestor| ancestor == task)
        };
        self.state.frames.keys().rev().copied().find(|inner| inside(*inner))
    }

    /// Tells the parent what a closed task did to the world, and returns it.
    fn leave(&mut self, frame: &Frame) -> Result<&mut Frame, Error> {
        let parent = frame.parent.ok_or(self.illegal("the workflow itself is not left"))?;
        let parent = self.frame(parent)?;
        parent.touched |= frame.touched;
        parent.refused = frame.refused;
        Ok(parent)
    }

    pub(super) fn take(&mut self, task: TaskId) -> Result<Arc<Frame>, Error> {
        let entry = self.entry;
        self.state.frames.remove(&task).ok_or(Error::Illegal { entry, reason: "the task is not open" })
    }
}
