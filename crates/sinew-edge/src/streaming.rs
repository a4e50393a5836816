//! Streaming replies: the items of one operation as server-sent events, JSON lines, one JSON array or WebSocket messages.
//!
//! A client that does not take what it asked for is told so and closed; when the edge ends, so does every stream.

mod framing;
pub(crate) mod websocket;

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use hyper::body::Incoming;
use sinew::{
    CallError, Ctx, Problem, StreamingRaw,
    bus::Message,
    wire::{ContentType, transcode},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

pub(crate) use framing::Framing;

use crate::{
    Body, Edge, Response, body,
    exchange::Asked,
    mapping::Mapping,
    operation::Operation,
    policy::Held,
    problem::{self, Refusal},
    request::{self, Given},
    served::Served,
    server::{Connection, Upgrade},
};

/// Pieces that wait for the client.
const AHEAD: usize = 16;
/// Longest silence on a stream of events: what stands between may take a silent connection for a dead one.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Opens a stream and answers with its items.
///
/// # Errors
/// What is wrong with the request, and why the stream did not open in time.
pub(crate) async fn open(
    edge: &Arc<Edge>,
    served: &Served,
    operation: &Arc<Operation>,
    mapping: &Mapping,
    asked: Asked<'_>,
    body: Incoming,
) -> Result<Response, Refusal> {
    let head = asked.head;
    let switched = websocket::asks(head).then(|| websocket::handshake(head)).transpose()?;
    let framing = match &switched {
        Some(_) => Framing::Messages,
        None => Framing::negotiate(&head.headers)?,
    };
    let patience = request::timeout(&head.headers)?;
    let repeatable = operation.idempotent || request::idempotency_key(&head.headers)?.is_some();
    let body = body::read(&head.headers, body, asked.reading(edge)).await?;
    if !body.is_empty() && !served.takes_body() {
        return Err(Refusal::malformed("this method takes no body: give the fields in path and query"));
    }
    let given = Given { head, values: &asked.values, body: &body };
    let payload = request::payload(&operation.request, mapping, &given, operation.codec)?;
    let budget = asked.budget(edge);
    let headers = request::headers(&head.headers, None, budget, operation.codec)?;
    let ctx = Ctx::traced(&edge.bus, "edge", Some(asked.trace));
    let mut call = ctx.stream_raw(operation.subject.as_str().to_owned(), payload).headers(headers);
    if let Some(patience) = patience {
        call = call.within(patience);
    }
    let guard = asked.policies.calls.as_ref().map(|calls| calls.guard(&edge.policies, &operation.name));
    let pass = guard.as_ref().map(|guard| guard.enter()).transpose();
    let pass = pass.map_err(|error| Refusal::from(problem::of_bus(&error, repeatable)))?;
    let late = || CallError::TimedOut;
    let opened = tokio::time::timeout(budget, call).await.unwrap_or_else(|_| Err(late()));
    if let Some(pass) = pass {
        pass.answered(opened.as_ref().err().map(CallError::to_problem).as_ref());
    }
    let items = opened.map_err(|error| Refusal::from(told(error, operation, repeatable)))?;
    let (pieces, taken) = mpsc::channel(AHEAD);
    let held = asked.held.clone();
    let idle = asked.policies.timeouts.as_ref().and_then(|timeouts| timeouts.idle_ms);
    let idle = idle.map(Duration::from_millis);
    let connection = head.extensions.get::<Connection>().cloned();
    let pump = Pump {
        edge: edge.clone(),
        operation: operation.clone(),
        framing,
        repeatable,
        pieces,
        connection,
        _held: held,
        idle,
    };
    edge.tasks.spawn(pump.run(items));
    if let Some(switched) = switched {
        let upgrade =
            head.extensions.get::<Upgrade>().and_then(Upgrade::take).ok_or_else(Refusal::internal)?;
        let limit = Duration::from_millis(edge.config.slow_client_ms);
        edge.tasks.spawn(websocket::carry(upgrade, taken, edge.closing.clone(), limit));
        return Ok(switched);
    }
    let status = served.shape.status.unwrap_or(operation.status);
    Ok(response(status, framing.media_type(), Body::Pieces(taken)))
}

/// Carries items from the service to the client.
struct Pump {
    edge: Arc<Edge>,
    operation: Arc<Operation>,
    framing: Framing,
    repeatable: bool,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    connection: Option<Connection>,
    /// A stream is under way until it ends.
    _held: Option<Arc<Held>>,
    /// Longest time between two items.
    idle: Option<Duration>,
}

/// What comes next on a stream.
enum Next {
    Item(Message),
    End,
    Failed(Problem),
    Silence,
    /// The client is gone.
    Gone,
}

impl Pump {
    async fn run(self, mut items: StreamingRaw) {
        let (mut count, mut idle) = (0, self.idle.map(|idle| Instant::now() + idle));
        let opening = self.framing.opening();
        if !opening.is_empty() && !self.send(opening).await {
            return;
        }
        loop {
            let piece = match self.next(&mut items, &mut idle).await {
                Next::Item(message) => match self.item(&message, count) {
                    Ok(piece) => {
                        count += 1;
                        piece
                    }
                    Err(problem) => return self.fail(&problem).await,
                },
                Next::Silence => match self.framing.heartbeat() {
                    Some(piece) => piece,
                    None => continue,
                },
                Next::End => {
                    let end = self.framing.end(count);
                    if !end.is_empty() {
                        self.send(end).await;
                    }
                    return;
                }
                Next::Failed(problem) => return self.fail(&problem).await,
                Next::Gone => return,
            };
            if !self.send(piece).await {
                return;
            }
        }
    }

    async fn next(&self, items: &mut StreamingRaw, idle: &mut Option<Instant>) -> Next {
        let silence = Instant::now() + HEARTBEAT;
        let until = idle.map_or(silence, |idle| idle.min(silence));
        tokio::select! {
            biased;
            () = self.edge.closing.cancelled() => Next::Failed(ending()),
            () = self.pieces.closed() => Next::Gone,
            item = items.next() => match item {
                None => Next::End,
                Some(Ok(message)) => {
                    *idle = self.idle.map(|idle| Instant::now() + idle);
                    Next::Item(message)
                }
                Some(Err(error)) => Next::Failed(told(error, &self.operation, self.repeatable)),
            },
            () = sleep_until(until) => match *idle {
                Some(idle) if idle <= until => Next::Failed(idling()),
                _ => Next::Silence,
            },
        }
    }

    fn item(&self, message: &Message, count: u64) -> Result<Bytes, Problem> {
        let codec = message.content_type().unwrap_or_default();
        let item = transcode(codec, ContentType::Json, message.payload()).map_err(|error| {
            tracing::warn!(operation = self.operation.name, %error, "an item cannot be read");
            problem::malformed_reply()
        })?;
        Ok(self.framing.item(&item, count))
    }

    /// Hands a piece over; says no once the client is gone or was closed because it does not take anything.
    async fn send(&self, piece: Bytes) -> bool {
        let limit = Duration::from_millis(self.edge.config.slow_client_ms);
        tokio::select! {
            sent = tokio::time::timeout(limit, self.pieces.send(Ok(piece))) => match sent {
                Ok(sent) => sent.is_ok(),
                Err(_) => {
                    tracing::debug!(operation = self.operation.name, "a client takes too long: its stream is closed");
                    self.close().await;
                    false
                }
            },
            // At the end nobody is waited for.
            () = self.edge.closing.cancelled() => {
                self.fail(&ending()).await;
                false
            }
        }
    }

    /// Says what went wrong, and breaks the body off where a client could take it for whole.
    async fn fail(&self, problem: &Problem) {
        let failure = self.framing.failure(problem);
        if !failure.is_empty() {
            let _ = self.pieces.try_send(Ok(failure));
        }
        if self.framing.breaks_off() {
            let broken = io::Error::other("the stream is not whole");
            let _ = tokio::time::timeout(Duration::from_secs(1), self.pieces.send(Err(broken))).await;
        }
    }

    /// Gives the client one more chance to read why, then closes its connection.
    async fn close(&self) {
        let problem = Problem::new(408, "slow-client", "the client does not take what it asked for");
        let told = self.pieces.send(Ok(self.framing.failure(&problem)));
        let limit = Duration::from_millis(self.edge.config.slow_client_ms);
        if tokio::time::timeout(limit, told).await.is_err()
            && let Some(connection) = &self.connection
        {
            connection.close();
        }
    }
}

/// Returns the response that a stream is the body of.
pub(crate) fn response(status: StatusCode, media_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn idling() -> Problem {
    Problem::new(504, "stream-idle", "the service sent nothing for too long")
}

/// Says that a stream ends because the edge does.
pub(crate) fn ending() -> Problem {
    Problem::new(503, "shutting-down", "this edge is ending: ask again").retriable()
}

fn told(error: CallError<Problem>, operation: &Operation, repeatable: bool) -> Problem {
    match error {
        CallError::Refused(problem) | CallError::Undeclared(problem) => {
            problem::of_service(problem, operation, repeatable)
        }
        error => error.to_problem(),
    }
}
