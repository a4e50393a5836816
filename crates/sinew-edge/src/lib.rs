//! The edge: HTTP to messages and messages to HTTP.
//!
//! Routes come from the contracts in the catalogue: an operation that says `http = "POST /orders"` is served here a
//! moment after its service starts. The edge knows subjects and contracts, never a service's code; a workflow is an
//! operation like any other.
//!
//! * A request becomes one MessagePack message: path, query and body are merged, a plain body is rewritten as a
//!   stream. The client's trace, deadline (`Request-Timeout`), `Idempotency-Key` and `Prefer` travel along.
//! * A reply comes back in the codec the client accepts. A service may set status and `Location`.
//! * Every failure is a problem document (RFC 9457) with a fixed status: nobody serves it 503, deadline 504, not
//!   permitted 403, too large 413, a reply nobody can read 502, a declared error its declared status, an undeclared
//!   one 502. Nothing is retried on the client's behalf.
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
mod body;
mod config;
mod error;
mod events;
mod exchange;
mod health;
mod hygiene;
mod matcher;
mod operation;
mod problem;
mod reply;
mod request;
mod routes;
mod schema;
mod server;
mod table;
mod trace;

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use sinew::Bus;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use config::Config;
pub use error::{Error, Kind};
pub use health::ReadyCheck;

use routes::Follower;
use table::Table;

type Body = http_body_util::Full<bytes::Bytes>;
type Response = http::Response<Body>;

/// A started edge. Call [`Running::drain`] before the process ends; dropping it stops it without waiting.
#[must_use = "an edge that is not drained loses the requests in flight"]
pub struct Running {
    edge: Arc<Edge>,
    address: SocketAddr,
    /// Ends the accept loop.
    stop: CancellationToken,
    server: AbortOnDropHandle<()>,
    /// Follows the catalogue as long as there may be requests.
    _follower: AbortOnDropHandle<()>,
}

/// What every request needs.
struct Edge {
    config: Config,
    bus: Bus,
    table: ArcSwap<Table>,
    checks: Vec<ReadyCheck>,
    draining: Arc<AtomicBool>,
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
    let follower = Follower::open(&bus).await.map_err(on_bus)?;
    let (listener, address) = listen(config.listen).await?;
    let (draining, following) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let mut checks = checks(&bus, &draining, &following);
    checks.extend(extra);
    let table = ArcSwap::from_pointee(follower.table());
    let edge = Arc::new(Edge { config, bus, table, checks, draining });
    let stop = CancellationToken::new();
    let server = tokio::spawn(server::run(listener, edge.clone(), stop.clone()));
    let followed = edge.clone();
    let follower = tokio::spawn(async move {
        follower.run(&followed.table).await;
        following.store(false, Ordering::Relaxed);
    });
    tracing::info!(%address, "the edge is serving");
    let (server, _follower) = (AbortOnDropHandle::new(server), AbortOnDropHandle::new(follower));
    Ok(Running { edge, address, stop, server, _follower })
}

impl Running {
    /// Returns the address clients connect to.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Says what `/healthz/ready` says.
    pub fn is_ready(&self) -> bool {
        self.edge.checks.iter().all(ReadyCheck::is_ready)
    }

    /// Calls itself not ready, stops accepting, and finishes the requests in flight; bounded by
    /// [`Config::drain_timeout_ms`].
    ///
    /// # Cancel safety
    /// Dropping the future stops the edge without waiting any longer.
    pub async fn drain(self) {
        self.edge.draining.store(true, Ordering::Relaxed);
        self.stop.cancel();
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the accept loop failed");
        }
        tracing::info!(address = %self.address, "the edge is drained");
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
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
