//! One event as clients get it: written once for each form, however many clients there are.

use std::{borrow::Cow, sync::OnceLock};

use bytes::Bytes;
use data_encoding::BASE64;
use serde_json::{Map, Value, json};
use sinew::{
    bus::{Followed, Message},
    wire::{CloudEvent, ContentType, Headers, header, transcode},
};

use crate::config::FeedFormat;

/// How a client is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dress {
    /// A server-sent event.
    Event,
    /// A message of a WebSocket.
    Message,
}

/// An event of the stream.
#[derive(Debug)]
pub(crate) struct Item {
    pub(super) sequence: u64,
    /// `<domain>.<event>`.
    pub(super) event: String,
    headers: Headers,
    payload: Bytes,
    stored: String,
    data: OnceLock<Bytes>,
    value: OnceLock<Value>,
    /// By dress and format.
    written: [OnceLock<Bytes>; 4],
}

impl Item {
    pub(super) fn new(followed: &Followed) -> Self {
        let stored = sinew::Timestamp::try_from(followed.stored).unwrap_or_default();
        Self::of(&followed.message, followed.sequence, stored)
    }

    /// Reads a message.
    pub(crate) fn of(message: &Message, sequence: u64, stored: sinew::Timestamp) -> Self {
        let event = message.subject();
        Self {
            sequence,
            event: event.strip_prefix("evt.").unwrap_or(event).to_owned(),
            headers: message.headers(),
            // A copy: what came is part of a larger piece of memory, which would be kept as long.
            payload: Bytes::copy_from_slice(message.payload()),
            stored: stored.to_string(),
            data: OnceLock::new(),
            value: OnceLock::new(),
            written: Default::default(),
        }
    }

    /// Returns about how many bytes it holds.
    pub(super) fn weight(&self) -> usize {
        // Written forms are about as large as the payload.
        256 + self.headers.wire_len() + 3 * self.payload.len()
    }

    /// Returns a header field; CloudEvents attributes decoded.
    pub(super) fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let value = self.headers.get(name)?;
        Some(if name.starts_with("ce-") { CloudEvent::decode(value).into() } else { value.into() })
    }

    /// Returns the data, taken apart.
    pub(super) fn value(&self) -> &Value {
        self.value.get_or_init(|| serde_json::from_slice(self.data()).unwrap_or_default())
    }

    /// Returns it as a client gets it.
    pub(super) fn written(&self, dress: Dress, format: FeedFormat) -> Bytes {
        let at = usize::from(dress == Dress::Message) * 2 + usize::from(format == FeedFormat::CloudEvents);
        self.written[at].get_or_init(|| self.write(dress, format)).clone()
    }

    fn write(&self, dress: Dress, format: FeedFormat) -> Bytes {
        let data = match format {
            FeedFormat::Data => self.data().clone(),
            FeedFormat::CloudEvents => self.cloud_event(),
        };
        let (id, event) = (self.sequence, &self.event);
        let (before, after): (_, &[u8]) = match dress {
            Dress::Event => (format!("id: {id}\nevent: {event}\ndata: "), b"\n\n"),
            Dress::Message => (format!(r#"{{"id":"{id}","type":"{event}","data":"#), b"}"),
        };
        [before.as_bytes(), &data, after].concat().into()
    }

    /// Returns the data as one line of JSON; what is neither JSON nor MessagePack becomes a string.
    pub(crate) fn data(&self) -> &Bytes {
        self.data.get_or_init(|| {
            let codec = ContentType::of(self.headers.media_type().as_deref());
            let json = codec.ok().and_then(|codec| transcode(codec, ContentType::Json, &self.payload).ok());
            // Rewritten, JSON has no line ends.
            json.unwrap_or_else(|| text(&self.payload))
        })
    }

    /// Writes the whole event in the JSON format of CloudEvents 1.0.
    pub(crate) fn cloud_event(&self) -> Bytes {
        let members = self.attributes();
        let mut written = Value::Object(members).to_string().into_bytes();
        written.pop();
        written.extend_from_slice(b",\"data\":");
        written.extend_from_slice(self.data());
        written.push(b'}');
        written.into()
    }

    /// Returns the attributes of the event, its data left out.
    pub(crate) fn attributes(&self) -> Map<String, Value> {
        // An event of somebody who knows no CloudEvents becomes one.
        let own = CloudEvent::read(&self.headers).unwrap_or_else(|| CloudEvent {
            id: self.sequence.to_string(),
            kind: self.event.clone(),
            source: "/events".to_owned(),
            time: None,
            subject: None,
        });
        let mut members = Map::new();
        let mut set = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
        set("specversion", json!("1.0"));
        set("id", own.id.into());
        set("source", own.source.into());
        set("type", own.kind.into());
        set("time", own.time.unwrap_or_else(|| self.stored.clone()).into());
        if let Some(subject) = own.subject {
            set("subject", subject.into());
        }
        set("datacontenttype", json!("application/json"));
        for (name, value) in self.headers.iter() {
            let extension = name.strip_prefix("ce-").filter(|name| !CORE.contains(name));
            if let Some(name) = extension.filter(|_| name != header::DATA_TYPE) {
                set(name, CloudEvent::decode(value).into());
            }
        }
        members
    }
}

/// Attributes that are written in a place of their own.
const CORE: [&str; 9] =
    ["specversion", "id", "source", "type", "time", "subject", "datacontenttype", "data", "data_base64"];

fn text(payload: &[u8]) -> Bytes {
    let text = std::str::from_utf8(payload).map_or_else(|_| BASE64.encode(payload), str::to_owned);
    Value::String(text).to_string().into()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn item(sequence: u64, media_type: &str, payload: impl Into<Bytes>) -> Item {
        let mut headers = Headers::new();
        headers.set(header::CONTENT_TYPE, media_type).unwrap();
        let event = CloudEvent {
            id: "o 1".into(),
            kind: "orders.placed.v1".into(),
            source: "/shop".into(),
            time: Some("2026-01-01T00:00:00Z".into()),
            subject: None,
        };
        event.write(&mut headers).unwrap();
        headers.set("ce-tenant", "a%20b").unwrap();
        Item {
            sequence,
            event: "orders.placed".into(),
            headers,
            payload: payload.into(),
            stored: String::new(),
            data: OnceLock::new(),
            value: OnceLock::new(),
            written: Default::default(),
        }
    }

    #[test]
    fn an_event_is_written_as_the_client_reads_it() {
        let item = item(7, "application/json", "{\"a\":\r\n1}");
        let written = |dress, format| String::from_utf8(item.written(dress, format).to_vec()).unwrap();
        assert_eq!(
            written(Dress::Event, FeedFormat::Data),
            "id: 7\nevent: orders.placed\ndata: {\"a\":1}\n\n"
        );
        let message: Value = serde_json::from_str(&written(Dress::Message, FeedFormat::CloudEvents)).unwrap();
        assert_eq!((&message["id"], &message["type"]), (&json!("7"), &json!("orders.placed")));
        let event = &message["data"];
        assert_eq!(
            (&event["id"], &event["tenant"], &event["data"]["a"]),
            (&json!("o 1"), &json!("a b"), &json!(1))
        );
        assert_eq!(item.header("ce-tenant").as_deref(), Some("a b"));
    }

    proptest! {
        #[test]
        fn whatever_the_payload_is_an_event_stays_one_event(payload in prop::collection::vec(any::<u8>(), 0..60), kind in 0..3usize) {
            let kind = ["application/json", "application/msgpack", "text/plain"][kind];
            let item = item(1, kind, payload);
            let written = item.written(Dress::Event, FeedFormat::Data);
            prop_assert_eq!(written.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count(), 4);
            let message = item.written(Dress::Message, FeedFormat::CloudEvents);
            prop_assert!(serde_json::from_slice::<Value>(&message).is_ok());
        }
    }
}
