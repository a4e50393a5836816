//! The effects an instance is waiting for, read off its state: recovery asks for the same things as before.

use super::{Frame, State, Work};
use crate::entry::{Fact, Kept, Listened, Timer};
use crate::{Effect, Entry, Since, TaskId};

impl State {
    /// Returns every outstanding effect, in the order of their tasks: what to do again after a recovery. What was answered
    /// while the instance is paused is not among them.
    #[must_use]
    pub fn due(&self) -> Vec<Effect> {
        let mut due: Vec<Effect> = self.saga_timer().into_iter().collect();
        for (task, frame) in &self.frames {
            due.extend(self.work(*task, frame));
            due.extend([frame.timeout, frame.timer].into_iter().flatten().map(|timer| effect(*task, timer)));
        }
        if !self.kept.is_empty() {
            due.retain(|effect| !self.kept.iter().any(|kept| kept.answers(effect)));
        }
        due
    }

    /// Returns the effects which these freshly applied entries made due, in order; the same values as in
    /// [`due`](Self::due).
    #[must_use]
    pub fn effects(&self, entries: &[Entry]) -> Vec<Effect> {
        entries.iter().flat_map(|entry| self.caused(&entry.fact)).collect()
    }

    /// Returns what one fact made due, as far as it still is.
    fn caused(&self, fact: &Fact) -> Vec<Effect> {
        match fact {
            Fact::Listened(listened) => self.listened(listened),
            Fact::Stopped { task, attempt, command } => {
                let (task, attempt) = (*task, *attempt);
                let recall = command.then_some(Effect::Recall { task, attempt });
                [Effect::Stop { task, attempt }].into_iter().chain(recall).collect()
            }
            Fact::ListeningEnded { task, attempt } => vec![Effect::Stop { task: *task, attempt: *attempt }],
            Fact::Called { task, attempt, .. } | Fact::Emitted { task, attempt, .. } => {
                let frame = self.frames.get(task).filter(|frame| frame.attempts == *attempt);
                frame.and_then(|frame| self.work(*task, frame)).into_iter().collect()
            }
            Fact::Started(started) => self.timers(TaskId::WORKFLOW, started.deadline),
            Fact::Entered(entered) => self.timers(entered.task, entered.timeout),
            Fact::Waiting { task, timer } => self.timers(*task, Some(*timer)),
            Fact::Accepted(accepted) => self.timers(accepted.task, Some(accepted.timer)),
            Fact::Opened(opened) => self.timers(opened.task, opened.timer),
            Fact::UndoFailed(failed) => self.timers(failed.task, failed.timer),
            Fact::Ended(_) | Fact::Recalled { .. } => self.saga_timer().into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn listened(&self, listened: &Listened) -> Vec<Effect> {
        let frame = self.frames.get(&listened.task).filter(|frame| frame.attempts == listened.attempt);
        let listening = frame.and_then(|frame| self.work(listened.task, frame));
        listening.into_iter().chain(self.timers(listened.task, listened.timer)).collect()
    }

    fn timers(&self, task: TaskId, timer: Option<Timer>) -> Vec<Effect> {
        let frame = self.frames.get(&task);
        let still = |timer: &Timer| {
            frame.is_some_and(|frame| frame.timeout == Some(*timer) || frame.timer == Some(*timer))
        };
        timer.filter(still).map(|timer| effect(task, timer)).into_iter().collect()
    }

    fn saga_timer(&self) -> Option<Effect> {
        Some(effect(TaskId::WORKFLOW, self.recovery.as_ref()?.timer?))
    }

    fn work(&self, task: TaskId, frame: &Frame) -> Option<Effect> {
        let attempt = frame.attempts;
        match &frame.work {
            Work::None => None,
            Work::Listen(listening) => {
                let source = listening.source.clone();
                let (opened, started) = (frame.started_at, self.started_at.unwrap_or_default());
                let since = Since { opened, started };
                (!listening.ended).then_some(Effect::Listen { task, attempt, source, since })
            }
            Work::Emit { id, event } => {
                Some(Effect::Emit { task, attempt, id: id.clone(), event: event.clone() })
            }
            // It is at work already: all that is due is the end of the waiting.
            Work::Call(call) if call.taken.is_some() => None,
            Work::Call(call) => Some(Effect::Call {
                task,
                attempt,
                key: frame.key.to_string(),
                forward_key: self.forward_key(frame),
                target: call.request.target.clone(),
                body: call.body.clone(),
                headers: call.request.headers.clone(),
                timeout_ms: call.request.timeout_ms,
                command: call.request.command,
                name: frame.name.to_string(),
                undo: frame.undo.is_some(),
            }),
        }
    }

    fn forward_key(&self, frame: &Frame) -> Option<String> {
        let undone = self.frames.get(&frame.undo?)?.undoes?;
        Some(self.step(undone)?.key.to_string())
    }
}

impl Kept {
    /// Says whether this is what an effect asks for.
    fn answers(&self, effect: &Effect) -> bool {
        match (self, effect) {
            (Self::Timer { task, timer }, Effect::Timer { task: of, timer: due, .. }) => {
                (task, timer) == (of, due)
            }
            (
                Self::Answer { task, attempt, .. },
                Effect::Call { task: of, attempt: sent, .. } | Effect::Emit { task: of, attempt: sent, .. },
            ) => (task, attempt) == (of, sent),
            _ => false,
        }
    }
}

fn effect(task: TaskId, Timer { number, at }: Timer) -> Effect {
    Effect::Timer { task, timer: number, at }
}
