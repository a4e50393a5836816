//! What people are asked and have not answered.

use std::sync::Arc;

use serde_json::Value;

use super::{State, Work};
use crate::entry::Kept;
use crate::{Claim, Protocol, Target, TaskId, Timestamp};

/// A `call: human` that waits for somebody. Answer it by [`Input::Decision`](crate::Input::Decision).
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The task to answer.
    pub task: TaskId,
    /// The attempt to answer.
    pub attempt: u32,
    /// The name of the task.
    pub name: Arc<str>,
    /// Where it stands in the document.
    pub pointer: Arc<str>,
    /// The arguments of the call: what the author wants people to know.
    pub arguments: Arc<Value>,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// When the task gives up waiting, by its own timeout.
    pub due_at: Option<Timestamp>,
}

impl State {
    /// Returns who has claimed the question of a task, at a moment.
    #[must_use]
    pub fn claim(&self, task: TaskId, moment: Timestamp) -> Option<&Claim> {
        self.step(task)?.attempts.last()?.claims.as_ref()?.at(moment)
    }

    /// Returns what people are asked, in the order it was asked. What was answered while the instance is paused is not
    /// among them.
    #[must_use]
    pub fn questions(&self) -> Vec<Question> {
        let answered = |task: TaskId| {
            self.kept.iter().any(|kept| matches!(kept, Kept::Answer { task: of, .. } if *of == task))
        };
        let open = self.frames.iter().filter(|(task, _)| !answered(**task));
        open.filter_map(|(task, frame)| match &frame.work {
            Work::Call(call) if call.request.target == Target::Protocol(Protocol::Human) => Some(Question {
                task: *task,
                attempt: frame.attempts,
                name: Arc::clone(&frame.name),
                pointer: Arc::clone(&frame.pointer),
                arguments: Arc::clone(&call.body),
                asked_at: frame.started_at,
                due_at: frame.timeout.map(|timer| timer.at),
            }),
            _ => None,
        })
        .collect()
    }
}
