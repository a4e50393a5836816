//! The accept loop: connections with limits, and the way out. Knows HTTP versions and time, not what is asked.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Method, Request, StatusCode, Version, header};
use hyper::{body::Incoming, service::service_fn, upgrade::OnUpgrade};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, Edge, Response, exchange,
    guard::{Guard, Limits, Line},
    observe::Cut,
    policy::Visit,
    taking::Taking,
};

/// Pauses after a failed accept: being out of file handles passes only when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often an HTTP/2 connection is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How much longer a connection may be idle than a head may take: who sent half of one is told so first.
const GRACE: Duration = Duration::from_secs(1);
/// Streams a client may open and reset before they are answered; more is an attack (CVE-2023-44487).
const RESET_STREAMS: usize = 64;

/// The connection a request came on, as far as it has a say in it.
#[derive(Clone, Debug)]
pub(crate) struct Connection(CancellationToken);

/// The way to the bare connection, for whoever takes it first.
#[derive(Clone, Debug)]
pub(crate) struct Upgrade(Arc<Mutex<Option<OnUpgrade>>>);

type Builder = auto::Builder<TokioExecutor>;

impl Connection {
    /// Closes it, whatever is under way.
    pub(crate) fn close(&self) {
        self.0.cancel();
    }
}

impl Upgrade {
    /// Takes it; nobody else can.
    pub(crate) fn take(&self) -> Option<OnUpgrade> {
        self.0.lock().ok()?.take()
    }
}

/// Serves connections until `stop`, then finishes what is in flight, bounded in time.
pub(crate) async fn run(listener: TcpListener, edge: Arc<Edge>, stop: CancellationToken) {
    let builder = builder(&edge.config);
    let room = Arc::new(Semaphore::new(edge.config.max_connections));
    let graceful = GracefulShutdown::new();
    let (connections, abandon) = (TaskTracker::new(), CancellationToken::new());
    while let Some((accepted, permit)) = next(&listener, &room, &stop).await {
        let Ok(visit) = edge.policies.visitors.admit(accepted.1, &edge.policies.proxies) else {
            tracing::debug!(client = %accepted.1, "a connection was closed: its client has too many");
            edge.observer.cut(&edge.policies.tallies, Cut::TooMany);
            continue;
        };
        let serving = (builder.clone(), graceful.watcher(), abandon.clone());
        connections.spawn(serve(serving, accepted, (permit, visit), edge.clone()));
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(edge.config.drain_timeout(), graceful.shutdown()).await.is_err() {
        let left = connections.len();
        tracing::warn!(left, "draining took too long: requests in flight are abandoned");
    }
    abandon.cancel();
    connections.wait().await;
}

fn builder(config: &Config) -> Builder {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout() + GRACE)
        .max_headers(config.max_headers)
        .max_buf_size(config.max_header_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.max_streams)
        // Twice the limit: what is between is refused with a document, beyond that the implementation refuses.
        .max_header_list_size(u32::try_from(config.max_header_bytes.saturating_mul(2)).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESET_STREAMS)
        .max_local_error_reset_streams(RESET_STREAMS)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    builder
}

/// Accepts the next connection when there is room for it; `None` at `stop`.
async fn next(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<((TcpStream, SocketAddr), OwnedSemaphorePermit)> {
    let accepted = async {
        // Waiting for room comes first: a client in the system's queue costs nothing here.
        let permit = room.clone().acquire_owned().await.ok()?;
        Some((accept(listener).await, permit))
    };
    stop.run_until_cancelled(accepted).await.flatten()
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut pause = ACCEPT_PAUSE;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // Gone before it was accepted: the client's business.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, ?pause, "cannot accept connections: is the limit of open files too low?");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

/// Serves one connection until it ends, or until `abandon`. That is waited for in here: wrapped around, each layer would
/// keep the room of the whole connection once more.
async fn serve(
    (builder, watcher, abandon): (Builder, Watcher, CancellationToken),
    (stream, peer): (TcpStream, SocketAddr),
    _counted: (OwnedSemaphorePermit, Option<Visit>),
    edge: Arc<Edge>,
) {
    let counted = edge.clone();
    let _open = counted.observer.connection();
    // Answers are small and written whole: waiting to fill a packet only adds latency.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch nagle's algorithm off");
    }
    let line = Arc::new(Line::default());
    let silence = silence(line.clone(), edge.config.header_timeout() + GRACE);
    let taking = Taking::new(stream, edge.config.reading_pace());
    let guard = Guard::new(taking, line.clone(), Limits::of(&edge.config));
    let (closed, judged) = (CancellationToken::new(), line.clone());
    let own = Connection(closed.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        let edge = edge.clone();
        if request.version() < Version::HTTP_2 {
            // A connection that several requests share is not closed for one of them.
            request.extensions_mut().insert(own.clone());
            if request.headers().contains_key(header::UPGRADE) {
                let upgrade = hyper::upgrade::on(&mut request);
                // Extensions are shared and can be cloned; the lock is taken once, to hand it over.
                request.extensions_mut().insert(Upgrade(Arc::new(Mutex::new(Some(upgrade)))));
            }
        }
        // Boxed, because a connection would keep the room of an answer for as long as it stands.
        Box::pin(answer(edge, line.clone(), request, peer))
    });
    let connection =
        watcher.watch(builder.serve_connection_with_upgrades(TokioIo::new(guard), service).into_owned());
    // What made it is not needed for as long as it lives.
    drop(builder);
    let cut = tokio::select! {
        served = connection => {
            if let Err(error) = served {
                tracing::debug!(%error, "a connection ended with an error");
            }
            judged.ended().map(Cut::from)
        }
        () = closed.cancelled() => {
            tracing::debug!("a connection was closed because its client takes nothing");
            Some(Cut::Slow)
        }
        () = silence => {
            tracing::debug!("a connection was closed because no request came");
            Some(Cut::Silent)
        }
        () = abandon.cancelled() => None,
    };
    if let Some(cut) = cut {
        counted.observer.cut(&counted.policies.tallies, cut);
    }
}

/// Answers a request, or says why the guard refused what it stands for.
async fn answer(
    edge: Arc<Edge>,
    line: Arc<Line>,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response, Infallible> {
    let (number, fault) = line.begin();
    if let Some(fault) = fault {
        return Ok(exchange::refuse(&edge, &request, peer, fault.refusal()));
    }
    let asks = request.method() == Method::CONNECT || request.headers().contains_key(header::UPGRADE);
    let response = exchange::handle(&edge, request, peer).await;
    if asks {
        line.decide(number, response.status() == StatusCode::SWITCHING_PROTOCOLS);
    }
    Ok(response)
}

/// Ends when no request came in time. The HTTP implementation watches over heads only once it knows the version.
async fn silence(line: Arc<Line>, limit: Duration) {
    tokio::time::sleep(limit).await;
    if line.is_used() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room<A, F>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_that_waits_keeps_little_room() {
        let connection = room(|(a, b, c, d)| serve(a, b, c, d));
        let request = room(|(a, b, c, d)| answer(a, b, c, d));
        assert!(connection <= 3_500, "{connection} bytes for a connection");
        assert!(request <= 4_600, "{request} bytes for a request under way");
    }
}
