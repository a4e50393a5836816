//! `svc.workflow.*`: an SDK service like any other. Turns requests into commands for shards.

mod control;
mod limits;
mod settle;
mod tasks;

use std::{sync::Arc, time::Duration};

use sinew::{
    Bus, Ctx, Encoded, Problem, Running, Service, ServiceError, State,
    telemetry::new_root,
    wire::{InstanceId, header},
    workflow::{
        AppliedWorkflow, ApplyWorkflow, CancelWorkflow, FAULTED, GetWorkflow, ListDefinitions, ListWorkflows,
        OperateWorkflow, StartWorkflow, WorkflowError, WorkflowInstance, WorkflowList, Workflows,
    },
};

use self::{
    control::{pause, remove, resume, terminate},
    tasks::{answer, claim, decline, release, task, tasks},
};
use crate::{
    Error,
    definitions::Definitions,
    directory::Directory,
    history,
    router::{self, Router},
    shard::{Answer, Ask, Command, Start},
    token::Seal,
    view,
};

/// Longest wait for a result when the caller names no deadline.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait for an answer that needs no saga to end.
const PROMPT: Duration = Duration::from_secs(5);
/// What is kept of the caller's time for the way back.
const WAY_BACK: Duration = Duration::from_millis(100);
/// When somebody who was turned away should try again.
const COME_AGAIN: Duration = Duration::from_secs(1);
/// Instances a list shows where nothing is said.
const PAGE: u32 = 100;

/// What requests are answered with.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) router: Arc<Router>,
    /// Shared, as every request has a copy of all this.
    pub(crate) definitions: Arc<Definitions>,
    pub(crate) directory: Directory,
    pub(crate) seal: Seal,
}

pub(crate) async fn serve(bus: &Bus, desk: Desk) -> Result<Running, Error> {
    let service = Service::new("workflow", desk).serve(Workflows, |s| {
        s.apply(apply)
            .definitions(definitions)
            .start(start)
            .get(get)
            .list(list)
            .cancel(cancel)
            .operate(operate)
            .pause(pause)
            .resume(resume)
            .terminate(terminate)
            .remove(remove)
            .tasks(tasks)
            .task(task)
            .answer(answer)
            .decline(decline)
            .claim(claim)
            .release(release)
            .limits(limits::list)
            .complete(settle::complete)
            .fail(settle::fail)
            .heartbeat(settle::heartbeat)
    });
    Ok(service.start(bus).await?)
}

async fn apply(request: ApplyWorkflow, State(desk): State<Desk>) -> Result<AppliedWorkflow, WorkflowError> {
    desk.definitions.apply(request.source, &request.file, &desk.directory.contracts()).await
}

async fn definitions(
    _: ListDefinitions,
    State(desk): State<Desk>,
) -> Result<Vec<AppliedWorkflow>, WorkflowError> {
    Ok(desk.definitions.list())
}

async fn start(
    request: StartWorkflow,
    State(desk): State<Desk>,
    ctx: Ctx,
) -> Result<Encoded<WorkflowInstance>, WorkflowError> {
    let digest = desk.definitions.resolve(&request.name, request.version.as_deref()).await?;
    let (id, chosen) = instance_id(request.id.clone(), &ctx)?;
    if chosen && let Some(instance) = desk.ended_before(&ctx, &request, &id).await? {
        return encoded(&ended(instance, &ctx)?);
    }
    let patience = ctx.deadline().within(PATIENCE).saturating_sub(WAY_BACK);
    let wait = match request.wait {
        Some(waits) => waits.then_some(patience),
        None => ctx.header(header::PREFER).map_or(Some(patience), |text| preferred(text, patience)),
    };
    // The workflow hangs below the caller's span, not below this service's: that one dies unsent with this process.
    let caller = ctx.header(header::TRACEPARENT).and_then(|text| text.parse().ok());
    let trace = caller.or(ctx.trace()).unwrap_or_else(|| new_root(ctx.bus().tracer().is_on()));
    let start = Start {
        id: id.clone(),
        digest,
        workflow: request.name.clone(),
        input: request.input,
        input_at: request.input_at,
        trace: Some(trace.to_string()),
        parent: None,
        wait_ms: wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
    };
    let (shard, limit) = (desk.router.shard_of(&id), patience + WAY_BACK / 2);
    let answer = desk.router.send(shard, Command::Start(start), limit).await.map_err(hinted)?;
    if let Answer::Completed(instance) = answer {
        return Ok(Encoded::trusted(instance));
    }
    let instance = desk.found(&ctx, &request.name, &id, answer).await?;
    encoded(&ended(instance, &ctx)?)
}

async fn get(
    request: GetWorkflow,
    State(desk): State<Desk>,
    ctx: Ctx,
) -> Result<WorkflowInstance, WorkflowError> {
    desk.ask(&ctx, &request.name, &request.id, Ask::Get { id: request.id.clone() }).await
}

async fn list(request: ListWorkflows, State(desk): State<Desk>) -> Result<WorkflowList, WorkflowError> {
    let limit = usize::try_from(request.limit.unwrap_or(PAGE).min(1_000)).unwrap_or(0);
    let mut instances = Vec::new();
    for shard in desk.router.shards() {
        let ask = Ask::List { name: request.name.clone(), status: request.status.clone(), limit };
        if let Answer::List(page) = desk.router.send(shard, ask.into(), PROMPT).await? {
            instances.extend(page);
        }
    }
    instances.sort_by_key(|instance| std::cmp::Reverse(instance.started_ms));
    instances.truncate(limit);
    Ok(WorkflowList { instances })
}

async fn cancel(
    request: CancelWorkflow,
    State(desk): State<Desk>,
    ctx: Ctx,
) -> Result<WorkflowInstance, WorkflowError> {
    let ask = Ask::Cancel { id: request.id.clone(), reason: request.reason };
    desk.ask(&ctx, &request.name, &request.id, ask).await
}

async fn operate(
    request: OperateWorkflow,
    State(desk): State<Desk>,
    ctx: Ctx,
) -> Result<WorkflowInstance, WorkflowError> {
    let before = desk.ask(&ctx, &request.name, &request.id, Ask::Get { id: request.id.clone() }).await?;
    if before.saga != "stuck" {
        let text = format!(
            "the saga of {} is {}, and only a stuck one can be decided about",
            request.id, before.saga
        );
        return Err(WorkflowError::WrongState(text));
    }
    let OperateWorkflow { name, id, action, who, why } = request;
    desk.ask(&ctx, &name, &id, Ask::Operate { id: id.clone(), action, who, why }).await
}

impl Desk {
    pub(super) async fn ask(
        &self,
        ctx: &Ctx,
        name: &str,
        id: &str,
        ask: Ask,
    ) -> Result<WorkflowInstance, WorkflowError> {
        let unknown = || WorkflowError::UnknownInstance(format!("{name}/{id}"));
        id.parse::<InstanceId>().map_err(|_| unknown())?;
        let answer = self.router.send(self.router.shard_of(id), ask.into(), PROMPT).await?;
        let instance = self.found(ctx, name, id, answer).await?;
        if instance.name == name { Ok(instance) } else { Err(unknown()) }
    }

    /// Reads an answer; an instance its shard has forgotten is looked for in the history.
    async fn found(
        &self,
        ctx: &Ctx,
        name: &str,
        id: &str,
        answer: Answer,
    ) -> Result<WorkflowInstance, WorkflowError> {
        if let Some(instance) = answer.instance() {
            return Ok(instance);
        }
        let record = history::read(ctx.bus(), name, id).await.map_err(unreachable_history)?;
        record
            .map(|record| record.instance)
            .ok_or_else(|| WorkflowError::UnknownInstance(format!("{name}/{id}")))
    }

    /// Recognises the repetition of a start whose instance ended long ago.
    async fn ended_before(
        &self,
        ctx: &Ctx,
        request: &StartWorkflow,
        id: &str,
    ) -> Result<Option<WorkflowInstance>, WorkflowError> {
        let read = history::read(ctx.bus(), &request.name, id).await;
        let Some(record) = read.map_err(unreachable_history)? else {
            return Ok(None);
        };
        let digest = match &request.input_at {
            Some(at) => view::digest_of(&router::input(ctx.bus(), at).await?),
            None => view::digest_of(&request.input),
        };
        if record.input_digest == digest {
            return Ok(Some(record.instance));
        }
        Err(WorkflowError::DuplicateStart(format!(
            "instance {id} was started with another input: choose another id"
        )))
    }
}

/// Takes the id from the request, else from the idempotency key, else makes one; says whether it was chosen.
fn instance_id(asked: Option<String>, ctx: &Ctx) -> Result<(String, bool), WorkflowError> {
    if let Some(id) = asked {
        return match id.parse::<InstanceId>() {
            Ok(_) => Ok((id, true)),
            Err(error) => Err(WorkflowError::InvalidStart(error.to_string())),
        };
    }
    Ok(match ctx.idempotency_key() {
        Some(key) if key.parse::<InstanceId>().is_ok() => (key.to_owned(), true),
        Some(key) => (format!("k-{:016x}", view::digest_of_text(key)), true),
        None => (sinew::new_id(), false),
    })
}

fn encoded(instance: &WorkflowInstance) -> Result<Encoded<WorkflowInstance>, WorkflowError> {
    Encoded::of(instance).map_err(|error| {
        tracing::error!(%error, "an instance cannot be written");
        WorkflowError::Other(Problem::new(500, "internal", "internal error"))
    })
}

/// Answers a start: the result, or where to ask for it, or why there is none.
fn ended(instance: WorkflowInstance, ctx: &Ctx) -> Result<WorkflowInstance, WorkflowError> {
    let place = format!("/workflows/{}/{}", instance.name, instance.id);
    match instance.status.as_str() {
        "completed" => Ok(instance),
        "running" => {
            ctx.reply_status(202);
            ctx.reply_location(place);
            Ok(instance)
        }
        // A saga that is still being undone, or is stuck, is reported as what it is by a later read.
        _ => Err(WorkflowError::Other(faulted(&instance).instance(place))),
    }
}

/// Says when to try again to somebody who was turned away.
fn hinted(error: WorkflowError) -> WorkflowError {
    match error {
        WorkflowError::Overloaded => WorkflowError::Other(error.to_problem().retry_after(COME_AGAIN)),
        other => other,
    }
}

fn faulted(instance: &WorkflowInstance) -> Problem {
    let fault = instance.error.as_ref();
    let status = fault.map(|fault| fault.status).filter(|status| (400..600).contains(status)).unwrap_or(500);
    let title =
        if instance.status == "cancelled" { "the workflow was cancelled" } else { "the workflow faulted" };
    let problem = Problem::new(status, FAULTED, title)
        .with("id", instance.id.clone())
        .with("saga", instance.saga.clone())
        .with("fault", serde_json::to_value(fault).unwrap_or_default());
    match fault {
        Some(fault) => problem.detail(fault.detail.clone().unwrap_or_else(|| fault.title.clone())),
        None => problem,
    }
}

/// Returns how long a starter would wait for the end, `patience` at most; `None` where it would not wait at all.
///
/// Source: RFC 7240, sections 4.1 and 4.3: `respond-async, wait=10` waits ten seconds before it goes on without the answer.
fn preferred(text: &str, patience: Duration) -> Option<Duration> {
    let preferences = || text.split(',').map(|one| one.split(';').next().unwrap_or_default().trim());
    let seconds = |one: &str| {
        let (name, value) = one.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().parse::<u32>().ok()).flatten()
    };
    match preferences().find_map(seconds) {
        Some(seconds) => {
            Some(Duration::from_secs(seconds.into()).min(patience)).filter(|wait| !wait.is_zero())
        }
        None if preferences().any(|one| one.eq_ignore_ascii_case("respond-async")) => None,
        None => Some(patience),
    }
}

fn unreachable_history(error: sinew::Error) -> WorkflowError {
    tracing::warn!(%error, "the history cannot be read");
    WorkflowError::Other(error.to_problem())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starter_waits_as_long_as_it_says_and_no_longer_than_it_may() {
        let wait = |text| preferred(text, Duration::from_secs(30)).map(|wait| wait.as_secs());
        for (text, expected) in [
            ("return=minimal", Some(30)),
            ("respond-async", None),
            ("Respond-Async; a=b", None),
            ("wait=5", Some(5)),
            ("respond-async, Wait = 5", Some(5)),
            ("wait=600", Some(30)),
            ("wait=0", None),
            ("wait=soon", Some(30)),
            ("wait=soon, respond-async", None),
        ] {
            assert_eq!(wait(text), expected, "{text}");
        }
    }
}
