//! The edge: HTTP to messages and messages to HTTP.
//!
//! Routes come from the contracts in the catalogue: an operation that says `http = "POST /orders"` is served here a
//! moment after its service starts. [`Config::routes`] adds routes of one's own and [`Reloader`] changes them
//! while requests go on; services in other languages ask for routes in their discovery metadata. The edge knows subjects and
//! contracts, never a service's code; a workflow is an operation like any other, and callers never choose subjects.
//!
//! * A request becomes one message: path, query and body are merged, a plain body is rewritten as a stream. What is not as
//!   the operation's schema says is refused with every violation. The client's trace, deadline (`Request-Timeout`),
//!   `Idempotency-Key` and `Prefer` travel along.
//! * A reply comes back in the codec the client accepts. A service may set status and `Location`.
//! * Every failure is a problem document (RFC 9457) with a fixed status: nobody serves it 503, deadline 504, not
//!   permitted 403, too large 413, a reply nobody can read 502, a declared error its declared status, an undeclared
//!   one 502. Nothing is retried on the client's behalf.
//! * `/openapi.json` describes the routes in force.
//! * `POST /events/{domain}/{event}` stores an event; `/healthz/live` and `/healthz/ready` are for orchestrators.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = sinew::Bus::connect(sinew::Config::default()).await?;
//! let edge = sinew_edge::start(sinew_edge::Config::default(), bus.clone()).await?;
//! println!("serving on http://{}", edge.local_addr());
//! sinew::shutdown::requested().await;
//! edge.drain().await;
//! bus.close().await;
//! # Ok(()) }
//! ```

mod accept;
mod aggregate;
mod body;
mod call;
mod coding;
mod conditions;
mod config;
mod discovery;
mod error;
mod events;
mod exchange;
mod feed;
mod files;
mod form;
mod forward;
mod guard;
mod health;
mod hygiene;
mod info;
mod linkset;
mod mapping;
mod matcher;
mod object;
mod observe;
mod openapi;
mod operation;
mod outgoing;
mod plan;
mod policy;
mod problem;
mod reply;
mod request;
mod routes;
mod schema;
mod served;
mod server;
mod shape;
mod streaming;
mod table;
mod taking;
mod trace;
mod webhook;

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use sinew::{Bus, bus::Objects};
use tokio::{
    net::TcpListener,
    sync::{OnceCell, Semaphore, mpsc, oneshot},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

pub use coding::Coding;
pub use config::{
    AccessLog, Action, Algorithm, Breaker, Cache, Calendar, Coalesce, Compression, Concurrency, Conditional,
    Config, Disposition, Feed, FeedFormat, ForwardedBy, From, Idempotency, Invalidation, Key, Lifecycle,
    Limits, Link, LogField, LogFormat, LogOnly, Match, Metrics, Mirror, Mistake, ObjectTarget, Part, Per,
    Period, Policies, Priority, QueryKey, Quota, RateLimit, Reply, Retry, Route, Scope, Secret, Share,
    Shedding, TagInvalidation, Target, Timeouts, Versions, Webhook, WebhookFrom, WebhookMode, WebhookRetry,
};
pub use error::{Error, Kind};
pub use health::ReadyCheck;
pub use info::{
    Change, Changes, Explanation, Overview, POLICIES, RouteInfo, WebhookChange, WebhookChanges, WebhookInfo,
    explain, overview,
};
pub use policy::cache::PURGE;
pub use table::Services;

use observe::{Observer, Reloads};
use outgoing::Body;
use routes::{Follower, Reload};
use table::Table;
use webhook::{Changer, Webhooks};

type Response = http::Response<Body>;

/// A started edge. Call [`Running::drain`] before the process ends; dropping it stops it without waiting.
#[must_use = "an edge that is not drained loses the requests in flight"]
pub struct Running {
    edge: Arc<Edge>,
    address: SocketAddr,
    metrics: Option<SocketAddr>,
    /// Ends the accept loop.
    stop: CancellationToken,
    server: AbortOnDropHandle<()>,
    reloads: mpsc::Sender<Reload>,
    webhooks: Webhooks,
    /// Follows the catalogue as long as there may be requests.
    _follower: AbortOnDropHandle<()>,
    /// Keeps what limits count.
    _keeper: AbortOnDropHandle<()>,
    /// Writes what quotas count.
    _writer: AbortOnDropHandle<()>,
    /// Hears what lets go of kept replies.
    _control: AbortOnDropHandle<()>,
    /// Measures how late tasks get their turn.
    _gauge: AbortOnDropHandle<()>,
    /// Answers who reads metrics.
    _readers: Option<AbortOnDropHandle<()>>,
    /// Writes the access log, and what ends it.
    logger: Option<Logger>,
}

/// Changes the routes of a running edge.
///
/// ```no_run
/// # async fn run(edge: &sinew_edge::Running, document: serde_json::Value) -> Result<(), Box<dyn std::error::Error>> {
/// let config = sinew_edge::Config::read(&document).map_err(|mistakes| format!("{mistakes:?}"))?;
/// println!("{}", edge.reloader().reload(config).await?);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Reloader {
    reloads: mpsc::Sender<Reload>,
    webhooks: Changer,
    known: Reloads,
}

/// What every request needs.
struct Edge {
    config: Config,
    bus: Bus,
    table: ArcSwap<Table>,
    checks: Vec<ReadyCheck>,
    draining: Arc<AtomicBool>,
    /// Ends streams.
    closing: CancellationToken,
    /// What goes on beside requests, such as copies of them.
    tasks: TaskTracker,
    /// Room for copies.
    mirrors: Arc<Semaphore>,
    /// What policies count.
    policies: policy::State,
    /// Where files go, opened when the first one comes.
    files: OnceCell<Objects>,
    /// Who follows which events.
    feeds: feed::Feeds,
    /// What is counted and logged.
    observer: Observer,
    /// Which configuration is in force.
    reloads: Reloads,
}

/// Starts serving, and returns once the address is bound and the routes of the standing contracts are in place.
///
/// # Errors
/// [`Kind::Config`] for an unusable setting, [`Kind::Bus`] when the catalogue or the stream of events cannot be
/// opened, [`Kind::Listen`] when the address cannot be bound.
pub async fn start(config: Config, bus: Bus) -> Result<Running, Error> {
    start_with(config, bus, Vec::new()).await
}

/// As [`start`]; the edge is ready only while every one of `extra` is, too.
///
/// # Errors
/// As [`start`].
pub async fn start_with(config: Config, bus: Bus, extra: Vec<ReadyCheck>) -> Result<Running, Error> {
    config.validate()?;
    let on_bus =
        |error: sinew::Error| Error::new(Kind::Bus, format!("the edge cannot start: {error}")).because(error);
    sinew::ensure_streams(&bus).await.map_err(on_bus)?;
    let (reloads, reloaded) = mpsc::channel(1);
    let mut follower = Follower::open(&bus, config.clone(), reloaded).await.map_err(on_bus)?;
    let (listener, address) = listen(config.listen).await?;
    let readers = match &config.metrics {
        Some(metrics) => Some(listen(metrics.listen).await?),
        None => None,
    };
    let (log, logger) = open_log(&config)?;
    let observer = Observer::new(readers.is_some(), log);
    let (draining, following) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let mut checks = checks(&bus, &draining, &following);
    checks.extend(extra);
    let (policies, known) = (policy::State::new(&config), Reloads::new(&config));
    let tallies = policies.tallies.clone();
    let webhooks = Webhooks::start(&config.webhooks, &bus, config.drain_timeout(), tallies).await?;
    let table = ArcSwap::from_pointee(follower.table());
    let (tasks, mirrors) = (TaskTracker::new(), Arc::new(Semaphore::new(call::MIRRORED)));
    let stop = CancellationToken::new();
    let closing = stop.clone();
    let feeds = feed::Feeds::start(&bus, &tasks, closing.clone());
    let edge = Arc::new(Edge {
        config,
        bus,
        table,
        checks,
        draining,
        closing,
        tasks,
        mirrors,
        policies,
        files: OnceCell::new(),
        feeds,
        observer,
        reloads: known,
    });
    edge.table.load().bind(&edge.policies, edge.observer.metrics.as_ref());
    let control = policy::cache::Control::start(edge.clone()).await;
    let _control = AbortOnDropHandle::new(tokio::spawn(control.run()));
    let _keeper = AbortOnDropHandle::new(tokio::spawn(policy::shared::run(edge.clone())));
    let _writer = AbortOnDropHandle::new(tokio::spawn(policy::quota::run(edge.clone())));
    let _gauge = AbortOnDropHandle::new(tokio::spawn(policy::pressure::measure(edge.clone())));
    let metrics = readers.as_ref().map(|(_, address)| *address);
    let serve = |(listener, _)| tokio::spawn(observe::serve_metrics(listener, edge.clone()));
    let _readers = readers.map(serve).map(AbortOnDropHandle::new);
    let server = tokio::spawn(server::run(listener, edge.clone(), stop.clone()));
    let followed = edge.clone();
    let follower = tokio::spawn(async move {
        follower.run(&followed).await;
        following.store(false, Ordering::Relaxed);
    });
    tracing::info!(%address, "the edge is serving");
    let (server, _follower) = (AbortOnDropHandle::new(server), AbortOnDropHandle::new(follower));
    Ok(Running {
        edge,
        address,
        metrics,
        stop,
        server,
        reloads,
        webhooks,
        _follower,
        _keeper,
        _writer,
        _control,
        _gauge,
        _readers,
        logger,
    })
}

impl Running {
    /// Returns the address clients connect to.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address metrics are read from, where [`Config::metrics`] asks for one.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Says what `/healthz/ready` says.
    pub fn is_ready(&self) -> bool {
        self.edge.checks.iter().all(ReadyCheck::is_ready)
    }

    /// Returns the way to other routes, which outlives neither the edge nor its bus.
    pub fn reloader(&self) -> Reloader {
        let (reloads, known) = (self.reloads.clone(), self.edge.reloads.clone());
        Reloader { reloads, webhooks: self.webhooks.changer(), known }
    }

    /// Returns the routes in force.
    pub fn overview(&self) -> Overview {
        Overview { webhooks: self.webhooks.told(), ..self.edge.table.load().overview() }
    }

    /// Calls itself not ready, stops accepting, and finishes the requests in flight; bounded by
    /// [`Config::drain_timeout_ms`].
    ///
    /// # Cancel safety
    /// Dropping the future stops the edge without waiting any longer.
    pub async fn drain(self) {
        self.edge.draining.store(true, Ordering::Relaxed);
        self.stop.cancel();
        // Nobody's request waits for them, so both end side by side.
        let ((), served) = tokio::join!(self.webhooks.drain(), self.server);
        if let Err(error) = served {
            tracing::error!(%error, "the accept loop failed");
        }
        self.edge.tasks.close();
        // Copies are bounded by the patience of requests; nobody waits for their answers.
        let _ = tokio::time::timeout(self.edge.config.drain_timeout(), self.edge.tasks.wait()).await;
        // What was counted since the last time is few, and not worth more than that.
        let written = self.edge.policies.write_quotas(&self.edge.bus);
        let _ = tokio::time::timeout(self.edge.config.drain_timeout(), written).await;
        if let Some((logger, stop)) = self.logger {
            stop.cancel();
            // A disk that does not answer costs the last lines, not the way out.
            let _ = tokio::time::timeout(self.edge.config.drain_timeout(), logger).await;
        }
        tracing::info!(address = %self.address, "the edge is drained");
    }
}

impl Reloader {
    /// Takes over the routes of another configuration, with what decides about them: versions, and whether any event may be
    /// published or followed; and its webhooks, whose secrets are read. No request is dropped: those under way end as they
    /// began, and so do streams. Webhooks that stay as they were go on. Other settings count after a restart.
    ///
    /// # Errors
    /// [`Kind::Config`] for a configuration with mistakes, [`Kind::Bus`] where a webhook cannot start and once the edge has
    /// ended; the configuration in force stays.
    ///
    /// # Cancel safety
    /// Dropping the future leaves open whether the configuration is taken over.
    pub async fn reload(&self, config: Config) -> Result<Changes, Error> {
        let version = observe::version(&config);
        let changes = self.take(config).await;
        match &changes {
            Ok(_) => self.known.taken(version),
            Err(_) => self.known.refused(),
        }
        changes
    }

    /// Notes that a configuration could not even be read, for readers of metrics.
    pub fn unreadable(&self) {
        self.known.refused();
    }

    async fn take(&self, config: Config) -> Result<Changes, Error> {
        config.validate()?;
        let webhooks = self.webhooks.change(config.webhooks.clone()).await?;
        let (answer, changes) = oneshot::channel();
        let gone = || Error::new(Kind::Bus, "the routes cannot change: the edge has ended");
        self.reloads.send((Box::new(config), answer)).await.map_err(|_| gone())?;
        Ok(Changes { webhooks, ..changes.await.map_err(|_| gone())? })
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}

type Logger = (AbortOnDropHandle<()>, CancellationToken);

/// Opens the access log, where there is one, and begins to write it.
fn open_log(config: &Config) -> Result<(Option<observe::Log>, Option<Logger>), Error> {
    let Some(settings) = &config.access_log else { return Ok((None, None)) };
    let stop = CancellationToken::new();
    let (log, writer) = observe::open_log(settings, stop.clone()).map_err(|error| {
        let text = format!("cannot write the access log to {}: {error}: choose another file", settings.to);
        Error::new(Kind::Config, text).because(error)
    })?;
    Ok((Some(log), Some((AbortOnDropHandle::new(tokio::spawn(writer)), stop))))
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|error: std::io::Error| {
        Error::new(
            Kind::Listen,
            format!("cannot listen on {address}: {error}: choose another address or port"),
        )
        .because(error)
    })
}

/// The edge's own readiness: nothing that is being shut down, cut off or blind should get requests.
fn checks(bus: &Bus, draining: &Arc<AtomicBool>, following: &Arc<AtomicBool>) -> Vec<ReadyCheck> {
    let (bus, draining, following) = (bus.clone(), draining.clone(), following.clone());
    vec![
        ReadyCheck::new("serving", move || !draining.load(Ordering::Relaxed)),
        ReadyCheck::new("bus", move || bus.is_connected()),
        ReadyCheck::new("catalogue", move || following.load(Ordering::Relaxed)),
    ]
}
