//! W3C trace context: the one header that makes a trace whole. Knows the format, creates no ids.
//!
//! Source: W3C Trace Context, level 1, section 3.2.

use std::{fmt, ops::Range, str::FromStr};

/// Where the parts of a `traceparent` stand.
const LENGTH: usize = 55;
const TRACE: Range<usize> = 3..35;
const SPAN: Range<usize> = 36..52;
const FLAGS: Range<usize> = 53..55;

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

/// The text of a [`TraceContext`].
#[derive(Clone, Copy)]
pub struct TraceText([u8; LENGTH]);

/// Says that a text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a w3c traceparent: expected version-traceid-spanid-flags in lower case hexadecimal")]
pub struct InvalidTraceContext;

impl TraceContext {
    /// Says whether the sender records this trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// Returns what `traceparent` says of it, without taking memory for it.
    pub fn text(&self) -> TraceText {
        let mut text = *b"00-................................-................-..";
        write_hex(&self.trace.0, &mut text[TRACE]);
        write_hex(&self.span.0, &mut text[SPAN]);
        write_hex(&[self.flags], &mut text[FLAGS]);
        TraceText(text)
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
        let (text, rest) = text.as_bytes().split_first_chunk::<LENGTH>().ok_or(InvalidTraceContext)?;
        let dashes = [2, 35, 52].iter().all(|at| text[*at] == b'-');
        let ([version, flags, ..], wrong) =
            read_hex([text[0], text[1], text[FLAGS.start], text[FLAGS.start + 1], b'0', b'0', b'0', b'0']);
        // A higher version may append fields; what stands here is read all the same.
        let ends = rest.is_empty() || (version != 0 && rest[0] == b'-');
        let context = Self { trace: TraceId(hex(&text[TRACE])?), span: SpanId(hex(&text[SPAN])?), flags };
        let empty = context.trace.0 == [0; 16] || context.span.0 == [0; 8];
        if wrong || version == 0xff || !dashes || !ends || empty {
            return Err(InvalidTraceContext);
        }
        Ok(context)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_ref())
    }
}

impl AsRef<str> for TraceText {
    fn as_ref(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

macro_rules! hexadecimal {
    ($name:ident, $digits:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0; $digits];
                write_hex(&self.0, &mut text);
                f.write_str(std::str::from_utf8(&text).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

hexadecimal!(TraceId, 32);
hexadecimal!(SpanId, 16);

/// Writes two digits for each byte. Every message of a trace passes here, so eight digits are made at a time: the
/// formatting machinery takes forty times as long.
fn write_hex(bytes: &[u8], text: &mut [u8]) {
    for (digits, bytes) in text.chunks_mut(8).zip(bytes.chunks(4)) {
        let mut four = [0; 4];
        four[..bytes.len()].copy_from_slice(bytes);
        digits.copy_from_slice(&eight_digits(four)[..digits.len()]);
    }
}

/// Reads two digits for each byte of as many as there have to be.
fn hex<const N: usize>(text: &[u8]) -> Result<[u8; N], InvalidTraceContext> {
    let mut bytes = [0; N];
    let mut wrong = text.len() != 2 * N;
    for (four, digits) in bytes.as_chunks_mut().0.iter_mut().zip(text.as_chunks().0) {
        let (read, bad) = read_hex(*digits);
        *four = read;
        wrong |= bad;
    }
    // Looked at once, not at every digit.
    if wrong { Err(InvalidTraceContext) } else { Ok(bytes) }
}

/// A one in each byte of a word: what is multiplied with it stands in each.
const EACH: u64 = 0x0101_0101_0101_0101;
/// From the digit behind the nine, if there were one, to `a`.
const LETTERS: u64 = 0x27;

fn eight_digits(bytes: [u8; 4]) -> [u8; 8] {
    let word = u64::from(u32::from_le_bytes(bytes));
    let word = (word | (word << 16)) & 0x0000_ffff_0000_ffff;
    let word = (word | (word << 8)) & 0x00ff_00ff_00ff_00ff;
    let values = ((word >> 4) & 0x000f_000f_000f_000f) | ((word & 0x000f_000f_000f_000f) << 8);
    let letters = ((values + 6 * EACH) >> 4) & EACH;
    (values + 0x30 * EACH + LETTERS * letters).to_le_bytes()
}

/// Returns what eight digits say, and whether one of them is none: upper case is not, as the recommendation has it.
fn read_hex(digits: [u8; 8]) -> ([u8; 4], bool) {
    let text = u64::from_le_bytes(digits);
    let letters = (text >> 6) & EACH;
    let values = (text & (15 * EACH)) + 9 * letters;
    // A letter is worth ten or more, a number less, and both at most fifteen; written again, they are the same text.
    let misplaced = (((values + 6 * EACH) ^ (letters << 4)) | values) & (16 * EACH);
    let wrong = misplaced | (text ^ (values + 0x30 * EACH + LETTERS * letters));
    let word = ((values << 4) | (values >> 8)) & 0x00ff_00ff_00ff_00ff;
    let word = (word | (word >> 8)) & 0x0000_ffff_0000_ffff;
    (((word | (word >> 16)) as u32).to_le_bytes(), wrong != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        let later = GOOD.replacen("00", "01", 1);
        for bad in [
            "",
            "00",
            zero_trace,
            upper.as_str(),
            &GOOD.replacen("00", "ff", 1),
            &format!("{GOOD}-x"),
            &format!("{later}x"),
            &GOOD.replace('-', "_"),
            &GOOD.replacen("0af7", "0ag7", 1),
            &GOOD[..54],
        ] {
            assert!(bad.parse::<TraceContext>().is_err(), "{bad:?}");
        }
        assert!(
            later.parse::<TraceContext>().is_ok() && format!("{later}-x").parse::<TraceContext>().is_ok()
        );
    }

    proptest! {
        #[test]
        fn every_position_survives_its_text(trace in 1u128.., span in 1u64.., flags: u8) {
            let (trace, span) = (TraceId(trace.to_be_bytes()), SpanId(span.to_be_bytes()));
            let context = TraceContext { trace, span, flags };
            let text = context.to_string();
            prop_assert_eq!(text.parse(), Ok(context));
            prop_assert_eq!(&text, &format!("00-{trace}-{span}-{flags:02x}"));
        }

        #[test]
        fn a_digit_is_a_digit_wherever_it_stands(byte: u8, at in 0usize..LENGTH) {
            let mut text = GOOD.as_bytes().to_vec();
            text[at] = byte;
            let is_digit = matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            let reads = std::str::from_utf8(&text).is_ok_and(|text| text.parse::<TraceContext>().is_ok());
            let stays = text == GOOD.as_bytes();
            prop_assert!(stays || reads == (is_digit && GOOD.as_bytes()[at] != b'-'), "{byte:?} at {at}");
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9a-fg\\-é]{40,60}") {
            let _ = text.parse::<TraceContext>();
        }
    }
}
