//! Workflows in this process alone: no broker, no log that outlives it, real calls.
//!
//! It is a shard like any other, on a log in memory: the same engine calls in the same order as on the bus, so what a
//! document does here it does there. Events a workflow emits reach those that listen in this process. Schedules do
//! nothing here: an instance begins when it is [run](Local::run).
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use serde_json::json;
//! use sinew_orchestrator::local::{Local, Setup};
//!
//! let source = "
//! document: { dsl: '1.0.3', namespace: test, name: greet, version: '1.0.0' }
//! do:
//!   - greet: { set: { greeting: '${ \"hello \" + .name }' } }
//! ";
//! let greet = Arc::new(sinew_workflow::Definition::parse(source, "greet.yaml")?);
//! let local = Local::open(Setup { definitions: vec![greet.clone()], ..Setup::default() }).await?;
//! let ended = local.run(greet.reference(), "g-1", json!({ "name": "Ada" })).await?;
//! assert_eq!(ended.output, Some(json!({ "greeting": "hello Ada" })));
//! local.close().await;
//! # Ok(()) }
//! ```

mod events;
mod people;
mod world;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use serde_json::Value;
use sinew::{
    Bus,
    workflow::{Operation, WorkflowError, WorkflowInstance},
};
pub use sinew_protocols::Protocols;
use sinew_protocols::Settings;
use sinew_workflow::{Definition, Need, Protocol, Reference};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    Allow, Config, Error, Kind, MemoryJournal,
    calls::{Children, Gates, Line, Means, Owners},
    directory::Directory,
    library::Library,
    shard::{self, Answer, Ask, Command, Handle, Opening, Shard, Start},
};
pub use people::Question;
use world::{InProcess, Tells};

/// Events that may wait for the task that hands them out before whoever publishes waits too.
const EVENTS: usize = 64;
/// What an instance may hold: there is no record on a server that it must fit into.
const MAX_BYTES: usize = 256 << 20;
/// Nobody else can own a log in memory.
const FOR_EVER: Duration = Duration::from_secs(3_600 * 24 * 365 * 10);

/// What workflows in this process work with.
#[derive(Default)]
pub struct Setup {
    /// The workflows that can be run, by themselves or as children.
    pub definitions: Vec<Arc<Definition>>,
    /// What carries out calls outside the bus; with its defaults where left out.
    pub protocols: Option<Protocols>,
    /// The bus for calls of operations and for events; without one, such calls fail and say so.
    pub bus: Option<Bus>,
    /// Who is told what people are asked, to [answer](Local::answer) it; without anybody, `call: human` fails and says so.
    pub people: Option<mpsc::UnboundedSender<Question>>,
}

/// How calls leave this process.
#[derive(Clone, Debug, Default)]
pub struct Calling {
    /// Certificates in PEM that are trusted beside those of the system.
    pub extra_roots: Vec<String>,
    /// Where hosts really are, `host:port` to an address, in place of a name server.
    pub resolve: BTreeMap<String, SocketAddr>,
    /// The values behind `$secrets`, by name.
    pub secrets: BTreeMap<String, Value>,
    /// The processes that may be started.
    pub allow: Allow,
    /// The program that runs containers; `docker`, or else `podman`, where none is named.
    pub container_engine: Option<PathBuf>,
}

/// A process that runs workflows by itself. [`close`](Self::close) it in the end.
#[must_use = "what is not closed leaves its tasks to be cancelled"]
pub struct Local {
    handle: Handle,
    library: Library,
    events: mpsc::Sender<Arc<Value>>,
    protocols: Protocols,
    /// Stops everything, also when this is dropped without closing.
    stop: DropGuard,
    tasks: TaskTracker,
}

/// Sets calls up.
///
/// # Errors
/// [`Kind::Config`] for certificates that cannot be used.
pub fn protocols(calling: Calling) -> Result<Protocols, Error> {
    let Calling { extra_roots, resolve, secrets, allow, container_engine } = calling;
    let allow = allow.into();
    let settings = Settings { extra_roots, resolve, secrets, allow, container_engine, ..Settings::default() };
    Protocols::new(settings).map_err(|error| Error::new(Kind::Config, error.to_string()))
}

/// Says whether a process where this much is allowed has what a definition needs. A schedule counts as met: whoever runs
/// an instance here decides when; and so do people, whom it finds.
pub fn can(need: Need, allow: &Allow) -> bool {
    matches!(need, Need::Events | Need::Schedule | Need::Protocol(Protocol::Human)) || allow.has(need)
}

impl Local {
    /// Sets it up.
    ///
    /// # Errors
    /// [`Kind::Config`] when calls cannot be set up, [`Kind::Bus`] when the given bus does not work.
    pub async fn open(setup: Setup) -> Result<Self, Error> {
        let Setup { definitions, protocols, bus, people } = setup;
        let protocols = match protocols {
            Some(protocols) => protocols,
            None => self::protocols(Calling::default())?,
        };
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let guard = stop.clone().drop_guard();
        let line = match bus {
            Some(bus) => {
                let directory = Directory::open(&bus, &tasks, &stop).await?;
                // Nobody who finishes work later could find this process: what takes work on is told so.
                Some(Line { bus, directory, seal: None, lease: None })
            }
            None => None,
        };
        let library = Library::of(definitions);
        let (handle, inbox) = shard::channel(library.clone());
        let children = Children::new(library.clone(), Owners::Here(handle.clone()));
        let (events, published) = mpsc::channel(EVENTS);
        let (listening, listeners) = mpsc::unbounded_channel();
        tasks.spawn(events::run(handle.clone(), published, listeners, stop.clone()));
        let means = Means { line, protocols: protocols.clone(), children, gates: Gates::default() };
        let tells = Tells { events: events.clone(), listening, people };
        let world = InProcess::new(means, handle.clone(), tells);
        let (_, lease) = watch::channel(Instant::now() + FOR_EVER);
        // There is no log to park in that would take less memory.
        let (park_after_seconds, park_above) = (u64::MAX, usize::MAX);
        let config = Config {
            max_record_bytes: MAX_BYTES,
            max_value_bytes: MAX_BYTES,
            park_after_seconds,
            park_above,
            ..Config::default()
        };
        let opening = Opening { config, world, lease, epoch: 1, inbox };
        let shard = Shard::open(MemoryJournal::default(), opening).await;
        let shard = shard.map_err(|error| Error::new(Kind::Foreign, error.to_string()))?;
        tasks.spawn(shard.run(stop));
        Ok(Self { handle, library, events, protocols, stop: guard, tasks })
    }

    /// Runs an instance to its end, what undoes it included. Running the same id again finds the same instance.
    ///
    /// # Errors
    /// [`WorkflowError::UnknownWorkflow`] for a workflow that was not given, [`WorkflowError::InvalidStart`] for an input
    /// that cannot be kept. A workflow that faults is no error here.
    ///
    /// # Cancel safety
    /// A dropped future leaves the instance running: [`cancel`](Self::cancel) it, or run the same id again.
    pub async fn run(
        &self,
        workflow: &Reference,
        id: &str,
        input: Value,
    ) -> Result<WorkflowInstance, WorkflowError> {
        let Reference { namespace, name, version } = workflow;
        let digest = self.library.resolve(namespace, name, Some(version)).await?;
        let start = Start {
            id: id.to_owned(),
            digest,
            workflow: name.clone(),
            input,
            input_at: None,
            trace: None,
            parent: None,
            wait_ms: Some(u64::MAX),
        };
        shown(id, self.handle.ask(Command::Start(start)).await?)
    }

    /// Cancels an instance: what was done is undone. It has ended when [`run`](Self::run) returns.
    ///
    /// # Errors
    /// [`WorkflowError::UnknownInstance`] for an id that was never started.
    pub async fn cancel(&self, id: &str, reason: Option<String>) -> Result<WorkflowInstance, WorkflowError> {
        shown(id, self.handle.ask(Ask::Cancel { id: id.to_owned(), reason }.into()).await?)
    }

    /// Decides about a compensation that is stuck.
    ///
    /// # Errors
    /// [`WorkflowError::WrongState`] when nothing is stuck, [`WorkflowError::UnknownInstance`] as above.
    pub async fn operate(
        &self,
        id: &str,
        action: Operation,
        who: &str,
        why: &str,
    ) -> Result<WorkflowInstance, WorkflowError> {
        let ask = Ask::Operate { id: id.to_owned(), action, who: who.to_owned(), why: why.to_owned() };
        shown(id, self.handle.ask(ask.into()).await?)
    }

    /// Tells how an instance stands.
    ///
    /// # Errors
    /// [`WorkflowError::UnknownInstance`] for an id that was never started.
    pub async fn get(&self, id: &str) -> Result<WorkflowInstance, WorkflowError> {
        shown(id, self.handle.ask(Ask::Get { id: id.to_owned() }.into()).await?)
    }

    /// Hands an event, as a CloudEvent in JSON, to whoever listens for it, or to the first that will. Waits while many
    /// others are ahead of it.
    pub async fn publish(&self, event: Value) {
        // When the other end is gone, nobody will ever listen.
        let _ = self.events.send(Arc::new(event)).await;
    }

    /// Stops everything and returns when nothing runs any more. Calls in flight are dropped.
    pub async fn close(self) {
        drop(self.stop);
        self.tasks.close();
        self.tasks.wait().await;
        self.protocols.close().await;
    }
}

fn shown(id: &str, answer: Answer) -> Result<WorkflowInstance, WorkflowError> {
    answer.instance().ok_or_else(|| WorkflowError::UnknownInstance(id.to_owned()))
}

#[cfg(test)]
mod tests;
