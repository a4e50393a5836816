//! A server that answers as a test says, over HTTP/1.1 and HTTP/2, and remembers what it was asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A request as the server got it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    /// Path and query, as written.
    pub(super) target: String,
    /// By lower case name.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Bytes,
}

/// What a test wants to happen to a request.
pub(super) enum Answer {
    Reply(Response<Body>),
    /// The connection is closed instead.
    HangUp,
    /// Nothing ever comes.
    Silence,
}

/// A server on a port of its own; it is gone when it is dropped.
pub(super) struct Server {
    pub(super) port: u16,
    seen: watch::Receiver<Vec<Seen>>,
    _stop: DropGuard,
}

type Body = BoxBody<Bytes, Infallible>;
type Answers = Arc<dyn Fn(&Seen) -> Answer + Send + Sync>;

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }
}

impl Answer {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::typed(status, "application/json", body.to_string())
    }

    pub(super) fn typed(status: u16, kind: &str, body: impl Into<Bytes>) -> Self {
        Self::with(status, &[("content-type", kind)], body)
    }

    pub(super) fn with(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Self {
        let response = Response::builder().status(status);
        let response =
            headers.iter().fold(response, |response, (name, value)| response.header(*name, *value));
        Self::Reply(response.body(Full::new(body.into()).boxed()).unwrap())
    }
}

impl Answer {
    /// Sends events as they are, and keeps the connection open after the last.
    pub(super) fn events(events: &[Value]) -> Self {
        let events: Vec<_> =
            events.iter().map(|event| Bytes::from(format!("event: message\ndata: {event}\n\n"))).collect();
        let body = stream::iter(events).map(|bytes| Ok(Frame::data(bytes))).chain(stream::pending());
        let response = Response::builder().header("content-type", "text/event-stream");
        Self::Reply(response.body(BodyExt::boxed(StreamBody::new(body))).unwrap())
    }

    /// Sends frames and a status after them.
    pub(super) fn grpc(frames: Vec<u8>, status: &str, message: &str) -> Self {
        let trailers = [("grpc-status", status), ("grpc-message", message)];
        let trailers =
            trailers.map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        let trailers: http::HeaderMap = trailers.into_iter().collect();
        let body = Full::new(Bytes::from(frames)).with_trailers(async move { Some(Ok(trailers)) });
        Self::Reply(
            Response::builder().header("content-type", "application/grpc").body(body.boxed()).unwrap(),
        )
    }
}

impl Server {
    pub(super) async fn start(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, seen) = watch::channel(Vec::new());
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, Arc::new(answer), sender)));
        Self { port, seen, _stop: stop.drop_guard() }
    }

    pub(super) fn url(&self, target: &str) -> String {
        format!("http://127.0.0.1:{}{target}", self.port)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// Returns the only request so far.
    #[track_caller]
    pub(super) fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:#?}");
        seen.remove(0)
    }
}

async fn accept(listener: TcpListener, answers: Answers, sender: watch::Sender<Vec<Seen>>) {
    let sender = Arc::new(sender);
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (answers, sender) = (answers.clone(), sender.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| respond(request, answers.clone(), sender.clone()));
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    answers: Answers,
    sender: Arc<watch::Sender<Vec<Seen>>>,
) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let seen = Seen {
        method: head.method.to_string(),
        target: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: body.collect().await.map(|body| body.to_bytes()).unwrap_or_default(),
    };
    sender.send_modify(|all| all.push(seen.clone()));
    match answers(&seen) {
        Answer::Reply(response) => Ok(response),
        Answer::HangUp => Err(io::Error::other("hang up")),
        Answer::Silence => std::future::pending().await,
    }
}
