//! Calling an operation on behalf of a client, and handing a copy to whoever mirrors it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use hyper::body::Incoming;
use sinew::{
    Error, Kind,
    bus::Message,
    telemetry::{Span, SpanKind},
    wire::{ContentType, Headers, TraceContext, header, transcode},
};

use crate::{
    Edge, Response, accept, body,
    exchange::Asked,
    files,
    mapping::Mapping,
    operation::Operation,
    policy::{cache, calls::Sending, conditional},
    problem::{self, Refusal},
    reply,
    request::{self, Given},
    served::{Callee, Served},
    streaming,
};

/// Copies under way at once; further ones are not sent, as nobody waits for them.
pub(crate) const MIRRORED: usize = 256;

/// Calls one operation.
///
/// # Errors
/// What is wrong with the request, what the service refused, or why there is no answer.
pub(crate) async fn one(
    edge: &Arc<Edge>,
    served: &Served,
    callee: &Callee,
    mapping: &Mapping,
    asked: Asked<'_>,
    body: Incoming,
) -> Result<Response, Refusal> {
    let operation = known(callee)?;
    if operation.stream {
        return Box::pin(streaming::open(edge, served, operation, mapping, asked, body)).await;
    }
    let head = asked.head;
    // Before anything is done: an answer nobody can read would leave the client guessing.
    let wanted = accept::negotiate(&head.headers)?;
    let repeatable = operation.idempotent || request::idempotency_key(&head.headers)?.is_some();
    let body = body::read(&head.headers, body, asked.reading(edge)).await?;
    if !body.is_empty() && !served.takes_body() {
        return Err(Refusal::malformed("this method takes no body: give the fields in path and query"));
    }
    let given = Given { head, values: &asked.values, body: &body };
    let payload = request::payload(&operation.request, mapping, &given, operation.codec)?;
    if let Some(form) = &body.form {
        Box::pin(files::store(edge, form, asked.deadline)).await?;
    }
    if let Some((copy, percent)) = &served.mirror {
        mirror(edge, copy, *percent, operation.codec, &asked, &payload);
    }
    let (span, sent) = send(edge, operation, &asked, payload).await?;
    let message = sent.as_ref().map_err(|error| Refusal::from(problem::of_bus(error, repeatable)));
    let mut answer =
        message.and_then(|message| reply::translate(message, operation, &served.shape, wanted, repeatable));
    if let Ok(response) = &mut answer
        && response.status() == StatusCode::ACCEPTED
        && let Some(preference) = request::deferral(&head.headers)
    {
        response.headers_mut().insert("preference-applied", preference);
    }
    let caches = asked.policies.cache.is_some();
    if (caches || asked.policies.conditional.is_some())
        && let (Ok(response), Ok(message)) = (&mut answer, &sent)
    {
        conditional::take_over(message, response.headers_mut());
        if caches {
            cache::take_over(message, response.headers_mut());
        }
    }
    end(span, answer)
}

/// Returns the operation, where somebody serves it.
pub(crate) fn known(callee: &Callee) -> Result<&Arc<Operation>, Refusal> {
    match callee {
        Callee::Known(operation) => Ok(operation),
        Callee::Absent(named) => Err(Refusal::absent(named)),
    }
}

/// Ends a call's span with what became of it.
pub(crate) fn end<T>(span: Span, answer: Result<T, Refusal>) -> Result<T, Refusal> {
    match &answer {
        Err(refusal) => span.fail(refusal.problem().to_string()),
        Ok(_) => drop(span),
    }
    answer
}

/// Sends a request and waits for its reply, within what is left of the client's patience.
///
/// # Errors
/// When the client's headers cannot be handed on.
pub(crate) async fn send(
    edge: &Edge,
    operation: &Operation,
    asked: &Asked<'_>,
    payload: Bytes,
) -> Result<(Span, Result<Message, Error>), Refusal> {
    let span = edge.bus.tracer().span(|| operation.name.clone(), SpanKind::Client, Some(asked.trace));
    let span = span.with("rpc.system", || "sinew").with("messaging.system", || "nats");
    let budget = asked.budget(edge);
    let mut headers = request::headers(&asked.head.headers, span.context(), budget, operation.codec)?;
    if asked.policies.conditional.is_some() {
        conditional::hand_on(asked.head, &mut headers)?;
    }
    if asked.policies.cache.is_some() {
        cache::hand_on(asked.head, &mut headers)?;
    }
    let timed = edge.observer.asking(asked.head);
    let sent = match &asked.policies.calls {
        None => deliver(edge, operation, &headers, payload, budget).await,
        Some(calls) => {
            let keyed = request::idempotency_key(&asked.head.headers)?.is_some();
            let repeatable = operation.idempotent || keyed;
            Box::pin(calls.send(edge, Sending { operation, headers, payload, budget, repeatable })).await
        }
    };
    if let Some((upstream, began)) = timed {
        upstream.took(began.elapsed());
    }
    Ok((span, sent))
}

/// Sends a request once.
pub(crate) async fn deliver(
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

/// Sends a copy to another operation. Nobody waits for it, and what it answers is dropped.
fn mirror(
    edge: &Arc<Edge>,
    callee: &Callee,
    percent: u8,
    from: ContentType,
    asked: &Asked<'_>,
    payload: &Bytes,
) {
    let Callee::Known(operation) = callee else { return };
    if percent < 100 && fastrand::u8(..100) >= percent {
        return;
    }
    let Ok(permit) = edge.mirrors.clone().try_acquire_owned() else {
        tracing::debug!(operation = operation.name, "a copy was not sent: too many are under way");
        return;
    };
    let copied = match from == operation.codec {
        true => Ok(payload.clone()),
        false => transcode(from, operation.codec, payload),
    };
    let headers = copy_headers(asked.trace, edge.config.request_timeout(), operation.codec);
    let (Ok(payload), Some(headers)) = (copied, headers) else { return };
    let (edge, operation) = (edge.clone(), operation.clone());
    edge.tasks.clone().spawn(async move {
        let budget = edge.config.request_timeout();
        let _ = deliver(&edge, &operation, &headers, payload, budget).await;
        drop(permit);
    });
}

/// A copy has the trace of its original, and neither its key nor its patience.
fn copy_headers(trace: TraceContext, budget: Duration, codec: ContentType) -> Option<Headers> {
    let mut headers = Headers::new();
    headers.set(header::TRACEPARENT, trace.to_string()).ok()?;
    headers.set(header::CONTENT_TYPE, codec.as_str()).ok()?;
    headers.set(header::ACCEPT, codec.as_str()).ok()?;
    headers.set(header::TIMEOUT, budget.as_millis().to_string()).ok()?;
    Some(headers)
}
