//! Events as workflows see them: CloudEvents in JSON, whatever they travelled as. Pure.

use data_encoding::BASE64;
use serde_json::{Map, Value};
use sinew::{
    EVENTS,
    wire::{CloudEvent, ContentType, Headers, decode},
};

const STRUCTURED: &str = "application/cloudevents+json";
const PREFIX: &str = "ce-";

/// Says where an event came from and which it was there.
pub(crate) fn origin_of(sequence: u64) -> String {
    format!("{EVENTS}/{sequence}")
}

/// Returns the sequence an origin names.
pub(super) fn sequence_of(origin: &str) -> Option<u64> {
    origin.strip_prefix(EVENTS)?.strip_prefix('/')?.parse().ok()
}

/// Reads a stored message as a CloudEvent. What is none is made one: its type is the subject without `evt.`.
///
/// Data is decoded where its format is known; other text stays text, anything else becomes `data_base64`.
pub(crate) fn read(subject: &str, sequence: u64, headers: &Headers, payload: &[u8]) -> Value {
    let media = headers.media_type().unwrap_or_default().into_owned();
    if media.starts_with(STRUCTURED)
        && let Ok(Value::Object(event)) = serde_json::from_slice(payload)
    {
        return Value::Object(event);
    }
    let mut event = attributes(headers);
    let mut missing = |name: &str, value: String| {
        event.entry(name).or_insert(Value::String(value));
    };
    missing("specversion", "1.0".to_owned());
    missing("id", sequence.to_string());
    missing("source", format!("/streams/{EVENTS}"));
    missing("type", subject.strip_prefix("evt.").unwrap_or(subject).to_owned());
    if payload.is_empty() {
        return Value::Object(event);
    }
    let decoded = ContentType::of(Some(&media).filter(|media| !media.is_empty()).map(String::as_str))
        .ok()
        .and_then(|codec| decode::<Value>(codec, payload).ok());
    match (decoded, std::str::from_utf8(payload)) {
        (Some(data), _) => {
            // It is JSON from here on, whatever it was on its way.
            event.insert("datacontenttype".to_owned(), "application/json".into());
            event.insert("data".to_owned(), data);
        }
        (None, Ok(text)) => drop(event.insert("data".to_owned(), text.into())),
        (None, Err(_)) => drop(event.insert("data_base64".to_owned(), BASE64.encode(payload).into())),
    }
    Value::Object(event)
}

fn attributes(headers: &Headers) -> Map<String, Value> {
    let attribute = |(name, value): (&str, &str)| {
        let prefix = name.get(..PREFIX.len())?;
        let name = name.get(PREFIX.len()..).filter(|_| prefix.eq_ignore_ascii_case(PREFIX))?;
        Some((name.to_ascii_lowercase(), Value::String(CloudEvent::decode(value))))
    };
    headers.iter().filter_map(attribute).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sinew::wire::{encode, header};

    use super::*;

    fn headers(fields: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in fields {
            headers.set(*name, *value).unwrap();
        }
        headers
    }

    #[test]
    fn an_event_of_the_sdk_is_read_with_its_data_as_json() {
        let headers = headers(&[
            ("ce-specversion", "1.0"),
            ("ce-id", "7"),
            ("ce-type", "orders.placed.v1"),
            ("ce-source", "/services/orders"),
            ("Ce-Region", "eu%20north"),
            (header::CONTENT_TYPE, "application/msgpack"),
        ]);
        let payload = encode(ContentType::MessagePack, &json!({ "total": 12 })).unwrap();
        let event = read("evt.orders.placed", 3, &headers, &payload);
        assert_eq!(event["data"], json!({ "total": 12 }));
        assert_eq!((&event["type"], &event["region"]), (&json!("orders.placed.v1"), &json!("eu north")));
        assert_eq!(event["datacontenttype"], "application/json");
    }

    #[test]
    fn structured_events_and_plain_messages_are_events_too() {
        let whole = json!({ "specversion": "1.0", "id": "1", "type": "a", "source": "/x", "data": [1] });
        let structured = headers(&[("Content-Type", "application/cloudevents+json; charset=utf-8")]);
        assert_eq!(read("evt.a", 1, &structured, whole.to_string().as_bytes()), whole);
        let plain = read("evt.sensors.heat", 9, &Headers::new(), br#"{"degrees": 20}"#);
        assert_eq!((&plain["type"], &plain["id"]), (&json!("sensors.heat"), &json!("9")));
        assert_eq!(plain["data"], json!({ "degrees": 20 }));
        let text = read("evt.a", 1, &headers(&[("Content-Type", "text/plain")]), b"hello");
        assert_eq!(text["data"], "hello");
        let bytes = read("evt.a", 1, &headers(&[("Content-Type", "image/png")]), b"\xff\x00");
        assert_eq!(bytes["data_base64"], "/wA=");
    }

    #[test]
    fn an_origin_names_its_sequence() {
        assert_eq!(sequence_of(&origin_of(77)), Some(77));
        assert_eq!(sequence_of("local/3"), None);
    }
}
