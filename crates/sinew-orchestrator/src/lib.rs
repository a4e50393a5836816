//! Runs workflows durably: shard logs on JetStream around the pure engine of `sinew-workflow`.
//!
//! Each shard is one task that owns the state of all its instances and one log. Whatever it learns — starts, replies,
//! timers, cancels — the engine turns into entries; entries gather while an append is in flight and leave together
//! with the next one. Nothing an entry causes leaves the process before the server has acknowledged it. A new owner
//! folds the log, asks the states what is due, and goes on.
//!
//! [`local`] runs the same shard on a log in memory, for a process without a broker.
//!
//! *Invariant*: two owners never both append. Every append names the sequence it expects to be the last one; a lease
//! only decides who tries.
//!
//! ```no_run
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = sinew::Bus::connect(sinew::Config::default()).await?;
//! let orchestrator = sinew_orchestrator::start(sinew_orchestrator::Config::default(), bus.clone()).await?;
//! sinew::shutdown::requested().await;
//! orchestrator.drain().await;
//! bus.close().await;
//! # Ok(()) }
//! ```

mod calls;
mod companions;
mod config;
mod definitions;
mod directory;
mod error;
mod history;
mod id;
mod journal;
mod lease;
mod library;
mod lifecycle;
mod listen;
pub mod local;
mod owner;
mod record;
mod resources;
mod router;
mod schedules;
mod service;
mod shard;
mod spans;
mod spread;
mod starter;
mod token;
mod view;

use std::{sync::Arc, time::Duration};

use sinew::{Bus, Running as Served};
use sinew_protocols::Protocols;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub use config::{Allow, Calls, Config, Limit, Limits, Rate};
pub use error::{Error, Kind};
pub use journal::{Appended, Journal, JournalError, MemoryJournal};
pub use lifecycle::Lifecycle;
pub use listen::Listen;
pub use resources::{Unfetched, fetch, gather};
pub use schedules::{Missed, Schedules};

use crate::{
    calls::{Children, Line, Owners},
    definitions::Definitions,
    directory::Directory,
    lease::Leases,
    library::Library,
    router::Router,
    service::Desk,
    token::Seal,
};

/// A started orchestrator. Call [`Running::drain`] before the process ends.
#[must_use = "an orchestrator that is not drained leaves its leases to expire"]
pub struct Running {
    service: Served,
    router: Arc<Router>,
    protocols: Protocols,
    /// Stops the shards, also when this is dropped without draining.
    stop: DropGuard,
    tasks: TaskTracker,
}

/// Starts the orchestrator on `bus`: creates its streams, takes what shards it can get, serves `svc.workflow.*`.
///
/// # Errors
/// [`Kind::Config`] for an unusable setting, [`Kind::Bus`] when the server refuses streams or buckets.
pub async fn start(config: Config, bus: Bus) -> Result<Running, Error> {
    config.validate(bus.max_payload())?;
    let (protocols, bus) = (config.calls.open()?, bus.with_replicas(config.replicas));
    history::ensure_stream(&bus, &config).await?;
    journal::ensure_stream(&bus, &config).await?;
    sinew::ensure_streams(&bus).await?;
    sinew::ensure_commands(&bus).await?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    // What is started here does not outlive a failure below.
    let guard = stop.clone().drop_guard();
    let definitions =
        Definitions::open(&bus, (config.calls.allow.clone(), protocols.clone()), &tasks, &stop).await?;
    let directory = Directory::open(&bus, &tasks, &stop).await?;
    let router = Arc::new(Router::new(bus.clone(), &config));
    let leases = Leases::open(&bus, Duration::from_secs(config.lease_seconds)).await?;
    let library = Library::Stored(definitions.clone());
    let children = Children::new(library, Owners::Bus(bus.clone(), router.clone()));
    let seal = Seal::open(&bus).await?;
    let line = Line { bus: bus.clone(), directory: directory.clone(), seal: Some(seal.clone()), lease: None };
    let parts = owner::Parts { config, line, protocols: protocols.clone(), children };
    tasks.spawn(owner::run(parts, leases, router.clone(), stop.clone()));
    let service = service::serve(
        &bus,
        Desk { router: router.clone(), definitions: Arc::new(definitions), directory, seal },
    )
    .await?;
    Ok(Running { service, router, protocols, stop: guard, tasks })
}

impl Running {
    /// Says whether starts are taken: the service answers, and each shard has an owner somewhere.
    pub fn is_ready(&self) -> bool {
        self.service.is_ready() && self.router.is_ready()
    }

    /// Stops taking requests, lets each shard finish its last append, gives the leases back.
    ///
    /// Calls in flight are left: their outcome is unknown to us, and the next owner repeats them with the same key.
    pub async fn drain(self) {
        // Shards end first: whoever waits for a result is told that the work goes on, instead of holding the drain up.
        drop(self.stop);
        self.tasks.close();
        self.tasks.wait().await;
        self.protocols.close().await;
        self.service.drain().await;
    }
}
