//! Publishing events: an accepted event is stored. Knows streams, not who listens.

mod later;

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use jiff::Timestamp;
use sinew_wire::{CloudEvent, ContentType, Event, Headers, header};

use tokio::time::Instant;

use crate::{Bus, Ctx, Error, Kind, bus::PubAck, streams::ensure_streams, telemetry::SpanKind};

const ATTEMPT: Duration = Duration::from_secs(2);
const BUDGET: Duration = Duration::from_secs(10);
/// Pause before an event is offered again.
const PAUSE: Duration = Duration::from_millis(50);

pub use later::{PublishLater, PublishRepeatedly};

/// An event in preparation; awaiting it publishes and waits until it is stored.
#[must_use = "an event is not published until it is awaited"]
pub struct Publish<E> {
    ctx: Ctx,
    event: E,
    id: Option<String>,
    about: Option<String>,
}

/// An event with everything but the headers of its way.
struct Prepared {
    ctx: Ctx,
    id: String,
    headers: Headers,
    payload: bytes::Bytes,
}

impl<E: Event> Publish<E> {
    pub(crate) fn new(ctx: Ctx, event: E) -> Self {
        Self { ctx, event, id: None, about: None }
    }

    /// Sets the logical id. The same event published by the same service under the same id is stored once, where the
    /// two are less than two minutes apart.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets what the event is about, for example an order's id.
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.about = Some(subject.into());
        self
    }

    fn prepare(self, time: Option<Timestamp>) -> Result<Prepared, Error> {
        let id = self.id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let mut headers = Headers::new();
        let attributes = CloudEvent {
            id: id.clone(),
            kind: E::TYPE.to_owned(),
            source: format!("/services/{}", self.ctx.service()),
            time: Some(time.unwrap_or_else(|| self.ctx.now()).to_string()),
            subject: self.about,
        };
        attributes.write(&mut headers)?;
        headers.set(header::CONTENT_TYPE, ContentType::MessagePack.as_str())?;
        headers.set(header::DATA_TYPE, ContentType::MessagePack.as_str())?;
        let payload = sinew_wire::encode(ContentType::MessagePack, &self.event)?;
        Ok(Prepared { ctx: self.ctx, id, headers, payload })
    }

    async fn send(self) -> Result<PubAck, Error> {
        let Prepared { ctx, id, headers, payload } = self.prepare(None)?;
        publish_raw(&ctx, E::SUBJECT, E::NAME, &id, headers, payload).await
    }
}

impl<E: Event> IntoFuture for Publish<E> {
    type Output = Result<PubAck, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// Publishes an encoded event and waits until it is stored. Repeating it under the same id is harmless, so a lost
/// acknowledgement is answered by sending again. The streams are created where they do not stand yet.
///
/// # Errors
/// [`Kind::Disconnected`] or [`Kind::TimedOut`] when it is not known to be stored after ten seconds, or when the
/// deadline of `ctx` passes before.
pub async fn publish_raw(
    ctx: &Ctx,
    subject: &str,
    name: &str,
    id: &str,
    mut headers: Headers,
    payload: bytes::Bytes,
) -> Result<PubAck, Error> {
    if let (Some(told), None) = (headers.get(header::CONTENT_TYPE), headers.get(header::DATA_TYPE)) {
        let told = CloudEvent::encode(told);
        headers.set(header::DATA_TYPE, told)?;
    }
    // The stream holds every kind of event: an id is taken to be unique per event and source, as CloudEvents has it.
    headers.set(header::MESSAGE_ID, format!("{}/{name}/{id}", ctx.service()))?;
    offer(ctx, subject, name, headers, payload).await
}

/// As [`publish_raw`], with the headers that make a repetition harmless already there.
pub(crate) async fn offer(
    ctx: &Ctx,
    subject: &str,
    name: &str,
    mut headers: Headers,
    payload: bytes::Bytes,
) -> Result<PubAck, Error> {
    let limit = ctx.deadline().within(BUDGET);
    if limit.is_zero() {
        return Err(Error::too_late());
    }
    let span = ctx.bus().tracer().span(|| format!("send {name}"), SpanKind::Producer, ctx.trace());
    let span = span.with("messaging.system", || "nats").with("messaging.operation.type", || "send");
    ctx.inherit(&mut headers, span.context());
    let outcome = store(ctx.bus(), subject, &headers, &payload, limit).await;
    match &outcome {
        Ok(_) => drop(span),
        Err(error) => span.fail(error.to_string()),
    }
    outcome
}

/// Offers an event until the server's word is heard, whatever it is, for at most `limit`.
async fn store(
    bus: &Bus,
    subject: &str,
    headers: &Headers,
    payload: &bytes::Bytes,
    limit: Duration,
) -> Result<PubAck, Error> {
    let began = Instant::now();
    let mut left = limit;
    loop {
        let refused = match bus.publish_once(subject, headers, payload.clone(), left.min(ATTEMPT)).await {
            Ok(ack) => return Ok(ack),
            Err(error) => error,
        };
        left = limit.saturating_sub(began.elapsed());
        match refused.kind() {
            _ if left.is_zero() => return Err(Error::timed_out(subject, limit)),
            Kind::TimedOut | Kind::Disconnected => bus.connected(left).await?,
            // Nobody has needed the streams before, or the server is back but not its streams.
            Kind::NoResponders => {
                if let Ok(Err(error)) = tokio::time::timeout(left, ensure_streams(bus)).await {
                    tracing::debug!(%error, "the streams of events do not stand yet");
                }
            }
            _ => return Err(refused),
        }
        tokio::time::sleep(PAUSE.min(left)).await;
        left = limit.saturating_sub(began.elapsed());
    }
}
