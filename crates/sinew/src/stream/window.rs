//! The sending side's account of a stream: what was sent, what may be. Pure: no clock, no I/O.

/// A word of the caller on the control inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// That many items more.
    More(u64),
    /// That many items in all.
    Total(u64),
    /// The caller wants no more of it.
    Cancel,
}

/// How many items were sent and how many may be. Without a limit everything may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    sent: u64,
    allowed: Option<u64>,
}

impl Word {
    /// Reads a word; `None` for anything else.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (sign, digits) = payload.split_first()?;
        // `u64::from_str` would take a second sign.
        let number = || {
            let text = std::str::from_utf8(digits).ok()?;
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
        };
        match sign {
            b'+' => number().map(Self::More),
            b'=' => number().map(Self::Total),
            b'-' if digits.is_empty() => Some(Self::Cancel),
            _ => None,
        }
    }
}

impl Window {
    /// Creates the account of a stream of which `credit` items may be sent at first.
    pub(crate) fn new(credit: Option<u64>) -> Self {
        Self { sent: 0, allowed: credit }
    }

    /// Returns how many items were sent.
    pub(crate) fn sent(self) -> u64 {
        self.sent
    }

    /// Says whether an item may be sent.
    pub(crate) fn is_open(self) -> bool {
        self.allowed.is_none_or(|allowed| self.sent < allowed)
    }

    /// Notes that an item is sent, and returns its number.
    pub(crate) fn send(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Widens the window; it never becomes narrower. `false` says that the stream is cancelled.
    pub(crate) fn hear(&mut self, word: Word) -> bool {
        let allowed = self.allowed.unwrap_or(u64::MAX);
        match word {
            Word::More(more) => self.allowed = Some(allowed.saturating_add(more)),
            Word::Total(total) => self.allowed = Some(allowed.max(total)),
            Word::Cancel => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_read_and_nothing_else() {
        assert_eq!(Word::read(b"+0"), Some(Word::More(0)));
        assert_eq!(Word::read(b"=64"), Some(Word::Total(64)));
        assert_eq!(Word::read(b"-"), Some(Word::Cancel));
        for other in ["", "+", "=", "-1", "++1", "+-1", "64", "+1 ", "+99999999999999999999", "\u{b2}"] {
            assert_eq!(Word::read(other.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn a_stream_without_credit_is_always_open() {
        let mut window = Window::new(None);
        assert!(window.hear(Word::More(1)) && window.is_open());
        assert!(!window.hear(Word::Cancel));
    }

    fn word() -> impl Strategy<Value = Word> {
        prop_oneof![
            any::<u64>().prop_map(Word::More),
            any::<u64>().prop_map(Word::Total),
            (0u64..9).prop_map(Word::More)
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_said(payload: Vec<u8>) {
            let _ = Word::read(&payload);
        }

        #[test]
        fn no_more_is_sent_than_was_allowed(credit in 0u64..20, words in prop::collection::vec((0u64..5, 0u64..40), 0..20)) {
            let (mut window, mut allowed) = (Window::new(Some(credit)), credit);
            for (more, total) in words {
                while window.is_open() {
                    window.send();
                }
                prop_assert_eq!(window.sent(), allowed);
                window.hear(Word::More(more));
                window.hear(Word::Total(total));
                allowed = (allowed + more).max(total);
            }
        }

        #[test]
        fn a_window_never_becomes_narrower(credit: u64, words in prop::collection::vec(word(), 0..10)) {
            let mut window = Window::new(Some(credit));
            for word in words {
                let before = window.allowed;
                prop_assert!(window.hear(word));
                prop_assert!(window.allowed >= before);
            }
        }
    }
}
