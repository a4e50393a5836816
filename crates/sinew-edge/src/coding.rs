//! Content codings: bytes made smaller for a client that takes them so, and bodies that come smaller.

use std::io::{self, Read, Write};

use bytes::Bytes;
use http::HeaderMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is smaller is coded where it stands; more is work for another thread.
const AT_ONCE: usize = 64 * 1024;
/// Quick settings: a response is made once and read once.
const GZIP: u32 = 6;
const BROTLI: u32 = 4;
const ZSTD: i32 = 3;
/// How much larger text is than its coding, about.
const EXPECTED: usize = 8;
const BUFFER: usize = 8 * 1024;
/// The largest window of Zstandard a client may make us keep: 8 MiB, as RFC 9659 has it.
const ZSTD_WINDOW: u32 = 23;

/// A coding of bodies, as `Accept-Encoding` and `Content-Encoding` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// Brotli (RFC 7932).
    Br,
    /// Zstandard (RFC 8878).
    Zstd,
    /// Deflate with a check sum (RFC 1952).
    Gzip,
}

/// Why a body could not be decoded.
#[derive(Debug)]
pub(crate) enum Undecoded {
    /// It would be larger than that.
    TooLarge,
    /// It is not what it says.
    Malformed,
}

impl Coding {
    pub(crate) const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Br => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// Returns the coding of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        // Some old clients write it so (RFC 9110, section 8.4.1.3).
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        Self::ALL.into_iter().find(|coding| coding.as_str().eq_ignore_ascii_case(name))
    }

    /// Codes bytes; `None` where that failed, which is no reason to answer nothing.
    pub(crate) async fn encode(self, bytes: Bytes) -> Option<Bytes> {
        let much = bytes.len() > AT_ONCE;
        apart(much, move || self.encoded(&bytes).map(Bytes::from).ok()).await.flatten()
    }

    /// Reads what was coded, at most `limit` bytes of it.
    ///
    /// # Errors
    /// When it is larger, or not what it says.
    pub(crate) async fn decode(self, bytes: Bytes, limit: usize) -> Result<Bytes, Undecoded> {
        // How large it will be nobody knows but by reading it.
        let much = bytes.len() > AT_ONCE / EXPECTED;
        apart(much, move || self.decoded(&bytes, limit)).await.unwrap_or(Err(Undecoded::Malformed))
    }

    fn encoded(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let out = Vec::with_capacity(bytes.len() / 4);
        match self {
            Self::Gzip => {
                let mut coder = flate2::write::GzEncoder::new(out, flate2::Compression::new(GZIP));
                coder.write_all(bytes)?;
                coder.finish()
            }
            Self::Br => {
                let mut coder = brotli::CompressorWriter::new(out, BUFFER, BROTLI, 22);
                coder.write_all(bytes)?;
                Ok(coder.into_inner())
            }
            Self::Zstd => {
                let mut coder = zstd::Encoder::new(out, ZSTD)?;
                coder.write_all(bytes)?;
                coder.finish()
            }
        }
    }

    fn decoded(self, bytes: &[u8], limit: usize) -> Result<Bytes, Undecoded> {
        let mut all = Vec::new();
        let most = limit as u64 + 1;
        let read = match self {
            Self::Gzip => flate2::read::MultiGzDecoder::new(bytes).take(most).read_to_end(&mut all),
            Self::Br => brotli::Decompressor::new(bytes, BUFFER).take(most).read_to_end(&mut all),
            Self::Zstd => unpacked(bytes).and_then(|coder| coder.take(most).read_to_end(&mut all)),
        };
        match read {
            Ok(length) if length > limit => Err(Undecoded::TooLarge),
            Ok(_) => Ok(all.into()),
            Err(_) => Err(Undecoded::Malformed),
        }
    }
}

/// What a client thinks of codings (RFC 9110, section 12.5.3).
#[derive(Debug)]
pub(crate) struct Accepted<'h>(Vec<(&'h str, f32)>);

impl<'h> Accepted<'h> {
    pub(crate) fn of(headers: &'h HeaderMap) -> Self {
        let lines = headers.get_all(http::header::ACCEPT_ENCODING).iter();
        let members = lines.filter_map(|value| value.to_str().ok()).flat_map(|line| line.split(','));
        Self(members.filter_map(member).collect())
    }

    /// Returns which of these the client likes best, the first of those it likes the same.
    pub(crate) fn best(&self, offered: &[Coding]) -> Option<Coding> {
        let liked = offered.iter().map(|coding| (*coding, self.quality(coding.as_str()).unwrap_or(0.0)));
        let better = |best: Option<(Coding, f32)>, (coding, quality): (Coding, f32)| match best {
            Some((_, other)) if quality <= other => best,
            _ => Some((coding, quality)),
        };
        let (best, quality) = liked.filter(|(_, quality)| *quality > 0.0).fold(None, better)?;
        (quality >= self.quality("identity").unwrap_or(0.0)).then_some(best)
    }

    /// Says whether the client does not take bytes as they are.
    pub(crate) fn refuses_identity(&self) -> bool {
        self.quality("identity") == Some(0.0)
    }

    fn quality(&self, name: &str) -> Option<f32> {
        let find = |wanted: &str| self.0.iter().find(|(own, _)| own.eq_ignore_ascii_case(wanted));
        find(name)
            .or_else(|| find("*").filter(|(_, quality)| name != "identity" || *quality == 0.0))
            .map(|(_, q)| *q)
    }
}

fn member(text: &str) -> Option<(&str, f32)> {
    let (name, parameters) = text.split_once(';').unwrap_or((text, ""));
    let name = name.trim();
    (!name.is_empty()).then(|| (name, crate::accept::quality(parameters)))
}

fn unpacked(bytes: &[u8]) -> io::Result<zstd::Decoder<'static, io::BufReader<&[u8]>>> {
    let mut coder = zstd::Decoder::new(bytes)?;
    coder.window_log_max(ZSTD_WINDOW)?;
    Ok(coder)
}

/// Does the work here, or on a thread for such work where it is much; waited for either way.
async fn apart<T: Send + 'static>(much: bool, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if much { tokio::task::spawn_blocking(work).await.ok() } else { Some(work()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn best(accept: &str) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::ACCEPT_ENCODING, accept.parse().unwrap());
        Accepted::of(&headers).best(&Coding::ALL).map(Coding::as_str)
    }

    #[test]
    fn the_client_chooses_and_of_equals_the_first_offered_counts() {
        for (accept, expected) in [
            ("gzip", Some("gzip")),
            ("br, gzip, zstd", Some("zstd")),
            ("gzip;q=1.0, br;q=0.9", Some("gzip")),
            ("*", Some("zstd")),
            ("*, zstd;q=0", Some("br")),
            ("GZIP;Q=0.5", Some("gzip")),
            ("identity;q=0, gzip;q=0.1", Some("gzip")),
            ("identity, gzip;q=0.5", None),
            ("gzip;q=0", None),
            ("deflate, compress", None),
            ("", None),
        ] {
            assert_eq!(best(accept), expected, "{accept:?}");
        }
        assert!(Accepted::of(&HeaderMap::new()).best(&Coding::ALL).is_none());
    }

    proptest! {
        #[test]
        fn what_was_coded_is_read_back_and_never_more_than_allowed(
            bytes in proptest::collection::vec(any::<u8>(), 0..2_000), less in 1..100_usize,
        ) {
            for coding in Coding::ALL {
                let coded = coding.encoded(&bytes).unwrap();
                prop_assert_eq!(&coding.decoded(&coded, bytes.len()).unwrap()[..], &bytes[..]);
                if bytes.len() >= less {
                    prop_assert!(matches!(coding.decoded(&coded, bytes.len() - less), Err(Undecoded::TooLarge)));
                }
            }
        }

        #[test]
        fn hostile_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
            for coding in Coding::ALL {
                let _ = coding.decoded(&bytes, 10_000);
            }
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let zeros = vec![0; 32 * 1024 * 1024];
        for coding in Coding::ALL {
            let bomb = coding.encoded(&zeros).unwrap();
            assert!(bomb.len() < 64 * 1024);
            assert!(matches!(coding.decoded(&bomb, 1_000), Err(Undecoded::TooLarge)), "{coding:?}");
        }
    }
}
