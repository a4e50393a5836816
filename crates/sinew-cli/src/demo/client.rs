//! The customer: an HTTP client that knows nothing of the bus.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioExecutor};
use serde_json::Value;
use sinew::workflow::WorkflowInstance;
use tokio::time::{Instant, sleep, timeout};

use crate::error::{Error, code};

/// Longest wait for one answer; an order takes as long as its saga.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait for something that is on its way.
const SOON: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(10);

/// Speaks HTTP with the edge.
pub(crate) struct Client {
    base: String,
    http: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
}

/// What the edge answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The trace the request became part of.
    pub(crate) trace_id: String,
    body: Bytes,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
        Self { base: format!("http://{address}"), http }
    }

    /// Returns the address everything is below of.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Waits until the edge says that it and what stands behind it can work.
    pub(crate) async fn wait_until_ready(&self) -> Result<(), Error> {
        let give_up = Instant::now() + SOON;
        loop {
            let answer = self.get("/healthz/ready").await?;
            if answer.status == 200 {
                return Ok(());
            }
            if Instant::now() > give_up {
                let message =
                    format!("the system did not become ready: {}", String::from_utf8_lossy(&answer.body));
                return Err(Error::failed(code::DEMO, message).hint("run it again with RUST_LOG=info"));
            }
            sleep(PAUSE).await;
        }
    }

    /// Reads an instance once its saga has ended.
    pub(crate) async fn ended(&self, workflow: &str, id: &str) -> Result<WorkflowInstance, Error> {
        let path = format!("/workflows/{workflow}/{id}");
        let give_up = Instant::now() + SOON;
        loop {
            let answer = self.get(&path).await?;
            if answer.status == 200 {
                let instance: WorkflowInstance = serde_json::from_slice(&answer.body).map_err(|error| {
                    Error::failed(code::HTTP, format!("{path} answered something else: {error}"))
                })?;
                let open = instance.status == "running" || instance.saga == "compensating";
                if !open || Instant::now() > give_up {
                    return Ok(instance);
                }
            } else if Instant::now() > give_up {
                return Err(Error::failed(code::HTTP, format!("{path} answered {}", answer.status)));
            }
            sleep(PAUSE).await;
        }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Answer, Error> {
        self.send(Method::POST, path, Bytes::from(body.to_string())).await
    }

    async fn get(&self, path: &str) -> Result<Answer, Error> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, Error> {
        let failed = |reason: String| Error::failed(code::HTTP, format!("{method} {path} failed: {reason}"));
        let request = Request::builder()
            .method(method.clone())
            .uri(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| failed(error.to_string()))?;
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| error.to_string())?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            let trace_id = head.headers.get("x-trace-id").and_then(|value| value.to_str().ok());
            Ok(Answer {
                status: head.status.as_u16(),
                trace_id: trace_id.unwrap_or_default().to_owned(),
                body,
            })
        };
        let answer = timeout(PATIENCE, exchange).await;
        answer.unwrap_or_else(|_| Err("no answer came in time".to_owned())).map_err(failed)
    }
}
