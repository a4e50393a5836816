//! How a call is tried again: how often, after how long, and when it cannot help. Pure.

use std::time::Duration;

use sinew_wire::Problem;

use crate::{Error, Kind};

/// How an idempotent call is tried again. Retries stay within the call's deadline and the dependency's retry budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRetry {
    pub(super) retries: u32,
    first: Duration,
    longest: Duration,
    pub(super) attempt_within: Option<Duration>,
}

impl Default for CallRetry {
    /// Two retries, 25 milliseconds to one second apart, drawn with full jitter.
    fn default() -> Self {
        Self::times(2)
    }
}

impl CallRetry {
    /// Tries again up to `retries` times.
    pub fn times(retries: u32) -> Self {
        let (first, longest) = (Duration::from_millis(25), Duration::from_secs(1));
        Self { retries, first, longest, attempt_within: None }
    }

    /// Never tries again.
    pub fn never() -> Self {
        Self::times(0)
    }

    /// Waits up to `first` before the first retry and up to twice as long before each further one, at most `longest`.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        (self.first, self.longest) = (first.min(longest), longest);
        self
    }

    /// Gives each attempt at most `limit` of the call's time. Without it one attempt may wait as long as the call, and
    /// an instance that hangs leaves no time for another one.
    #[must_use]
    pub fn attempt_within(mut self, limit: Duration) -> Self {
        self.attempt_within = Some(limit);
        self
    }

    pub(crate) fn allows(&self, retry: u32) -> bool {
        retry <= self.retries
    }

    /// Returns how long one attempt may take of what is left.
    pub(crate) fn share_of(&self, left: Duration) -> Duration {
        self.attempt_within.map_or(left, |limit| limit.min(left))
    }

    /// Returns the pause before the `retry`-th retry, `dice` in 0..1.
    ///
    /// Full jitter: anything between nothing and the ceiling. Who was told when to come back comes that much later.
    pub(crate) fn pause(&self, retry: u32, hint: Option<Duration>, dice: f64) -> Duration {
        let doubled = 1u32.checked_shl(retry.saturating_sub(1)).and_then(|by| self.first.checked_mul(by));
        let ceiling = doubled.map_or(self.longest, |pause| pause.min(self.longest));
        hint.unwrap_or_default().saturating_add(ceiling.mul_f64(dice.clamp(0.0, 1.0)))
    }
}

/// Whether another attempt may bring what this one did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It cannot help.
    No,
    /// It may, not before the given time where there is one.
    After(Option<Duration>),
}

impl Again {
    pub(crate) fn after_problem(problem: &Problem) -> Self {
        // A service that gave up in its own time did so for this attempt; another one may be faster.
        if problem.retry || problem.status == 504 { Self::After(problem.retry_hint()) } else { Self::No }
    }

    pub(crate) fn after_error(error: &Error) -> Self {
        match error.kind() {
            Kind::NoResponders | Kind::Disconnected | Kind::TimedOut => Self::After(error.retry_hint()),
            Kind::RefusedByLayer if error.to_problem().retry => Self::After(error.retry_hint()),
            // Also an open circuit and a full bulkhead: they are there to answer at once.
            _ => Self::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pause_is_never_shorter_than_the_hint_nor_much_longer(
            retry in 0u32..1_000,
            first in 0u64..5_000,
            longest in 0u64..60_000,
            hint in prop::option::of(0u64..10_000),
            dice in 0.0f64..1.0,
        ) {
            let (first, longest) = (Duration::from_millis(first), Duration::from_millis(longest));
            let hint = hint.map(Duration::from_millis);
            let pause = CallRetry::times(3).backoff(first, longest).pause(retry, hint, dice);
            let told = hint.unwrap_or_default();
            prop_assert!(pause >= told && pause <= told + longest);
        }

        #[test]
        fn ceilings_double(retry in 1u32..8) {
            let first = Duration::from_millis(10);
            let policy = CallRetry::times(9).backoff(first, Duration::from_secs(60));
            prop_assert_eq!(policy.pause(retry, None, 1.0), first * 2u32.pow(retry - 1));
        }
    }

    #[test]
    fn only_what_may_change_is_tried_again() {
        let told = |problem: Problem| Again::after_problem(&problem);
        assert_eq!(told(Problem::new(409, "taken", "taken")), Again::No);
        assert_eq!(told(Problem::new(500, "internal", "internal")), Again::No);
        assert_eq!(told(Problem::new(503, "busy", "busy").retriable()), Again::After(None));
        let hint = Duration::from_millis(70);
        assert_eq!(told(Problem::new(503, "busy", "busy").retry_after(hint)), Again::After(Some(hint)));
        let failed = |kind| Again::after_error(&Error::new(kind, ""));
        for kind in [Kind::NoResponders, Kind::Disconnected, Kind::TimedOut] {
            assert_eq!(failed(kind), Again::After(None), "{kind:?}");
        }
        for kind in [Kind::CircuitOpen, Kind::BulkheadFull, Kind::TooLarge, Kind::Closed, Kind::Permission] {
            assert_eq!(failed(kind), Again::No, "{kind:?}");
        }
    }
}
