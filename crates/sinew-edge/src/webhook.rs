//! Webhooks: events to those outside who asked for them. Each is a consumer group of its own, so replicas share the work,
//! nothing is lost with a process, and what nobody takes becomes a dead letter that can be retried.

mod client;
mod guard;
mod running;
mod signature;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use serde_json::Value;
use sinew::{
    Ctx, Problem, Redelivery, Timestamp,
    bus::Message,
    wire::{CloudEvent, ContentType, decode},
};

use crate::{
    Error, Kind,
    config::{Webhook, WebhookMode},
    feed::{Filter, Item},
    observe::{Row, Tallies, tally::WEBHOOKS},
};
use client::Client;
pub(crate) use running::{Changer, Webhooks};
use signature::Keys;

/// Places in [`WEBHOOKS`].
const DELIVERED: usize = 0;
const RETRIED: usize = 1;
const DEAD: usize = 2;

/// One webhook.
struct Sender {
    name: String,
    url: http::Uri,
    client: Client,
    filter: Filter,
    keys: Keys,
    headers: HeaderMap,
    mode: WebhookMode,
    timeout: Duration,
    /// Whether the other side said that it wants no more.
    gone: AtomicBool,
    attempts: u32,
    tried: Row,
}

impl Sender {
    fn new(webhook: &Webhook, tallies: &Tallies) -> Result<Self, Error> {
        let wrong = |reason: String| Error::new(Kind::Config, format!("webhook {}: {reason}", webhook.name));
        let mut headers = HeaderMap::new();
        for (name, value) in &webhook.headers {
            let name = HeaderName::try_from(name.as_str()).map_err(|error| wrong(error.to_string()))?;
            headers.insert(
                name,
                HeaderValue::try_from(value.as_str()).map_err(|error| wrong(error.to_string()))?,
            );
        }
        Ok(Self {
            name: webhook.name.clone(),
            url: webhook.url.parse().map_err(|error: http::uri::InvalidUri| wrong(error.to_string()))?,
            client: Client::new(webhook.allow_private).map_err(wrong)?,
            filter: Filter::fixed(&webhook.filter),
            keys: Keys::read(&webhook.secrets).map_err(wrong)?,
            headers,
            mode: webhook.mode,
            timeout: Duration::from_millis(webhook.timeout_ms),
            gone: AtomicBool::new(false),
            attempts: webhook.retry.attempts,
            tried: tallies.row(&WEBHOOKS, &webhook.name),
        })
    }

    /// Sends one event once.
    ///
    /// # Errors
    /// Why it was not taken; whether trying again can help, and when.
    async fn deliver(&self, message: Message, ctx: Ctx) -> Result<(), Problem> {
        let id = ctx.event_id();
        let item = Item::of(&message, 0, ctx.now());
        if !self.filter.passes(&item) {
            return Ok(());
        }
        let sent = self.send(&item, id.as_deref(), &ctx).await;
        let outcome = match &sent {
            Ok(()) => DELIVERED,
            Err(problem) if problem.retry && ctx.attempt() < self.attempts => RETRIED,
            Err(_) => DEAD,
        };
        self.tried.add(outcome, 1);
        sent
    }

    async fn send(&self, item: &Item, id: Option<&str>, ctx: &Ctx) -> Result<(), Problem> {
        // Somebody who retries a dead letter by hand knows better.
        if self.gone.load(Ordering::Relaxed) && ctx.redelivery() != Some(Redelivery::Redrive) {
            return Err(gone());
        }
        let request = self.request(item, id, ctx);
        let answered = tokio::time::timeout(self.timeout, self.client.send(request?)).await;
        let late = |_| Err(failed("timeout", format!("no answer within {} ms", self.timeout.as_millis())));
        let (status, headers) = answered.unwrap_or_else(late)?;
        if status == StatusCode::GONE {
            self.gone.store(true, Ordering::Relaxed);
            tracing::error!(
                webhook = self.name,
                "the other side wants no more events: 410, none is sent until a restart"
            );
            return Err(gone());
        }
        if status.is_success() {
            self.gone.store(false, Ordering::Relaxed);
            return Ok(());
        }
        Err(refused(status, &headers, ctx.now()))
    }

    fn request(&self, item: &Item, id: Option<&str>, ctx: &Ctx) -> Result<Request<Bytes>, Problem> {
        let unusable = |error: http::Error| {
            Problem::new(500, "unsendable", "the event cannot be sent").detail(error.to_string())
        };
        let attributes = item.attributes();
        let of = |name: &str| attributes.get(name).and_then(Value::as_str).unwrap_or_default();
        // The same at every attempt, so that whoever got it already knows.
        let id = CloudEvent::encode(id.unwrap_or_else(|| of("id")));
        let mut request = Request::post(self.url.clone());
        let body = match self.mode {
            WebhookMode::Structured => {
                request = request.header(header::CONTENT_TYPE, "application/cloudevents+json");
                item.cloud_event()
            }
            WebhookMode::Binary => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                for (name, value) in attributes.iter().filter(|(name, _)| *name != "datacontenttype") {
                    let text = value.as_str().map(CloudEvent::encode).unwrap_or_default();
                    request = request.header(format!("ce-{name}"), text);
                }
                item.data().clone()
            }
        };
        let moment = ctx.now().as_second();
        request = request.header("webhook-id", &id).header("webhook-timestamp", moment);
        if let Some(signature) = self.keys.sign(&id, moment, &body) {
            request = request.header("webhook-signature", signature);
        }
        if let Some(trace) = ctx.trace() {
            request = request.header("traceparent", trace.to_string());
        }
        let mut request = request.body(body).map_err(unusable)?;
        request.headers_mut().extend(self.headers.clone());
        Ok(request)
    }
}

/// What is refused for good is not sent again: the other side has read it and said no.
fn refused(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Problem {
    let problem = Problem::new(502, "refused", "the other side did not take the event");
    let problem = problem.detail(format!("it answered {status}"));
    let final_word =
        status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 404 | 408 | 409 | 425 | 429);
    match retry_after(headers, now) {
        _ if final_word => problem,
        Some(pause) => problem.retry_after(pause),
        None => problem.retriable(),
    }
}

/// Reads how long the other side asks to wait: seconds, or a moment.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::from_secs(u64::try_from(moment.as_second() - now.as_second()).unwrap_or_default()))
}

fn gone() -> Problem {
    Problem::new(410, "gone", "the other side wants no more events")
}

fn failed(code: &str, detail: String) -> Problem {
    Problem::new(502, code, "the event could not be sent").detail(detail).retriable()
}

/// Reads what an event is ordered by; events without it are in one order, that of nothing.
fn key(pointer: &str, media_type: Option<&str>, payload: &[u8]) -> Result<String, String> {
    let codec = ContentType::of(media_type).map_err(|error| error.to_string())?;
    let data: Value = decode(codec, payload).map_err(|error| error.to_string())?;
    Ok(data.pointer(pointer).map(ToString::to_string).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(status: u16, retry_after: &str) -> (bool, Option<u64>) {
        let mut headers = HeaderMap::new();
        if !retry_after.is_empty() {
            headers.insert(header::RETRY_AFTER, retry_after.parse().unwrap());
        }
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        let problem = refused(StatusCode::from_u16(status).unwrap(), &headers, now);
        (problem.retry, problem.retry_hint().map(|pause| pause.as_secs()))
    }

    #[test]
    fn a_refusal_for_good_is_final_and_a_pause_is_as_long_as_it_is_asked_for() {
        for again in [301, 401, 404, 408, 429, 500, 503] {
            assert_eq!(after(again, ""), (true, None), "{again}");
        }
        for never in [400, 413, 415, 422] {
            assert_eq!(after(never, "5"), (false, None), "{never}");
        }
        assert_eq!(after(429, "120"), (true, Some(120)));
        assert_eq!(after(503, "Sun, 06 Nov 1994 08:49:37 GMT"), (true, Some(37)));
        assert_eq!(after(503, "Sun, 06 Nov 1994 08:40:00 GMT"), (true, Some(0)));
        assert_eq!(after(503, "soon"), (true, None));
    }
}
