//! Unpacks replies, never beyond the limit: a small reply may claim to be a large one.

use std::io::Read as _;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;

/// Why a reply cannot be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    TooLarge,
    Data,
}

/// Unpacks all of it.
pub(super) fn decode(packed: &[u8], limit: usize) -> Result<Bytes, Broken> {
    if packed.is_empty() {
        return Ok(Bytes::new());
    }
    let mut body = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(packed).take(one_more).read_to_end(&mut body).map_err(|_| Broken::Data)?;
    if body.len() > limit { Err(Broken::TooLarge) } else { Ok(body.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn packed(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_was_packed_comes_out() {
        assert_eq!(decode(&packed(b"hello"), 5).unwrap(), "hello");
        assert_eq!(decode(b"", 5).unwrap(), "");
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = packed(&vec![0; 1 << 20]);
        assert!(bomb.len() < 2_000);
        assert_eq!(decode(&bomb, 1_000), Err(Broken::TooLarge));
    }

    #[test]
    fn what_is_no_gzip_is_refused() {
        assert_eq!(decode(b"hello", 100), Err(Broken::Data));
    }
}
