//! The contract of the workflow service: what `svc.workflow.*` takes and answers. The service itself is a role of its
//! own; a program that starts workflows needs only these types.
//!
//! ```no_run
//! # async fn demo(ctx: sinew::Ctx) -> Result<(), Box<dyn std::error::Error>> {
//! use sinew::workflow::StartWorkflow;
//!
//! let order = serde_json::json!({ "orderId": "o-1", "total": 12 });
//! let instance = ctx.call(StartWorkflow::new("place-order", order).id("o-1")).await?;
//! println!("{} {}", instance.status, instance.saga);
//! # Ok(()) }
//! ```

mod control;
mod input;
mod tasks;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinew_macros::{Problem, Request, contract};

pub use control::{PauseWorkflow, RemoveWorkflow, RemovedWorkflow, ResumeWorkflow, TerminateWorkflow};
pub use input::{INPUTS, InputReference};
pub use tasks::{
    AnswerTask, ClaimTask, DeclineTask, GetTask, ListTasks, ReleaseTask, TaskClaim, WorkflowTask,
    WorkflowTasks,
};

contract! {
    /// Runs workflows durably.
    pub Workflows = "workflow" @ "1.0.0" {
        apply: ApplyWorkflow,
        definitions: ListDefinitions,
        start: StartWorkflow,
        get: GetWorkflow,
        list: ListWorkflows,
        cancel: CancelWorkflow,
        operate: OperateWorkflow,
        pause: PauseWorkflow,
        resume: ResumeWorkflow,
        terminate: TerminateWorkflow,
        remove: RemoveWorkflow,
        tasks: ListTasks,
        task: GetTask,
        answer: AnswerTask,
        decline: DeclineTask,
        claim: ClaimTask,
        release: ReleaseTask,
        limits: ListLimits,
        complete: CompleteTask,
        fail: FailTask,
        heartbeat: HeartbeatTask,
    }
}

/// Stores a definition as the newest of its version, after checking it.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "workflow.apply", reply = AppliedWorkflow, error = WorkflowError, idempotent)]
pub struct ApplyWorkflow {
    /// The document, YAML or JSON.
    pub source: String,
    /// What to call it in diagnostics.
    #[serde(default)]
    pub file: String,
}

/// Lists the definitions that can be started.
#[derive(Clone, Debug, Default, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "workflow.definitions", reply = Vec<AppliedWorkflow>, error = WorkflowError, idempotent)]
pub struct ListDefinitions {}

/// Starts an instance, and waits for its end unless told otherwise.
///
/// Starting the same id again with the same input is answered as if it had been the first time.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "workflow.start",
    reply = WorkflowInstance,
    error = WorkflowError,
    http = "POST /workflows/{name}",
    body = "input"
)]
pub struct StartWorkflow {
    /// Which workflow.
    pub name: String,
    /// Which version; the newest one where nothing is said.
    #[serde(default)]
    pub version: Option<String>,
    /// The instance's id: letters, digits, `-` and `_`. Generated where nothing is said.
    #[serde(default)]
    pub id: Option<String>,
    /// What the workflow works on.
    #[serde(default)]
    pub input: Value,
    /// Where that is, when it is too large for a message: see [`StartWorkflow::send`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_at: Option<InputReference>,
    /// `false` answers as soon as the start is stored. Default: wait as long as the caller does.
    #[serde(default)]
    pub wait: Option<bool>,
}

/// Reads one instance, running or ended.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "workflow.get",
    reply = WorkflowInstance,
    error = WorkflowError,
    idempotent,
    http = "GET /workflows/{name}/{id}"
)]
pub struct GetWorkflow {
    /// Which workflow.
    pub name: String,
    /// Which instance.
    pub id: String,
}

/// Lists instances, the newest first.
#[derive(Clone, Debug, Default, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "workflow.list",
    reply = WorkflowList,
    error = WorkflowError,
    idempotent,
    http = "GET /workflows/{name}"
)]
pub struct ListWorkflows {
    /// Only of this workflow; empty lists all.
    #[serde(default)]
    pub name: String,
    /// Only in this status: running, completed, faulted, cancelled.
    #[serde(default)]
    pub status: Option<String>,
    /// At most so many; 100 where nothing is said.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// Cancels an instance: forward work stops, what was done is compensated.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "workflow.cancel",
    reply = WorkflowInstance,
    error = WorkflowError,
    idempotent,
    http = "POST /workflows/{name}/{id}/cancel"
)]
pub struct CancelWorkflow {
    /// Which workflow.
    pub name: String,
    /// Which instance.
    pub id: String,
    /// Why; kept in the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Decides about a stuck saga.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "workflow.operate", reply = WorkflowInstance, error = WorkflowError)]
pub struct OperateWorkflow {
    /// Which workflow.
    pub name: String,
    /// Which instance.
    pub id: String,
    /// What to do about the compensation that is stuck.
    pub action: Operation,
    /// Who decides.
    pub who: String,
    /// Why.
    pub why: String,
}

/// Lists the limits of calls, over all replicas, and what waits for its turn.
#[derive(Clone, Debug, Default, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "workflow.limits", reply = Vec<CallLimit>, error = WorkflowError, idempotent)]
pub struct ListLimits {}

/// A limit of calls, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallLimit {
    /// `service.operation`, or `service.*`.
    pub operation: String,
    /// Calls at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Calls in a time, such as `100/s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Calls under way.
    pub under_way: u64,
    /// Calls that wait for their turn.
    pub waiting: u64,
}

/// Brings the result of work that was taken on; see [`Completion`](crate::Completion).
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "workflow.complete", reply = (), error = WorkflowError, http = "POST /tasks/complete")]
pub struct CompleteTask {
    /// The token that came with the request, in the header `Sinew-Completion`.
    pub token: String,
    /// What the operation would have replied.
    #[serde(default)]
    pub value: Value,
}

/// Says that work that was taken on failed.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "workflow.fail", reply = (), error = WorkflowError, http = "POST /tasks/fail")]
pub struct FailTask {
    /// The token that came with the request, in the header `Sinew-Completion`.
    pub token: String,
    /// What the operation would have refused with. Status 500, 502 and 504 leave open how far the work got, so that it is
    /// undone; anything else says that nothing was done.
    pub problem: sinew::Problem,
}

/// A sign of life of work that was taken on. Refused once nobody waits for it: then the work should stop.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "workflow.heartbeat",
    reply = (),
    error = WorkflowError,
    idempotent,
    http = "POST /tasks/heartbeat"
)]
pub struct HeartbeatTask {
    /// The token that came with the request, in the header `Sinew-Completion`.
    pub token: String,
    /// New terms, counted from now; those that hold go on where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<CompletionTerms>,
}

/// On which terms work is taken on: the body of a reply with the header `Sinew-Accepted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CompletionTerms {
    /// The longest silence, in milliseconds: without a heartbeat for so long the work counts as lost. At least 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
    /// How long it may take, in milliseconds; a day where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
}

/// What an operator may do about a stuck compensation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Try it again with fresh attempts.
    Retry,
    /// Go on without it.
    Skip,
    /// It was done by other means.
    Resolve,
    /// Give the whole saga up.
    Abandon,
}

/// A stored definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppliedWorkflow {
    /// The document's namespace.
    pub namespace: String,
    /// The document's name.
    pub name: String,
    /// The document's version.
    pub version: String,
    /// Whether it differs from what stood before.
    pub changed: bool,
    /// What is allowed and yet looks wrong.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A page of instances.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowList {
    /// The instances, without their steps.
    pub instances: Vec<WorkflowInstance>,
}

/// One run of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowInstance {
    /// Its id.
    pub id: String,
    /// The workflow's name.
    pub name: String,
    /// The workflow's version.
    pub version: String,
    /// running, completed, faulted or cancelled.
    pub status: String,
    /// none, compensating, compensated, stuck, abandoned or committed.
    pub saga: String,
    /// Whether nothing new begins until it is resumed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Result, once completed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub output: Option<Value>,
    /// Why it faulted or was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<WorkflowFault>,
    /// What was done, in the order it was started.
    #[serde(default)]
    pub steps: Vec<WorkflowStep>,
    /// When it started, milliseconds since 1970.
    pub started_ms: i64,
    /// When it ended, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
    /// The trace of all its work; 32 hexadecimal digits.
    #[serde(default)]
    pub trace_id: String,
}

/// Why a workflow or a step failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowFault {
    /// URI of the kind of error, as the language defines them.
    #[serde(rename = "type")]
    pub kind: String,
    /// HTTP status.
    pub status: u16,
    /// Short text.
    #[serde(default)]
    pub title: String,
    /// What happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// JSON pointer of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Stable code, where the service gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// One step of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowStep {
    /// The task's name.
    pub name: String,
    /// JSON pointer of the task in the document.
    pub pointer: String,
    /// call, set, switch, wait …
    pub kind: String,
    /// How it stands or ended.
    pub outcome: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it started, milliseconds since 1970.
    pub started_ms: i64,
    /// When it ended, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<WorkflowFault>,
    /// The person who answered it, when one was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Who claimed it, when a person was asked, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<TaskClaim>,
    /// How it was undone, if it was to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensation: Option<StepCompensation>,
}

/// How a step was undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepCompensation {
    /// How it stands or ended.
    pub outcome: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it started, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
    /// When it ended, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
}

/// Why the workflow service refused.
#[derive(Clone, Debug, PartialEq, Problem)]
pub enum WorkflowError {
    /// there is no such workflow
    #[problem(status = 404, code = "unknown-workflow")]
    UnknownWorkflow(String),
    /// there is no such instance
    #[problem(status = 404, code = "unknown-instance")]
    UnknownInstance(String),
    /// the definition has errors
    #[problem(status = 422, code = "invalid-definition")]
    InvalidDefinition {
        /// Each error with its place and a fix.
        diagnostics: Vec<String>,
    },
    /// the request is malformed
    #[problem(status = 400, code = "invalid-start")]
    InvalidStart(String),
    /// the id was started before with another input
    #[problem(status = 409, code = "duplicate-start")]
    DuplicateStart(String),
    /// the instance is not in a state for this
    #[problem(status = 409, code = "wrong-state")]
    WrongState(String),
    /// nobody is asked this, or not any more
    #[problem(status = 404, code = "unknown-task")]
    UnknownTask(String),
    /// the answer is not what the task asks for
    #[problem(status = 422, code = "invalid-answer")]
    InvalidAnswer(String),
    /// somebody else has claimed the task
    #[problem(status = 409, code = "task-claimed")]
    TaskClaimed(String),
    /// the token is none that was given out
    #[problem(status = 403, code = "invalid-token")]
    InvalidToken,
    /// the work was answered before
    #[problem(status = 409, code = "already-answered")]
    AlreadyAnswered,
    /// nobody waits for this work any more
    #[problem(status = 410, code = "not-waited-for")]
    NotWaitedFor(String),
    /// the orchestrator takes no more work just now
    #[problem(status = 503, code = "overloaded", retry)]
    Overloaded,
    /// the shard of this instance has no owner just now
    #[problem(status = 503, code = "shard-unavailable", retry)]
    ShardUnavailable,
    /// Anything else, a faulted workflow (`workflow-faulted`) among it.
    #[problem(transparent)]
    Other(sinew::Problem),
}

/// The code of the problem that answers a start whose workflow faulted or was cancelled.
pub const FAULTED: &str = "workflow-faulted";

impl StartWorkflow {
    /// Creates the request that starts the newest version of `name` and waits for its end.
    pub fn new(name: impl Into<String>, input: Value) -> Self {
        Self { name: name.into(), version: None, id: None, input, input_at: None, wait: None }
    }

    /// Sets the instance's id: starting it again is harmless.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Answers as soon as the start is stored.
    #[must_use]
    pub fn without_waiting(mut self) -> Self {
        self.wait = Some(false);
        self
    }
}

/// Reads a value that is there, null included, as present.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_result_that_is_null_is_a_result() {
        let text = json!({
            "id": "i", "name": "n", "version": "1.0.0", "status": "completed", "saga": "none", "started_ms": 1,
        });
        let mut shown: WorkflowInstance = serde_json::from_value(text).unwrap();
        assert_eq!(shown.output, None);
        shown.output = Some(Value::Null);
        let read: WorkflowInstance = serde_json::from_value(serde_json::to_value(&shown).unwrap()).unwrap();
        assert_eq!(read.output, Some(Value::Null));
    }
}
