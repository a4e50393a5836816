//! Instances that run as children of others, seen from either side.

use serde_json::Value;

use super::{Saga, State, Status, Work};
use crate::{Fault, Outcome, Parent, Step, TaskId};

impl State {
    /// Returns who waits for this child, if it is one.
    #[must_use]
    pub fn parent(&self) -> Option<&Parent> {
        self.parent.as_ref()
    }

    /// Returns the steps that ran other workflows as children, whose keys their instance ids derive from: the ones to
    /// [release](crate::Input::Release) once this instance has closed.
    pub fn children(&self) -> impl Iterator<Item = &Step> {
        self.children.iter().filter_map(|task| self.step(*task))
    }

    /// Says whether the instance waits for this attempt. What runs for one that it does not wait for should stop.
    #[must_use]
    pub fn awaits(&self, task: TaskId, attempt: u32) -> bool {
        self.frames.get(&task).is_some_and(|frame| frame.attempts == attempt && frame.work != Work::None)
    }

    /// Returns the answer to the call that runs this child, once there is one.
    ///
    /// A child that completed has its answer, even if its compensations stay possible. One that did not has it when
    /// undoing is over: what is answered by then is that it did nothing, or nothing that is left to this saga.
    #[must_use]
    pub fn reply(&self) -> Option<Outcome> {
        match self.status() {
            Status::Running => None,
            Status::Completed => Some(Outcome::Completed(self.output().cloned().unwrap_or_default())),
            Status::Faulted | Status::Cancelled => {
                let fault = self.fault.clone().unwrap_or_else(|| Fault::cancelled(""));
                self.is_closed().then_some(Outcome::Refused(fault))
            }
        }
    }

    /// Returns the answer to the call that undoes this child, once there is one.
    #[must_use]
    pub fn undone(&self) -> Option<Outcome> {
        if !self.is_closed() {
            return None;
        }
        Some(match self.saga {
            Saga::Committed => {
                Outcome::Refused(Fault::compensation("the child passed its pivot: what it did stands"))
            }
            Saga::Abandoned => {
                Outcome::Refused(Fault::compensation("the compensations of the child were given up"))
            }
            _ => Outcome::Completed(Value::Null),
        })
    }
}
