//! Events in CloudEvents binary mode: attributes in headers, data in the payload.
//!
//! Source: CloudEvents 1.0, NATS protocol binding, section 3.1: `ce-<attribute>`, values percent-encoded.

use std::borrow::Cow;

use crate::{Headers, InvalidHeader, header};

/// The attributes of an event; its data travels as the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudEvent {
    /// Logical id: constant over redelivery and redrive.
    pub id: String,
    /// `<domain>.<event>.v<version>`.
    pub kind: String,
    /// Who published it, for example `/services/orders`.
    pub source: String,
    /// When it happened, RFC 3339.
    pub time: Option<String>,
    /// What it is about, for example an order's id.
    pub subject: Option<String>,
}

impl CloudEvent {
    /// Writes the attributes into `headers`.
    ///
    /// # Errors
    /// [`InvalidHeader`] cannot happen for encoded values and is handed on all the same.
    pub fn write(&self, headers: &mut Headers) -> Result<(), InvalidHeader> {
        headers.set("ce-specversion", "1.0")?;
        headers.set("ce-id", percent_encode(&self.id))?;
        headers.set("ce-type", percent_encode(&self.kind))?;
        headers.set("ce-source", percent_encode(&self.source))?;
        for (name, value) in [("ce-time", &self.time), ("ce-subject", &self.subject)] {
            if let Some(value) = value {
                headers.set(name, percent_encode(value))?;
            }
        }
        Ok(())
    }

    /// Reads the attributes; `None` when a required one is missing, so the message is no CloudEvent.
    pub fn read(headers: &Headers) -> Option<Self> {
        let get = |name: &str| headers.get(name).map(percent_decode);
        Some(Self {
            id: get("ce-id")?,
            kind: get("ce-type")?,
            source: get("ce-source")?,
            time: get("ce-time"),
            subject: get("ce-subject"),
        })
    }

    /// Returns what the header of an attribute says for `value`.
    pub fn encode(value: &str) -> String {
        percent_encode(value)
    }

    /// Returns the value of an attribute whose header says `text`.
    pub fn decode(text: &str) -> String {
        percent_decode(text)
    }
}

impl Headers {
    /// Returns what the sender says of the payload; CloudEvents of others may say it in an attribute only.
    pub fn media_type(&self) -> Option<Cow<'_, str>> {
        let attribute = || self.get(header::DATA_TYPE).map(|text| percent_decode(text).into());
        self.get(header::CONTENT_TYPE).map(Cow::Borrowed).or_else(attribute)
    }
}

fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | b'"' | b' ' => out.push_str(&format!("%{byte:02X}")),
            0x21..=0x7e => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let value = escaped
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|p| u8::from_str_radix(p, 16).ok());
        out.push(value.unwrap_or(bytes[at]));
        at += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_survives_the_headers(id in ".{0,20}", subject in proptest::option::of(".{0,20}")) {
            let event = CloudEvent { id, kind: "orders.placed.v1".into(), source: "/x".into(), time: None, subject };
            let mut headers = Headers::new();
            event.write(&mut headers).unwrap();
            prop_assert_eq!(CloudEvent::read(&headers), Some(event));
        }
    }
}
