//! `POST /events/{domain}/{event}`: a client's event becomes a stored message, attributes and all.
//!
//! Source: CloudEvents 1.0, HTTP protocol binding, section 3.1: binary mode, attributes in percent-encoded `ce-` fields. What
//! comes whole is read in [`structured`].

mod handshake;
mod structured;

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use sinew::{
    Ctx, Error, Kind,
    bus::PubAck,
    wire::{CloudEvent, ContentType, Headers, encode, header, transcode},
};

pub(crate) use handshake::consent;
use structured::{Mode, Sent};

use crate::{
    Edge, Response, accept,
    body::{self, Payload},
    exchange::Asked,
    files,
    mapping::Mapping,
    plan::EventName,
    problem::{self, Refusal},
    reply,
    request::{self, Given},
    schema::Schema,
    served::{Served, Target},
};

/// Longest id a client may choose, in bytes.
const MAX_ID: usize = 256;
const SOURCE: &str = "/edge";
/// Attributes with a field of their own in [`CloudEvent`], or with another home in a message.
const CORE: [&str; 8] =
    ["id", "type", "source", "specversion", "time", "subject", "datacontenttype", "data_base64"];

/// The attributes of one event.
#[derive(Debug)]
struct Attributes {
    id: String,
    /// What tells it from every other event of its name: ids are unique within a source.
    key: String,
    /// Whether the client chose the id, so that it may safely send the event again.
    chosen: bool,
    headers: Headers,
}

/// The answer: where the event is stored.
#[derive(Debug, Serialize)]
struct Stored<'a> {
    id: &'a str,
    stream: String,
    sequence: u64,
    /// Whether it had been stored before under the same id.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

/// Publishes the event that the path names, and answers when it is stored.
///
/// # Errors
/// 400 for a name or attribute that cannot be used, 415 for another media type, 422 with everything that is wrong with events
/// that come whole; otherwise as the bus reports.
pub(crate) async fn publish_any(
    edge: &Edge,
    served: &Served,
    asked: Asked<'_>,
    body: Incoming,
) -> Result<Response, Refusal> {
    let [domain, event] = asked.values.as_slice() else { return Err(Refusal::internal()) };
    let name = EventName::new(domain, event);
    let name = name.map_err(|reason| Refusal::malformed(format!("in the path, {reason}")))?;
    publish(edge, served, &name, &Mapping::default(), asked, body).await
}

/// Publishes the event that a route names.
///
/// # Errors
/// As [`publish_any`], and 422 where fields of the data cannot be read.
pub(crate) async fn publish(
    edge: &Edge,
    served: &Served,
    event: &EventName,
    mapping: &Mapping,
    asked: Asked<'_>,
    body: Incoming,
) -> Result<Response, Refusal> {
    let wanted = accept::negotiate(&asked.head.headers)?;
    let mode = Mode::of(&asked.head.headers)?;
    let attributes =
        mode.is_none().then(|| Attributes::read(&asked.head.headers, &event.name)).transpose()?;
    let body = body::read(&asked.head.headers, body, asked.reading(edge)).await?;
    let data = |body: &Payload| {
        let given = Given { head: asked.head, values: &asked.values, body };
        // What the path names is taken as it comes, whatever the query says.
        if matches!(served.target, Target::Own(_)) {
            if body.form.is_some() {
                let detail = "send the event as application/json or application/msgpack";
                return Err(Refusal::unsupported_media(detail));
            }
            return transcode(body.codec, ContentType::MessagePack, &body.bytes).map_err(request::unreadable);
        }
        request::payload(&Schema::open(), mapping, &given, ContentType::MessagePack)
    };
    let (response, bytes) = match (mode, attributes) {
        (None, Some(attributes)) => {
            let data = data(&body)?;
            if let Some(form) = &body.form {
                Box::pin(files::store(edge, form, asked.deadline)).await?;
            }
            let stored = acknowledged(edge, &asked, event, &attributes, data).await?;
            accepted(&stored, wanted)?
        }
        (Some(mode), _) => {
            let sent = mode.read(&body.bytes)?;
            let mut events = Vec::new();
            for sent in sent {
                let json = Bytes::from(sent.data.to_string());
                events.push((
                    Attributes::of(&asked.head.headers, sent)?,
                    data(&Payload::plain(ContentType::Json, json))?,
                ));
            }
            let stored = Box::pin(all(edge, &asked, event, &events)).await?;
            match (mode, stored.as_slice()) {
                (Mode::Structured, [one]) => accepted(one, wanted)?,
                (_, many) => accepted(&many, wanted)?,
            }
        }
        (None, None) => return Err(Refusal::internal()),
    };
    served.shape.apply(response, &bytes, wanted)
}

/// Stores several events, one after the other: they stand in the stream in the order in which they came.
async fn all<'e>(
    edge: &Edge,
    asked: &Asked<'_>,
    name: &EventName,
    events: &'e [(Attributes, Bytes)],
) -> Result<Vec<Stored<'e>>, Refusal> {
    let mut stored = Vec::new();
    for (attributes, data) in events {
        match acknowledged(edge, asked, name, attributes, data.clone()).await {
            Ok(one) => stored.push(one),
            // Their ids make it harmless to send all of them again.
            Err(refusal) => return Err(refusal.with("stored", stored.len())),
        }
    }
    Ok(stored)
}

async fn acknowledged<'e>(
    edge: &Edge,
    asked: &Asked<'_>,
    name: &EventName,
    attributes: &'e Attributes,
    data: Bytes,
) -> Result<Stored<'e>, Refusal> {
    let ack = store(edge, asked, name, attributes, data).await;
    let ack = ack.map_err(|error| Refusal::from(problem::of_bus(&error, attributes.chosen)))?;
    Ok(Stored { id: &attributes.id, stream: ack.stream, sequence: ack.sequence, duplicate: ack.duplicate })
}

fn accepted(stored: &impl Serialize, wanted: ContentType) -> Result<(Response, Bytes), Refusal> {
    let bytes = encode(wanted, stored).map_err(|_| Refusal::internal())?;
    Ok((reply::response(StatusCode::ACCEPTED, None, wanted, bytes.clone()), bytes))
}

async fn store(
    edge: &Edge,
    asked: &Asked<'_>,
    name: &EventName,
    attributes: &Attributes,
    data: Bytes,
) -> Result<PubAck, Error> {
    if !edge.bus.is_connected() {
        // Publishing would wait for the connection; a client behind a load balancer is better off at another edge.
        return Err(Error::new(Kind::Disconnected, "the connection to nats is down"));
    }
    let ctx = Ctx::traced(&edge.bus, "edge", Some(asked.trace));
    let (subject, headers) = (name.subject.as_str(), attributes.headers.clone());
    let publishing = sinew::publish_raw(&ctx, subject, &name.name, &attributes.key, headers, data);
    let left = asked.budget(edge);
    let late = |_| Err(Error::new(Kind::TimedOut, "the event is not known to be stored"));
    tokio::time::timeout(left, publishing).await.unwrap_or_else(late)
}

impl Attributes {
    fn read(from: &HeaderMap, name: &str) -> Result<Self, Refusal> {
        if let Some(version) = attribute(from, "ce-specversion")? {
            let required = ["ce-id", "ce-source", "ce-type"].into_iter();
            let missing =
                required.filter(|name| !from.contains_key(*name)).map(|name| format!("{name} is missing"));
            let version = (version != "1.0").then(|| "ce-specversion has to be 1.0".to_owned());
            let wrong: Vec<String> = version.into_iter().chain(missing).collect();
            if !wrong.is_empty() {
                return Err(Refusal::malformed(wrong.join(", ")));
            }
        }
        let key = request::idempotency_key(from)?.map(Cow::into_owned);
        let chosen = attribute(from, "ce-id")?.or(key);
        let event = CloudEvent {
            id: chosen.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
            kind: attribute(from, "ce-type")?.unwrap_or_else(|| format!("{name}.v1")),
            source: attribute(from, "ce-source")?.unwrap_or_else(|| SOURCE.to_owned()),
            time: attribute(from, "ce-time")?,
            subject: attribute(from, "ce-subject")?,
        };
        if event.id.len() > MAX_ID {
            return Err(Refusal::malformed(format!("an event's id has at most {MAX_ID} bytes")));
        }
        let mut headers = Headers::new();
        extensions(from, &mut headers)?;
        Self::write(from, event, headers, chosen.is_some())
    }

    /// Takes over what an event says of itself.
    fn of(from: &HeaderMap, sent: Sent) -> Result<Self, Refusal> {
        Self::write(from, sent.event, sent.extensions, true)
    }

    fn write(
        from: &HeaderMap,
        event: CloudEvent,
        mut headers: Headers,
        chosen: bool,
    ) -> Result<Self, Refusal> {
        let unusable = |error: sinew::wire::InvalidHeader| Refusal::malformed(error.to_string());
        event.write(&mut headers).map_err(unusable)?;
        headers.set(header::CONTENT_TYPE, ContentType::MessagePack.as_str()).map_err(unusable)?;
        // The trace itself is written by whoever publishes, as the parent of what consumers do.
        request::propagate(from, None, &mut headers);
        let key = match event.source.as_str() {
            SOURCE => event.id.clone(),
            source => format!("{} {}", CloudEvent::encode(source), event.id),
        };
        Ok(Self { id: event.id, key, chosen, headers })
    }
}

/// Hands extension attributes on as they are: both bindings encode them alike.
fn extensions(from: &HeaderMap, to: &mut Headers) -> Result<(), Refusal> {
    for (name, value) in from {
        let Some(extension) = name.as_str().strip_prefix("ce-").filter(|name| !CORE.contains(name)) else {
            continue;
        };
        let plain = extension.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let text = value.to_str().ok().filter(|_| plain && !extension.is_empty());
        let text = text.ok_or_else(|| Refusal::malformed(format!("{name} is no cloudevents attribute")))?;
        to.set(name.as_str(), text).map_err(|error| Refusal::malformed(error.to_string()))?;
    }
    Ok(())
}

/// Reads one attribute, decoded.
fn attribute(from: &HeaderMap, name: &'static str) -> Result<Option<String>, Refusal> {
    let mut values = from.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().and_then(|text| percent_decode_str(text).decode_utf8().ok());
    let usable = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
    match text.filter(|text| usable(text)) {
        Some(text) if values.next().is_none() => Ok(Some(text.into_owned())),
        _ => Err(Refusal::malformed(format!("send one {name}, percent-encoded utf-8, not empty"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &str)]) -> Result<Attributes, u16> {
        let parse = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), value.parse().unwrap())
        };
        let headers = headers.iter().map(parse).collect();
        Attributes::read(&headers, "orders.placed").map_err(|refusal| refusal.problem().status)
    }

    #[test]
    fn an_event_without_attributes_gets_them() {
        let attributes = read(&[]).unwrap();
        let event = CloudEvent::read(&attributes.headers).unwrap();
        assert_eq!((event.kind.as_str(), event.source.as_str()), ("orders.placed.v1", "/edge"));
        assert!(!attributes.chosen);
        assert_eq!(event.id, attributes.id);
        assert_ne!(event.id, read(&[]).unwrap().id);
    }

    #[test]
    fn attributes_of_the_client_are_kept() {
        let attributes = read(&[
            ("ce-specversion", "1.0"),
            ("ce-id", "caf%C3%A9"),
            ("ce-type", "shop.order"),
            ("ce-source", "/till/7"),
            ("ce-time", "2026-01-01T00:00:00Z"),
            ("ce-subject", "o-1"),
            ("ce-tenant", "a%20b"),
        ]);
        let attributes = attributes.unwrap();
        let event = CloudEvent::read(&attributes.headers).unwrap();
        assert_eq!((event.id.as_str(), attributes.id.as_str(), attributes.chosen), ("café", "café", true));
        assert_eq!((event.kind.as_str(), event.source.as_str()), ("shop.order", "/till/7"));
        assert_eq!(event.subject.as_deref(), Some("o-1"));
        assert_eq!(attributes.headers.get("ce-tenant"), Some("a%20b"));
        assert_eq!(read(&[("idempotency-key", "k")]).unwrap().id, "k");
    }

    #[test]
    fn attributes_that_cannot_be_used_are_refused() {
        for bad in [
            ("ce-specversion", "0.3"),
            ("ce-specversion", "1.0"),
            ("ce-id", ""),
            ("ce-id", "a%0Ab"),
            ("ce-id", "%ff"),
            ("ce-id", "x".repeat(257).as_str()),
            ("ce-type", "ä"),
            ("ce-bad-name", "x"),
        ] {
            assert_eq!(read(&[bad]).err(), Some(400), "{bad:?}");
        }
    }

    #[test]
    fn names_cannot_leave_their_place_in_the_subject() {
        assert_eq!(EventName::new("orders", "placed").unwrap().subject.as_str(), "evt.orders.placed");
        for (domain, event) in [("Orders", "placed"), ("orders", ">"), ("orders.x", "placed"), ("", "placed")]
        {
            assert!(EventName::new(domain, event).is_err(), "{domain:?} {event:?}");
        }
    }
}
