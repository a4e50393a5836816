//! Workflow instances: started, read, cancelled, decided about. All of it is asked of the workflow service.

use std::time::Duration;

use clap::ValueEnum;
use sinew::{
    Ctx, Problem, Request,
    workflow::{
        CancelWorkflow, GetWorkflow, ListWorkflows, OperateWorkflow, Operation, PauseWorkflow,
        ResumeWorkflow, StartWorkflow, TerminateWorkflow, WorkflowError, WorkflowInstance,
    },
};

use crate::{document, error::Error, operation::duration, output::columns, session::Session, timeline};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sinew workflow start place-order --id o-1 --input @order.json")]
pub(crate) struct Start {
    /// The workflow
    name: String,
    /// What it works on: JSON, @FILE or - for standard input
    #[arg(long, default_value = "{}", value_name = "JSON")]
    input: String,
    /// The instance's id; starting the same id again is harmless
    #[arg(long)]
    id: Option<String>,
    /// The version; the newest one where left out
    #[arg(long = "workflow-version", value_name = "VERSION")]
    version: Option<String>,
    /// Returns as soon as the start is stored
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the end, such as 500ms, 2s or 1m
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = duration)]
    timeout: Duration,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sinew workflow get place-order o-1")]
pub(crate) struct Which {
    /// The workflow
    name: String,
    /// The instance
    id: String,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sinew workflow list\n  sinew workflow list place-order --status running --limit 10"
)]
pub(crate) struct List {
    /// Only of this workflow
    name: Option<String>,
    /// Only in this status
    #[arg(long, value_parser = ["running", "completed", "faulted", "cancelled"])]
    status: Option<String>,
    /// At most so many
    #[arg(long)]
    limit: Option<u32>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sinew workflow cancel place-order o-1 --reason 'the customer called'")]
pub(crate) struct Cancel {
    #[command(flatten)]
    which: Which,
    /// Why; kept in the history
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is in flight may still end; what comes in is kept, events and answers of people included. \
                  Timeouts that pass\nmeanwhile count when it is resumed. Compensations are not held up: undoing goes on.\n\n\
                  Examples:\n  sinew workflow pause place-order o-1"
)]
pub(crate) struct Pause {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "What came in meanwhile is taken first, in the order it came.\n\n\
                  Examples:\n  sinew workflow resume place-order o-1")]
pub(crate) struct Resume {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "No compensation runs, also where undoing has begun: what was done stays done, and the saga is shown as \
                  abandoned.\nTo have it undone, cancel it.\n\n\
                  Examples:\n  sinew workflow terminate place-order o-1 --reason 'the shop is gone'"
)]
pub(crate) struct Terminate {
    #[command(flatten)]
    which: Which,
    /// Why; kept in the history
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sinew workflow operate place-order o-1 retry --why 'the bank is back'")]
pub(crate) struct Operate {
    #[command(flatten)]
    which: Which,
    /// What to do about it
    #[arg(value_enum)]
    action: Action,
    /// Why; kept in the history
    #[arg(long)]
    why: String,
    /// Who decides; kept in the history
    #[arg(long, env = "USER", hide_env_values = true, default_value = "unknown")]
    who: String,
}

/// What an operator may do about a stuck compensation.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Action {
    /// Tries it again with fresh attempts
    Retry,
    /// Goes on without it
    Skip,
    /// It was done by other means
    Resolve,
    /// Gives the whole saga up
    Abandon,
}

pub(super) async fn start(args: Start, session: &Session) -> Result<(), Error> {
    let Start { name, input, id, version, no_wait, timeout } = args;
    let input = document::read(&input)?;
    let request = StartWorkflow { version, id, wait: Some(!no_wait), ..StartWorkflow::new(name, input) };
    let started = session.on_bus(async |bus| {
        let ctx = Ctx::detached(bus, "sinew-cli");
        request.send(&ctx, timeout).await.map_err(|error| refused(error.to_problem()))
    });
    show(started.await?, session);
    Ok(())
}

pub(super) async fn get(args: Which, session: &Session) -> Result<(), Error> {
    show(ask(session, GetWorkflow { name: args.name, id: args.id }, SHORT).await?, session);
    Ok(())
}

pub(super) async fn list(args: List, session: &Session) -> Result<(), Error> {
    let List { name, status, limit } = args;
    let request = ListWorkflows { name: name.unwrap_or_default(), status, limit };
    let list = ask(session, request, SHORT).await?;
    session.output.show(&list.instances, |instances| {
        let row = |one: &WorkflowInstance| {
            let state = timeline::state(one);
            vec![one.name.clone(), one.id.clone(), state, one.trace_id.clone()]
        };
        if instances.is_empty() {
            return "no instances".to_owned();
        }
        columns(&instances.iter().map(row).collect::<Vec<_>>())
    });
    Ok(())
}

pub(super) async fn cancel(args: Cancel, session: &Session) -> Result<(), Error> {
    let Which { name, id } = args.which;
    show(ask(session, CancelWorkflow { name, id, reason: args.reason }, SHORT).await?, session);
    Ok(())
}

pub(super) async fn pause(args: Pause, session: &Session) -> Result<(), Error> {
    let Which { name, id } = args.which;
    show(ask(session, PauseWorkflow { name, id }, SHORT).await?, session);
    Ok(())
}

pub(super) async fn resume(args: Resume, session: &Session) -> Result<(), Error> {
    let Which { name, id } = args.which;
    show(ask(session, ResumeWorkflow { name, id }, SHORT).await?, session);
    Ok(())
}

pub(super) async fn terminate(args: Terminate, session: &Session) -> Result<(), Error> {
    let Which { name, id } = args.which;
    show(ask(session, TerminateWorkflow { name, id, reason: args.reason }, SHORT).await?, session);
    Ok(())
}

pub(super) async fn operate(args: Operate, session: &Session) -> Result<(), Error> {
    let Operate { which: Which { name, id }, action, why, who } = args;
    let action = match action {
        Action::Retry => Operation::Retry,
        Action::Skip => Operation::Skip,
        Action::Resolve => Operation::Resolve,
        Action::Abandon => Operation::Abandon,
    };
    show(ask(session, OperateWorkflow { name, id, action, who, why }, SHORT).await?, session);
    Ok(())
}

/// Turns what the workflow service answered into an error that says what to do.
pub(super) fn refused(problem: Problem) -> Error {
    if problem.code == "no-responders" {
        let error = Error::failed("no-responders", "no orchestrator is running on this bus");
        return error.hint("start one with `sinew dev` or `sinew orchestrator`");
    }
    let member =
        |name: &str| problem.extensions.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    let (code, id) = (problem.code.clone(), member("id"));
    let error = Error::from(problem);
    match id {
        Some(id) if code == sinew::workflow::FAULTED => {
            error.hint(format!("see each step with `sinew workflow get <name> {id}`"))
        }
        _ => error,
    }
}

/// Reading and deciding take no longer than this; only a start waits for work to be done.
pub(super) const SHORT: Duration = Duration::from_secs(10);

pub(super) async fn ask<R>(session: &Session, request: R, limit: Duration) -> Result<R::Reply, Error>
where
    R: Request<Error = WorkflowError>,
{
    session
        .on_bus(async |bus| {
            let call = Ctx::detached(bus, "sinew-cli").call(request).within(limit);
            call.await.map_err(|error| refused(error.to_problem()))
        })
        .await
}

pub(super) fn show(instance: WorkflowInstance, session: &Session) {
    session.output.show(&instance, |instance| timeline::instance(instance, &session.output));
}
