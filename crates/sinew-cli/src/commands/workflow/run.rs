//! `sinew workflow run`: one instance in this process, from start to end. Needs no broker.

mod answers;
mod events;
mod input;
mod means;
mod report;

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use sinew::workflow::{WorkflowError, WorkflowInstance};
use sinew_orchestrator::{
    fetch,
    local::{Local, Protocols, Setup, can},
};
use sinew_workflow::Definition;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};

pub(super) use self::input::parse;
use self::{answers::Answers, input::InputArgs, means::MeansArgs, report::Progress};
use crate::{
    commands::workflow::documents::{refuse_invalid, refuse_unrunnable},
    diagnostics::Checked,
    document,
    error::{Error, Kind, code},
    operation::duration,
    session::Session,
};

/// How often it is looked how far the instance got.
const LOOK: Duration = Duration::from_millis(100);

const AFTER_HELP: &str = "\
Calls are real: HTTP, OpenAPI, gRPC and their like go out from here. Events that the workflow emits reach those parts of \
it that listen; more are read from --events. With --nats-url (or NATS_URL), `call: service.operation` and `emit` use that \
bus; without it such a call fails and says so. Nothing is stored: `sinew workflow apply` and `start` run it durably.

What `call: human` asks is answered by --answer, or at the terminal; where there is neither, the task fails and says so.

Ctrl-C cancels the instance, so that what was done is undone; a second one ends at once.

The result, with --json:
  {\"status\":\"completed|faulted|cancelled\",\"output\":…,\"error\":…,
   \"tasks\":[{\"name\",\"pointer\",\"status\",\"started\",\"ended\"}]}
A saga that undid something has a member \"saga\" beside these, and each task it undid a member \"compensation\".

Exit codes: 0 completed, 2 faulted (or a mistake on the command line, as with every command), 3 the document is invalid \
or its input is neither JSON nor YAML, 130 cancelled, 1 anything else. An input that does not fit the schema of the \
workflow is a fault, as the specification has it.

Examples:
  sinew workflow run hello.yaml --set name=Ada
  sinew workflow run place-order.yaml --input order.json --json
  echo '{\"id\": 7}' | sinew workflow run pets.yaml --input - --secret API_TOKEN
  sinew workflow run refund.yaml --answer approve='{\"approved\": true}'
  sinew workflow run report.yaml --allow-container=alpine --container-engine podman
  sinew workflow run parent.yaml --definitions child.yaml --events events.jsonl --timeout 1m";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The workflow, as YAML or JSON; - for standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    #[command(flatten)]
    input: InputArgs,
    /// Further workflows, for `run: workflow`
    #[arg(long, value_name = "FILE", num_args = 1..)]
    definitions: Vec<PathBuf>,
    /// Events to listen for: CloudEvents as a JSON array or one a line; - for standard input, as they come
    #[arg(long, value_name = "FILE|-")]
    events: Option<PathBuf>,
    /// Answers a `call: human`, such as approve='{"approved": true}'; those for the same task are given in turn
    #[arg(long = "answer", value_name = "TASK=JSON")]
    answers: Vec<String>,
    /// Cancels the instance after so long, such as 500ms, 2s or 1m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    means: MeansArgs,
}

/// How a run came to its end.
enum Ended {
    /// The instance ended by itself, or was cancelled and undone.
    Whole(Box<WorkflowInstance>),
    /// It was left as it stands: a second interrupt, or a compensation nobody here decides about.
    Left(Box<WorkflowInstance>),
}

pub(super) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    args.check()?;
    let protocols = sinew_orchestrator::local::protocols(args.means.settings()?)?;
    let definitions = read_all(&args, &protocols, session).await?;
    let (input, answers) = (args.input.read()?, Answers::read(&args.answers, !args.reads_input())?);
    let bus = if session.settings.nats_url.value.is_some() {
        Some(session.connect("sinew-workflow-run").await?)
    } else {
        None
    };
    let (people, asked) = mpsc::unbounded_channel();
    let setup = Setup {
        definitions: definitions.clone(),
        protocols: Some(protocols),
        bus: bus.clone(),
        people: Some(people),
    };
    let local = Local::open(setup).await?;
    let (workflow, id) = (definitions[0].reference().clone(), sinew::new_id());
    let ended = {
        let feeding = events::feed(&local, args.events.as_deref());
        let running = Box::pin(local.run(&workflow, &id, input));
        let watched = watch(&local, &id, running, args.timeout, session);
        let asking = answers.give(&local, asked, session);
        tokio::pin!(watched);
        tokio::select! {
            ended = &mut watched => ended,
            fed = both(feeding, asking) => match fed {
                Ok(()) => watched.await,
                Err(error) => Err(error),
            },
        }
    };
    local.close().await;
    if let Some(bus) = bus {
        bus.close().await;
    }
    report::show(ended?, session)
}

/// Reads the workflow and those it may run; the workflow itself comes first.
async fn read_all(
    args: &Args,
    protocols: &Protocols,
    session: &Session,
) -> Result<Vec<Arc<Definition>>, Error> {
    let (allow, given) = (args.means.allow(), args.means.reach.resources()?);
    let mut definitions = Vec::new();
    for path in std::iter::once(&args.file).chain(&args.definitions) {
        let (source, name) = document::text(path)?;
        let fetched = fetch(&source, &name, given.clone(), protocols, path.parent()).await;
        let resources = fetched.map_err(unfetched)?;
        let (checked, definition) =
            Checked::with_definition(source, name, &resources, |need| can(need, &allow));
        if !checked.findings.is_empty() || !checked.not_runnable.is_empty() {
            session.output.note(&checked.to_text(&session.output));
        }
        let checked = [checked];
        refuse_invalid(&checked)?;
        refuse_unrunnable(&checked)?;
        definitions.extend(definition.map(Arc::new));
    }
    Ok(definitions)
}

impl Args {
    /// Counts what is read from standard input.
    fn inputs(&self) -> usize {
        let files = std::iter::once(&self.file).chain(&self.definitions).chain(&self.events);
        let files = files.map(PathBuf::as_path).chain(self.input.path());
        files.filter(|path| *path == Path::new("-")).count()
    }

    fn reads_input(&self) -> bool {
        self.inputs() > 0
    }

    /// Standard input can be read once.
    fn check(&self) -> Result<(), Error> {
        if self.inputs() > 1 {
            return Err(Error::usage(
                "only one of FILE, --input, --definitions and --events can be standard input",
            ));
        }
        Ok(())
    }
}

fn unfetched(failed: Vec<String>) -> Error {
    let error = Error::new(Kind::Document, code::DOCUMENT, failed.join("; "));
    error.hint("name a file in its place with --resource URI=FILE")
}

/// Waits for the end of the instance, tells people how far it is, and cancels it when asked to.
async fn watch(
    local: &Local,
    id: &str,
    mut running: Pin<Box<impl Future<Output = Result<WorkflowInstance, WorkflowError>>>>,
    timeout: Option<Duration>,
    session: &Session,
) -> Result<Ended, Error> {
    let mut progress = Progress::default();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut interrupted = false;
    let mut stop = Box::pin(sinew::shutdown::requested());
    let refused = |error: WorkflowError| Error::from(sinew::ServiceError::to_problem(&error));
    loop {
        tokio::select! {
            ended = &mut running => return Ok(Ended::Whole(Box::new(ended.map_err(refused)?))),
            () = &mut stop => {
                if std::mem::replace(&mut interrupted, true) {
                    return Ok(Ended::Left(Box::new(local.get(id).await.map_err(refused)?)));
                }
                session.output.note("cancelling: what was done is undone; once more to leave at once");
                stop.set(sinew::shutdown::requested());
                cancel(local, id, "interrupted").await;
            }
            () = passed(deadline) => {
                deadline = None;
                session.output.note("cancelling: --timeout has passed");
                cancel(local, id, "--timeout has passed").await;
            }
            _ = look.tick() => {
                // It may not have begun yet.
                let Ok(instance) = local.get(id).await else { continue };
                progress.tell(&instance, &session.output);
                if instance.saga == "stuck" {
                    return Ok(Ended::Left(Box::new(instance)));
                }
            }
        }
    }
}

async fn cancel(local: &Local, id: &str, reason: &str) {
    // An instance that has just ended needs none.
    let _ = local.cancel(id, Some(reason.to_owned())).await;
}

/// Returns when both are done, or one fails.
async fn both(
    feeding: impl Future<Output = Result<(), Error>>,
    asking: impl Future<Output = ()>,
) -> Result<(), Error> {
    tokio::try_join!(feeding, async {
        asking.await;
        Ok(())
    })?;
    Ok(())
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
