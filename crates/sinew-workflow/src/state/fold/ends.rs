//! How an instance comes to rest: committed, compensated, waiting for its parent, terminated; and how it is paused.

use super::Fold;
use crate::entry::{Kept, Timer, Trigger};
use crate::state::Saga;
use crate::step::UndoStatus;
use crate::{Error, Fault, Status, Undo};

impl Fold<'_> {
    /// Nothing has to be undone because of how the work ended: it stands, unless a parent may still want it undone.
    pub(super) fn stand(&mut self) {
        if !self.is_held() {
            self.forget(|_, _| true);
        }
        self.calm();
        // What lost a race may still be on its way.
        if self.state.records.is_empty() {
            self.close();
        }
    }

    pub(super) fn settled(mut self, abandoned: bool) -> Result<(), Error> {
        let running = self.state.status == Some(Status::Running);
        if running || self.state.is_closed() || !self.state.frames.is_empty() {
            return Err(self.illegal("a saga settles once, when no compensation is open"));
        }
        self.state.records.clear();
        self.calm();
        if abandoned {
            self.state.saga = Saga::Abandoned;
        } else if self.state.recovery.is_some() {
            self.state.saga = Saga::Compensated;
        }
        self.close();
        Ok(())
    }

    pub(super) fn recalled(mut self, fault: &Fault, timer: Option<Timer>) -> Result<(), Error> {
        if self.state.is_closed()
            || self.state.status != Some(Status::Completed)
            || self.state.recovery.is_some()
        {
            return Err(self.illegal("only a completed child is undone by its parent"));
        }
        self.note_timer(timer);
        self.undo_all(Trigger::Parent, fault, timer);
        Ok(())
    }

    pub(super) fn terminated(mut self, fault: &Fault) -> Result<(), Error> {
        if self.state.is_closed() {
            return Err(self.illegal("the instance is closed"));
        }
        if self.state.status == Some(Status::Running) {
            self.interrupt_inside(crate::TaskId::WORKFLOW)?;
            self.state.status = Some(Status::Cancelled);
            self.state.fault = Some(fault.clone());
        }
        self.state.frames.clear();
        let given_up: Vec<_> = self.state.records.keys().copied().collect();
        for task in &given_up {
            if let Some(step) = self.state.step_mut(*task) {
                step.undo.get_or_insert_with(|| Undo::pending(false));
            }
            self.settle(*task, UndoStatus::Abandoned)?;
        }
        self.calm();
        if !given_up.is_empty() {
            self.state.saga = Saga::Abandoned;
        }
        self.close();
        Ok(())
    }

    pub(super) fn paused(self, paused: bool) -> Result<(), Error> {
        if self.state.paused == paused {
            return Err(self.illegal("an instance is paused and resumed in turns"));
        }
        self.state.paused = paused;
        if !paused {
            self.state.kept.clear();
        }
        Ok(())
    }

    pub(super) fn kept(self, kept: &Kept) -> Result<(), Error> {
        self.state.kept.push(kept.clone());
        Ok(())
    }

    /// Says how the saga stands when nothing is being undone, and nothing was because of how the work ended.
    pub(super) fn calm(&mut self) {
        let open = self.is_undoing() || self.has(UndoStatus::Stuck);
        if self.state.recovery.is_some() || open {
            return;
        }
        let completed = self.state.status == Some(Status::Completed);
        self.state.saga = if self.state.committed {
            Saga::Committed
        } else if completed && self.is_held() {
            Saga::Pending
        } else if completed && self.state.is_saga {
            Saga::Committed
        } else {
            Saga::None
        };
    }

    /// Says whether a parent may want it undone.
    fn is_held(&self) -> bool {
        self.state.parent.is_some()
            && self.state.status == Some(Status::Completed)
            && !self.state.records.is_empty()
    }

    fn close(&mut self) {
        self.state.ended_at = Some(self.at);
        (self.state.paused, self.state.kept) = (false, Vec::new());
        if let Some(recovery) = &mut self.state.recovery {
            recovery.timer = None;
        }
    }
}
