//! W3C trace context: the one header that makes a trace whole. Knows the format, creates no ids.
//!
//! Source: W3C Trace Context, level 1, section 3.2.

use std::{fmt, str::FromStr};

/// Identifies a trace: 16 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// Identifies a span in a trace: 8 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

/// The position of a message in its trace: what `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The sender's span, parent of what the receiver does.
    pub span: SpanId,
    /// Bit 0: the sender records this trace.
    pub flags: u8,
}

/// Says that a text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a w3c traceparent: expected version-traceid-spanid-flags in lower case hexadecimal")]
pub struct InvalidTraceContext;

impl TraceContext {
    /// Says whether the sender records this trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// Returns the same trace with another span as parent.
    #[must_use]
    pub fn with_span(self, span: SpanId) -> Self {
        Self { span, ..self }
    }
}

impl FromStr for TraceContext {
    type Err = InvalidTraceContext;

    fn from_str(text: &str) -> Result<Self, InvalidTraceContext> {
        // A higher version may append fields; what stands here is read all the same.
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(InvalidTraceContext);
        let version: [u8; 1] = hex(next()?)?;
        let context =
            Self { trace: TraceId(hex(next()?)?), span: SpanId(hex(next()?)?), flags: hex::<1>(next()?)?[0] };
        let trailing = parts.next().is_some();
        let empty = context.trace.0 == [0; 16] || context.span.0 == [0; 8];
        if version[0] == 0xff || (version[0] == 0 && trailing) || empty {
            return Err(InvalidTraceContext);
        }
        Ok(context)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags)
    }
}

macro_rules! hexadecimal {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

hexadecimal!(TraceId);
hexadecimal!(SpanId);

fn hex<const N: usize>(text: &str) -> Result<[u8; N], InvalidTraceContext> {
    let bytes = text.as_bytes();
    let lower = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    if bytes.len() != 2 * N || !bytes.iter().all(lower) {
        return Err(InvalidTraceContext);
    }
    let mut out = [0; N];
    for (slot, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |b: u8| if b.is_ascii_digit() { b - b'0' } else { b - b'a' + 10 };
        *slot = digit(pair[0]) << 4 | digit(pair[1]);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn reads_what_it_writes() {
        let context: TraceContext = GOOD.parse().unwrap();
        assert!(context.is_sampled());
        assert_eq!(context.to_string(), GOOD);
    }

    #[test]
    fn refuses_what_the_recommendation_refuses() {
        let zero_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let upper = GOOD.to_uppercase();
        for bad in ["", "00", zero_trace, upper.as_str(), &GOOD.replacen("00", "ff", 1), &format!("{GOOD}-x")]
        {
            assert!(bad.parse::<TraceContext>().is_err(), "{bad:?}");
        }
        assert!(format!("{}-x", GOOD.replacen("00", "01", 1)).parse::<TraceContext>().is_ok());
    }
}
