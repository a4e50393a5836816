//! What people are asked, how they answer, and what operators say: to instances that stand here.

use sinew::workflow::{WorkflowError, WorkflowTask};
use sinew_workflow::{Error, Fault, Input as Event, Outcome, Question, State, TaskId, Timestamp};

use super::{Answer, Ask, Reply, Shard, World};
use crate::{journal::Journal, view};

/// What a person says to a question.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) enum Said {
    /// The answer.
    Answer(serde_json::Value),
    /// It cannot be done, and why.
    No(String),
}

impl<J: Journal, W: World> Shard<J, W> {
    /// Pauses, resumes or ends an instance, and tells how it stands then.
    pub(super) fn control(&mut self, id: String, event: Event, reply: Reply) {
        self.advance_alone(&id, event);
        self.ask(Ask::Get { id }, reply);
    }

    /// Lists what people are asked here, the oldest first.
    pub(super) fn tasks(
        &mut self,
        workflow: Option<&str>,
        candidate: Option<&str>,
        limit: usize,
    ) -> Vec<WorkflowTask> {
        let now = self.clock.now();
        let states = self.live.values().map(|live| &live.state);
        let wanted = states.filter(|state| workflow.is_none_or(|name| state.workflow().name == name));
        let mut tasks: Vec<WorkflowTask> = wanted
            .flat_map(|state| state.questions().into_iter().map(|question| shown(state, &question, now)))
            .filter(|task| candidate.is_none_or(|candidate| task.may_be_answered_by(candidate)))
            .collect();
        tasks.sort_by(|a, b| (a.asked_ms, &a.id).cmp(&(b.asked_ms, &b.id)));
        tasks.truncate(limit);
        tasks
    }

    /// Gives a task to one person, or back to all, and tells how it stands then.
    pub(super) fn claim(
        &mut self,
        (id, task): (String, TaskId),
        who: String,
        for_ms: Option<u64>,
        reply: Reply,
    ) {
        let open = self.live.get(&id).and_then(|live| question(&live.state, task));
        let Some(Question { attempt, .. }) = open else {
            return self.answer(reply, Err(unknown(&id, task)));
        };
        let at = self.clock.now();
        let answer = match self.advance(&id, Event::Claim { task, attempt, who, for_ms, at }) {
            Ok(()) => self.task(&id, task),
            Err(refusal) => Err(refused(refusal)),
        };
        self.answer(reply, answer);
    }

    pub(super) fn task(&mut self, id: &str, task: TaskId) -> Result<Answer, WorkflowError> {
        let now = self.clock.now();
        let live = self.live.get(id).ok_or_else(|| unknown(id, task))?;
        let question = question(&live.state, task).ok_or_else(|| unknown(id, task))?;
        Ok(Answer::Tasks(vec![shown(&live.state, &question, now)]))
    }

    /// Takes what a person says; the first who says something counts.
    pub(super) fn said(&mut self, (id, task): (String, TaskId), said: Said, who: String, reply: Reply) {
        let open = self.live.get(&id).and_then(|live| question(&live.state, task));
        let Some(Question { attempt, .. }) = open else {
            return self.answer(reply, Err(unknown(&id, task)));
        };
        let outcome = match said {
            Said::Answer(answer) => Outcome::Completed(answer),
            Said::No(why) => {
                let mut fault = Fault::communication(why).with_status(409).with_code("declined");
                fault.title = Some("a person declined".to_owned());
                Outcome::Refused(fault)
            }
        };
        let at = self.clock.now();
        match self.advance(&id, Event::Decision { task, attempt, outcome, who, at }) {
            Ok(()) => self.ask(Ask::Get { id }, reply),
            Err(refusal) => self.answer(reply, Err(refused(refusal))),
        }
    }
}

/// Reads the id of a task: the instance and a number.
pub(crate) fn task_of(text: &str) -> Option<(String, TaskId)> {
    let (id, number) = text.rsplit_once('.')?;
    Some((id.to_owned(), TaskId::of(number.parse().ok()?)))
}

fn question(state: &State, task: TaskId) -> Option<Question> {
    state.questions().into_iter().find(|question| question.task == task)
}

fn unknown(id: &str, task: TaskId) -> WorkflowError {
    WorkflowError::UnknownTask(format!("{id}.{}", task.get()))
}

/// Tells a person why what they said does not count.
fn refused(error: Error) -> WorkflowError {
    match error {
        Error::Unfit(fault) => {
            WorkflowError::InvalidAnswer(fault.detail.clone().unwrap_or_else(|| fault.to_string()))
        }
        Error::Claimed { .. } => WorkflowError::TaskClaimed(error.to_string()),
        other => WorkflowError::WrongState(other.to_string()),
    }
}

fn shown(state: &State, question: &Question, now: Timestamp) -> WorkflowTask {
    let mut arguments = question.arguments.as_object().cloned().unwrap_or_default();
    let title = arguments.remove("title").map(|title| match title {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    });
    let candidates = arguments.remove("candidates").map(texts).unwrap_or_default();
    // As with `input.schema`, the schema may be wrapped with its format.
    let schema = arguments.remove("schema").map(|schema| schema.get("document").cloned().unwrap_or(schema));
    WorkflowTask {
        id: format!("{}.{}", state.id(), question.task.get()),
        workflow: state.workflow().name.clone(),
        instance: state.id().to_owned(),
        name: question.name.to_string(),
        pointer: question.pointer.to_string(),
        title,
        candidates,
        schema,
        details: if arguments.is_empty() { serde_json::Value::Null } else { arguments.into() },
        asked_ms: question.asked_at.as_millis(),
        due_ms: question.due_at.map(Timestamp::as_millis),
        claim: state.claim(question.task, now).map(view::claim),
    }
}

fn texts(value: serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::Array(items) => items.into_iter().flat_map(texts).collect(),
        serde_json::Value::String(text) => vec![text],
        other => vec![other.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_task_names_instance_and_number() {
        assert_eq!(task_of("o-1.3"), Some(("o-1".to_owned(), TaskId::of(3))));
        assert_eq!((task_of("o-1"), task_of("o-1.x")), (None, None));
    }
}
