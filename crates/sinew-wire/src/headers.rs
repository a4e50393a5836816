//! Headers: few, because each costs; checked, because one stray byte can cut a client's connection.

use std::borrow::Cow;

/// The names of the headers Sinew reads and writes.
pub mod header {
    /// W3C trace context of the sender's span.
    pub const TRACEPARENT: &str = "traceparent";
    /// W3C vendor data that travels with the trace context.
    pub const TRACESTATE: &str = "tracestate";
    /// W3C baggage, handed on untouched.
    pub const BAGGAGE: &str = "baggage";
    /// Media type of the payload; absent means JSON.
    pub const CONTENT_TYPE: &str = "content-type";
    /// Media type of an event's payload as a CloudEvents attribute, percent-encoded.
    pub const DATA_TYPE: &str = "ce-datacontenttype";
    /// Media type the caller wants the reply in; absent means the request's own.
    pub const ACCEPT: &str = "accept";
    /// What is left of the caller's time, in milliseconds. Durations travel, clocks do not.
    pub const TIMEOUT: &str = "Sinew-Timeout";
    /// Constant over every repetition of one intended effect.
    pub const IDEMPOTENCY_KEY: &str = "Sinew-Idempotency-Key";
    /// On a compensation: the idempotency key of the request it undoes.
    pub const FORWARD_KEY: &str = "Sinew-Forward-Key";
    /// Name of the service or program that asks. Said by itself, so no authentication.
    pub const CALLER: &str = "Sinew-Caller";
    /// On a request for a stream: how many items may be sent before more are asked for. Absent: all of them.
    pub const CREDIT: &str = "Sinew-Credit";
    /// On a request: a stream of items follows it, to where the service says.
    pub const UPLOAD: &str = "Sinew-Upload";
    /// On a request for a stream: the longest silence the caller takes for life, in milliseconds.
    pub const IDLE: &str = "Sinew-Idle";
    /// On a message of a stream: the number of the last item sent, from 1; 0 says that the stream is open.
    pub const SEQ: &str = "Sinew-Seq";
    /// On the last message of a stream: how many items it had.
    pub const END: &str = "Sinew-End";
    /// HTTP status a reply asks the edge to answer with.
    pub const STATUS: &str = "Sinew-Status";
    /// Path of the resource a reply is about; the edge sends it as `Location`.
    pub const LOCATION: &str = "Sinew-Location";
    /// The HTTP client's `Prefer` header, handed on by the edge.
    pub const PREFER: &str = "prefer";
    /// Text of a service error, as other NATS clients expect it (ADR-32).
    pub const SERVICE_ERROR: &str = "Nats-Service-Error";
    /// Numeric code of a service error, as other NATS clients expect it (ADR-32).
    pub const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";
    /// Deduplication id of a message in a stream.
    pub const MESSAGE_ID: &str = "Nats-Msg-Id";
    /// On an event in a group's own inlet: how often the group had it in hand before.
    pub const ATTEMPT: &str = "Sinew-Attempt";
    /// On an event in a group's own inlet: the sequence under which it was published.
    pub const ORIGIN_SEQUENCE: &str = "Sinew-Origin-Sequence";
    /// On an event in a group's own inlet: the subject on which it was published.
    pub const ORIGIN_SUBJECT: &str = "Sinew-Origin-Subject";
    /// On an event in a group's own inlet: why it is there, `retry`, `redrive` or `replay`.
    pub const REDELIVERY: &str = "Sinew-Redelivery";
}

/// An ordered list of header fields whose names and values are known to be safe on the wire.
///
/// Lookup ignores case, as HTTP does; NATS itself does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Cow<'static, str>, Cow<'static, str>)>);

/// The line a block of headers begins with.
const VERSION: &[u8] = b"NATS/1.0\r\n";

/// Says which header field cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// The name is empty or holds something else than visible ASCII without `:`.
    #[error("header name {0:?} cannot be sent: use visible ascii characters without ':'")]
    Name(String),
    /// The value holds a control character.
    #[error("value of header {0:?} cannot be sent: control characters, line breaks among them, are refused")]
    Value(String),
}

impl Headers {
    /// Returns an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `name` to `value`, replacing what was there.
    ///
    /// # Errors
    /// [`InvalidHeader`] when either would break the wire format; nothing is changed then.
    pub fn set(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Result<(), InvalidHeader> {
        self.put(name.into(), Cow::Owned(value.into()))
    }

    /// As [`Headers::set`], for a value that need not be copied.
    ///
    /// # Errors
    /// As [`Headers::set`].
    pub fn set_static(&mut self, name: &'static str, value: &'static str) -> Result<(), InvalidHeader> {
        self.put(Cow::Borrowed(name), Cow::Borrowed(value))
    }

    fn put(&mut self, name: Cow<'static, str>, value: Cow<'static, str>) -> Result<(), InvalidHeader> {
        let visible = |b: u8| b.is_ascii_graphic() && b != b':';
        if name.is_empty() || !name.bytes().all(visible) {
            return Err(InvalidHeader::Name(name.chars().take(80).collect()));
        }
        // Bytes first: nearly every value is plain ASCII.
        if !value.bytes().all(|byte| (b' '..0x7f).contains(&byte)) && value.chars().any(char::is_control) {
            return Err(InvalidHeader::Value(name.into_owned()));
        }
        self.remove(&name);
        self.0.push((name, value));
        Ok(())
    }

    /// Removes `name`.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
    }

    /// Returns the value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_ref())
    }

    /// Goes through the fields in the order they were set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// Returns how many bytes [`Headers::write`] writes.
    pub fn wire_len(&self) -> usize {
        let fields = self.0.iter().map(|(name, value)| name.len() + value.len() + 4);
        VERSION.len() + fields.sum::<usize>() + 2
    }

    /// Writes the block that stands before a payload (NATS ADR-4): the version, a line for each field, an empty one.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(VERSION);
        for (name, value) in &self.0 {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Says whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookup_ignores_case_and_set_replaces() {
        let mut headers = Headers::new();
        headers.set("Content-Type", "a").unwrap();
        headers.set(header::CONTENT_TYPE, "b").unwrap();
        assert_eq!(headers.get("CONTENT-TYPE"), Some("b"));
        assert_eq!(headers.iter().count(), 1);
    }

    #[test]
    fn bytes_that_would_cut_a_connection_are_refused() {
        let mut headers = Headers::new();
        for value in ["a\rb", "a\nb", "\0", "a\r\nX: y"] {
            assert_eq!(headers.set("x", value), Err(InvalidHeader::Value("x".into())));
        }
        for name in ["", "a b", "a:b", "ä", "a\r"] {
            assert!(headers.set(name.to_owned(), "v").is_err(), "{name:?}");
        }
        assert!(headers.is_empty());
    }
}
