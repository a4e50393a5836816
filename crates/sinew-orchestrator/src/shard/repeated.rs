//! Calls an owner before had begun, and this one asks for again: a refusal speaks of the second asking alone.

use std::collections::HashMap;

use sinew_workflow::{Effect, Outcome, TaskId};

/// Calls that are asked for again and not answered yet, by instance.
#[derive(Default)]
pub(super) struct Repeated {
    calls: HashMap<String, Vec<(TaskId, u32)>>,
}

impl Repeated {
    /// Notes what a new owner begins on behalf of an instance.
    pub(super) fn note(&mut self, id: &str, due: &[Effect]) {
        let calls = due.iter().filter_map(|effect| match effect {
            Effect::Call { task, attempt, .. } => Some((*task, *attempt)),
            _ => None,
        });
        let calls: Vec<_> = calls.collect();
        if !calls.is_empty() {
            self.calls.insert(id.to_owned(), calls);
        }
    }

    /// Returns what is known once a call is answered: that nothing was done this time leaves open what was done the
    /// first time, so that the step is undone like any other that may have been done.
    pub(super) fn judge(&mut self, id: &str, call: (TaskId, u32), outcome: Outcome) -> Outcome {
        if !self.take(id, call) {
            return outcome;
        }
        match outcome {
            Outcome::Refused(fault) | Outcome::NotSent(fault) => Outcome::Unknown(fault),
            known => known,
        }
    }

    /// Forgets the calls of an instance that has ended.
    pub(super) fn forget(&mut self, id: &str) {
        self.calls.remove(id);
    }

    fn take(&mut self, id: &str, call: (TaskId, u32)) -> bool {
        let Some(calls) = self.calls.get_mut(id) else { return false };
        let Some(index) = calls.iter().position(|one| *one == call) else { return false };
        calls.swap_remove(index);
        if calls.is_empty() {
            self.calls.remove(id);
        }
        true
    }
}
