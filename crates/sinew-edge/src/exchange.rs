//! One exchange from head to answer, on one screen: check, route, answer, sign. Whatever happens, a response comes out.

use std::{
    borrow::Cow,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderValue, Method, Request, StatusCode, Version, header, request::Parts};
use hyper::body::{Body as _, Incoming};
use serde_json::json;
use sinew::{Deadline, wire::TraceContext};

use crate::{
    Body, Edge, Response, aggregate,
    body::Reading,
    call, events, feed, forward, health, hygiene, linkset, matcher, object,
    observe::Done,
    openapi,
    policy::{Held, Policies, rate::Standing, replies},
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
    /// Who is at the other end of the connection.
    pub(crate) peer: SocketAddr,
    /// What its route asks for.
    pub(crate) policies: &'r Policies,
    /// What it holds, where it holds anything.
    pub(crate) held: Option<Arc<Held>>,
    /// Its body, where a policy had to read that before.
    pub(crate) body: Option<Bytes>,
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
    let (mut parts, body) = request.into_parts();
    edge.observer.prepare(&mut parts);
    let routed = hygiene::check(&parts, &edge.config).and_then(|()| route(&edge.table.load(), &parts));
    let served = routed.as_ref().ok().and_then(Routed::served).cloned();
    let route = served.as_ref().map(|served| served.path.as_str());
    let trace = Trace::begin(edge.bus.tracer(), &parts.headers, &parts.method, route);
    let seen = edge.observer.begin(served.as_ref());
    let answer = match routed {
        Ok(Routed::To(served, values)) => {
            let (head, trace, policies) = (&parts, trace.context(), &*served.policies);
            let asked = Asked { head, values, trace, deadline, peer, policies, held: None, body: None };
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
    let mut response = sign(answer.unwrap_or_else(Refusal::into_response), &parts.method, trace.context());
    if let Some(lifecycle) = served.as_ref().and_then(|served| served.policies.lifecycle.as_ref()) {
        lifecycle.sign(response.headers_mut());
    }
    if response.status() == StatusCode::REQUEST_TIMEOUT && parts.version < Version::HTTP_2 {
        // What still comes of it would be taken for the next request.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(seen) = seen {
        let (head, response, trace, route) = (Some(&parts), &response, trace.context(), route.unwrap_or("-"));
        seen.end(&Done { head, route, peer, trace, began, response }, &edge.policies.proxies);
    }
    let status = response.status().as_u16();
    let (method, route) = (parts.method.as_str(), route.unwrap_or("-"));
    tracing::debug!(method, route, status, elapsed = ?began.elapsed(), trace = %trace.context().trace, "answered");
    trace.end(status);
    response
}

/// Answers a request that stands for one that could not be read.
pub(crate) fn refuse(
    edge: &Edge,
    request: &Request<Incoming>,
    peer: SocketAddr,
    refusal: Refusal,
) -> Response {
    let (headers, method) = (request.headers(), request.method());
    let trace = Trace::begin(edge.bus.tracer(), headers, method, None);
    let response = sign(refusal.into_response(), method, trace.context());
    let (began, told) = (Instant::now(), trace.context());
    // Its head is not the client's: that is no head.
    let done = Done { head: None, route: "-", peer, trace: told, began, response: &response };
    edge.observer.refused(&done, &edge.policies.proxies);
    let status = response.status().as_u16();
    tracing::debug!(status, trace = %trace.context().trace, "what a client sent is no request");
    trace.end(status);
    response
}

impl Asked<'_> {
    /// Returns how its body is read.
    pub(crate) fn reading(&self, edge: &Edge) -> Reading {
        let limits = self.policies.limits.as_ref();
        let limit = limits.and_then(|limits| limits.max_body_bytes).unwrap_or(edge.config.max_body_bytes);
        let body = self.policies.timeouts.as_ref().and_then(|timeouts| timeouts.body_ms);
        let sooner = |ms| Deadline::after(self.deadline.within(Duration::from_millis(ms)));
        let deadline = body.map_or(self.deadline, sooner);
        Reading {
            limit,
            deadline,
            pace: limits.and_then(|limits| limits.min_body_bytes_per_s),
            whole: self.body.clone(),
        }
    }

    /// Returns how long its operation may take for an answer.
    pub(crate) fn budget(&self, edge: &Edge) -> Duration {
        let left = self.deadline.remaining().unwrap_or_else(|| edge.config.request_timeout());
        let answer = self.policies.timeouts.as_ref().and_then(|timeouts| timeouts.first_byte_ms);
        answer.map_or(left, |ms| left.min(Duration::from_millis(ms)))
    }

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

/// Answers a request. One whose route asks for nothing goes straight to its target.
async fn answer(
    edge: &Arc<Edge>,
    served: &Arc<Served>,
    asked: Asked<'_>,
    body: Incoming,
) -> Result<Response, Refusal> {
    if served.policies.is_plain() && !edge.policies.pressure.is_watched() {
        return reach(edge, served, asked, body).await;
    }
    // Boxed: requests without policies do not carry the room they need.
    Box::pin(pass(edge, served, asked, body)).await
}

/// Has a request pass its route's policies, in the order of [`crate::POLICIES`], and then reach its target. Policies that
/// wait are boxed, so that one that does not costs no room for the others.
async fn pass(
    edge: &Arc<Edge>,
    served: &Arc<Served>,
    mut asked: Asked<'_>,
    body: Incoming,
) -> Result<Response, Refusal> {
    let (policies, state) = (asked.policies, &edge.policies);
    if let Some(limits) = &policies.limits {
        hygiene::within(limits, &asked.head.headers)?;
    }
    if let Some(timeouts) = &policies.timeouts {
        asked.deadline = timeouts.deadline(asked.deadline);
    }
    let place = if served.is_vital() { None } else { state.pressure.admit(policies.priority)? };
    let mut standing = Standing::default();
    let answer = async {
        if let Some(rates) = &policies.rate_limit {
            rates.pass(state, &asked, &mut standing)?;
        }
        if let Some(quotas) = &policies.quota {
            Box::pin(quotas.pass(edge, &asked, &mut standing)).await?;
        }
        let turns = match &policies.concurrency {
            Some(gates) => Box::pin(gates.enter(state, &asked)).await?,
            None => Vec::new(),
        };
        asked.held = Held::some(place, turns);
        let head = asked.head;
        let reply = match &policies.idempotency {
            Some(idempotency) => Box::pin(idempotency.ask(edge, served, asked, body)).await?,
            None => kept(edge, served, asked, body).await?,
        };
        if policies.changes {
            state.caches.changed(head, &reply);
        }
        // What was answered once for several clients each of them gets as it likes it.
        if policies.shape_replies() {
            Box::pin(replies::finish(&state.tallies, policies, head, reply)).await
        } else {
            Ok(reply)
        }
    };
    let answer = answer.await;
    standing.signed(answer)
}

/// Answers a request with a reply that was kept, where its route keeps any, or has it reach its target.
pub(crate) async fn kept(
    edge: &Arc<Edge>,
    served: &Arc<Served>,
    asked: Asked<'_>,
    body: Incoming,
) -> Result<Response, Refusal> {
    match &served.policies.cache {
        Some(cache) => Box::pin(cache.answer(edge, served, asked, body)).await,
        None => ask(edge, served, asked, body).await,
    }
}

/// Has a request reach its route's target, with identical ones where its route says so.
pub(crate) async fn ask(
    edge: &Arc<Edge>,
    served: &Served,
    asked: Asked<'_>,
    body: Incoming,
) -> Result<Response, Refusal> {
    match &asked.policies.coalesce {
        // Parts and conditions of objects are each client's own.
        Some(coalesce) if !matches!(served.target, Target::Object(_)) => {
            Box::pin(coalesce.ask(edge, served, asked, body)).await
        }
        _ => reach(edge, served, asked, body).await,
    }
}

/// Has a request reach its route's target. Boxed is what is rare or waits long anyway: a connection keeps the room its
/// largest answer needs for as long as it stands.
pub(crate) async fn reach(
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
        Target::Own(Own::Catalog) => Ok(linkset::answer()),
        Target::Own(Own::Publish) => Box::pin(events::publish_any(edge, served, asked.sooner()?, body)).await,
        Target::Own(Own::Follow) => Box::pin(feed::open_any(edge, served, asked)).await,
        Target::Object(plan) => Box::pin(object::answer(edge, plan, asked.sooner()?, body)).await,
        Target::Feed(plan) => Box::pin(feed::open(edge, served, plan, asked)).await,
        Target::Event(event, mapping) => {
            Box::pin(events::publish(edge, served, event, mapping, asked.sooner()?, body)).await
        }
        Target::Call(callee, mapping) => {
            call::one(edge, served, callee, mapping, asked.sooner()?, body).await
        }
        Target::Forward(callee) => Box::pin(forward::one(edge, served, callee, asked.sooner()?, body)).await,
        Target::Split(split) => {
            let callee = split.choose(fastrand::u32(..)).ok_or_else(Refusal::internal)?;
            call::one(edge, served, callee, &split.mapping, asked.sooner()?, body).await
        }
        Target::Aggregate(members) => Box::pin(aggregate::all(edge, served, members, asked.sooner()?)).await,
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
