//! Ids of instances in little room, for those that are kept by the million.

use std::fmt;

use data_encoding::HEXLOWER;

/// Where the hyphens of a UUID stand.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// The id of an instance, in 24 bytes and none elsewhere when it is a UUID as Sinew or others write it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Id {
    /// 32 lower-case hexadecimal digits.
    Plain([u8; 16]),
    /// The same with hyphens.
    Hyphenated([u8; 16]),
    /// Anything else.
    Text(Box<str>),
}

impl Id {
    pub(crate) fn of(text: &str) -> Self {
        let uuid = match text.len() {
            32 => sixteen(text.as_bytes()).map(Self::Plain),
            36 => without_hyphens(text.as_bytes()).and_then(|digits| sixteen(&digits)).map(Self::Hyphenated),
            _ => None,
        };
        uuid.unwrap_or_else(|| Self::Text(text.into()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(bytes) => f.write_str(&HEXLOWER.encode(bytes)),
            Self::Hyphenated(bytes) => {
                let mut text = HEXLOWER.encode(bytes);
                HYPHENS.into_iter().for_each(|at| text.insert(at, '-'));
                f.write_str(&text)
            }
            Self::Text(text) => f.write_str(text),
        }
    }
}

fn sixteen(digits: &[u8]) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    HEXLOWER.decode_mut(digits, &mut bytes).ok().map(|_| bytes)
}

fn without_hyphens(text: &[u8]) -> Option<[u8; 32]> {
    if HYPHENS.iter().any(|at| text.get(*at) != Some(&b'-')) {
        return None;
    }
    let digits = text.iter().enumerate().filter(|(at, _)| !HYPHENS.contains(at)).map(|(_, digit)| *digit);
    digits.collect::<Vec<u8>>().try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_uuid_takes_no_room_but_its_own() {
        assert_eq!(size_of::<Id>(), 24);
        assert!(matches!(Id::of(&sinew::new_id()), Id::Plain(_)));
        assert!(matches!(Id::of("0192f0c1-2f5e-7a3b-8c4d-5e6f70819203"), Id::Hyphenated(_)));
        for other in ["o-1", "", "0192F0C12F5E7A3B8C4D5E6F70819203", "0192f0c1-2f5e-7a3b-8c4d-5e6f7081920-"] {
            assert!(matches!(Id::of(other), Id::Text(_)), "{other}");
        }
    }

    proptest! {
        #[test]
        fn every_id_is_read_back_as_it_was(text in "[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-fA-F-]{32,36}|.{0,40}") {
            prop_assert_eq!(Id::of(&text).to_string(), text);
        }
    }
}
