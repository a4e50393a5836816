//! Load shed: when somebody who is turned away had better come back.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::operation::{Shop, Stats};

/// Sooner it would be the same crowd, later the queue would stand empty.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(5);

/// Returns about how long the queue of now takes to be worked off.
pub(super) fn pause(shop: &Shop, stats: &Stats) -> Duration {
    let begun = stats.requests.load(Relaxed).saturating_sub(stats.shed.load(Relaxed));
    let each = Duration::from_nanos(stats.nanos.load(Relaxed).checked_div(begun).unwrap_or(0));
    estimate(shop.waiting.load(Relaxed), shop.concurrency, each)
}

/// Every hand has to work off its share of the queue, and what it holds.
fn estimate(queue: usize, hands: usize, each: Duration) -> Duration {
    let rounds = u32::try_from(queue / hands.max(1) + 1).unwrap_or(u32::MAX);
    each.saturating_mul(rounds).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_longer_queue_or_slower_work_never_shortens_the_pause(
            queue in 0usize..100_000,
            more in 0usize..100_000,
            hands in 0usize..2_000,
            each in 0u64..10_000_000_000,
            slower in 0u64..10_000_000_000,
        ) {
            let (each, slower) = (Duration::from_nanos(each), Duration::from_nanos(each + slower));
            let pause = estimate(queue, hands, each);
            prop_assert!(estimate(queue + more, hands, slower) >= pause);
            prop_assert!((SHORTEST..=LONGEST).contains(&pause));
        }
    }

    #[test]
    fn the_pause_is_what_the_queue_takes() {
        assert_eq!(estimate(1_000, 100, Duration::from_millis(50)), Duration::from_millis(550));
        assert_eq!(estimate(0, 1, Duration::ZERO), SHORTEST, "nothing is known yet");
    }
}
