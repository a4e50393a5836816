//! The head of an HTTP/1 request, line by line: what is not exactly as RFC 9112 writes it is refused.
//!
//! Two implementations that read one head differently are what request smuggling lives on: a lenient reading is never
//! tried, not even where the RFC allows it.

use http::{StatusCode, Uri};
use memchr::memchr;

use super::{Fault, Limits};

/// The longest target the HTTP implementation reads.
const MAX_TARGET: usize = u16::MAX as usize - 1;
/// The longest method; those that are known have fewer letters.
const MAX_METHOD: usize = 32;

const TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~");
/// What stands in nearly every target; others are parsed as a whole.
const PLAIN: [bool; 256] = table(b"/?._~%!$&'()*+,;=:@-");

/// A head as far as it has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    /// Bytes of the lines that were read.
    read: usize,
    /// Whether an empty line came first, which is ignored once.
    skipped: bool,
    /// Whether the request line was read.
    begun: bool,
    fields: usize,
    old: bool,
    pub(super) method: Method,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

/// The methods that change how a message is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Method {
    Head,
    Connect,
    #[default]
    Other,
}

/// How the bytes behind a head are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

impl Head {
    /// Reads on; `bytes` begin where the head does. Returns where it ends, once it has come.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Fault> {
        while let Some(at) = memchr(b'\n', &bytes[self.read..]) {
            let end = self.read + at + 1;
            if end > limits.head_bytes {
                return Err(self.too_long());
            }
            let line = bytes[self.read..end - 1].strip_suffix(b"\r");
            let line = line.ok_or(Fault::malformed("a line of the head ends without a carriage return"))?;
            self.read = end;
            match (line.is_empty(), self.begun) {
                (true, true) => return self.whole().map(|()| Some(end)),
                (true, false) if !self.skipped => self.skipped = true,
                (_, false) => self.request_line(line)?,
                (false, true) => self.field_line(line, limits)?,
            }
        }
        // A client of another protocol may wait for an answer and never end its line.
        let foreign = |first: &u8| *first != b'\r' && !TOKEN[usize::from(*first)];
        if !self.begun && bytes.get(self.read).is_some_and(foreign) {
            return Err(Fault::malformed("this is no HTTP request"));
        }
        if bytes.len() > limits.head_bytes { Err(self.too_long()) } else { Ok(None) }
    }

    /// Says how the body is framed.
    pub(super) fn framing(&self) -> Framing {
        if self.chunked { Framing::Chunked } else { Framing::Length(self.length.unwrap_or(0)) }
    }

    /// Says whether the client asks for the bare connection.
    pub(super) fn upgrades(&self) -> bool {
        self.upgrade || self.method == Method::Connect
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Fault::malformed("write method, target and version with one space between them"));
        };
        if !is_token(method) || method.len() > MAX_METHOD {
            return Err(Fault::malformed("the method is no token"));
        }
        self.method = match method {
            b"HEAD" => Method::Head,
            b"CONNECT" => Method::Connect,
            _ => Method::Other,
        };
        self.old = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Fault {
                    status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                    detail: "speak HTTP/1.1, HTTP/1.0 or HTTP/2",
                });
            }
            _ => return Err(Fault::malformed("the request line names no version of HTTP")),
        };
        self.target(target, method)?;
        self.begun = true;
        Ok(())
    }

    fn target(&self, target: &[u8], method: &[u8]) -> Result<(), Fault> {
        if target.len() > MAX_TARGET {
            return Err(self.too_long());
        }
        let formed = match target {
            [b'/', ..] => target.iter().all(|byte| PLAIN[usize::from(*byte)]) || parses(target),
            b"*" => method == b"OPTIONS",
            _ if self.method == Method::Connect => parses(target),
            [b'h' | b'H', ..] => target.contains(&b'/') && parses(target),
            _ => false,
        };
        if formed { Ok(()) } else { Err(Fault::malformed("the request's target is no path and no URI")) }
    }

    fn field_line(&mut self, line: &[u8], limits: &Limits) -> Result<(), Fault> {
        self.fields += 1;
        if self.fields > limits.fields {
            let detail = "there are too many header fields";
            return Err(Fault { status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail });
        }
        let (name, value) = field(line)?;
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => self.length(value)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.coding(value)?,
            _ => {}
        }
        Ok(())
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.length.is_some() {
            return Err(Fault::malformed("the content-length stands twice"));
        }
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let length = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
        self.length = Some(length.ok_or(Fault::malformed("the content-length is no number of bytes"))?);
        Ok(())
    }

    fn coding(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.chunked {
            return Err(Fault::malformed("the transfer-encoding stands twice"));
        }
        self.chunked = value.eq_ignore_ascii_case(b"chunked");
        if self.chunked {
            return Ok(());
        }
        let names: Vec<&[u8]> = value.split(|byte| *byte == b',').map(without_parameters).collect();
        if !names.iter().all(|name| is_token(name)) {
            return Err(Fault::malformed("the transfer-encoding is no list of codings"));
        }
        if names.iter().filter(|name| name.eq_ignore_ascii_case(b"chunked")).count() > 1 {
            return Err(Fault::malformed("the body is chunked twice"));
        }
        let detail = "the only transfer coding that is read is chunked";
        Err(Fault { status: StatusCode::NOT_IMPLEMENTED, detail })
    }

    /// Checks what only the whole head shows.
    fn whole(&self) -> Result<(), Fault> {
        match (self.chunked, self.length) {
            (true, Some(_)) => {
                Err(Fault::malformed("send either a content-length or a transfer-encoding, not both"))
            }
            (true, None) if self.old => Err(Fault::malformed("HTTP/1.0 knows no transfer-encoding")),
            _ => Ok(()),
        }
    }

    fn too_long(&self) -> Fault {
        if self.begun {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Fault { status, detail: "the header fields are too large" };
        }
        Fault { status: StatusCode::URI_TOO_LONG, detail: "the request's target is too long" }
    }
}

/// Splits a line into name and value, also one of a trailer.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    if let [b' ' | b'\t', ..] = line {
        return Err(Fault::malformed("a header field goes on in another line"));
    }
    let colon = memchr(b':', line).ok_or(Fault::malformed("a line of the head is no header field"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return Err(Fault::malformed("the name of a header field is no token"));
    }
    if !value.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)) {
        return Err(Fault::malformed("a header field holds a control character"));
    }
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let begin = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(begin, |last| last + 1);
    Ok((name, &value[begin..end]))
}

pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| TOKEN[usize::from(*byte)])
}

fn without_parameters(coding: &[u8]) -> &[u8] {
    coding.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// Asks the parser that will read it.
fn parses(target: &[u8]) -> bool {
    target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') && Uri::try_from(target).is_ok()
}

/// Letters, digits and these.
const fn table(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}
