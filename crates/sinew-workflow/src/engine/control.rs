//! What others decide about an instance: cancel, terminate, pause, resume, and a parent's last word on its child.

use super::{Driver, Todo};
use crate::entry::{Fact, Kept, Timer, Trigger};
use crate::state::{Frame, Listening, Saga, Work};
use crate::{Error, Fault, Input, Status, TaskId};

/// How much may come in while an instance is paused.
const MAX_KEPT: usize = 10_000;

impl Driver<'_> {
    pub(super) fn cancel(&mut self, reason: Option<&str>) -> Result<(), Error> {
        if self.state.status() != Status::Running {
            return Ok(());
        }
        self.end_faulted(Trigger::Cancel, Fault::cancelled(reason.unwrap_or_default()).into())
    }

    /// The parent undoes this child, whether it still runs or has completed.
    pub(super) fn undo_child(&mut self, reason: Option<&str>) -> Result<(), Error> {
        let fault = Box::new(Fault::cancelled(reason.unwrap_or("the parent undoes it")));
        match self.state.status() {
            Status::Running => self.end_faulted(Trigger::Parent, fault),
            Status::Completed if self.state.recovery.is_none() => {
                let timer = self.recovery_timer();
                self.record(Fact::Recalled { fault, timer })?;
                self.recover()
            }
            Status::Completed | Status::Faulted | Status::Cancelled => Ok(()),
        }
    }

    /// The parent closed: what this child did stands.
    pub(super) fn release(&mut self) -> Result<(), Error> {
        if self.state.saga() == Saga::Pending {
            self.record(Fact::Settled { abandoned: false })?;
        }
        Ok(())
    }

    pub(super) fn terminate(&mut self, reason: Option<&str>) -> Result<(), Error> {
        self.record(Fact::Terminated { fault: Fault::terminated(reason.unwrap_or_default()).into() })
    }

    pub(super) fn suspend(&mut self) -> Result<(), Error> {
        if self.state.paused || self.state.status() != Status::Running {
            return Ok(());
        }
        self.record(Fact::Paused)
    }

    pub(super) fn resume(&mut self) -> Result<(), Error> {
        if !self.state.paused {
            return Ok(());
        }
        let kept = self.state.kept.clone();
        self.record(Fact::Resumed)?;
        for kept in kept {
            if self.state.is_closed() {
                return Ok(());
            }
            match kept {
                Kept::Answer { task, attempt, answer } => self.answer(task, attempt, answer)?,
                Kept::Event { task, attempt, event, origin } => {
                    self.hear(task, attempt, &event, origin.as_deref())?;
                }
                Kept::Timer { task, timer } => self.timer(task, timer)?,
            }
            self.settle()?;
        }
        Ok(())
    }

    /// Keeps what comes in while the instance is paused, unless it is about a compensation, or too much.
    pub(super) fn keep(&mut self, input: &Input) -> Result<bool, Error> {
        if !self.state.paused {
            return Ok(false);
        }
        let (task, kept) = match input {
            Input::Reply { task, attempt, outcome, .. } => (
                *task,
                Kept::Answer {
                    task: *task,
                    attempt: *attempt,
                    answer: self.checked(*task, outcome.clone())?,
                },
            ),
            Input::Event { task, attempt, event, origin, .. } => {
                let (event, origin) = (event.clone(), origin.clone());
                (*task, Kept::Event { task: *task, attempt: *attempt, event, origin })
            }
            Input::Timer { task, timer, .. } => (*task, Kept::Timer { task: *task, timer: *timer }),
            _ => return Ok(false),
        };
        let Some(frame) = self.state.frames.get(&task).filter(|frame| frame.undo.is_none()) else {
            return Ok(false);
        };
        if !frame.wants(&kept) || self.state.kept.contains(&kept) {
            return Ok(true);
        }
        if let Kept::Event { event, .. } = &kept
            && self.hit(task, frame, event)?.is_none()
        {
            return Ok(true);
        }
        if self.state.kept.len() >= MAX_KEPT {
            let fault = Fault::runtime(format!("more than {MAX_KEPT} inputs while it was paused"));
            self.end_faulted(Trigger::Fault, fault.into())?;
            return Ok(true);
        }
        self.record(Fact::Kept(Box::new(kept)))?;
        Ok(true)
    }

    /// Forgets what would follow in forward work, and leaves the compensations alone.
    pub(super) fn drop_forward(&mut self) {
        let frames = &self.state.frames;
        self.todo.retain(|todo| frames.get(&todo.place()).is_some_and(|frame| frame.undo.is_some()));
    }

    /// Forgets what would follow inside the run of one compensation.
    pub(super) fn drop_inside(&mut self, undo: TaskId) {
        let frames = &self.state.frames;
        self.todo.retain(|todo| frames.get(&todo.place()).is_none_or(|frame| frame.undo != Some(undo)));
    }

    /// Gives up what is in flight where a fact is about to close tasks, the innermost first.
    pub(super) fn give_up_inside(&mut self, fact: &Fact) -> Result<(), Error> {
        let all = |_: TaskId| true;
        let stopped = match fact {
            Fact::Left(left) => {
                self.in_flight(left.task, |task| task == left.task || self.state.is_within(task, left.task))
            }
            Fact::Opened(opened) => {
                self.in_flight(opened.task, |task| self.state.is_within(task, opened.task))
            }
            Fact::UndoFailed(failed) => {
                self.in_flight(failed.task, |task| self.state.is_within(task, failed.task))
            }
            Fact::UndoEnded { task: undo } => self.in_flight(*undo, |task| self.state.is_within(task, *undo)),
            Fact::Ended(_) => {
                let frames = &self.state.frames;
                self.in_flight(TaskId::WORKFLOW, |task| {
                    frames.get(&task).is_some_and(|frame| frame.undo.is_none())
                })
            }
            Fact::GaveUp { .. } | Fact::Decided { action: crate::entry::Decided::Abandon, .. } => {
                let frames = &self.state.frames;
                self.in_flight(TaskId::WORKFLOW, |task| {
                    frames.get(&task).is_some_and(|frame| frame.undo.is_some())
                })
            }
            Fact::Terminated { .. } => self.in_flight(TaskId::WORKFLOW, all),
            _ => return Ok(()),
        };
        stopped.into_iter().try_for_each(|(task, attempt)| self.stop(task, attempt))
    }

    /// Gives up what is in flight for a task.
    pub(super) fn stop(&mut self, task: TaskId, attempt: u32) -> Result<(), Error> {
        let command = matches!(&self.state.frame(task)?.work, Work::Call(call) if call.request.command);
        self.record(Fact::Stopped { task, attempt, command })
    }

    /// Finds calls and listening in flight, from a task on; those inside a task start after it.
    fn in_flight(&self, from: TaskId, which: impl Fn(TaskId) -> bool) -> Vec<(TaskId, u32)> {
        let frames = self.state.frames.range(from..).rev();
        frames
            .filter(|(task, frame)| matches!(frame.work, Work::Call(_) | Work::Listen(_)) && which(**task))
            .map(|(task, frame)| (*task, frame.attempts))
            .collect()
    }
}

impl Frame {
    /// Says whether something that came in is about what the task waits for.
    fn wants(&self, kept: &Kept) -> bool {
        let due = |timer: Option<Timer>, number| timer.is_some_and(|timer| timer.number == number);
        match kept {
            Kept::Answer { attempt, .. } => self.attempts == *attempt && self.work != Work::None,
            Kept::Event { attempt, origin, .. } => {
                let new = |listening: &Listening| {
                    !listening.ended && !listening.correlation.knows(origin.as_deref())
                };
                self.attempts == *attempt && self.listening().is_some_and(new)
            }
            Kept::Timer { timer, .. } => due(self.timeout, *timer) || due(self.timer, *timer),
        }
    }
}

impl Todo {
    /// Returns the task in or for which it is to be done.
    pub(super) fn place(&self) -> TaskId {
        match self {
            Self::Enter { parent, .. } | Self::Next { parent, .. } => *parent,
            Self::Finish { task, .. } | Self::Fail { task, .. } => *task,
        }
    }
}
