//! What `call: human` asks in one process: handed to whoever runs it, who finds somebody to answer.

use serde_json::Value;
use sinew::workflow::WorkflowError;
use sinew_workflow::{Fault, Outcome, TaskId};

use super::Local;
use crate::shard::{Answer, Ask, Command, Input};

/// A task that waits for a person.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The instance that asks.
    pub instance: String,
    /// The task's name.
    pub name: String,
    /// Where it stands in the document.
    pub pointer: String,
    /// The arguments of the call: `title`, `schema`, and whatever else its author wants people to know.
    pub arguments: Value,
    pub(super) task: TaskId,
    pub(super) attempt: u32,
}

impl Local {
    /// Answers a question; the answer becomes the output of the task.
    ///
    /// # Errors
    /// [`WorkflowError::WrongState`] when the answer does not fit the schema of the question: it stays open then.
    pub async fn answer(&self, question: &Question, answer: Value) -> Result<(), WorkflowError> {
        self.reply(question, Outcome::Completed(answer)).await;
        // What is told is decided in order: the task has gone on by now, or has refused the answer.
        if self.is_open(question).await {
            let text = "the answer does not fit the `schema` of the question";
            return Err(WorkflowError::WrongState(text.to_owned()));
        }
        Ok(())
    }

    /// Says that nobody answers a question, so that its task fails with a configuration error.
    pub async fn decline(&self, question: &Question, why: &str) {
        self.reply(question, Outcome::NotSent(Fault::configuration(why))).await;
    }

    async fn reply(&self, question: &Question, outcome: Outcome) {
        let Question { instance, task, attempt, .. } = question;
        let (id, task, attempt) = (instance.clone(), *task, *attempt);
        self.handle.tell(Input::Reply { id, task, attempt, outcome }).await;
    }

    async fn is_open(&self, question: &Question) -> bool {
        let ask = Command::Ask(Ask::Get { id: question.instance.clone() });
        let asked = self.handle.ask(ask).await;
        let Some(instance) = asked.ok().and_then(Answer::instance) else { return false };
        let mut steps = instance.steps.iter().filter(|step| step.pointer == question.pointer);
        instance.ended_ms.is_none() && steps.any(|step| step.ended_ms.is_none())
    }
}
