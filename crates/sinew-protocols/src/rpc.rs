//! JSON-RPC 2.0 over HTTP, answered by one message or by a stream of events: what MCP and A2A have in common.

use ::http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use ::http::{HeaderMap, Method, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use sinew_workflow::Fault;
use tokio::time::timeout_at;

use crate::call::Scope;
use crate::client::Reply;
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::http;
use crate::sse::Events;

const ACCEPTED: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Who is asked, and what each request carries.
#[derive(Clone, Debug)]
pub(crate) struct Peer<'a> {
    pub(crate) scope: Scope<'a>,
    pub(crate) endpoint: Endpoint,
    pub(crate) headers: HeaderMap,
}

/// What came back: messages, in order.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) headers: HeaderMap,
    pub(crate) messages: Vec<Value>,
}

/// Writes a request.
pub(crate) fn request(id: u64, method: &str, params: &Value) -> Value {
    let mut request = json!({ "jsonrpc": "2.0", "id": id, "method": method });
    if !params.is_null() {
        request["params"] = params.clone();
    }
    request
}

/// Reads the result of a message, or the fault its error stands for.
pub(crate) fn result(mut message: Value) -> Result<Value, Failure> {
    let Some(error) = message.get("error").filter(|error| !error.is_null()) else {
        return Ok(message.get_mut("result").map(Value::take).unwrap_or_default());
    };
    let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
    let said = error.get("message").and_then(Value::as_str).unwrap_or("it did not say why");
    let fault = Fault::runtime(format!("the other side answered with error {code}: {said}"));
    // The request was not understood, so nothing was done for it.
    if matches!(code, -32700 | -32602..=-32600) {
        Err(Failure::refused(fault))
    } else {
        Err(Failure::unknown(fault))
    }
}

/// Tells whether a message answers a request.
pub(crate) fn answers(message: &Value, id: u64) -> bool {
    message.get("id").and_then(Value::as_u64) == Some(id) && message.get("method").is_none()
}

impl Peer<'_> {
    /// Sends a message and takes what comes back, until `enough` says of a message that it is the last.
    pub(crate) async fn send(
        &self,
        message: &Value,
        enough: impl Fn(&Value) -> bool,
    ) -> Result<Answered, Failure> {
        let body = message.to_string();
        let policy = self.endpoint.authentication.as_ref();
        let response = http::opened(self.scope, policy, |_| {
            let mut headers = self.headers.clone();
            headers.insert(ACCEPT, ACCEPTED);
            headers.insert(CONTENT_TYPE, JSON);
            http::add_context(self.scope, &Method::POST, &mut headers);
            http::plain(Method::POST, &self.endpoint.url, headers, body.clone().into())
        });
        let response = response.await?;
        let streams = kind(&response).is_some_and(|kind| kind == "text/event-stream");
        if streams && response.status().is_success() {
            let headers = response.headers().clone();
            return Ok(Answered { headers, messages: self.stream(response, enough).await? });
        }
        let reply = self.scope.core.client.read(response, self.scope.deadline).await?;
        if let Some(failure) = http::refusal(&Method::POST, &reply, false) {
            return Err(rpc_error(&reply).unwrap_or(failure));
        }
        let message = match http::content(&reply).map_err(Failure::unknown)? {
            Value::Null => None,
            Value::Array(batch) => return Ok(Answered { headers: reply.headers, messages: batch }),
            message => Some(message),
        };
        Ok(Answered { headers: reply.headers, messages: message.into_iter().collect() })
    }

    async fn stream(
        &self,
        response: Response<Incoming>,
        enough: impl Fn(&Value) -> bool,
    ) -> Result<Vec<Value>, Failure> {
        let (mut body, mut events, mut messages) = (response.into_body(), Events::default(), Vec::new());
        let (limit, mut read) = (self.scope.core.settings.max_body, 0);
        loop {
            let frame = match timeout_at(self.scope.deadline, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return Ok(messages),
                Ok(Some(Err(error))) => {
                    return Err(broken(&format!("the stream of events broke off: {error}")));
                }
                Err(_) => {
                    return Err(Failure::unknown(Fault::timeout("the stream of events did not end in time")));
                }
            };
            let Ok(bytes) = frame.into_data() else { continue };
            read += bytes.len();
            if read > limit {
                return Err(broken(&format!(
                    "the stream of events is longer than {limit} bytes: raise `max_body`"
                )));
            }
            for event in events.feed(&bytes) {
                let message = serde_json::from_str(&event.data)
                    .map_err(|error| broken(&format!("an event is not JSON: {error}")))?;
                let last = enough(&message);
                messages.push(message);
                if last {
                    return Ok(messages);
                }
            }
        }
    }
}

/// Some servers answer errors of JSON-RPC with an HTTP status that is none of success.
fn rpc_error(reply: &Reply) -> Option<Failure> {
    let said = http::content(reply).ok()?;
    said.get("jsonrpc")?;
    result(said).err()
}

fn kind(response: &Response<Incoming>) -> Option<String> {
    Some(http::media_type(response.headers().get(CONTENT_TYPE)?.to_str().ok()?))
}

fn broken(detail: &str) -> Failure {
    Failure::unknown(Fault::communication(detail))
}
