//! One exchange from head to answer, on one screen: check, route, answer, sign. Whatever happens, a response comes out.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderValue, Method, Request, StatusCode, header, request::Parts};
use hyper::body::{Body as _, Incoming};
use serde_json::json;
use sinew::{
    Deadline, Error, Kind,
    bus::Message,
    telemetry::SpanKind,
    wire::{Headers, TraceContext},
};

use crate::{
    Body, Edge, Response, accept, body, events, health, hygiene,
    matcher::{self, Found},
    operation::Operation,
    problem::{self, Refusal},
    reply, request,
    table::{Own, Table, Target},
    trace::Trace,
};

/// Name of the response header that carries the id of the request's trace.
const TRACE_ID: &str = "x-trace-id";
const EVERY_METHOD: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// A request under way, but for its body.
pub(crate) struct Asked<'r> {
    /// Method, path and headers.
    pub(crate) head: &'r Parts,
    /// What stands in the path for each field of the template.
    pub(crate) values: Vec<&'r str>,
    /// Where the request stands in its trace.
    pub(crate) trace: TraceContext,
    /// When an answer comes too late.
    pub(crate) deadline: Deadline,
}

/// Where a request goes.
enum Routed {
    /// To this target, with the values of its path's fields.
    To(Target, Vec<String>),
    /// It only asks for the methods of its path.
    Methods(String),
}

/// Answers one request.
pub(crate) async fn handle(edge: &Arc<Edge>, request: Request<Incoming>) -> Response {
    let began = Instant::now();
    let deadline = Deadline::after(edge.config.request_timeout());
    let (parts, body) = request.into_parts();
    let routed = hygiene::check(&parts).and_then(|()| route(&edge.table.load(), &parts));
    let target = routed.as_ref().ok().and_then(Routed::target).cloned();
    let route = target.as_ref().map(Target::route);
    let trace = Trace::begin(edge.bus.tracer(), &parts.headers, &parts.method, route);
    let answer = match routed {
        Ok(Routed::To(target, values)) => {
            let values = values.iter().map(String::as_str).collect();
            let asked = Asked { head: &parts, values, trace: trace.context(), deadline };
            // A bug in here costs one request, not the connection and all its other requests.
            AssertUnwindSafe(answer(edge, &target, asked, body)).catch_unwind().await.unwrap_or_else(|_| {
                tracing::error!(route, "answering a request panicked");
                Err(Refusal::internal())
            })
        }
        Ok(Routed::Methods(allow)) => Ok(methods(&allow)),
        Err(refusal) => Err(refusal),
    };
    let response = sign(answer.unwrap_or_else(Refusal::into_response), &parts.method, trace.context());
    let status = response.status().as_u16();
    let (method, route) = (parts.method.as_str(), route.unwrap_or("-"));
    tracing::debug!(method, route, status, elapsed = ?began.elapsed(), trace = %trace.context().trace, "answered");
    trace.end(status);
    response
}

impl Asked<'_> {
    /// Takes over the deadline the client asks for, where that is sooner.
    fn sooner(mut self) -> Result<Self, Refusal> {
        if let Some(limit) = request::timeout(&self.head.headers)? {
            self.deadline = Deadline::after(self.deadline.within(limit));
        }
        Ok(self)
    }
}

impl Routed {
    fn target(&self) -> Option<&Target> {
        match self {
            Self::To(target, _) => Some(target),
            Self::Methods(_) => None,
        }
    }
}

fn route(table: &Table, parts: &Parts) -> Result<Routed, Refusal> {
    let asks = parts.method == Method::OPTIONS;
    if asks && parts.uri.path() == "*" {
        return Ok(Routed::Methods(EVERY_METHOD.to_owned()));
    }
    let segments = matcher::segments(parts.uri.path());
    let segments =
        segments.ok_or_else(|| Refusal::malformed("the path is not valid percent-encoded utf-8"))?;
    match table.find(&parts.method, &segments) {
        Found::Target(target, values) => {
            Ok(Routed::To(target.clone(), values.into_iter().map(str::to_owned).collect()))
        }
        Found::Otherwise(methods) if asks => Ok(Routed::Methods(allow(&methods))),
        Found::Otherwise(methods) => Err(Refusal::method(allow(&methods))),
        Found::Nothing => {
            Err(Refusal::new(StatusCode::NOT_FOUND, "not-found", "there is nothing at this path"))
        }
    }
}

async fn answer(edge: &Edge, target: &Target, asked: Asked<'_>, body: Incoming) -> Result<Response, Refusal> {
    match target {
        Target::Own(Own::Index) => Ok(index(edge)),
        Target::Own(Own::Live) => Ok(health::live()),
        Target::Own(Own::Ready) => Ok(health::ready(&edge.checks)),
        Target::Own(Own::Publish) => events::publish(edge, asked.sooner()?, body).await,
        Target::Operation(operation) => call(edge, operation, asked.sooner()?, body).await,
    }
}

/// Calls an operation on behalf of the client.
async fn call(
    edge: &Edge,
    operation: &Operation,
    asked: Asked<'_>,
    body: Incoming,
) -> Result<Response, Refusal> {
    let Asked { head, values, trace, deadline } = asked;
    // Before anything is done: an answer nobody can read would leave the client guessing.
    let wanted = accept::negotiate(&head.headers)?;
    let repeatable = operation.idempotent || request::idempotency_key(&head.headers)?.is_some();
    let body = body::read(&head.headers, body, edge.config.max_body_bytes, deadline).await?;
    let payload = request::payload(operation, &values, head.uri.query().unwrap_or_default(), &body)?;
    let span = edge.bus.tracer().span(|| operation.name.clone(), SpanKind::Client, Some(trace));
    let span = span.with("rpc.system", || "sinew").with("messaging.system", || "nats");
    let budget = deadline.within(edge.config.request_timeout());
    let headers = request::headers(&head.headers, span.context(), budget)?;
    let sent = send(edge, operation, &headers, payload, budget).await;
    let message = sent.map_err(|error| Refusal::from(problem::of_bus(&error, repeatable)));
    let answer = message.and_then(|message| reply::translate(&message, operation, wanted, repeatable));
    match &answer {
        Err(refusal) => span.fail(refusal.problem().to_string()),
        Ok(_) => drop(span),
    }
    answer
}

async fn send(
    edge: &Edge,
    operation: &Operation,
    headers: &Headers,
    payload: Bytes,
    budget: Duration,
) -> Result<Message, Error> {
    if budget.is_zero() {
        return Err(Error::new(Kind::TimedOut, "the deadline passed before the request was sent"));
    }
    let reply = edge.bus.request(operation.subject.as_str(), headers, payload, budget).await;
    reply.inspect_err(|error| tracing::debug!(operation = operation.name, %error, "a call failed"))
}

/// Completes a response: the trace's id, and no body where only the head was asked for.
fn sign(mut response: Response, method: &Method, trace: TraceContext) -> Response {
    if let Ok(id) = HeaderValue::try_from(trace.trace.to_string()) {
        response.headers_mut().insert(TRACE_ID, id);
    }
    if method == Method::HEAD {
        let length = response.body().size_hint().exact().unwrap_or_default();
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        *response.body_mut() = Body::default();
    }
    response
}

fn index(edge: &Edge) -> Response {
    let (_, live) = Own::Live.route();
    let (_, ready) = Own::Ready.route();
    let (_, events) = Own::Publish.route();
    let links = json!({ "live": live, "ready": ready, "events": events });
    let name = edge.bus.name();
    reply::json(
        StatusCode::OK,
        &json!({ "name": name, "version": env!("CARGO_PKG_VERSION"), "links": links }),
    )
}

fn methods(allow: &str) -> Response {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(allow) = HeaderValue::try_from(allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

/// Lists methods, with those that every path has.
fn allow(methods: &[&Method]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for method in methods {
        let implied = (**method == Method::GET).then_some("HEAD");
        names.extend([method.as_str()].into_iter().chain(implied));
    }
    names.push("OPTIONS");
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn routed(method: &str, uri: &str) -> Result<String, u16> {
        let (parts, ()) = Request::builder().method(method).uri(uri).body(()).unwrap().into_parts();
        match route(&Table::build(&BTreeMap::new()), &parts) {
            Ok(Routed::To(target, values)) => Ok(format!("{} {}", target.route(), values.join(","))),
            Ok(Routed::Methods(allow)) => Ok(allow),
            Err(refusal) => Err(refusal.problem().status),
        }
    }

    #[test]
    fn a_request_is_routed_refused_or_told_the_methods() {
        assert_eq!(routed("POST", "/events/a/b?x").as_deref(), Ok("/events/{domain}/{event} a,b"));
        assert_eq!(routed("OPTIONS", "/healthz/live").as_deref(), Ok("GET, HEAD, OPTIONS"));
        assert_eq!(routed("OPTIONS", "*").as_deref(), Ok(EVERY_METHOD));
        assert_eq!(routed("GET", "/events/a/b"), Err(405));
        assert_eq!(routed("GET", "/nothing"), Err(404));
        assert_eq!(routed("GET", "/%ff"), Err(400));
        assert_eq!(routed("BREW", "/"), Err(405));
    }

    #[test]
    fn a_head_has_the_length_of_the_body_it_leaves_out() {
        let trace = sinew::telemetry::new_root(true);
        let response = sign(health::live(), &Method::HEAD, trace);
        assert_eq!(response.headers()[header::CONTENT_LENGTH], "17");
        assert_eq!(response.body().size_hint().exact(), Some(0));
        assert_eq!(response.headers()[TRACE_ID], trace.trace.to_string());
    }
}
