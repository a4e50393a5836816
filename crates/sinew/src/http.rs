//! Whole requests and responses of HTTP as messages, for operations the edge hands them to as they are (`to: { forward: .. }`).

use bytes::Bytes;
use data_encoding::BASE64;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A request as the client sent it, without what belongs to its connection.
///
/// A request type of a contract holds it flattened: `struct Fetch { #[serde(flatten)] request: HttpRequest }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpRequest {
    /// The method, as it was written.
    pub method: String,
    /// Path and query, as they were written.
    pub target: String,
    /// Names in lower case and values, in order; a name may stand several times.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in Base64, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// A response as the client is to get it.
///
/// ```
/// let reply = sinew::HttpReply::new(200).with("cache-control", "max-age=60").body("hello");
/// assert_eq!(reply.into_body().as_deref(), Some(&b"hello"[..]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpReply {
    /// The status, from 200 on.
    pub status: u16,
    /// Names and values, in order; a name may stand several times.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in Base64, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl HttpRequest {
    /// Puts a request together.
    pub fn new(
        method: impl Into<String>,
        target: impl Into<String>,
        headers: Vec<(String, String)>,
        body: Bytes,
    ) -> Self {
        let (body, base64) = written(body);
        Self { method: method.into(), target: target.into(), headers, body, base64 }
    }

    /// Returns the first value of a field, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns the body's bytes; `None` where it is not Base64 that says it is.
    pub fn into_body(self) -> Option<Bytes> {
        read(self.body, self.base64)
    }
}

impl HttpReply {
    /// Begins a reply without fields and body.
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        (self.body, self.base64) = written(body.into());
        self
    }

    /// Returns the body's bytes; `None` where it is not Base64 that says it is.
    pub fn into_body(self) -> Option<Bytes> {
        read(self.body, self.base64)
    }
}

fn written(body: Bytes) -> (Option<String>, Option<String>) {
    if body.is_empty() {
        return (None, None);
    }
    match String::from_utf8(body.into()) {
        Ok(text) => (Some(text), None),
        Err(other) => (None, Some(BASE64.encode(other.as_bytes()))),
    }
}

fn read(body: Option<String>, base64: Option<String>) -> Option<Bytes> {
    match (body, base64) {
        (Some(text), _) => Some(text.into()),
        (None, Some(text)) => BASE64.decode(text.as_bytes()).ok().map(Bytes::from),
        (None, None) => Some(Bytes::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_travel_and_text_stays_text() {
        for bytes in [&b""[..], b"text", b"\xff\x00"] {
            let request = HttpRequest::new("GET", "/", Vec::new(), Bytes::copy_from_slice(bytes));
            assert_eq!(request.base64.is_some(), bytes == b"\xff\x00");
            assert_eq!(request.into_body().as_deref(), Some(bytes));
        }
        let wrong = HttpReply { base64: Some("*".into()), ..HttpReply::new(200) };
        assert_eq!(wrong.into_body(), None);
    }
}
