//! How an action on many things goes about it: at a rate, up to a limit, or only counted.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// How an action on many dead letters, or a replay, goes about it: all at once unless something is said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bulk {
    rate: Option<f64>,
    limit: Option<u64>,
    dry: bool,
}

impl Bulk {
    /// Does at most this many in a second.
    #[must_use]
    pub fn rate(mut self, per_second: f64) -> Self {
        self.rate = Some(per_second);
        self
    }

    /// Ends after this many.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Changes nothing, and only says what would be.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry = true;
        self
    }

    pub(crate) fn is_dry(self) -> bool {
        self.dry
    }

    pub(crate) fn is_over(self, done: u64) -> bool {
        self.limit.is_some_and(|limit| done >= limit)
    }

    /// Returns the clock that keeps the rate; without a rate there is none.
    pub(crate) fn clock(self) -> Option<Interval> {
        let period = self.rate.filter(|rate| *rate > 0.0 && !self.dry).map(|rate| 1.0 / rate)?;
        let period = Duration::try_from_secs_f64(period).ok().filter(|period| !period.is_zero())?;
        let mut clock = interval(period);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Some(clock)
    }
}

/// Waits until the rate allows one more.
pub(crate) async fn pace(clock: &mut Option<Interval>) {
    if let Some(clock) = clock {
        clock.tick().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_ends_it_and_no_limit_does_not() {
        assert!(!Bulk::default().is_over(u64::MAX));
        assert!(Bulk::default().limit(2).is_over(2) && !Bulk::default().limit(2).is_over(1));
    }

    #[tokio::test]
    async fn a_rate_that_means_nothing_is_no_rate() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE] {
            assert!(Bulk::default().rate(rate).clock().is_none(), "{rate}");
        }
        assert_eq!(
            Bulk::default().rate(4.0).clock().map(|clock| clock.period()),
            Some(Duration::from_millis(250))
        );
    }
}
