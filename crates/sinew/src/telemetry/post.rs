//! Posting exports to a collector: one connection, kept open. Tries again where the collector says that helps.
//!
//! Source: OTLP 1.x over HTTP, sections "Failures" and "Retryable response codes".

use std::time::Duration;

use bytes::{Buf, Bytes, buf::Chain};
use http::{Method, Request, StatusCode, header::RETRY_AFTER};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::AbortHandle, time::Instant};

use super::{otlp, settings::Settings};

/// The first pause before an export is tried again; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes of an answer that are read.
const ANSWER: usize = 64 << 10;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// The way to a collector.
#[derive(Debug)]
pub(super) struct Post {
    settings: Settings,
    open: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Chain<Bytes, Bytes>>>,
    /// Carries the bytes; ends with this.
    carrier: AbortHandle,
}

/// What became of one try.
enum Tried {
    Done,
    /// It may work later, not before so long.
    Later(Failed, Duration),
    /// The collector will never take it.
    Refused(Failed),
}

impl Post {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, open: None }
    }

    /// Posts spans, as they were written, in bounded time.
    ///
    /// # Errors
    /// What the last try failed with.
    pub(super) async fn send(&mut self, spans: Bytes) -> Result<(), Failed> {
        let preface = Bytes::from(otlp::preface(&self.settings.resource, spans.len()));
        let deadline = Instant::now() + self.settings.timeout;
        let mut pause = PAUSE;
        loop {
            let tried =
                tokio::time::timeout_at(deadline, self.once(preface.clone().chain(spans.clone()))).await;
            let (error, hint) = match tried {
                Ok(Ok(Tried::Done)) => return Ok(()),
                Ok(Ok(Tried::Refused(error))) => return Err(error),
                Ok(Ok(Tried::Later(error, hint))) => (error, hint),
                Ok(Err(error)) => (error, Duration::ZERO),
                Err(late) => (late.into(), Duration::ZERO),
            };
            let wait = pause.max(hint).mul_f64(0.5 + fastrand::f64() / 2.0).max(hint);
            if Instant::now() + wait >= deadline {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
    }

    async fn once(&mut self, export: Chain<Bytes, Bytes>) -> Result<Tried, Failed> {
        // Taken: whoever gives up in the middle must not leave half an exchange for the next.
        let mut connection = match self.open.take().filter(|connection| !connection.sender.is_closed()) {
            Some(connection) => connection,
            None => Connection::open(&self.settings.authority).await?,
        };
        connection.sender.ready().await?;
        let mut request = Request::new(Full::new(export));
        *request.method_mut() = Method::POST;
        request.uri_mut().clone_from(&self.settings.path);
        request.headers_mut().clone_from(&self.settings.headers);
        let response = connection.sender.send_request(request).await?;
        let status = response.status();
        let hint = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        if status.is_success() {
            // What a collector answers is short; dropped unread, the connection is of no use any more.
            Limited::new(response.into_body(), ANSWER).collect().await?;
            self.open = Some(connection);
            return Ok(Tried::Done);
        }
        let error = format!("the collector answers {status}").into();
        Ok(match is_retryable(status) {
            true => Tried::Later(error, Duration::from_secs(hint.unwrap_or(0))),
            false => Tried::Refused(error),
        })
    }
}

impl Connection {
    async fn open(authority: &str) -> Result<Self, Failed> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its errors reach the sender as well.
        let carrier = tokio::spawn(async { _ = connection.await }).abort_handle();
        Ok(Self { sender, carrier })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

fn is_retryable(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::Config;

    /// Answers one request after the other with these statuses; returns what arrived on how many connections.
    async fn collector(statuses: &'static [u16]) -> (Post, tokio::task::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let answering = tokio::spawn(async move {
            let (mut connections, mut left) = (0, statuses.iter().peekable());
            while left.peek().is_some() {
                let (mut stream, _) = listener.accept().await.unwrap();
                connections += 1;
                let mut seen = Vec::new();
                while stream.read_buf(&mut seen).await.unwrap_or(0) > 0 {
                    if !seen.ends_with(b"spans") {
                        continue;
                    }
                    seen.clear();
                    let Some(status) = left.next() else { break };
                    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if left.peek().is_none() {
                        break;
                    }
                }
            }
            connections
        });
        let config = Config::default().traced_to(Some(endpoint));
        let settings = Settings::read(&config, |_| None).unwrap().unwrap();
        (Post::new(settings), answering)
    }

    #[tokio::test]
    async fn a_collector_that_takes_what_it_gets_keeps_one_connection() {
        let (mut post, answering) = collector(&[200, 202]).await;
        post.send(Bytes::from_static(b"spans")).await.unwrap();
        post.send(Bytes::from_static(b"spans")).await.unwrap();
        assert_eq!(answering.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_busy_collector_is_asked_again_and_one_that_refuses_is_not() {
        let (mut post, answering) = collector(&[503, 429, 200]).await;
        post.send(Bytes::from_static(b"spans")).await.unwrap();
        answering.await.unwrap();
        let (mut post, answering) = collector(&[400]).await;
        assert!(post.send(Bytes::from_static(b"spans")).await.unwrap_err().to_string().contains("400"));
        answering.await.unwrap();
    }
}
