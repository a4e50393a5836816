//! Calls that are answered later, seen by whoever brings the answer.

use super::State;
use crate::entry::Kept;
use crate::{AttemptOutcome, TaskId};

/// How an attempt stands whose answer somebody brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its answer is waited for.
    Open,
    /// It was answered before.
    Answered,
    /// Nobody waits for it: it took too long, was tried again, cancelled, or never sent.
    Gone,
}

impl State {
    /// Says how the call of an attempt stands.
    #[must_use]
    pub fn standing(&self, task: TaskId, attempt: u32) -> Standing {
        let kept = |kept: &Kept| matches!(kept, Kept::Answer { task: of, attempt: number, .. } if (*of, *number) == (task, attempt));
        let open =
            |task| self.frames.get(task).is_some_and(|frame| frame.attempts == attempt && frame.calls());
        let answered = || {
            let made = self.step(task)?.attempts.iter().find(|made| made.number == attempt)?;
            matches!(made.outcome?, AttemptOutcome::Completed | AttemptOutcome::Refused).then_some(())
        };
        if open(&task) {
            return if self.kept.iter().any(kept) { Standing::Answered } else { Standing::Open };
        }
        if answered().is_some() { Standing::Answered } else { Standing::Gone }
    }

    /// Returns the longest silence that the work of a task may keep, in milliseconds, if `timer` is what ends it: after a
    /// recovery nobody can have been heard, so the silence begins anew.
    #[must_use]
    pub fn silence(&self, task: TaskId, timer: u32) -> Option<u64> {
        let frame = self.frames.get(&task)?;
        frame.timer.filter(|own| own.number == timer)?;
        frame.taken()?.heartbeat_ms
    }
}
