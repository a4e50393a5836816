//! The rhythm of a stream: when to show life, and when silence means that the other side is gone. Pure: no clock.

use std::time::Duration;

/// The silence a caller takes for life where it says nothing.
pub(crate) const DEFAULT_IDLE: Duration = Duration::from_secs(30);
/// A caller says a word at least that often.
const BEAT: Duration = Duration::from_secs(5);
/// Shorter silences could not be told from a busy machine.
const SHORTEST_IDLE: Duration = Duration::from_millis(30);

/// How often each side says something; both derive it from the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    idle: Duration,
}

impl Pace {
    /// Creates the rhythm of a stream whose caller gives up after `idle` of silence.
    pub(crate) fn new(idle: Duration) -> Self {
        Self { idle: idle.max(SHORTEST_IDLE) }
    }

    /// Returns how long the caller bears silence.
    pub(crate) fn idle(self) -> Duration {
        self.idle
    }

    /// Returns how often the service shows life while it has nothing to send.
    pub(crate) fn service_beat(self) -> Duration {
        self.idle / 3
    }

    /// Returns how often the caller shows life.
    pub(crate) fn caller_beat(self) -> Duration {
        (self.idle / 3).min(BEAT)
    }

    /// Returns how long the service bears silence.
    pub(crate) fn patience(self) -> Duration {
        self.caller_beat() * 3
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_side_has_three_chances_before_the_other_gives_up(ms in 0u64..10_000_000) {
            let pace = Pace::new(Duration::from_millis(ms));
            prop_assert!(pace.service_beat() * 3 <= pace.idle());
            prop_assert!(pace.caller_beat() * 3 <= pace.patience());
            prop_assert!(pace.caller_beat() <= BEAT && pace.caller_beat() >= Duration::from_millis(10));
        }
    }
}
