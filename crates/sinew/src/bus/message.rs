//! A message as it came: one shared piece of memory, read where somebody asks.

use std::{
    borrow::Cow,
    fmt,
    ops::Range,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use sinew_wire::{CloudEvent, CodecError, ContentType, Headers, TraceContext, header};

const VERSION: &[u8] = b"NATS/1.0";
/// Fields an [`Index`] has room for.
const PLACES: usize = 8;

/// A message from the bus; clones share it.
#[derive(Clone)]
pub struct Message(Arc<Parts>);

struct Parts {
    frame: Bytes,
    subject: Span,
    reply: Option<Span>,
    headers: Span,
    /// Made when somebody asks for a header first: whoever does asks for several.
    index: OnceLock<Index>,
    payload: Bytes,
}

/// Where the first fields of a block of headers stand: in nearly every message that is all of them.
struct Index {
    places: [Place; PLACES],
    count: usize,
    /// Where in the block the fields begin that found no place.
    rest: usize,
}

/// Where name and value of a field stand in their block.
#[derive(Clone, Copy, Default)]
struct Place {
    name: Part,
    value: Part,
}

/// A part of the beginning of a block.
#[derive(Clone, Copy, Default)]
struct Part {
    start: u16,
    end: u16,
}

/// Goes through what looks like a header field; whatever does not is passed over, as nobody can use it.
struct Fields<'a> {
    block: &'a [u8],
    at: usize,
}

/// A part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// Frames are far below four gigabytes; a larger number names an empty part.
    pub(super) fn new(start: usize, len: usize) -> Self {
        match (u32::try_from(start), u32::try_from(len)) {
            (Ok(start), Ok(len)) => Self { start, len },
            _ => Self { start: 0, len: 0 },
        }
    }

    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..(self.start + self.len) as usize).unwrap_or_default()
    }
}

impl Message {
    pub(super) fn from_frame(
        frame: Bytes,
        subject: Span,
        reply: Option<Span>,
        headers: Span,
        payload: Bytes,
    ) -> Self {
        Self(Arc::new(Parts { frame, subject, reply, headers, index: OnceLock::new(), payload }))
    }

    /// Makes a message that came by no wire. `status` is what a server writes where it answers itself.
    pub(crate) fn from_parts(
        subject: &str,
        reply: Option<&str>,
        status: Option<u16>,
        headers: &Headers,
        payload: Bytes,
    ) -> Self {
        let mut frame = Vec::with_capacity(subject.len() + 64);
        frame.extend_from_slice(subject.as_bytes());
        let reply = reply.map(|reply| {
            let span = Span::new(frame.len(), reply.len());
            frame.extend_from_slice(reply.as_bytes());
            span
        });
        let begin = frame.len();
        match status {
            Some(status) => {
                frame.extend_from_slice(format!("NATS/1.0 {status}\r\n").as_bytes());
                let mut block = Vec::new();
                headers.write(&mut block);
                frame.extend_from_slice(&block[VERSION.len() + 2..]);
            }
            None if headers.is_empty() => {}
            None => headers.write(&mut frame),
        }
        let headers = Span::new(begin, frame.len() - begin);
        let subject = Span::new(0, subject.len());
        Self::from_frame(frame.into(), subject, reply, headers, payload)
    }

    /// Returns the subject it came on.
    pub fn subject(&self) -> &str {
        text(self.0.subject.of(&self.0.frame))
    }

    /// Returns where an answer is expected.
    pub fn reply_to(&self) -> Option<&str> {
        self.0.reply.map(|reply| text(reply.of(&self.0.frame)))
    }

    /// Returns the payload as it came. It shares memory with what came before and after it: whoever keeps one for long
    /// had better copy it.
    pub fn payload(&self) -> &Bytes {
        &self.0.payload
    }

    /// Returns the value of a header; case is ignored, as other senders spell names their own way.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_values([name])[0]
    }

    /// Returns the values of several headers at once: going through a block costs more than comparing names.
    pub(crate) fn header_values<const N: usize>(&self, names: [&str; N]) -> [Option<&str>; N] {
        let mut found = [None; N];
        for (own, value) in self.fields() {
            for (name, slot) in names.iter().zip(&mut found) {
                if slot.is_none() && header::is(own, name.as_bytes()) {
                    *slot = Some(value);
                }
            }
            if found.iter().all(Option::is_some) {
                break;
            }
        }
        found.map(|value| std::str::from_utf8(value?).ok())
    }

    /// Returns the last value of a header: the server writes its own behind what a publisher wrote under its name.
    pub(super) fn last_header(&self, name: &str) -> Option<&str> {
        let same = |own: &[u8]| header::is(own, name.as_bytes());
        let (_, value) = self.fields().filter(|(own, _)| same(own)).last()?;
        std::str::from_utf8(value).ok()
    }

    /// Returns all headers that can be sent on; what cannot is left out.
    pub fn headers(&self) -> Headers {
        sendable(self.block())
    }

    /// Returns the codec of the payload.
    ///
    /// # Errors
    /// [`CodecError::UnknownType`] for a media type Sinew does not read.
    pub fn content_type(&self) -> Result<ContentType, CodecError> {
        ContentType::of(self.media_type().as_deref())
    }

    /// Returns what the sender says of the payload: CloudEvents of others may say it in an attribute only.
    pub(crate) fn media_type(&self) -> Option<Cow<'_, str>> {
        let attribute = || self.header(header::DATA_TYPE).map(|text| CloudEvent::decode(text).into());
        self.header(header::CONTENT_TYPE).map(Cow::Borrowed).or_else(attribute)
    }

    /// Returns the sender's trace context, if it sent a valid one.
    pub fn trace(&self) -> Option<TraceContext> {
        self.header(header::TRACEPARENT)?.parse().ok()
    }

    /// Returns the server's inline status, such as 503 where nobody serves a subject.
    pub fn status(&self) -> Option<u16> {
        let block = self.block();
        let rest = block.strip_prefix(VERSION)?.strip_prefix(b" ")?;
        let digits = rest.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        text(digits).parse().ok()
    }

    /// Returns the length of the payload.
    pub fn len(&self) -> usize {
        self.0.payload.len()
    }

    /// Says whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.0.payload.is_empty()
    }

    /// Returns the bytes it holds of what came, or was made.
    pub(super) fn size(&self) -> usize {
        self.0.frame.len().max(self.0.payload.len())
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let block = self.block();
        let index = self.0.index.get_or_init(|| Index::of(block));
        let known = index.places[..index.count].iter().map(|place| (place.name.range(), place.value.range()));
        known.chain(Fields { block, at: index.rest }).map(|(name, value)| (&block[name], &block[value]))
    }

    fn block(&self) -> &[u8] {
        self.0.headers.of(&self.0.frame)
    }
}

impl Index {
    fn of(block: &[u8]) -> Self {
        let mut fields = Fields::of(block);
        let (mut places, mut count) = ([Place::default(); PLACES], 0);
        while count < PLACES {
            let rest = fields.at;
            let Some((name, value)) = fields.next() else { break };
            let (Some(name), Some(value)) = (Part::of(&name), Part::of(&value)) else {
                return Self { places, count, rest };
            };
            places[count] = Place { name, value };
            count += 1;
        }
        Self { places, count, rest: fields.at }
    }
}

impl Part {
    /// Remembers a part that ends within the first 64 KiB.
    fn of(range: &Range<usize>) -> Option<Self> {
        Some(Self { start: range.start.try_into().ok()?, end: range.end.try_into().ok()? })
    }

    fn range(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }
}

impl<'a> Fields<'a> {
    fn of(block: &'a [u8]) -> Self {
        Self { block, at: line_end(block, 0).map_or(block.len(), |end| end + 2) }
    }
}

impl Iterator for Fields<'_> {
    type Item = (Range<usize>, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (start, end) = (self.at, line_end(self.block, self.at)?);
            self.at = end + 2;
            if let Some(colon) = memchr::memchr(b':', &self.block[start..end]) {
                let colon = start + colon;
                return Some((trim(self.block, start..colon), trim(self.block, colon + 1..end)));
            }
        }
    }
}

/// Reads a block of headers as far as it can be sent on. The first of several values of a name counts.
pub(super) fn sendable(block: &[u8]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in Fields::of(block) {
        let (Ok(name), Ok(value)) = (std::str::from_utf8(&block[name]), std::str::from_utf8(&block[value]))
        else {
            continue;
        };
        if headers.get(name).is_none() {
            let _ = headers.set(name, value);
        }
    }
    headers
}

/// Returns where the line ends that begins at `from`: before two bytes, one of which alone is part of it.
fn line_end(block: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let end = from + memchr::memchr(b'\r', block.get(from..)?)?;
        if block.get(end + 1) == Some(&b'\n') {
            return Some(end);
        }
        from = end + 1;
    }
}

/// Leaves out the white space around a part.
fn trim(block: &[u8], part: Range<usize>) -> Range<usize> {
    let text = &block[part.clone()];
    let start = part.start + (text.len() - text.trim_ascii_start().len());
    start..start + text.trim_ascii().len()
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("subject", &self.subject())
            .field("reply", &self.reply_to())
            .field("status", &self.status())
            .field("bytes", &self.0.payload.len())
            .finish_non_exhaustive()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_block(block: &'static [u8]) -> Message {
        let frame = Bytes::from_static(block);
        let headers = Span::new(0, block.len());
        Message::from_frame(frame, Span::new(0, 0), None, headers, Bytes::new())
    }

    #[test]
    fn hostile_headers_are_passed_over_and_the_good_ones_read() {
        let message = with_block(
            b"NATS/1.0 what\r\nthere is no colon\r\nx-cut: a\rb\r\nx-bytes: \xff\xfe\r\nGood:  yes \r\ngood: no\r\n\r\n",
        );
        assert_eq!(message.header("good"), Some("yes"));
        assert_eq!(message.header("x-bytes"), None);
        assert_eq!(message.status(), None);
        // What would cut somebody else's connection is not sent on.
        assert_eq!(message.headers().iter().collect::<Vec<_>>(), [("Good", "yes")]);
        assert_eq!(with_block(b"SPAM/9.9\r\nx: y\r\n\r\n").header("x"), Some("y"));
        assert_eq!(with_block(b"NATS/1.0 404 No Messages\r\n\r\n").status(), Some(404));
        assert_eq!(with_block(b"").headers(), Headers::new());
    }

    #[test]
    fn every_field_is_found_however_many_and_long_they_are() {
        let mut headers = Headers::new();
        let long = "x".repeat(70_000);
        for number in 0..3 * PLACES {
            let value = if number == PLACES / 2 { long.clone() } else { number.to_string() };
            headers.set(format!("x-{number}"), value).unwrap();
        }
        let message = Message::from_parts("a", None, None, &headers, Bytes::new());
        for (name, value) in headers.iter() {
            assert_eq!(message.header(name), Some(value));
        }
        assert_eq!(message.last_header("x-0"), Some("0"));
        assert_eq!((message.header("x"), message.headers()), (None, headers));
    }

    #[test]
    fn a_message_made_of_parts_reads_like_one_that_came() {
        let mut headers = Headers::new();
        headers.set("x", "y").unwrap();
        let message = Message::from_parts("a.b", Some("r"), Some(503), &headers, Bytes::from_static(b"z"));
        assert_eq!((message.subject(), message.reply_to(), message.status()), ("a.b", Some("r"), Some(503)));
        assert_eq!((message.header("X"), message.len()), (Some("y"), 1));
        let plain = Message::from_parts("a", None, None, &Headers::new(), Bytes::new());
        assert_eq!((plain.reply_to(), plain.status(), plain.headers()), (None, None, Headers::new()));
    }
}
