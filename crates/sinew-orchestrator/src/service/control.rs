//! Operators: pause, resume, terminate, and what may be started.

use sinew::{
    Ctx, State,
    workflow::{
        PauseWorkflow, RemoveWorkflow, RemovedWorkflow, ResumeWorkflow, TerminateWorkflow, WorkflowError,
        WorkflowInstance,
    },
};

use super::Desk;
use crate::shard::Ask;

pub(super) async fn pause(
    request: PauseWorkflow,
    State(desk): State<Desk>,
    ctx: Ctx,
) -> Result<WorkflowInstance, WorkflowError> {
    let PauseWorkflow { name, id } = request;
    let instance = desk.ask(&ctx, &name, &id, Ask::Pause { id: id.clone() }).await?;
    if instance.paused {
        return Ok(instance);
    }
    let text = format!("{id} has {}, and only what runs can be paused", instance.status);
    Err(WorkflowError::WrongState(text))
}

pub(super) async fn resume(
    request: ResumeWorkflow,
    State(desk): State<Desk>,
    ctx: Ctx,
) -> Result<WorkflowInstance, WorkflowError> {
    let ResumeWorkflow { name, id } = request;
    desk.ask(&ctx, &name, &id, Ask::Resume { id: id.clone() }).await
}

pub(super) async fn terminate(
    request: TerminateWorkflow,
    State(desk): State<Desk>,
    ctx: Ctx,
) -> Result<WorkflowInstance, WorkflowError> {
    let TerminateWorkflow { name, id, reason } = request;
    desk.ask(&ctx, &name, &id, Ask::Terminate { id: id.clone(), reason }).await
}

pub(super) async fn remove(
    request: RemoveWorkflow,
    State(desk): State<Desk>,
) -> Result<RemovedWorkflow, WorkflowError> {
    let removed = desk.definitions.remove(&request.name, request.version.as_deref()).await?;
    Ok(RemovedWorkflow { removed })
}
