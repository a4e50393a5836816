//! Payloads as contracts describe them: bytes in, JSON and a verdict out.

use std::collections::HashMap;

use jsonschema::Validator;
use serde::Serialize;
use serde_json::Value;
use sinew::{
    Bus, Catalogue,
    wire::{CloudEvent, ContentType, EventDescriptor, Headers, ServiceDescriptor},
};

use crate::error::{Error, code};

/// Every schema that the catalogue has for a subject.
#[derive(Default)]
pub(crate) struct Schemas {
    /// By subject and, for events, type.
    known: HashMap<(String, Option<String>), Option<Validator>>,
}

/// A payload, as far as it can be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Decoded {
    /// `None` when the bytes are not what they say they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Value>,
    pub(crate) verdict: Verdict,
    /// What is wrong with it. A dead letter has a reason of its own beside this.
    #[serde(rename = "mismatch", skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// What its contract says of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// It is what a contract describes.
    Known,
    /// No contract describes it.
    Unknown,
    /// A contract describes it otherwise.
    Unfit,
    /// The bytes cannot be read at all.
    Undecodable,
}

impl Schemas {
    /// Reads the catalogue; without one nothing is known, and everything can be looked at all the same.
    pub(crate) async fn load(bus: &Bus) -> Self {
        let contracts = match Catalogue::open(bus).await {
            Ok(catalogue) => catalogue.all().await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        Self::of(&contracts)
    }

    /// Reads the schemas out of contracts.
    pub(crate) fn of<'s>(services: impl IntoIterator<Item = &'s ServiceDescriptor>) -> Self {
        let mut schemas = Self::default();
        for service in services {
            for operation in &service.operations {
                schemas.add(operation.subject.clone(), None, &operation.request);
            }
            for event in service.groups.iter().map(|group| &group.event).chain(&service.publishes) {
                schemas.add(event.subject.clone(), Some(kind(event)), &event.schema);
            }
        }
        schemas
    }

    /// Reads a payload that was sent to `subject`.
    pub(crate) fn decode(&self, subject: &str, headers: &Headers, payload: &[u8]) -> Decoded {
        let read = ContentType::of(headers.media_type().as_deref())
            .and_then(|codec| sinew::wire::decode::<Value>(codec, payload));
        match read {
            Ok(data) => self.judge(subject, headers, data),
            Err(_) if payload.is_empty() => Decoded { data: None, verdict: Verdict::Unknown, reason: None },
            Err(error) => {
                Decoded { data: None, verdict: Verdict::Undecodable, reason: Some(error.to_string()) }
            }
        }
    }

    /// Refuses the data of `event` where a contract describes it otherwise; else says whether one describes it.
    pub(crate) fn fit(&self, event: &str, headers: &Headers, payload: &[u8]) -> Result<Verdict, Error> {
        let judged = self.decode(&format!("evt.{event}"), headers, payload);
        if judged.verdict != Verdict::Unfit {
            return Ok(judged.verdict);
        }
        let reason = judged.reason.unwrap_or_default();
        let message = format!("the payload is not {event} as its contract says: {reason}");
        Err(Error::failed(code::UNFIT, message).hint("correct it, or insist with --force"))
    }

    fn judge(&self, subject: &str, headers: &Headers, data: Value) -> Decoded {
        let kind = CloudEvent::read(headers).map(|event| event.kind);
        let known = self.known.get(&(subject.to_owned(), kind));
        let wrong = match known {
            Some(Some(validator)) => {
                validator.validate(&data).err().map(|error| match error.instance_path().as_str() {
                    "" => error.to_string(),
                    path => format!("{path}: {error}"),
                })
            }
            Some(None) | None => None,
        };
        let verdict = match (known, &wrong) {
            (None, _) => Verdict::Unknown,
            (Some(_), None) => Verdict::Known,
            (Some(_), Some(_)) => Verdict::Unfit,
        };
        Decoded { data: Some(data), verdict, reason: wrong }
    }

    /// A schema that cannot be used still says that the message is known.
    fn add(&mut self, subject: String, kind: Option<String>, schema: &Value) {
        self.known.entry((subject, kind)).or_insert_with(|| jsonschema::validator_for(schema).ok());
    }
}

/// Writes bytes so that every one of them shows: printable ones as they are, others escaped.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|&byte| std::ascii::escape_default(byte)).map(char::from).collect()
}

fn kind(event: &EventDescriptor) -> String {
    format!("{}.v{}", event.name, event.version)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sinew::wire::header;

    use super::*;

    fn schemas() -> Schemas {
        let schema =
            json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
        let event = json!({ "name": "a.b", "subject": "evt.a.b", "version": 2, "schema": schema });
        let service = json!({ "name": "a", "version": "1.0.0", "publishes": [event] });
        Schemas::of([&serde_json::from_value(service).unwrap()])
    }

    fn decode(kind: &str, content_type: &str, payload: &[u8]) -> Decoded {
        let mut headers = Headers::new();
        let event =
            CloudEvent { id: "1".into(), kind: kind.into(), source: "/x".into(), time: None, subject: None };
        event.write(&mut headers).unwrap();
        headers.set(header::CONTENT_TYPE, content_type).unwrap();
        schemas().decode("evt.a.b", &headers, payload)
    }

    #[test]
    fn a_payload_is_judged_by_its_contract() {
        let json = ContentType::Json.as_str();
        let verdict = |kind, payload: &[u8]| decode(kind, json, payload).verdict;
        assert_eq!(verdict("a.b.v2", br#"{"n":1}"#), Verdict::Known);
        assert_eq!(verdict("a.b.v2", br#"{"n":"x"}"#), Verdict::Unfit);
        assert_eq!(verdict("a.b.v3", br#"{"n":1}"#), Verdict::Unknown);
        assert_eq!(verdict("a.b.v2", b"{"), Verdict::Undecodable);
        let unfit = decode("a.b.v2", json, br#"{"n":"x"}"#);
        assert!(unfit.reason.unwrap().starts_with("/n: "));
    }

    #[test]
    fn a_mismatch_does_not_take_the_name_of_a_letters_own_reason() {
        let unfit = serde_json::to_value(decode("a.b.v2", "application/json", br#"{"n":"x"}"#)).unwrap();
        assert_eq!(unfit["verdict"], "unfit");
        assert!(unfit["mismatch"].is_string() && unfit.get("reason").is_none(), "{unfit}");
    }

    #[test]
    fn message_pack_becomes_json() {
        let packed = sinew::wire::encode(ContentType::MessagePack, &json!({ "n": 1 })).unwrap();
        let decoded = decode("a.b.v2", ContentType::MessagePack.as_str(), &packed);
        assert_eq!((decoded.data, decoded.verdict), (Some(json!({ "n": 1 })), Verdict::Known));
    }

    #[test]
    fn no_byte_is_hidden() {
        assert_eq!(escaped(b"\x81a\n\xff"), r"\x81a\n\xff");
    }
}
