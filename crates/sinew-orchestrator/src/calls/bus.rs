//! What goes over the bus: requests to operations, and events. Knows endpoints, not sagas.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::Value;
use sinew::{
    Bus, Ctx, Error, Kind, Problem,
    bus::Message,
    wire::{CloudEvent, ContentType, Headers, Subject, decode, encode, header},
    workflow::CompletionTerms,
};
use sinew_workflow::{Fault, Operation, Outcome, TaskId, Terms};
use tokio::{sync::watch, time::Instant};

use super::AGAIN;
use crate::{
    directory::{Directory, Endpoint},
    spans::Origin,
    token::Seal,
};

/// The way to operations and event streams; a cheap handle.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) bus: Bus,
    pub(crate) directory: Directory,
    /// Makes tokens for answers that come later; `None` where those could not come back.
    pub(crate) seal: Option<Seal>,
    /// Until when nobody else can own the shard this works for; `None` where it works for none.
    pub(crate) lease: Option<watch::Receiver<Instant>>,
}

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Heard {
    /// It is answered.
    Answer(Outcome),
    /// It was taken on, and is answered later.
    Accepted(Terms),
}

/// A request to an operation, taken out of its effect.
pub(crate) struct Outgoing<'a> {
    pub(crate) task: TaskId,
    pub(crate) key: &'a str,
    pub(crate) forward_key: Option<&'a str>,
    pub(crate) target: &'a Operation,
    pub(crate) body: &'a Value,
    pub(crate) headers: &'a BTreeMap<String, String>,
    pub(crate) limit: Duration,
    pub(crate) attempt: u32,
}

impl Line {
    /// Asks an operation.
    pub(crate) async fn call(&self, origin: &Origin, call: Outgoing<'_>) -> Heard {
        match self.ask(origin, &call).await {
            Ok(message) => heard(&message),
            Err(outcome) => Heard::Answer(*outcome),
        }
    }

    async fn ask(&self, origin: &Origin, call: &Outgoing<'_>) -> Result<Message, Box<Outcome>> {
        let until = Instant::now() + call.limit;
        let endpoint = self.find(call.target).await?;
        let prepared = self.headers(origin, call, &endpoint, endpoint.accepts);
        let prepared = prepared.and_then(|headers| Ok((headers, encode(endpoint.codec, call.body)?)));
        let (mut headers, payload) = prepared.map_err(|error| Box::new(unsendable(&error)))?;
        loop {
            self.held().await;
            let left = until.saturating_duration_since(Instant::now());
            match self.exchange(&endpoint, &mut headers, payload.clone(), left).await {
                // Nothing was sent, so nothing is known to the callee: wait for the bus as long as the step may take.
                Err(error) if error.kind() == Kind::Disconnected && !left.is_zero() => {
                    let _ = Box::pin(self.bus.connected(left)).await;
                    tokio::time::sleep(AGAIN.min(left)).await;
                }
                Err(error) => return Err(unanswered(&error, call.target).into()),
                Ok(message) => return Ok(message),
            }
        }
    }

    /// Waits until nobody else can own the shard: a process that slept past its lease must let nothing out. Where the
    /// lease is not renewed the shard ends, and whatever waits here with it.
    pub(super) async fn held(&self) {
        if let Some(lease) = &self.lease {
            holds(lease).await;
        }
    }

    /// Finds an operation with one reply.
    pub(super) async fn find(&self, target: &Operation) -> Result<Arc<Endpoint>, Box<Outcome>> {
        let Some(endpoint) = self.directory.find(target).await else {
            let detail = format!("nobody has announced operation {target}: is its service running?");
            let fault = fault(503, "no such operation", "unknown-operation", &detail);
            return Err(Outcome::NotSent(fault).into());
        };
        if endpoint.stream {
            let detail = format!("{target} answers with a stream: a step needs an operation with one reply");
            let fault = fault(501, "a stream is no reply", "streaming-operation", &detail);
            return Err(Outcome::Refused(fault).into());
        }
        Ok(endpoint)
    }

    async fn exchange(
        &self,
        endpoint: &Endpoint,
        headers: &mut Headers,
        payload: Bytes,
        left: Duration,
    ) -> Result<Message, Error> {
        headers.set_display(header::TIMEOUT, left.as_millis().max(1))?;
        self.bus.request_unless_lost(&endpoint.subject, headers, payload, left).await
    }

    /// Writes the headers of a request, with a token where its result may come `later`.
    pub(super) fn headers(
        &self,
        origin: &Origin,
        call: &Outgoing<'_>,
        endpoint: &Endpoint,
        later: bool,
    ) -> Result<Headers, Error> {
        let mut headers = Headers::new();
        for (name, value) in call.headers {
            headers.set(name, value)?;
        }
        headers.set(header::CONTENT_TYPE, endpoint.codec.as_str())?;
        headers.set(header::IDEMPOTENCY_KEY, call.key)?;
        if let Some(key) = call.forward_key {
            headers.set(header::FORWARD_KEY, key)?;
        }
        if let Some(seal) = self.seal.as_ref().filter(|_| later) {
            headers.set(header::COMPLETION, seal.token(origin.id(), call.task, call.attempt))?;
        }
        if let Some(context) = origin.attempt(self.bus.tracer(), call.key, call.attempt) {
            headers.set_trace(&context);
        }
        Ok(headers)
    }

    /// Publishes an event; only a lasting refusal ends the attempts.
    pub(crate) async fn emit(&self, origin: &Origin, id: &str, event: &Value) -> Outcome {
        let text = |name: &str| event.get(name).and_then(Value::as_str).map(str::to_owned);
        let Some(kind) = text("type") else {
            return Outcome::Refused(fault(
                400,
                "the event has no type",
                "invalid-event",
                "set event.with.type",
            ));
        };
        let subject = match Subject::event(unversioned(&kind)) {
            Ok(subject) => subject,
            Err(error) => {
                return Outcome::Refused(fault(
                    400,
                    "the event's type is no subject",
                    "invalid-event",
                    &error.to_string(),
                ));
            }
        };
        let attributes = CloudEvent {
            id: id.to_owned(),
            kind: kind.clone(),
            source: text("source").unwrap_or_else(|| "/services/workflow".to_owned()),
            time: text("time"),
            subject: text("subject"),
        };
        let data = event.get("data").unwrap_or(&Value::Null);
        let ctx = Ctx::traced(&self.bus, "workflow", origin.attempt(self.bus.tracer(), id, 1));
        loop {
            self.held().await;
            let mut headers = Headers::new();
            let sent = async {
                attributes.write(&mut headers)?;
                headers.set(header::CONTENT_TYPE, ContentType::MessagePack.as_str())?;
                let payload = encode(ContentType::MessagePack, data)?;
                sinew::publish_raw(&ctx, subject.as_str(), &kind, id, headers, payload).await
            };
            match sent.await {
                // The state has the event already; the log need not hold it twice.
                Ok(_) => return Outcome::Completed(Value::Null),
                Err(error) if error.kind().is_retryable() => tokio::time::sleep(AGAIN).await,
                Err(error) => {
                    return Outcome::Refused(fault(
                        500,
                        "the event was refused",
                        "event-refused",
                        &error.to_string(),
                    ));
                }
            }
        }
    }
}

/// Waits until a lease is not over.
async fn holds(lease: &watch::Receiver<Instant>) {
    if *lease.borrow() > Instant::now() {
        return;
    }
    if lease.clone().wait_for(|until| *until > Instant::now()).await.is_err() {
        std::future::pending().await
    }
}

/// What cannot be written or sent was not asked for.
pub(super) fn unsendable(error: &Error) -> Outcome {
    Outcome::Refused(fault(400, "the request cannot be sent", "codec", &error.to_string()))
}

/// Reads a reply.
fn heard(message: &Message) -> Heard {
    if message.header(header::ACCEPTED).is_none() {
        return Heard::Answer(answered(message));
    }
    // Terms that cannot be read are those of somebody who said nothing.
    let read = message.content_type().and_then(|codec| decode::<CompletionTerms>(codec, message.payload()));
    Heard::Accepted(terms_of(read.unwrap_or_default()))
}

fn answered(message: &Message) -> Outcome {
    if let Some(problem) = sinew::problem_of(message) {
        return refused(problem);
    }
    let read = message.content_type().and_then(|codec| decode::<Value>(codec, message.payload()));
    match read {
        Ok(value) => Outcome::Completed(value),
        Err(error) => {
            Outcome::Unknown(fault(502, "the reply cannot be read", "malformed-reply", &error.to_string()))
        }
    }
}

fn unanswered(error: &Error, target: &Operation) -> Outcome {
    let detail = format!("{target}: {error}");
    match error.kind() {
        Kind::NoResponders => {
            Outcome::NotSent(fault(503, "nobody serves this operation right now", "no-responders", &detail))
        }
        Kind::Disconnected => {
            Outcome::NotSent(fault(503, "the message bus is not reachable", "bus-down", &detail))
        }
        Kind::TooLarge => Outcome::Refused(fault(413, "the request is too large", "too-large", &detail)),
        Kind::TimedOut => Outcome::Unknown(timeout(&detail)),
        _ => Outcome::Unknown(fault(500, "the call failed", "internal", &detail)),
    }
}

/// Reads a refusal. A definite one did nothing; one that speaks of a broken or late service leaves it open.
pub(crate) fn refused(problem: Problem) -> Outcome {
    let unknown = matches!(problem.status, 500 | 502 | 504);
    let fault = problem_fault(problem);
    if unknown { Outcome::Unknown(fault) } else { Outcome::Refused(fault) }
}

/// Reads on which terms work is taken on.
pub(crate) fn terms_of(CompletionTerms { heartbeat_ms, within_ms }: CompletionTerms) -> Terms {
    Terms { heartbeat_ms, within_ms }
}

fn problem_fault(problem: Problem) -> Fault {
    if problem.status == 504 {
        return timeout(problem.detail.as_deref().unwrap_or(&problem.title));
    }
    let mut fault = Fault::communication("").with_status(problem.status);
    fault.title = Some(problem.title);
    fault.detail = problem.detail;
    fault.code = Some(problem.code).filter(|code| !code.is_empty());
    fault
}

pub(super) fn timeout(detail: &str) -> Fault {
    let mut fault = Fault::timeout(detail).with_code("deadline-exceeded");
    fault.title = Some("no answer came in time: its outcome is unknown".to_owned());
    fault
}

pub(super) fn fault(status: u16, title: &str, code: &str, detail: &str) -> Fault {
    let mut fault = Fault::communication(detail).with_status(status).with_code(code);
    fault.title = Some(title.to_owned());
    fault
}

/// `orders.placed.v1` is published where SDK services publish version 1 of `orders.placed`.
pub(crate) fn unversioned(kind: &str) -> &str {
    match kind.rsplit_once(".v") {
        Some((name, version)) if !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => kind,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use tokio::{sync::watch, time::Instant};

    use super::{holds, unversioned};

    #[tokio::test(start_paused = true)]
    async fn nothing_begins_on_behalf_of_a_lease_that_is_over() {
        let until = || Instant::now() + Duration::from_secs(2);
        let (lease, valid) = watch::channel(until());
        assert!(holds(&valid).now_or_never().is_some());
        tokio::time::advance(Duration::from_secs(3)).await;
        let mut waits = Box::pin(holds(&valid));
        assert!(waits.as_mut().now_or_never().is_none(), "it slept past its lease");
        lease.send_replace(until());
        assert!(waits.as_mut().now_or_never().is_some(), "nobody else had taken it");
        tokio::time::advance(Duration::from_secs(3)).await;
        drop(lease);
        assert!(holds(&valid).now_or_never().is_none(), "it is lost");
    }

    #[test]
    fn a_version_suffix_is_no_part_of_the_subject() {
        assert_eq!(unversioned("orders.placed.v1"), "orders.placed");
        assert_eq!(unversioned("orders.placed.v"), "orders.placed.v");
        assert_eq!(unversioned("orders.placed.vip"), "orders.placed.vip");
    }
}
