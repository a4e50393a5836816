//! Policies as `sinew describe` shows them: the numbers in force, defaults included.

use std::time::Duration;

use sinew_wire::{BreakerDescriptor, DependencyDescriptor};

use super::{Breaker, CallRetry, Calls, Policy, dependency};

/// Stands for every service without a policy of its own.
const OTHERS: &str = "*";

impl Calls {
    /// Describes the policies in force, by service; the last one holds for all others.
    pub fn describe(&self) -> Vec<DependencyDescriptor> {
        let mut all: Vec<_> = self.policies().map(|(service, policy)| policy.describe(service)).collect();
        all.sort_unstable_by(|a, b| a.service.cmp(&b.service));
        all.push(self.for_others().describe(OTHERS));
        all
    }
}

impl Policy {
    fn describe(&self, service: &str) -> DependencyDescriptor {
        DependencyDescriptor {
            service: service.to_owned(),
            retries: self.retry.retries,
            retry_pause_ms: milliseconds(self.retry.longest_pauses()),
            attempt_ms: self.retry.attempt_within.map(milliseconds),
            retry_percent: self.retry_share.unwrap_or(dependency::SHARE),
            retry_per_second: self.retry_floor.unwrap_or(dependency::FLOOR),
            bulkhead: self.bulkhead.map(|places| places as u64),
            breaker: self.breaker.as_ref().map(Breaker::describe),
        }
    }
}

impl CallRetry {
    /// Returns how long all pauses of a call may take together, where nobody asks for longer ones.
    fn longest_pauses(&self) -> Duration {
        // Beyond these the pauses no longer grow, and the sum is a product.
        let doubling = self.retries.min(32);
        let growing = (1..=doubling).map(|retry| self.pause(retry, None, 1.0)).sum::<Duration>();
        growing.saturating_add(self.pause(u32::MAX, None, 1.0).saturating_mul(self.retries - doubling))
    }
}

impl Breaker {
    fn describe(&self) -> BreakerDescriptor {
        BreakerDescriptor {
            percent: (self.share * 100.0).round() as u32,
            calls: self.calls,
            window_ms: milliseconds(self.window),
            pause_ms: milliseconds(self.pause),
            longest_pause_ms: milliseconds(self.longest),
            probes: self.probes,
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_is_described_by_service_with_its_total_budget() {
        let calls = Calls::new()
            .to("search", Policy::new().retry(CallRetry::times(40)).retry_budget(50, 5))
            .to("payments", Policy::new().bulkhead(64).breaker(Breaker::default()));
        let [payments, search, others] = calls.describe().try_into().unwrap();
        assert_eq!((payments.service.as_str(), payments.bulkhead), ("payments", Some(64)));
        let breaker = payments.breaker.unwrap();
        assert_eq!((breaker.percent, breaker.calls, breaker.window_ms, breaker.probes), (50, 20, 10_000, 3));
        // 25, 50, 100, 200, 400, 800, and from then on a second each.
        assert_eq!((search.retries, search.retry_pause_ms), (40, 1_575 + 34 * 1_000));
        assert_eq!((search.retry_percent, search.retry_per_second), (50, 5));
        assert_eq!((others.service.as_str(), others.retries, others.retry_percent), ("*", 2, 20));
        assert_eq!((others.bulkhead, others.breaker), (None, None));
    }
}
