//! The listener that metrics and live routes are read from: an address of its own, two paths, a few readers at once.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{live, text};
use crate::Edge;

/// Readers at once; further ones wait.
const READERS: usize = 16;
/// Longest time a reader may take for its request, and be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pauses after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers readers until it is dropped; their connections end with it.
pub(crate) async fn run(listener: TcpListener, edge: Arc<Edge>) {
    let mut readers = JoinSet::new();
    loop {
        while readers.len() >= READERS {
            readers.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(readers.spawn(serve(stream, edge.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept readers of metrics");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = readers.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, edge: Arc<Edge>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let response = answer(&edge, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, "a reader of metrics ended with an error");
    }
}

fn answer(edge: &Edge, request: &Request<Incoming>) -> http::Response<Full<Bytes>> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let metrics = edge.observer.metrics.as_ref().filter(|_| reads);
    let (media_type, body) = match request.uri().path() {
        "/metrics" => (MEDIA_TYPE, metrics.map(|metrics| text::write(edge, metrics).into())),
        "/routes" => (JSON, metrics.map(|_| live::write(edge).into())),
        _ => return plain(StatusCode::NOT_FOUND),
    };
    let Some(body) = body else { return plain(StatusCode::METHOD_NOT_ALLOWED) };
    let mut response = http::Response::new(Full::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

fn plain(status: StatusCode) -> http::Response<Full<Bytes>> {
    let mut response = http::Response::default();
    *response.status_mut() = status;
    response
}
