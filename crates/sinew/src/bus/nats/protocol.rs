//! The NATS client protocol, read and written. Pure: bytes in, frames out.
//!
//! Source: the NATS client protocol reference, and ADR-4 for headers. What a peer writes into its headers is nobody's
//! business here: the lengths say where a message ends, so no content of one can harm the next.

use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;
use sinew_wire::Headers;

use super::super::message::{Message, Span};
use crate::broker::Version;

/// Longest line before a payload; only `INFO` comes near it.
const MAX_LINE: usize = 1 << 20;
/// Longest subject, together with a reply subject or a group, that fits the line a server reads: by default 4,096 bytes,
/// of which verb and numbers take some, and an account's name on the way to other servers. A longer line costs the
/// connection.
const MAX_NAMES: usize = 3_500;
/// Largest message believed; the server's own limit is 64 MiB.
const MAX_MESSAGE: usize = 128 << 20;

/// What the server says of itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::bus) struct ServerInfo {
    pub(in crate::bus) version: String,
    pub(in crate::bus) max_payload: usize,
    pub(super) tls_required: bool,
    pub(super) nonce: String,
    pub(super) connect_urls: Vec<String>,
    /// The server is about to go: whoever has another one moves there.
    #[serde(rename = "ldm")]
    pub(super) lame_duck: bool,
    /// It can be told to leave the trace of a message alone.
    #[serde(skip)]
    pub(super) leaves_traces: bool,
}

/// One frame from the server.
#[derive(Debug)]
pub(super) enum Frame {
    Info(Box<ServerInfo>),
    Message { sid: u64, message: Message },
    Ping,
    Pong,
    Ok,
    Err(String),
}

/// The bytes are not the protocol; the connection is of no use any more.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent what is not the nats protocol: {0}")]
pub(super) struct Malformed(&'static str);

/// Takes the next frame off `buffer`; `None` when it is not all there yet.
pub(super) fn next(buffer: &mut BytesMut) -> Result<Option<Frame>, Malformed> {
    let Some(end) = line_end(buffer) else {
        return if buffer.len() > MAX_LINE { Err(Malformed("a line without end")) } else { Ok(None) };
    };
    let line = &buffer[..end];
    let verb = line.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    let frame = match verb {
        b"MSG" | b"HMSG" => return message(buffer, end),
        b"PING" => Frame::Ping,
        b"PONG" => Frame::Pong,
        b"+OK" => Frame::Ok,
        b"-ERR" => Frame::Err(String::from_utf8_lossy(&line[4..]).trim().trim_matches('\'').to_owned()),
        b"INFO" => {
            let mut info: ServerInfo =
                serde_json::from_slice(&line[4..]).map_err(|_| Malformed("an unreadable INFO"))?;
            info.leaves_traces = info.version.parse::<Version>().is_ok_and(|version| version.leaves_traces());
            Frame::Info(Box::new(info))
        }
        _ => return Err(Malformed("an unknown verb")),
    };
    buffer.advance(end + 2);
    Ok(Some(frame))
}

/// Where the parts of a message line stand.
struct Line {
    subject: Span,
    sid: u64,
    reply: Option<Span>,
    headers: usize,
    total: usize,
}

fn message(buffer: &mut BytesMut, end: usize) -> Result<Option<Frame>, Malformed> {
    let line = read_line(&buffer[..end]).ok_or(Malformed("an unreadable message line"))?;
    if line.headers > line.total || line.total > MAX_MESSAGE {
        return Err(Malformed("a message of an impossible size"));
    }
    let body = end + 2;
    let whole = body + line.total + 2;
    if buffer.len() < whole {
        buffer.reserve(whole - buffer.len());
        return Ok(None);
    }
    if &buffer[whole - 2..whole] != b"\r\n" {
        return Err(Malformed("a message longer than announced"));
    }
    let frame = buffer.split_to(whole).freeze();
    let headers = Span::new(body, line.headers);
    let payload = frame.slice(body + line.headers..whole - 2);
    let message = Message::from_frame(frame, line.subject, line.reply, headers, payload);
    Ok(Some(Frame::Message { sid: line.sid, message }))
}

/// Reads `MSG <subject> <sid> [reply] <total>` or `HMSG <subject> <sid> [reply] <headers> <total>`.
fn read_line(line: &[u8]) -> Option<Line> {
    let mut words = [Span::new(0, 0); 6];
    let mut count = 0;
    let mut at = 0;
    for word in line.split(|byte| *byte == b' ' || *byte == b'\t') {
        if !word.is_empty() {
            *words.get_mut(count)? = Span::new(at, word.len());
            count += 1;
        }
        at += word.len() + 1;
    }
    let number = |span: Span| number(span.of(line));
    let with_headers = line.first() == Some(&b'H');
    let (reply, headers, total) = match (with_headers, count) {
        (false, 4) => (None, 0, words[3]),
        (false, 5) => (Some(words[3]), 0, words[4]),
        (true, 5) => (None, number(words[3])?, words[4]),
        (true, 6) => (Some(words[3]), number(words[4])?, words[5]),
        _ => return None,
    };
    let sid = number(words[2])? as u64;
    Some(Line { subject: words[1], sid, reply, headers, total: number(total)? })
}

fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + usize::from(byte - b'0')))
}

fn line_end(buffer: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr::memchr(b'\r', &buffer[from..])?;
        match buffer.get(at + 1) {
            Some(b'\n') => return Some(at),
            Some(_) => from = at + 1,
            None => return None,
        }
    }
}

/// Says whether `subject` can stand in a line of the protocol, next to a reply subject.
pub(super) fn is_sendable(subject: &str, reply: Option<&str>) -> bool {
    subject.len() + reply.map_or(0, str::len) <= MAX_NAMES
        && is_word(subject)
        // Ours, or read off such a line.
        && reply.is_none_or(|reply| !reply.is_empty())
}

/// Says whether the server takes a subscription: it refuses empty tokens, and a `>` that is not the last of them.
pub(in crate::bus) fn is_subscribable(subject: &str, group: Option<&str>) -> bool {
    let inner = subject.strip_suffix(".>").unwrap_or(subject);
    subject.len() + group.map_or(0, str::len) <= MAX_NAMES
        && is_word(subject)
        && group.is_none_or(is_word)
        && inner.split('.').all(|token| !token.is_empty() && (token != ">" || subject == ">"))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte > b' ' && byte != 0x7f)
}

/// Writes one message; `lines` go before its headers, if it has any.
pub(super) fn publish(
    out: &mut Vec<u8>,
    subject: &str,
    reply: Option<&str>,
    (lines, headers): (&'static str, &Headers),
    payload: &Bytes,
) {
    out.reserve(subject.len() + payload.len() + 128);
    out.extend_from_slice(if headers.is_empty() { b"PUB " } else { b"HPUB " });
    out.extend_from_slice(subject.as_bytes());
    out.push(b' ');
    if let Some(reply) = reply {
        out.extend_from_slice(reply.as_bytes());
        out.push(b' ');
    }
    if !headers.is_empty() {
        let length = headers.wire_len() + lines.len();
        digits(out, length);
        out.push(b' ');
        digits(out, length + payload.len());
        out.extend_from_slice(b"\r\n");
        headers.write_behind(lines, out);
    } else {
        digits(out, payload.len());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Writes a subscription.
pub(super) fn subscribe(out: &mut Vec<u8>, subject: &str, group: Option<&str>, sid: u64) {
    let line = match group {
        Some(group) => format!("SUB {subject} {group} {sid}\r\n"),
        None => format!("SUB {subject} {sid}\r\n"),
    };
    out.extend_from_slice(line.as_bytes());
}

/// Writes the end of a subscription.
pub(super) fn unsubscribe(out: &mut Vec<u8>, sid: u64) {
    out.extend_from_slice(format!("UNSUB {sid}\r\n").as_bytes());
}

fn digits(out: &mut Vec<u8>, mut number: usize) {
    let mut text = [0u8; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        // A digit always fits.
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(bytes: &[u8]) -> Frame {
        let mut buffer = BytesMut::from(bytes);
        let frame = next(&mut buffer).unwrap().expect("a whole frame");
        assert!(buffer.is_empty(), "{buffer:?} is left over");
        frame
    }

    fn said(frame: Frame) -> (u64, Message) {
        match frame {
            Frame::Message { sid, message } => (sid, message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_are_read_with_and_without_reply_and_headers() {
        let (sid, message) = said(one(b"MSG a.b 7 5\r\nhello\r\n"));
        assert_eq!((sid, message.subject(), message.reply_to()), (7, "a.b", None));
        assert_eq!(message.payload().as_ref(), b"hello");
        let (_, message) = said(one(b"HMSG a 1 r.1 22 25\r\nNATS/1.0 503\r\nx: y\r\n\r\nabc\r\n"));
        assert_eq!((message.reply_to(), message.status()), (Some("r.1"), Some(503)));
        assert_eq!((message.header("X"), message.payload().as_ref()), (Some("y"), b"abc".as_ref()));
    }

    #[test]
    fn what_is_not_the_protocol_is_an_error_and_no_panic() {
        for bytes in [
            &b"WHAT 1\r\n"[..],
            b"MSG a\r\n",
            b"MSG a x 1\r\n\r\n",
            b"HMSG a 1 9 2\r\nab\r\n",
            b"MSG a 1 1\r\nabc\r\n",
            b"MSG a 1 99999999999999999999\r\n",
            b"INFO nothing\r\n",
        ] {
            assert!(next(&mut BytesMut::from(bytes)).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn only_subjects_that_a_server_takes_are_subscribed_to() {
        for good in ["a", "a.b", "*", ">", "a.*.b", "a.>", "*.>", "a.b>", "$SYS.x", "ä.ö"] {
            assert!(is_subscribable(good, Some("group")), "{good}");
        }
        for bad in ["", "a b", ".", ".a", "a.", "a..b", ">.a", "a.>.b", "a\r\nPING", "a.\t"] {
            assert!(!is_subscribable(bad, None), "{bad:?}");
        }
        assert!(!is_subscribable("a", Some("")) && !is_subscribable("a", Some("b c")));
    }

    #[test]
    fn lines_beside_the_headers_are_read_like_them_and_are_none_of_a_message_without() {
        let (mut headers, mut out) = (Headers::new(), Vec::new());
        publish(&mut out, "a", None, ("y: 2\r\n", &headers), &Bytes::new());
        assert_eq!(out, b"PUB a 0\r\n\r\n");
        headers.set("x", "1").unwrap();
        out.clear();
        publish(&mut out, "a", None, ("y: 2\r\n", &headers), &Bytes::new());
        assert_eq!(out, b"HPUB a 24 24\r\nNATS/1.0\r\ny: 2\r\nx: 1\r\n\r\n\r\n");
    }

    #[test]
    fn what_does_not_fit_a_line_is_not_sent() {
        let long = "x".repeat(MAX_NAMES);
        assert!(is_sendable(&long, None) && is_subscribable(&long, None));
        assert!(!is_sendable(&long, Some("r")) && !is_subscribable(&long, Some("g")));
    }

    #[test]
    fn errors_and_infos_are_read() {
        let Frame::Err(text) = one(b"-ERR 'Authorization Violation'\r\n") else { panic!() };
        assert_eq!(text, "Authorization Violation");
        let Frame::Info(info) = one(br#"INFO {"version":"2.15.1","max_payload":7,"nope":1}"#
            .iter()
            .chain(b"\r\n")
            .copied()
            .collect::<Vec<u8>>()
            .as_slice())
        else {
            panic!()
        };
        assert_eq!((info.version.as_str(), info.max_payload), ("2.15.1", 7));
    }

    proptest! {
        /// However the bytes are cut, and whatever stands in headers and payloads, the same messages come out.
        #[test]
        fn what_is_written_is_read(
            messages in proptest::collection::vec(("[a-z.]{1,9}", any::<bool>(), proptest::option::of("[ -~]{0,9}"), proptest::collection::vec(any::<u8>(), 0..40)), 1..8),
            cut in 1usize..64,
        ) {
            let mut bytes = Vec::new();
            for (subject, reply, value, payload) in &messages {
                let mut headers = Headers::new();
                if let Some(value) = value {
                    headers.set("x-any", value.clone()).unwrap();
                }
                let mut line = Vec::new();
                publish(&mut line, subject, reply.then_some("r.e"), ("", &headers), &Bytes::from(payload.clone()));
                // A message from the server has the subscription's number behind its subject.
                let text = if value.is_some() { "HPUB " } else { "PUB " };
                let rest = &line[text.len() + subject.len()..];
                bytes.extend_from_slice(if value.is_some() { b"HMSG " } else { b"MSG " });
                bytes.extend_from_slice(subject.as_bytes());
                bytes.extend_from_slice(b" 3");
                bytes.extend_from_slice(rest);
            }
            let mut buffer = BytesMut::new();
            let mut read = Vec::new();
            for part in bytes.chunks(cut) {
                buffer.extend_from_slice(part);
                while let Some(frame) = next(&mut buffer).unwrap() {
                    read.push(said(frame).1);
                }
            }
            prop_assert_eq!(read.len(), messages.len());
            for (message, (subject, reply, value, payload)) in read.iter().zip(&messages) {
                prop_assert_eq!(message.subject(), subject.as_str());
                prop_assert_eq!(message.reply_to(), reply.then_some("r.e"));
                prop_assert_eq!(message.header("x-any"), value.as_deref().map(str::trim));
                prop_assert_eq!(message.payload().as_ref(), payload.as_slice());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(bytes.as_slice());
            while let Ok(Some(_)) = next(&mut buffer) {}
        }
    }
}
