//! What people are asked by `call: human`, and how they answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinew_macros::Request;

use super::{WorkflowError, WorkflowInstance};

/// Lists what people are asked, the oldest first.
#[derive(Clone, Debug, Default, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "workflow.tasks",
    reply = WorkflowTasks,
    error = WorkflowError,
    idempotent,
    http = "GET /workflow-tasks"
)]
pub struct ListTasks {
    /// Only of this workflow.
    #[serde(default)]
    pub workflow: Option<String>,
    /// Only what this person or group may answer: what names them as a candidate, or names nobody.
    #[serde(default)]
    pub candidate: Option<String>,
    /// At most so many; 100 where nothing is said.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// Reads what one task asks.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "workflow.task",
    reply = WorkflowTask,
    error = WorkflowError,
    idempotent,
    http = "GET /workflow-tasks/{id}"
)]
pub struct GetTask {
    /// Which task.
    pub id: String,
}

/// Answers a task; the answer becomes its output. One that does not fit its schema is refused, and the task goes on
/// waiting.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "workflow.answer",
    reply = WorkflowInstance,
    error = WorkflowError,
    http = "POST /workflow-tasks/{id}/answer"
)]
pub struct AnswerTask {
    /// Which task.
    pub id: String,
    /// The answer.
    #[serde(default)]
    pub answer: Value,
    /// Who answers; kept in the history.
    pub who: String,
}

/// Says that a task cannot be done: it fails with status 409 and code `declined`, which the workflow may catch.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "workflow.decline",
    reply = WorkflowInstance,
    error = WorkflowError,
    http = "POST /workflow-tasks/{id}/decline"
)]
pub struct DeclineTask {
    /// Which task.
    pub id: String,
    /// Why; becomes the detail of the error.
    pub why: String,
    /// Who says so; kept in the history.
    pub who: String,
}

/// Claims a task, so that nobody else answers it meanwhile. Who has claimed it already may claim it for longer.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "workflow.claim",
    reply = WorkflowTask,
    error = WorkflowError,
    idempotent,
    http = "POST /workflow-tasks/{id}/claim"
)]
pub struct ClaimTask {
    /// Which task.
    pub id: String,
    /// Who claims it; kept in the history.
    pub who: String,
    /// For how long, in milliseconds: 8 hours where nothing is said, a year at most. Then it is everybody's again.
    #[serde(default)]
    pub for_ms: Option<u64>,
}

/// Gives a claimed task back to everybody. Only who claimed it can; one that is not claimed stays as it is.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "workflow.release",
    reply = WorkflowTask,
    error = WorkflowError,
    idempotent,
    http = "POST /workflow-tasks/{id}/release"
)]
pub struct ReleaseTask {
    /// Which task.
    pub id: String,
    /// Who claimed it.
    pub who: String,
}

/// A person who has a task to themselves for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskClaim {
    /// Who it is.
    pub who: String,
    /// Since when, milliseconds since 1970.
    pub since_ms: i64,
    /// Until when, milliseconds since 1970.
    pub until_ms: i64,
}

/// What people are asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowTasks {
    /// The tasks.
    pub tasks: Vec<WorkflowTask>,
}

/// A task that waits for a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowTask {
    /// Its id: the instance and a number.
    pub id: String,
    /// The workflow's name.
    pub workflow: String,
    /// The instance.
    pub instance: String,
    /// The name of the task in the document.
    pub name: String,
    /// Where it stands in the document.
    pub pointer: String,
    /// What it is about, where the author says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Who may answer, where the author says so. A hint: whoever may call the operation may answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
    /// The JSON Schema of the answer, where the author wrote one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// Everything else the author wants people to know.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
    /// When it was asked, milliseconds since 1970.
    pub asked_ms: i64,
    /// When the task gives up waiting, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<i64>,
    /// Who has claimed it: nobody else can answer it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<TaskClaim>,
}

impl WorkflowTask {
    /// Says whether a person or group is among those who may answer; where nobody is named, everybody is.
    pub fn may_be_answered_by(&self, candidate: &str) -> bool {
        self.candidates.is_empty() || self.candidates.iter().any(|one| one == candidate)
    }
}
