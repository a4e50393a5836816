//! Events that come whole, one or many: the JSON format of CloudEvents 1.0. Pure.
//!
//! Source: CloudEvents 1.0, JSON event format, and HTTP protocol binding, sections 3.2 and 3.3.

use data_encoding::BASE64;
use http::{HeaderMap, header};
use serde_json::{Map, Value};
use sinew::wire::{CloudEvent, Headers};

use super::{CORE, MAX_ID};
use crate::{problem::Refusal, schema::Violation};

/// How events come that say what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// One, with all its attributes.
    Structured,
    /// A list of them.
    Batch,
}

/// One event as it was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) event: CloudEvent,
    /// Its extension attributes, written for the bus.
    pub(super) extensions: Headers,
    pub(super) data: Value,
}

impl Mode {
    /// Reads the media type; `None` where the body is only the data.
    ///
    /// # Errors
    /// 415 for a format of CloudEvents that is not read.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = media_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "application/cloudevents+json" => Ok(Some(Self::Structured)),
            "application/cloudevents-batch+json" => Ok(Some(Self::Batch)),
            other if other.starts_with("application/cloudevents") => Err(Refusal::unsupported_media(
                "send application/cloudevents+json or application/cloudevents-batch+json",
            )),
            _ => Ok(None),
        }
    }

    /// Reads what was sent.
    ///
    /// # Errors
    /// 400 for what is no JSON, 422 with everything that is wrong with any of the events.
    pub(super) fn read(self, body: &[u8]) -> Result<Vec<Sent>, Refusal> {
        let document: Value = serde_json::from_slice(body)
            .map_err(|error| Refusal::malformed(format!("the body is no json: {error}")))?;
        let mut violations = Vec::new();
        let sent: Vec<Sent> = match (self, document) {
            (Self::Structured, document) => Sent::read(document, "", &mut violations).into_iter().collect(),
            (Self::Batch, Value::Array(documents)) => {
                let numbered = documents.into_iter().enumerate();
                numbered.filter_map(|(at, one)| Sent::read(one, &format!("/{at}"), &mut violations)).collect()
            }
            (Self::Batch, _) => return Err(Refusal::malformed("a batch is a list of events")),
        };
        if violations.is_empty() {
            Ok(sent)
        } else {
            Err(Refusal::invalid(&violations, |_| "body".to_owned()))
        }
    }
}

impl Sent {
    fn read(document: Value, at: &str, violations: &mut Vec<Violation>) -> Option<Self> {
        let before = violations.len();
        let Value::Object(mut members) = document else {
            violations
                .push(Violation { pointer: at.to_owned(), detail: "is no event: send an object".to_owned() });
            return None;
        };
        let mut reading = Reading { at, violations };
        let version = reading.required(&mut members, "specversion");
        if version.is_some_and(|version| version != "1.0") {
            reading.wrong("specversion", "has to be \"1.0\"");
        }
        let id = reading.required(&mut members, "id");
        if id.as_ref().is_some_and(|id| id.len() > MAX_ID) {
            reading.wrong("id", &format!("has at most {MAX_ID} bytes"));
        }
        let source = reading.required(&mut members, "source");
        let kind = reading.required(&mut members, "type");
        let (time, subject) = (reading.text(&mut members, "time"), reading.text(&mut members, "subject"));
        if time.as_ref().is_some_and(|time| time.parse::<sinew::Timestamp>().is_err()) {
            reading.wrong("time", "is no moment: write 2026-01-31T08:00:00Z");
        }
        let data = reading.data(&mut members);
        let extensions = reading.extensions(&members);
        if violations.len() > before {
            return None;
        }
        let event = CloudEvent { id: id?, kind: kind?, source: source?, time, subject };
        Some(Self { event, extensions, data })
    }
}

/// Reads one event, and notes what is wrong.
struct Reading<'v> {
    at: &'v str,
    violations: &'v mut Vec<Violation>,
}

impl Reading<'_> {
    fn wrong(&mut self, name: &str, detail: &str) {
        let pointer = crate::config::below(self.at, name);
        self.violations.push(Violation { pointer, detail: detail.to_owned() });
    }

    fn required(&mut self, members: &mut Map<String, Value>, name: &str) -> Option<String> {
        if !members.contains_key(name) {
            self.wrong(name, "is missing");
        }
        self.text(members, name)
    }

    fn text(&mut self, members: &mut Map<String, Value>, name: &str) -> Option<String> {
        match members.remove(name)? {
            Value::String(text) if !text.is_empty() && !text.chars().any(char::is_control) => Some(text),
            // An attribute that is null is one that is not there.
            Value::Null if !["id", "source", "type", "specversion"].contains(&name) => None,
            _ => {
                self.wrong(name, "has to be text, not empty and without control characters");
                None
            }
        }
    }

    fn data(&mut self, members: &mut Map<String, Value>) -> Value {
        let media_type = self.text(members, "datacontenttype");
        let essence = media_type
            .as_deref()
            .and_then(|text| text.split(';').next())
            .unwrap_or("application/json")
            .trim();
        if essence != "application/json" && !essence.ends_with("+json") {
            self.wrong("datacontenttype", "has to be json: other data is sent in binary mode, if at all");
        }
        match (members.remove("data"), members.remove("data_base64")) {
            (Some(_), Some(_)) => self.wrong("data_base64", "stands beside data: send one of them"),
            (Some(data), None) => return data,
            (None, Some(encoded)) => {
                let bytes = encoded.as_str().and_then(|text| BASE64.decode(text.as_bytes()).ok());
                match bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                    Some(data) => return data,
                    None => self.wrong("data_base64", "is no json in base64"),
                }
            }
            (None, None) => {}
        }
        Value::Null
    }

    fn extensions(&mut self, members: &Map<String, Value>) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in members {
            let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Null => continue,
                _ => String::new(),
            };
            let usable = plain && !name.is_empty() && !text.is_empty() && !CORE.contains(&name.as_str());
            if !usable || headers.set(format!("ce-{name}"), CloudEvent::encode(&text)).is_err() {
                self.wrong(name, "is no attribute: names are lower-case letters and digits, values text, numbers or booleans");
            }
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn pointers(mode: Mode, body: Value) -> Vec<String> {
        let refusal = match mode.read(body.to_string().as_bytes()) {
            Ok(_) => return Vec::new(),
            Err(refusal) => refusal,
        };
        let errors = refusal.problem().extensions["errors"].as_array().unwrap().clone();
        errors.iter().map(|one| one["pointer"].as_str().unwrap().to_owned()).collect()
    }

    fn event() -> Value {
        json!({ "specversion": "1.0", "id": "1", "source": "/a", "type": "b", "tenant": 7, "data": { "x": 1 } })
    }

    #[test]
    fn an_event_is_read_with_its_extensions() {
        let sent = Mode::Structured.read(event().to_string().as_bytes()).unwrap().remove(0);
        assert_eq!((sent.event.source.as_str(), &sent.data), ("/a", &json!({ "x": 1 })));
        assert_eq!(sent.extensions.get("ce-tenant"), Some("7"));
        let encoded = json!({ "specversion": "1.0", "id": "1", "source": "/a", "type": "b", "data_base64": "eyJ4IjoxfQ==" });
        assert_eq!(Mode::Structured.read(encoded.to_string().as_bytes()).unwrap()[0].data, json!({ "x": 1 }));
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let wrong = json!([event(), { "specversion": "0.3", "id": "", "time": "now", "Bad-Name": 1, "data": 1, "data_base64": "!" }, 7]);
        assert_eq!(
            pointers(Mode::Batch, wrong),
            [
                "/1/specversion",
                "/1/id",
                "/1/source",
                "/1/type",
                "/1/time",
                "/1/data_base64",
                "/1/Bad-Name",
                "/2"
            ]
        );
        let other = json!({ "specversion": "1.0", "id": "1", "source": "/a", "type": "b", "datacontenttype": "text/xml" });
        assert_eq!(pointers(Mode::Structured, other), ["/datacontenttype"]);
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..80), batch: bool) {
            let mode = if batch { Mode::Batch } else { Mode::Structured };
            let _ = mode.read(&body);
        }
    }
}
