//! Children: workflows that run as a task of another.
//!
//! A child's id follows from the key of the task that wants it, so starting it again, after a crash of whichever owner,
//! finds the one that is there. Its end is asked for by starting it once more: who knows the id answers when it ended.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use sinew::{
    Bus,
    workflow::{WorkflowError, WorkflowFault, WorkflowInstance},
};
use sinew_workflow::{Child, Effect, Fault, Outcome, Parent, Verb};

use super::{AGAIN, fault, limits, timeout};
use crate::{
    history,
    library::Library,
    router::Router,
    shard::{Answer, Ask, Command, Handle, Start},
    spans::Origin,
    view,
};

/// How long an owner is asked to wait for the end of a child before it is asked again.
const PATIENCE: Duration = Duration::from_secs(20);
/// What an answer may take beyond that.
const WAY_BACK: Duration = Duration::from_secs(5);
/// Letters of a key that stay readable in a child's id.
const READABLE: usize = 80;

/// The way to children; a cheap handle.
#[derive(Clone)]
pub(crate) struct Children {
    library: Library,
    owners: Owners,
}

/// Who owns instances.
#[derive(Clone)]
pub(crate) enum Owners {
    /// The orchestrators of the bus; instances that ended long ago are in the history.
    Bus(Bus, Arc<Router>),
    /// The one shard of this process.
    Here(Handle),
}

/// Returns the id of the child that a task with this key runs.
pub(crate) fn id_of(key: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let readable: String = key.chars().map(plain).take(READABLE).collect();
    format!("{readable}-{:016x}", view::digest_of_text(key))
}

impl Children {
    pub(crate) fn new(library: Library, owners: Owners) -> Self {
        Self { library, owners }
    }

    pub(crate) fn library(&self) -> &Library {
        &self.library
    }

    /// Does what is asked of a child, and answers as the engine expects it.
    ///
    /// # Cancel safety
    /// A dropped future leaves the child as it is: asking again with the same key finds it.
    pub(super) async fn ask(&self, origin: &Origin, child: &Child, effect: &Effect) -> Outcome {
        let (limit, _) = limits(effect);
        let asked = async {
            match child.verb {
                Verb::Run => self.run(origin, child, effect).await,
                Verb::Undo => self.undo(child, effect).await,
            }
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Unknown(timeout(&format!("workflow {} did not end in {limit:?}", child.name))),
        }
    }

    /// Runs a child until it has its answer, or to its start where nobody waits for more.
    async fn run(&self, origin: &Origin, child: &Child, effect: &Effect) -> Outcome {
        let Some(start) = self.start_of(origin, child, effect) else { return no_call() };
        loop {
            match self.start(child, start.clone()).await {
                Ok(_) if !child.wait => return Outcome::Completed(Value::Null),
                Ok(instance) => {
                    if let Some(outcome) = replied(instance) {
                        return outcome;
                    }
                    // It goes on, or its owner has just changed.
                }
                Err(Refusal::Final(outcome)) => return *outcome,
                Err(Refusal::Later) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Undoes what a child did, as long as that takes.
    async fn undo(&self, child: &Child, effect: &Effect) -> Outcome {
        let Effect::Call { forward_key: Some(key), .. } = effect else { return no_call() };
        let id = id_of(key);
        loop {
            match self.undo_once(child, &id).await {
                Ok(None) => return Outcome::Completed(Value::Null),
                Ok(Some(instance)) => {
                    if let Some(outcome) = undone(&instance) {
                        return outcome;
                    }
                }
                Err(Refusal::Final(outcome)) => return *outcome,
                Err(Refusal::Later) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Cancels a child, however long it takes to reach its owner. One that has ended stays as it is.
    pub(super) async fn cancel(&self, id: &str) {
        let reason = Some("the task that ran it was stopped".to_owned());
        let ask = Command::Ask(Ask::Cancel { id: id.to_owned(), reason });
        while let Err(error) = self.owners.send(id, ask.clone(), WAY_BACK).await {
            tracing::debug!(%error, id, "a child cannot be cancelled yet");
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Lets a child go whose parent has closed, however long it takes to reach its owner.
    pub(super) async fn release(&self, id: &str) {
        let ask = Command::Ask(Ask::Release { id: id.to_owned() });
        while let Err(error) = self.owners.send(id, ask.clone(), WAY_BACK).await {
            tracing::debug!(%error, id, "a child cannot be told yet that its parent has ended");
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn start_of(&self, origin: &Origin, child: &Child, effect: &Effect) -> Option<Start> {
        let Effect::Call { task, attempt, key, body, .. } = effect else { return None };
        let parent = Parent { id: origin.id().to_owned(), task: *task, attempt: *attempt };
        Some(Start {
            id: id_of(key),
            digest: String::new(),
            workflow: child.name.clone(),
            input: Value::clone(body),
            input_at: None,
            trace: origin.context(self.owners.tracer(), key, *attempt).map(|context| context.to_string()),
            parent: child.wait.then_some(parent),
            wait_ms: child.wait.then(patience_ms),
        })
    }

    async fn start(&self, child: &Child, mut start: Start) -> Result<WorkflowInstance, Refusal> {
        if let Some(instance) = self.owners.ended_before(&child.name, &start.id).await? {
            return Ok(instance);
        }
        let version = Some(child.version.as_str()).filter(|version| *version != "latest");
        start.digest = self.library.resolve(&child.namespace, &child.name, version).await?;
        let (id, limit) = (start.id.clone(), PATIENCE + WAY_BACK);
        let answer = self.owners.send(&id, Command::Start(start), limit).await?;
        // Otherwise it ended and was forgotten between two questions: the history has it by now.
        answer.instance().ok_or(Refusal::Later)
    }

    /// Asks a child to undo what it did; `None` when it never started.
    async fn undo_once(&self, child: &Child, id: &str) -> Result<Option<WorkflowInstance>, Refusal> {
        let reason = Some("its parent undoes it".to_owned());
        let ask = Ask::Undo { id: id.to_owned(), reason, wait_ms: patience_ms() };
        if let Some(instance) = self.owners.send(id, ask.into(), PATIENCE + WAY_BACK).await?.instance() {
            return Ok(Some(instance));
        }
        // A shard forgets an instance only when the history has it.
        if let Some(ended) = self.owners.ended_before(&child.name, id).await? {
            return Ok(Some(ended));
        }
        // Nobody knows it, and a word to start it may still be under way: it must not count any more.
        match self.owners.send(id, Ask::Bury { id: id.to_owned() }.into(), WAY_BACK).await? {
            Answer::Unknown => Ok(None),
            // It has started meanwhile.
            _ => Err(Refusal::Later),
        }
    }
}

impl Owners {
    async fn send(&self, id: &str, command: Command, limit: Duration) -> Result<Answer, WorkflowError> {
        match self {
            Self::Bus(_, router) => router.send(router.shard_of(id), command, limit).await,
            Self::Here(handle) => handle.ask(command).await,
        }
    }

    /// Finds the child among those that ended and that no shard remembers.
    async fn ended_before(&self, workflow: &str, id: &str) -> Result<Option<WorkflowInstance>, Refusal> {
        let Self::Bus(bus, _) = self else { return Ok(None) };
        let record = history::read(bus, workflow, id).await.map_err(|_| Refusal::Later)?;
        Ok(record.map(|record| record.instance))
    }

    fn tracer(&self) -> Option<&sinew::Tracer> {
        match self {
            Self::Bus(bus, _) => Some(bus.tracer()),
            Self::Here(_) => None,
        }
    }
}

/// Why a child has not answered.
enum Refusal {
    /// It never will.
    Final(Box<Outcome>),
    /// Nobody could be asked just now.
    Later,
}

impl From<WorkflowError> for Refusal {
    fn from(error: WorkflowError) -> Self {
        let (status, title, code, detail) = match error {
            WorkflowError::UnknownWorkflow(text) => (404, "no such workflow", "unknown-workflow", text),
            WorkflowError::InvalidStart(text) => (400, "the child cannot start", "invalid-start", text),
            WorkflowError::DuplicateStart(text) => (409, "another child has its id", "duplicate-start", text),
            // Everything else is about this moment: no owner, no room, no bus.
            _ => return Self::Later,
        };
        Self::Final(Box::new(Outcome::NotSent(fault(status, title, code, &detail))))
    }
}

/// Reads the answer to the call that runs a child, once there is one: what
/// [`State::reply`](sinew_workflow::State::reply) says, of an instance that is only shown.
fn replied(instance: WorkflowInstance) -> Option<Outcome> {
    match instance.status.as_str() {
        "running" => None,
        "completed" => Some(Outcome::Completed(instance.output.unwrap_or(Value::Null))),
        _ => {
            let fault = instance.error.map_or_else(|| Fault::cancelled(""), raised);
            instance.ended_ms.map(|_| Outcome::Refused(fault))
        }
    }
}

/// Reads the answer to the call that undoes a child: what [`State::undone`](sinew_workflow::State::undone) says.
fn undone(instance: &WorkflowInstance) -> Option<Outcome> {
    instance.ended_ms?;
    let stands = |detail: &str| Outcome::Refused(Fault::compensation(detail));
    Some(match instance.saga.as_str() {
        "committed" => stands("the child passed its pivot: what it did stands"),
        "abandoned" => stands("the compensations of the child were given up"),
        _ => Outcome::Completed(Value::Null),
    })
}

fn raised(fault: WorkflowFault) -> Fault {
    let WorkflowFault { kind, status, title, detail, instance, code } = fault;
    let title = Some(title).filter(|title| !title.is_empty());
    Fault { title, detail, instance, code, ..Fault::new(kind, status) }
}

fn patience_ms() -> u64 {
    u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX)
}

/// Only a call has a child, so nothing leads here.
fn no_call() -> Outcome {
    Outcome::NotSent(Fault::configuration("this names no child"))
}

#[cfg(test)]
mod tests {
    use sinew::wire::InstanceId;

    use super::*;

    #[test]
    fn a_child_has_an_id_of_its_own_that_its_key_gives_away() {
        let long = format!("{}/do/0/a#3", "o".repeat(128));
        let ids = ["o-1/do/0/a", "o-1/do/0/a#2", "o-1/do/0-a", &long].map(id_of);
        assert!(ids[0].starts_with("o-1-do-0-a-"), "{}", ids[0]);
        assert!(ids.iter().all(|id| id.parse::<InstanceId>().is_ok()), "{ids:?}");
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len());
    }

    fn shown(status: &str, saga: &str, ended_ms: Option<i64>) -> WorkflowInstance {
        WorkflowInstance {
            id: "c".into(),
            name: "child".into(),
            version: "1.0.0".into(),
            status: status.into(),
            saga: saga.into(),
            paused: false,
            output: None,
            error: None,
            steps: Vec::new(),
            started_ms: 0,
            ended_ms,
            trace_id: String::new(),
        }
    }

    #[test]
    fn a_child_answers_when_its_work_is_over_and_nothing_more_will_be_undone() {
        assert_eq!(replied(shown("running", "none", None)), None);
        assert_eq!(replied(shown("completed", "pending", None)), Some(Outcome::Completed(Value::Null)));
        assert_eq!(replied(shown("faulted", "compensating", None)), None);
        assert!(matches!(replied(shown("faulted", "compensated", Some(1))), Some(Outcome::Refused(_))));
    }

    #[test]
    fn a_child_is_undone_unless_what_it_did_stands() {
        assert_eq!(undone(&shown("completed", "compensating", None)), None);
        assert_eq!(
            undone(&shown("completed", "compensated", Some(1))),
            Some(Outcome::Completed(Value::Null))
        );
        assert_eq!(undone(&shown("faulted", "none", Some(1))), Some(Outcome::Completed(Value::Null)));
        for saga in ["committed", "abandoned"] {
            let outcome = undone(&shown("completed", saga, Some(1)));
            assert!(matches!(outcome, Some(Outcome::Refused(_))), "{saga}");
        }
    }
}
