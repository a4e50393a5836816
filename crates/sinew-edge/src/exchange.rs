//! One exchange from head to answer, on one screen: check, route, answer, sign. Whatever happens, a response comes out.

use std::{borrow::Cow, net::SocketAddr, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use futures::FutureExt;
use http::{HeaderValue, Method, Request, StatusCode, header, request::Parts};
use hyper::body::{Body as _, Incoming};
use serde_json::json;
use sinew::{Deadline, wire::TraceContext};

use crate::{
    Body, Edge, Response, aggregate, call, events, feed, health, hygiene, matcher, openapi,
    problem::Refusal,
    reply, request,
    served::{Own, Served, Target},
    table::{Lookup, Table},
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
    pub(crate) values: Vec<Cow<'r, str>>,
    /// Where the request stands in its trace.
    pub(crate) trace: TraceContext,
    /// When an answer comes too late.
    pub(crate) deadline: Deadline,
    /// The other end of the connection.
    pub(crate) peer: SocketAddr,
}

/// Where a request goes.
enum Routed<'r> {
    /// To this route, with the values of its path's fields.
    To(Arc<Served>, Vec<Cow<'r, str>>),
    /// It only asks for the methods of its path.
    Methods(String),
}

/// Answers one request.
pub(crate) async fn handle(edge: &Arc<Edge>, request: Request<Incoming>, peer: SocketAddr) -> Response {
    let began = Instant::now();
    let deadline = Deadline::after(edge.config.request_timeout());
    let (parts, body) = request.into_parts();
    let routed = hygiene::check(&parts).and_then(|()| route(&edge.table.load(), &parts));
    let served = routed.as_ref().ok().and_then(Routed::served).cloned();
    let route = served.as_ref().map(|served| served.path.as_str());
    let trace = Trace::begin(edge.bus.tracer(), &parts.headers, &parts.method, route);
    let answer = match routed {
        Ok(Routed::To(served, values)) => {
            let asked = Asked { head: &parts, values, trace: trace.context(), deadline, peer };
            // A bug in here costs one request, not the connection and all its other requests.
            AssertUnwindSafe(answer(edge, &served, asked, body)).catch_unwind().await.unwrap_or_else(|_| {
                tracing::error!(route, "answering a request panicked");
                Err(Refusal::internal())
            })
        }
        Ok(Routed::Methods(allow)) => {
            let mut response = methods(&allow);
            events::consent(&edge.config, &edge.table.load(), &parts, &mut response);
            Ok(response)
        }
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

impl Routed<'_> {
    fn served(&self) -> Option<&Arc<Served>> {
        match self {
            Self::To(served, _) => Some(served),
            Self::Methods(_) => None,
        }
    }
}

fn route<'r>(table: &Table, parts: &'r Parts) -> Result<Routed<'r>, Refusal> {
    let asks = parts.method == Method::OPTIONS;
    if asks && parts.uri.path() == "*" {
        return Ok(Routed::Methods(EVERY_METHOD.to_owned()));
    }
    let segments = matcher::segments(parts.uri.path());
    let mut segments =
        segments.ok_or_else(|| Refusal::malformed("the path is not valid percent-encoded utf-8"))?;
    match table.find(parts, &segments) {
        Lookup::Route(served, places) => {
            let values = places.into_iter().map(|place| std::mem::take(&mut segments[place])).collect();
            Ok(Routed::To(served.clone(), values))
        }
        Lookup::Otherwise(methods) if asks => Ok(Routed::Methods(allow(&methods))),
        Lookup::Otherwise(methods) => Err(Refusal::method(allow(&methods))),
        Lookup::OtherMediaType(types) => {
            Err(Refusal::unsupported_media(format!("send {}", types.join(" or "))))
        }
        Lookup::Unmet => Err(Refusal::nowhere().detail(
            "the routes at this path are for requests with another host, version, header field or query",
        )),
        Lookup::Nothing => Err(Refusal::nowhere()),
    }
}

async fn answer(
    edge: &Arc<Edge>,
    served: &Served,
    asked: Asked<'_>,
    body: Incoming,
) -> Result<Response, Refusal> {
    match &served.target {
        Target::Own(Own::Index) => Ok(index(edge)),
        Target::Own(Own::Live) => Ok(health::live()),
        Target::Own(Own::Ready) => Ok(health::ready(&edge.checks)),
        Target::Own(Own::OpenApi) => Ok(openapi::answer(edge)),
        Target::Own(Own::Publish) => events::publish_any(edge, served, asked.sooner()?, body).await,
        Target::Own(Own::Follow) => feed::open_any(edge, served, asked).await,
        Target::Feed(plan) => feed::open(edge, served, plan, asked).await,
        Target::Event(event, mapping) => {
            events::publish(edge, served, event, mapping, asked.sooner()?, body).await
        }
        Target::Call(callee, mapping) => {
            call::one(edge, served, callee, mapping, asked.sooner()?, body).await
        }
        Target::Split(split) => {
            let callee = split.choose(fastrand::u32(..)).ok_or_else(Refusal::internal)?;
            call::one(edge, served, callee, &split.mapping, asked.sooner()?, body).await
        }
        Target::Aggregate(members) => aggregate::all(edge, served, members, asked.sooner()?).await,
    }
}

/// Completes a response: the trace's id, and no body where only the head was asked for.
fn sign(mut response: Response, method: &Method, trace: TraceContext) -> Response {
    if let Ok(id) = HeaderValue::try_from(trace.trace.to_string()) {
        response.headers_mut().insert(TRACE_ID, id);
    }
    if method == Method::HEAD {
        // How long a stream would be nobody knows.
        if let Some(length) = response.body().size_hint().exact() {
            response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        *response.body_mut() = Body::default();
    }
    response
}

fn index(edge: &Edge) -> Response {
    let (_, live) = Own::Live.route();
    let (_, ready) = Own::Ready.route();
    let (_, events) = Own::Publish.route();
    let (_, openapi) = Own::OpenApi.route();
    let mut links = json!({ "live": live, "ready": ready, "openapi": openapi });
    if edge.config.open_events {
        links["events"] = events.into();
    }
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
    use super::*;
    use crate::{Config, table::Services};

    fn routed(method: &str, uri: &str) -> Result<String, u16> {
        let (parts, ()) = Request::builder().method(method).uri(uri).body(()).unwrap().into_parts();
        match route(&Table::build(&Config::default(), &Services::default()), &parts) {
            Ok(Routed::To(served, values)) => Ok(format!("{} {}", served.path, values.join(","))),
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
