//! Retry policies: how long to wait before the next attempt. Pure.

use std::time::Duration;

/// Longest delay a policy may ask for.
const LONGEST_DELAY: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How a failed event is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self::exponential(Duration::from_millis(200), Duration::from_secs(10))
    }
}

impl Retry {
    /// Doubles the delay from `first` up to `longest`, with full jitter; eight attempts.
    ///
    /// Delays may be hours: one of more than 30 seconds is waited for in the group's own inlet at the server, survives
    /// a restart of everything, and keeps no other event waiting. The longest is a year.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sinew::Retry;
    ///
    /// // After at most 1, 2, 4, 8, 16, 32 and 60 minutes.
    /// let patient = Retry::exponential(Duration::from_secs(60), Duration::from_secs(3600));
    /// assert_eq!(patient.budget(), Duration::from_secs(123 * 60));
    /// ```
    pub fn exponential(first: Duration, longest: Duration) -> Self {
        let longest = longest.min(LONGEST_DELAY);
        Self { first: first.min(longest), longest, attempts: 8 }
    }

    /// Never tries again.
    pub fn never() -> Self {
        Self::default().attempts(1)
    }

    /// Sets the number of attempts, the first one included.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Returns the number of attempts, the first one included.
    pub fn attempts_limit(&self) -> u32 {
        self.attempts
    }

    /// Returns the longest time that may pass in delays until the last attempt.
    pub fn budget(&self) -> Duration {
        (1..self.attempts).map(|attempt| self.ceiling(attempt)).fold(Duration::ZERO, Duration::saturating_add)
    }

    /// Returns the delay after `attempt` failed, `dice` in 0..1; `None` when it was the last.
    ///
    /// Full jitter: anything between nothing and the ceiling, so that a crowd that failed together comes back spread.
    pub fn delay(&self, attempt: u32, dice: f64) -> Option<Duration> {
        (attempt < self.attempts).then(|| self.ceiling(attempt).mul_f64(dice.clamp(0.0, 1.0)))
    }

    fn ceiling(&self, attempt: u32) -> Duration {
        let doubled =
            1u32.checked_shl(attempt.saturating_sub(1)).and_then(|factor| self.first.checked_mul(factor));
        doubled.map_or(self.longest, |delay| delay.min(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_end() {
        let retry = Retry::exponential(Duration::from_millis(100), Duration::from_millis(500)).attempts(5);
        let delays: Vec<_> =
            (1..=5).map(|attempt| retry.delay(attempt, 1.0).map(|d| d.as_millis())).collect();
        assert_eq!(delays, [Some(100), Some(200), Some(400), Some(500), None]);
        assert_eq!(retry.budget(), Duration::from_millis(1200));
        assert_eq!(retry.delay(3, 0.0), Some(Duration::ZERO));
    }

    #[test]
    fn large_attempts_do_not_overflow() {
        let retry = Retry::exponential(Duration::from_secs(1), Duration::MAX).attempts(u32::MAX);
        assert_eq!(retry.delay(4_000_000, 1.0), Some(LONGEST_DELAY));
    }
}
