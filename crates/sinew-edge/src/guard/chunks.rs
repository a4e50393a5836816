//! A chunked body as it passes by: sizes, extensions and ends are checked byte by byte, data is skipped.

use super::head;

/// The most digits of a size: more do not fit 64 bits.
const MAX_DIGITS: u8 = 16;
/// The longest line of a size with its extensions, and the most bytes of trailers.
const MAX_EXTENSION: usize = 1024;
const MAX_TRAILERS: usize = 8 * 1024;

/// Fields that a trailer must not have: they say how a message is read, or who it is for.
const FORBIDDEN: [&[u8]; 4] = [b"content-length", b"transfer-encoding", b"host", b"content-encoding"];

/// A chunked body, and where in it we are.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunks {
    place: Place,
    /// Size of the chunk, then what is left of it.
    left: u64,
    digits: u8,
    /// Bytes of the extensions of this line.
    extension: usize,
    quoted: bool,
    /// The line of the trailers that is being read, and the bytes of all before it.
    line: Vec<u8>,
    trailers: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Size,
    /// White space behind the size: an extension has to follow.
    Blank,
    Extension,
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    Trailer,
    TrailerEnd,
}

/// What came of a piece of the body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// All of it belongs to the body, which goes on.
    More,
    /// The body ends behind this many bytes.
    End(usize),
    /// The byte at this place is wrong.
    Wrong(usize),
}

impl Chunks {
    pub(super) fn read(&mut self, bytes: &[u8]) -> Seen {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.place == Place::Data {
                let left = (bytes.len() - at) as u64;
                let skipped = left.min(self.left);
                self.left -= skipped;
                at += skipped as usize;
                if self.left == 0 {
                    self.place = Place::DataReturn;
                }
                continue;
            }
            match self.step(*byte) {
                None => return Seen::Wrong(at),
                Some(true) => return Seen::End(at + 1),
                Some(false) => at += 1,
            }
        }
        Seen::More
    }

    /// Takes one byte; `None` where it is wrong, `true` where it is the last one.
    fn step(&mut self, byte: u8) -> Option<bool> {
        self.place = match (self.place, byte) {
            (Place::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.digit(byte)?;
                Place::Size
            }
            (Place::Size, b'\r') if self.digits > 0 => Place::SizeEnd,
            (Place::Size, b' ' | b'\t') if self.digits > 0 => Place::Blank,
            (Place::Blank, b' ' | b'\t') => self.extend(Place::Blank)?,
            (Place::Size, b';') if self.digits > 0 => Place::Extension,
            (Place::Blank, b';') => Place::Extension,
            (Place::Extension, b'\r') if !self.quoted => Place::SizeEnd,
            (Place::Extension, b'\t' | 0x20..=0x7e | 0x80..) => {
                self.quoted ^= byte == b'"';
                self.extend(Place::Extension)?
            }
            (Place::SizeEnd, b'\n') => self.sized(),
            (Place::DataReturn, b'\r') => Place::DataEnd,
            (Place::DataEnd, b'\n') => Place::Size,
            (Place::Trailer, b'\r') => Place::TrailerEnd,
            (Place::Trailer, byte) if byte != b'\n' => self.trailer(byte)?,
            (Place::TrailerEnd, b'\n') if self.line.is_empty() => return Some(true),
            (Place::TrailerEnd, b'\n') => self.trailed()?,
            _ => return None,
        };
        Some(false)
    }

    fn digit(&mut self, byte: u8) -> Option<()> {
        self.digits += 1;
        let digit = char::from(byte).to_digit(16)?;
        self.left = self.left.checked_mul(16)?.checked_add(digit.into())?;
        (self.digits <= MAX_DIGITS).then_some(())
    }

    fn extend(&mut self, place: Place) -> Option<Place> {
        self.extension += 1;
        (self.extension <= MAX_EXTENSION).then_some(place)
    }

    /// Goes on behind the line of a size.
    fn sized(&mut self) -> Place {
        (self.digits, self.extension, self.quoted) = (0, 0, false);
        if self.left == 0 { Place::Trailer } else { Place::Data }
    }

    fn trailer(&mut self, byte: u8) -> Option<Place> {
        self.trailers += 1;
        self.line.push(byte);
        (self.trailers <= MAX_TRAILERS).then_some(Place::Trailer)
    }

    fn trailed(&mut self) -> Option<Place> {
        let (name, _) = head::field(&self.line).ok()?;
        if FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden)) {
            return None;
        }
        self.line.clear();
        Some(Place::Trailer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(bytes: &[u8]) -> Seen {
        Chunks::default().read(bytes)
    }

    #[test]
    fn a_body_ends_with_its_last_chunk() {
        for body in ["0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", "3 ; a=\"x y\"\r\nabc\r\n00\r\nx: 1\r\n\r\n"] {
            assert_eq!(whole(format!("{body}GET /").as_bytes()), Seen::End(body.len()), "{body:?}");
        }
        assert_eq!(whole(b"3\r\nab"), Seen::More);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_wrong() {
        for body in [
            "\r\n",
            "x\r\n",
            "3\nabc",
            "3\r\nabcd\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "-3\r\n",
            "0x3\r\n",
            " 3\r\n",
            "3 \r\n",
            "3;a\nb\r\n",
            "3;a\rb\r\n",
            "3;a=\"x\r\n\"\r\nabc\r\n",
            "3;\0\r\n",
            "10000000000000000\r\n",
            "00000000000000003\r\n",
            "0\r\ncontent-length: 3\r\n\r\n",
            "0\r\nx : 1\r\n\r\n",
            "0\r\nx: 1\n\r\n",
            "0\r\n\n",
        ] {
            assert!(matches!(whole(body.as_bytes()), Seen::Wrong(_)), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn a_body_reads_the_same_however_it_is_cut(
            chunks in proptest::collection::vec("[a-z]{1,40}", 0..5), cut in 1..20_usize,
        ) {
            let mut body: String = chunks.iter().map(|data| format!("{:x};e=1\r\n{data}\r\n", data.len())).collect();
            body.push_str("0\r\nx: y\r\n\r\n");
            let mut reader = Chunks::default();
            let pieces: Vec<&[u8]> = body.as_bytes().chunks(cut).collect();
            for (number, piece) in pieces.iter().enumerate() {
                let last = number + 1 == pieces.len();
                prop_assert_eq!(reader.read(piece), if last { Seen::End(piece.len()) } else { Seen::More });
            }
        }
    }
}
