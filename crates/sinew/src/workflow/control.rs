//! What operators ask about instances and definitions, beyond cancelling and deciding about stuck sagas.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew_macros::Request;

use super::{AppliedWorkflow, WorkflowError, WorkflowInstance};

/// Pauses an instance: nothing new begins, what is in flight may end, and what comes in is kept. Compensations go on.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "workflow.pause",
    reply = WorkflowInstance,
    error = WorkflowError,
    idempotent,
    http = "POST /workflows/{name}/{id}/pause"
)]
pub struct PauseWorkflow {
    /// Which workflow.
    pub name: String,
    /// Which instance.
    pub id: String,
}

/// Lets a paused instance go on, with what came in meanwhile first.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "workflow.resume",
    reply = WorkflowInstance,
    error = WorkflowError,
    idempotent,
    http = "POST /workflows/{name}/{id}/resume"
)]
pub struct ResumeWorkflow {
    /// Which workflow.
    pub name: String,
    /// Which instance.
    pub id: String,
}

/// Ends an instance at once. Nothing is undone, also where undoing has begun: cancel it to have what was done undone.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "workflow.terminate",
    reply = WorkflowInstance,
    error = WorkflowError,
    idempotent,
    http = "POST /workflows/{name}/{id}/terminate"
)]
pub struct TerminateWorkflow {
    /// Which workflow.
    pub name: String,
    /// Which instance.
    pub id: String,
    /// Why; kept in the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Removes a definition: nothing starts by it any more, its schedule ends. Instances that run go on.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "workflow.remove", reply = RemovedWorkflow, error = WorkflowError, idempotent)]
pub struct RemoveWorkflow {
    /// Which workflow.
    pub name: String,
    /// Which version; all of them where nothing is said.
    #[serde(default)]
    pub version: Option<String>,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemovedWorkflow {
    /// The versions that are gone.
    pub removed: Vec<AppliedWorkflow>,
}
