//! How fast one client gets events: so many a second, a second's worth at once. Pure but for the clock it is told.

use std::time::Duration;

use tokio::time::Instant;

/// The generic cell rate algorithm: one moment says it all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// When everything that was sent would have been sent at an even rate.
    even: Option<Instant>,
}

impl Pace {
    /// Takes the most events a second; 0 is no limit.
    pub(super) fn new(rate: u32) -> Self {
        let interval = if rate == 0 { Duration::ZERO } else { Duration::from_secs(1) / rate };
        Self { interval, even: None }
    }

    /// Counts one event, and returns when it may be sent; `None` for at once.
    pub(super) fn next(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        if self.interval.is_zero() {
            return None;
        }
        let now = now();
        let even = self.even.map_or(now, |even| even.max(now)) + self.interval;
        self.even = Some(even);
        even.checked_sub(Duration::from_secs(1)).filter(|due| *due > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_goes_at_once_and_the_rest_at_its_rate() {
        let now = Instant::now() + Duration::from_secs(5);
        let mut pace = Pace::new(10);
        let waits: Vec<u128> =
            (0..13).map(|_| pace.next(|| now).map_or(0, |due| (due - now).as_millis())).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 200, 300]);
        assert_eq!(pace.next(|| now + Duration::from_secs(60)), None, "who rests is not late");
        assert_eq!(Pace::new(0).next(|| unreachable!("no limit needs no clock")), None);
    }
}
