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
use sinew_workflow::{Child, Effect, Fault, Outcome};
use tokio::time::Instant;

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
pub(super) fn id_of(key: &str) -> String {
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

    /// Runs a child to its end, or to its start where nobody waits for more.
    ///
    /// # Cancel safety
    /// A dropped future leaves the child running: calling again with the same key finds it.
    pub(super) async fn run(&self, origin: &Origin, child: &Child, effect: &Effect) -> Outcome {
        let Effect::Call { key, body, .. } = effect else {
            return Outcome::NotSent(Fault::configuration("this starts no workflow"));
        };
        let (limit, attempt) = limits(effect);
        let until = Instant::now() + limit;
        let context = origin.context(self.owners.tracer(), key, attempt);
        let wait_ms = child.wait.then_some(u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX));
        let (id, input) = (id_of(key), Value::clone(body));
        let trace = context.map(|context| context.to_string());
        loop {
            let start = Start {
                id: id.clone(),
                digest: String::new(),
                workflow: child.name.clone(),
                input: input.clone(),
                trace: trace.clone(),
                wait_ms,
            };
            let asked = tokio::time::timeout_at(until, self.ask(child, start));
            let Ok(asked) = asked.await else { return late(child, limit) };
            match asked {
                Ok(instance) if instance.ended_ms.is_some() => return outcome(instance, child.wait),
                Ok(_) if !child.wait => return Outcome::Completed(Value::Null),
                // It goes on, or its owner has just changed.
                Ok(_) => {}
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

    async fn ask(&self, child: &Child, mut start: Start) -> Result<WorkflowInstance, Refusal> {
        if let Some(instance) = self.owners.ended_before(&start).await? {
            return Ok(instance);
        }
        let version = Some(child.version.as_str()).filter(|version| *version != "latest");
        start.digest = self.library.resolve(&child.namespace, &child.name, version).await?;
        let (id, limit) = (start.id.clone(), PATIENCE + WAY_BACK);
        match self.owners.send(&id, Command::Start(start), limit).await? {
            Answer::Instance(instance) => Ok(*instance),
            // It ended and was forgotten between two questions: the history has it by now.
            Answer::Unknown | Answer::List(_) => Err(Refusal::Later),
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
    async fn ended_before(&self, start: &Start) -> Result<Option<WorkflowInstance>, Refusal> {
        let Self::Bus(bus, _) = self else { return Ok(None) };
        let record = history::read(bus, &start.workflow, &start.id).await.map_err(|_| Refusal::Later)?;
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

/// Reads how a child ended. One that was undone, or had done nothing it could undo, is a refusal like any other.
fn outcome(instance: WorkflowInstance, waited: bool) -> Outcome {
    if !waited {
        return Outcome::Completed(Value::Null);
    }
    if instance.status == "completed" {
        return Outcome::Completed(instance.output.unwrap_or(Value::Null));
    }
    let fault = instance.error.map_or_else(|| Fault::runtime("the child ended without a result"), raised);
    match instance.saga.as_str() {
        "compensated" => Outcome::Refused(fault),
        // What it did may still stand: it has no compensations, an operator gave up, or it passed its pivot.
        _ => Outcome::Unknown(fault),
    }
}

/// The child's error as its parent raises it: the place within the child is the child's own affair.
fn raised(fault: WorkflowFault) -> Fault {
    let WorkflowFault { kind, status, title, detail, code, .. } = fault;
    let mut raised = Fault::new(kind, status);
    (raised.title, raised.detail, raised.code) = (Some(title), detail, code);
    raised
}

fn late(child: &Child, limit: Duration) -> Outcome {
    Outcome::Unknown(timeout(&format!("workflow {} did not end in {limit:?}", child.name)))
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

    #[test]
    fn what_a_child_left_behind_decides_whether_its_failure_was_a_refusal() {
        let ended = |status: &str, saga: &str| WorkflowInstance {
            id: "c".into(),
            name: "child".into(),
            version: "1.0.0".into(),
            status: status.into(),
            saga: saga.into(),
            output: None,
            error: None,
            steps: Vec::new(),
            started_ms: 0,
            ended_ms: Some(1),
            trace_id: String::new(),
        };
        assert!(matches!(outcome(ended("faulted", "compensated"), true), Outcome::Refused(_)));
        for saga in ["none", "abandoned", "committed"] {
            assert!(matches!(outcome(ended("faulted", saga), true), Outcome::Unknown(_)), "{saga}");
        }
        assert_eq!(outcome(ended("completed", "none"), true), Outcome::Completed(Value::Null));
        assert_eq!(outcome(ended("faulted", "none"), false), Outcome::Completed(Value::Null));
    }
}
