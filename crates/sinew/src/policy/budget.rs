//! The retry budget of one dependency: a share of its calls, and a floor for the quiet ones. Knows no clock.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// One retry, in the unit of the account.
const WHOLE: u64 = 100;
/// What an account may hold: after a long quiet time no more than these retries come at once.
const RESERVE: u64 = 100 * WHOLE;
const NANOS: u64 = 1_000_000_000;

/// Counts what calls pay in and retries take out. Without locks: every call passes it.
#[derive(Debug)]
pub(super) struct Budget {
    /// What a call pays in.
    share: u64,
    balance: AtomicU64,
    /// Time one retry of the floor takes, in nanoseconds; `None` without a floor.
    interval: Option<u64>,
    /// When the floor would be unused again, in nanoseconds since the dependency's beginning.
    used_until: AtomicU64,
}

impl Budget {
    /// Allows `percent` retries for a hundred calls, and `per_second` on top.
    pub(super) fn new(percent: u32, per_second: u32) -> Self {
        Self {
            share: u64::from(percent),
            balance: AtomicU64::new(0),
            interval: NANOS.checked_div(u64::from(per_second)),
            used_until: AtomicU64::new(0),
        }
    }

    /// Counts a call. While the account is full, which it is when all goes well, this only reads.
    pub(super) fn deposit(&self) {
        // Several that see the last free place at once overfill it by as many shares, which does no harm.
        if self.balance.load(Relaxed) < RESERVE {
            self.balance.fetch_add(self.share, Relaxed);
        }
    }

    /// Pays for one retry at `now`, a time since the dependency's beginning; says whether there was enough.
    pub(super) fn withdraw(&self, now: Duration) -> bool {
        self.balance.fetch_update(Relaxed, Relaxed, |balance| balance.checked_sub(WHOLE)).is_ok()
            || self.take_floor(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The floor is a leaky bucket that holds one second's worth.
    fn take_floor(&self, now: u64) -> bool {
        let Some(interval) = self.interval else { return false };
        let next = |until: u64| {
            let next = until.max(now).saturating_add(interval);
            (next - now <= NANOS).then_some(next)
        };
        self.used_until.fetch_update(Relaxed, Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes in whatever order, retries stay within share, floor and one second's burst of it.
        #[test]
        fn retries_never_exceed_share_and_floor(
            percent in 0u32..=100,
            floor in 0u32..50,
            steps in prop::collection::vec((any::<bool>(), 0u64..40), 0..2_000),
        ) {
            let budget = Budget::new(percent, floor);
            let (mut calls, mut retries, mut millis) = (0u64, 0u64, 0u64);
            for (is_call, pause) in steps {
                millis += pause;
                if is_call {
                    calls += 1;
                    budget.deposit();
                } else if budget.withdraw(Duration::from_millis(millis)) {
                    retries += 1;
                }
            }
            let allowed = calls * u64::from(percent) / 100 + u64::from(floor) * (millis + 1_000) / 1_000;
            prop_assert!(retries <= allowed + 1, "{retries} retries of {calls} calls in {millis} ms");
        }

        /// A dependency that is hardly ever called can still be retried.
        #[test]
        fn the_floor_is_there_again_after_a_second(floor in 1u32..50, taken in 0u32..200) {
            let budget = Budget::new(0, floor);
            for _ in 0..taken {
                budget.withdraw(Duration::ZERO);
            }
            let granted = (0..floor).filter(|_| budget.withdraw(Duration::from_secs(1))).count();
            prop_assert_eq!(granted, floor as usize);
            prop_assert!(!budget.withdraw(Duration::from_secs(1)));
        }
    }

    #[test]
    fn a_quiet_time_saves_up_no_more_than_the_reserve() {
        let budget = Budget::new(20, 0);
        (0..1_000_000).for_each(|_| budget.deposit());
        let granted = (0..1_000).filter(|_| budget.withdraw(Duration::ZERO)).count();
        assert_eq!(granted, 100);
    }
}
