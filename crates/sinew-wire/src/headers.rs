//! Headers: few, because each costs; checked, because one stray byte can cut a client's connection.

use std::fmt::{self, Write as _};

use crate::TraceContext;

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
    /// On a request: the token by which its result may be brought later, by whoever holds it.
    pub const COMPLETION: &str = "Sinew-Completion";
    /// On a reply: there is no result yet, it will be brought by the token of the request. The body says on which terms.
    pub const ACCEPTED: &str = "Sinew-Accepted";
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
    /// Entity tag of what a reply holds, in quotes.
    pub const ETAG: &str = "etag";
    /// When what a reply holds was changed last, as a date of HTTP.
    pub const LAST_MODIFIED: &str = "last-modified";
    /// How a reply may be kept, as in HTTP.
    pub const CACHE_CONTROL: &str = "cache-control";
    /// What a reply is about, in words between blanks or commas.
    pub const CACHE_TAG: &str = "cache-tag";
    /// The tags a client knows, where the edge has its conditions judged by the service: nothing is done for others.
    pub const IF_MATCH: &str = "if-match";
    /// The tags a client does not want.
    pub const IF_NONE_MATCH: &str = "if-none-match";
    /// The date behind which nothing may have changed.
    pub const IF_UNMODIFIED_SINCE: &str = "if-unmodified-since";
    /// The HTTP client's `Prefer` header, handed on by the edge.
    pub const PREFER: &str = "prefer";
    /// Text of a service error, as other NATS clients expect it (ADR-32).
    pub const SERVICE_ERROR: &str = "Nats-Service-Error";
    /// Where the servers are to tell of the way a message takes (ADR-41).
    pub const BROKER_TRACE: &str = "Nats-Trace-Dest";
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

    /// Says whether a field is of that name. Nearly always it is spelt like that, which is quicker to see.
    pub fn is(field: &[u8], name: &[u8]) -> bool {
        field == name || field.eq_ignore_ascii_case(name)
    }
}

/// An ordered list of header fields whose names and values are known to be safe on the wire.
///
/// Lookup ignores case, as HTTP does; NATS itself does not.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// The very lines that go on the wire: one piece of memory for all names and values, and one copy to write them.
    lines: String,
    /// How long name and value of each line are.
    fields: Vec<Field>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Field {
    name: usize,
    value: usize,
}

/// The line a block of headers begins with.
const VERSION: &[u8] = b"NATS/1.0\r\n";
/// Room for the fields of most messages, and how many those are.
const ROOM: usize = 224;
const FIELDS: usize = 6;

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
    pub fn set(&mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Result<(), InvalidHeader> {
        self.put(name.as_ref(), |lines| lines.push_str(value.as_ref()))
    }

    /// As [`Headers::set`], for a value that is only written here, such as a number.
    ///
    /// # Errors
    /// As [`Headers::set`].
    pub fn set_display(
        &mut self,
        name: impl AsRef<str>,
        value: impl fmt::Display,
    ) -> Result<(), InvalidHeader> {
        // Writing to a text cannot fail.
        self.put(name.as_ref(), |lines| _ = write!(lines, "{value}"))
    }

    /// Sets `traceparent`, which can always be sent.
    pub fn set_trace(&mut self, trace: &TraceContext) {
        let value = self.begin(header::TRACEPARENT);
        self.lines.push_str(trace.text().as_ref());
        self.end(header::TRACEPARENT, value);
    }

    fn put(&mut self, name: &str, write: impl FnOnce(&mut String)) -> Result<(), InvalidHeader> {
        let visible = |b: u8| b.is_ascii_graphic() && b != b':';
        if name.is_empty() || !name.bytes().fold(true, |all, byte| all & visible(byte)) {
            return Err(InvalidHeader::Name(name.chars().take(80).collect()));
        }
        let before = self.lines.len();
        let value = self.begin(name);
        write(&mut self.lines);
        if !is_sendable(&self.lines[value..]) {
            self.lines.truncate(before);
            return Err(InvalidHeader::Value(name.to_owned()));
        }
        self.end(name, value);
        Ok(())
    }

    /// Begins a line, and returns where its value stands.
    fn begin(&mut self, name: &str) -> usize {
        if self.lines.is_empty() {
            self.lines.reserve(ROOM);
            self.fields.reserve(FIELDS);
        }
        self.lines.push_str(name);
        self.lines.push_str(": ");
        self.lines.len()
    }

    /// Ends the line whose value stands at `value`, which takes the place of an earlier one of that name.
    fn end(&mut self, name: &str, value: usize) {
        let value = self.lines.len() - value;
        self.lines.push_str("\r\n");
        self.remove(name);
        self.fields.push(Field { name: name.len(), value });
    }

    /// Removes `name`.
    pub fn remove(&mut self, name: &str) {
        if let Some((index, at)) = self.find(name) {
            let field = self.fields.remove(index);
            self.lines.replace_range(at..at + field.line(), "");
        }
    }

    /// Returns the value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (index, at) = self.find(name)?;
        self.fields[index].value(&self.lines[at..])
    }

    /// Goes through the fields in the order they were set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = self.lines.as_str();
        self.fields.iter().filter_map(move |field| {
            let (line, behind) = rest.split_at_checked(field.line())?;
            rest = behind;
            Some((&line[..field.name], field.value(line)?))
        })
    }

    /// Returns how many bytes [`Headers::write`] writes.
    pub fn wire_len(&self) -> usize {
        VERSION.len() + self.lines.len() + 2
    }

    /// Writes the block that stands before a payload (NATS ADR-4): the version, a line for each field, an empty one.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_behind("", out);
    }

    /// As [`Headers::write`], with whole lines before the first field, for whoever carries it: they are not part of it.
    pub fn write_behind(&self, lines: &'static str, out: &mut Vec<u8>) {
        out.extend_from_slice(VERSION);
        out.extend_from_slice(lines.as_bytes());
        out.extend_from_slice(self.lines.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// Says whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Returns which field `name` is, and where its line begins.
    fn find(&self, name: &str) -> Option<(usize, usize)> {
        let (lines, name) = (self.lines.as_bytes(), name.as_bytes());
        let mut at = 0;
        for (index, field) in self.fields.iter().enumerate() {
            if field.name == name.len() && header::is(&lines[at..at + field.name], name) {
                return Some((index, at));
            }
            at += field.line();
        }
        None
    }
}

impl Field {
    /// Returns how long its line is: name, colon, space, value, line end.
    fn line(self) -> usize {
        self.name + 2 + self.value + 2
    }

    /// Returns the value in a text that begins with its line.
    fn value(self, line: &str) -> Option<&str> {
        line.get(self.name + 2..self.name + 2 + self.value)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Says whether a value breaks no line. Bytes first: nearly every value is plain ASCII. All of them are looked at, many at
/// a time, which is quicker than to stop at the first bad one.
fn is_sendable(value: &str) -> bool {
    value.bytes().fold(true, |all, byte| all & (b' '..0x7f).contains(&byte))
        || !value.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            assert!(headers.set(name, "v").is_err(), "{name:?}");
        }
        assert!(headers.is_empty());
    }

    #[test]
    fn a_trace_is_set_like_any_other_header() {
        let trace =
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse::<TraceContext>().unwrap();
        let (mut typed, mut plain) = (Headers::new(), Headers::new());
        for headers in [&mut typed, &mut plain] {
            headers.set("TraceParent", "old").unwrap();
            headers.set("x", "y").unwrap();
        }
        typed.set_trace(&trace);
        plain.set(header::TRACEPARENT, trace.to_string()).unwrap();
        assert_eq!(typed, plain);
    }

    #[test]
    fn a_refused_value_leaves_the_one_before() {
        let mut headers = Headers::new();
        headers.set("x", "kept").unwrap();
        headers.set("X", "a\nb").unwrap_err();
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("x", "kept")]);
        headers.set_display("X", 7).unwrap();
        headers.remove("x");
        assert!(headers.is_empty() && headers.get("x").is_none());
    }

    proptest! {
        /// Whatever is set and removed, it reads like a list of pairs in which a later value replaces an earlier one.
        #[test]
        fn it_behaves_like_a_list_of_pairs(
            steps in prop::collection::vec(("[abAB]{1,2}", prop::option::of("[ -~é:]{0,5}")), 0..20),
        ) {
            let (mut headers, mut list) = (Headers::new(), Vec::<(String, String)>::new());
            for (name, value) in steps {
                list.retain(|(own, _)| !own.eq_ignore_ascii_case(&name));
                match value {
                    Some(value) => {
                        headers.set(&name, &value).unwrap();
                        list.push((name, value));
                    }
                    None => headers.remove(&name),
                }
            }
            prop_assert!(headers.iter().eq(list.iter().map(|(name, value)| (name.as_str(), value.as_str()))));
            for (name, value) in &list {
                prop_assert_eq!(headers.get(&name.to_uppercase()), Some(value.as_str()));
            }
            let mut written = Vec::new();
            headers.write(&mut written);
            prop_assert_eq!(written.len(), headers.wire_len());
        }
    }
}
