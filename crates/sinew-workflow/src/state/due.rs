//! The effects an instance is waiting for, read off its state: recovery asks for the same things as before.

use std::sync::Arc;

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
        entries.iter().flat_map(|entry| self.caused(&entry.fact).into_iter().flatten()).collect()
    }

    /// Returns what one fact made due, as far as it still is.
    fn caused(&self, fact: &Fact) -> [Option<Effect>; 2] {
        let one = match fact {
            Fact::Listened(listened) => return self.listened(listened),
            Fact::Stopped { task, attempt, command } => {
                let (task, attempt, command) = (*task, *attempt, *command);
                let recall = Effect::Recall { task, attempt, command };
                return [Some(Effect::Stop { task, attempt }), Some(recall)];
            }
            Fact::ListeningEnded { task, attempt } => Some(Effect::Stop { task: *task, attempt: *attempt }),
            Fact::Called { task, attempt, .. } | Fact::Emitted { task, attempt, .. } => {
                let frame = self.frames.get(task).filter(|frame| frame.attempts == *attempt);
                frame.and_then(|frame| self.work(*task, frame))
            }
            Fact::Started(started) => self.timer(TaskId::WORKFLOW, started.deadline),
            Fact::Entered(entered) => self.timer(entered.task, entered.timeout),
            Fact::Waiting { task, timer } => self.timer(*task, Some(*timer)),
            Fact::Accepted(accepted) => self.timer(accepted.task, Some(accepted.timer)),
            Fact::Opened(opened) => self.timer(opened.task, opened.timer),
            Fact::UndoFailed(failed) => self.timer(failed.task, failed.timer),
            Fact::Ended(_) | Fact::Recalled { .. } => self.saga_timer(),
            _ => None,
        };
        [one, None]
    }

    fn listened(&self, listened: &Listened) -> [Option<Effect>; 2] {
        let frame = self.frames.get(&listened.task).filter(|frame| frame.attempts == listened.attempt);
        let listening = frame.and_then(|frame| self.work(listened.task, frame));
        [listening, self.timer(listened.task, listened.timer)]
    }

    fn timer(&self, task: TaskId, timer: Option<Timer>) -> Option<Effect> {
        let timer = timer?;
        let frame = self.frames.get(&task)?;
        let still = frame.timeout == Some(timer) || frame.timer == Some(timer);
        still.then(|| effect(task, timer))
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
                key: Arc::clone(&frame.key),
                forward_key: self.forward_key(frame),
                target: call.request.target.clone(),
                body: call.body.clone(),
                headers: call.request.headers.clone(),
                timeout_ms: call.request.timeout_ms,
                command: call.request.command,
                name: Arc::clone(&frame.name),
                undo: frame.undo.is_some(),
            }),
        }
    }

    fn forward_key(&self, frame: &Frame) -> Option<Arc<str>> {
        let undone = self.frames.get(&frame.undo?)?.undoes?;
        Some(Arc::clone(&self.step(undone)?.key))
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
