//! How requests are counted against a rate: by token bucket or by sliding window. Pure: times are given, in nanoseconds
//! since the edge's beginning.

use std::time::Duration;

use crate::config::{Algorithm, RateLimit};

/// Into how many slots a window is divided: requests leave it a slot at a time.
const SLOTS: usize = 10;
/// A window touches one slot more than it is long.
const RING: usize = SLOTS + 1;

/// One way of counting, with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meter {
    Bucket(Bucket),
    Window(Window),
}

/// What was counted for one key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    /// When the bucket is full again.
    Bucket(u64),
    Window(Slots),
}

/// What became of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) admitted: bool,
    /// How many more would pass now.
    pub(crate) remaining: u32,
    /// Until everything counted is forgotten, in nanoseconds.
    pub(crate) reset: u64,
    /// Until the next one passes, in nanoseconds; 0 where one passes now.
    pub(crate) retry: u64,
}

/// A token bucket, as the generic cell rate algorithm counts: one number is the whole state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Time one request takes to be forgotten.
    interval: u64,
    /// How much of that time may be used up.
    size: u64,
}

/// A sliding window. Slots count whole while any of them is in the window: never more than the limit pass in any stretch
/// of its length, and a request is forgotten at most a tenth of it late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    limit: u32,
    /// Length of a slot.
    slot: u64,
}

/// Requests by slot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slots {
    counts: [u32; RING],
    /// Number of the newest slot, counted from the beginning of time.
    newest: u64,
}

impl Meter {
    pub(crate) fn new(limit: &RateLimit) -> Self {
        let per = nanos(limit.per.length());
        match limit.algorithm {
            Algorithm::TokenBucket => {
                let interval = per.div_ceil(limit.requests.max(1).into()).max(1);
                let burst = limit.burst.unwrap_or(limit.requests).max(1);
                Self::Bucket(Bucket { interval, size: interval.saturating_mul(burst.into()) })
            }
            Algorithm::SlidingWindow => {
                Self::Window(Window { limit: limit.requests, slot: per.div_ceil(SLOTS as u64).max(1) })
            }
        }
    }

    /// Returns the count of a key nobody has seen.
    pub(crate) fn fresh(&self) -> Count {
        match self {
            Self::Bucket(_) => Count::Bucket(0),
            Self::Window(_) => Count::Window(Slots::default()),
        }
    }

    /// Counts a request if it may pass.
    pub(crate) fn take(&self, count: &mut Count, now: u64) -> Verdict {
        match (self, count) {
            (Self::Bucket(bucket), Count::Bucket(full)) => bucket.take(full, now),
            (Self::Window(window), Count::Window(slots)) => window.take(slots, now),
            // A count is made by its own meter.
            _ => Verdict { admitted: true, remaining: 0, reset: 0, retry: 0 },
        }
    }

    /// Takes one request back that was counted at `then` and did not pass after all.
    pub(crate) fn give_back(&self, count: &mut Count, then: u64) {
        match (self, count) {
            (Self::Bucket(bucket), Count::Bucket(full)) => *full = full.saturating_sub(bucket.interval),
            (Self::Window(window), Count::Window(slots)) => slots.give_back(then / window.slot),
            _ => {}
        }
    }

    /// Counts `more` requests that passed elsewhere, though that be too many.
    pub(crate) fn add(&self, count: &mut Count, more: u32, now: u64) {
        match (self, count) {
            (Self::Bucket(bucket), Count::Bucket(full)) => {
                *full = now.max(*full).saturating_add(bucket.interval.saturating_mul(more.into()));
            }
            (Self::Window(window), Count::Window(slots)) => {
                slots.advance(now / window.slot);
                let newest = slots.at(slots.newest);
                *newest = newest.saturating_add(more);
            }
            _ => {}
        }
    }

    /// Says whether a count is as good as none.
    pub(crate) fn is_idle(&self, count: &Count, now: u64) -> bool {
        match (self, count) {
            (_, Count::Bucket(full)) => *full <= now,
            (Self::Window(window), Count::Window(slots)) => {
                (0..RING as u64).all(|back| slots.count(back) == 0 || window.leaves(slots, back) <= now)
            }
            _ => true,
        }
    }
}

impl Bucket {
    fn take(&self, full: &mut u64, now: u64) -> Verdict {
        let used = full.saturating_sub(now);
        let after = used.saturating_add(self.interval);
        let admitted = after <= self.size;
        let used = if admitted { after } else { used };
        if admitted {
            *full = now + used;
        }
        let remaining = self.size.saturating_sub(used) / self.interval;
        let retry = used.saturating_add(self.interval).saturating_sub(self.size);
        Verdict {
            admitted,
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset: used,
            retry: if remaining > 0 { 0 } else { retry },
        }
    }
}

impl Window {
    fn take(&self, slots: &mut Slots, now: u64) -> Verdict {
        slots.advance(now / self.slot);
        let before = slots.sum();
        let admitted = before < u64::from(self.limit);
        if admitted {
            *slots.at(slots.newest) += 1;
        }
        let counted = before + u64::from(admitted);
        let remaining = u64::from(self.limit).saturating_sub(counted);
        let retry = if remaining > 0 { 0 } else { self.until_below(slots, counted, now) };
        let newest = (0..RING as u64).find(|back| slots.count(*back) > 0);
        let reset = newest.map_or(0, |back| self.leaves(slots, back).saturating_sub(now));
        Verdict { admitted, remaining: u32::try_from(remaining).unwrap_or(u32::MAX), reset, retry }
    }

    /// Returns how long it takes until so many have left that one more may pass.
    fn until_below(&self, slots: &Slots, mut counted: u64, now: u64) -> u64 {
        for back in (0..RING as u64).rev() {
            counted -= u64::from(slots.count(back));
            if counted < u64::from(self.limit) {
                return self.leaves(slots, back).saturating_sub(now);
            }
        }
        self.slot
    }

    /// Returns when the slot so many before the newest is no longer in the window.
    fn leaves(&self, slots: &Slots, back: u64) -> u64 {
        (slots.newest + RING as u64).saturating_sub(back).saturating_mul(self.slot)
    }
}

impl Slots {
    /// Clears what has left the window by slot `number`.
    fn advance(&mut self, number: u64) {
        let elapsed = number.saturating_sub(self.newest).min(RING as u64);
        for step in 1..=elapsed {
            *self.at(self.newest + step) = 0;
        }
        if elapsed == RING as u64 {
            // After a long pause every slot was cleared, whichever numbers they had.
            self.counts = [0; RING];
        }
        self.newest = self.newest.max(number);
    }

    fn give_back(&mut self, number: u64) {
        if self.newest.saturating_sub(number) < RING as u64 {
            let count = self.at(number);
            *count = count.saturating_sub(1);
        }
    }

    fn at(&mut self, number: u64) -> &mut u32 {
        &mut self.counts[index(number)]
    }

    /// Returns the count of the slot so many before the newest.
    fn count(&self, back: u64) -> u32 {
        self.newest.checked_sub(back).map_or(0, |number| self.counts[index(number)])
    }

    fn sum(&self) -> u64 {
        self.counts.iter().copied().map(u64::from).sum()
    }
}

fn index(number: u64) -> usize {
    (number % RING as u64) as usize
}

/// Returns nanoseconds, which reach for centuries.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Period, Scope};

    fn meter(algorithm: Algorithm, requests: u32, per: &str, burst: Option<u32>) -> Meter {
        Meter::new(&RateLimit {
            name: "x".into(),
            requests,
            per: Period::try_from(per.to_owned()).unwrap(),
            algorithm,
            burst,
            key: Vec::new(),
            scope: Scope::Route,
            shared: false,
        })
    }

    const SECOND: u64 = 1_000_000_000;

    proptest! {
        /// Whatever comes when, no stretch of a second has more than the burst and a second's worth of it.
        #[test]
        fn a_bucket_never_lets_more_pass_than_burst_and_rate(
            requests in 1u32..40,
            burst in 1u32..40,
            pauses in prop::collection::vec(0u64..80_000_000, 1..400),
        ) {
            let meter = meter(Algorithm::TokenBucket, requests, "1s", Some(burst));
            let (mut count, mut now, mut passed) = (meter.fresh(), 0, Vec::new());
            for pause in pauses {
                now += pause;
                if meter.take(&mut count, now).admitted {
                    passed.push(now);
                }
            }
            for (at, first) in passed.iter().enumerate() {
                let within = passed[at..].iter().take_while(|own| **own - first < SECOND).count();
                prop_assert!(within <= (requests + burst) as usize, "{within} in a second");
            }
        }

        /// Whatever comes when, no stretch of a window's length has more than the limit.
        #[test]
        fn a_window_never_lets_more_pass_than_its_limit_in_any_stretch(
            requests in 1u32..40,
            pauses in prop::collection::vec(0u64..80_000_000, 1..400),
        ) {
            let meter = meter(Algorithm::SlidingWindow, requests, "1s", None);
            let (mut count, mut now, mut passed) = (meter.fresh(), 0, Vec::new());
            for pause in pauses {
                now += pause;
                if meter.take(&mut count, now).admitted {
                    passed.push(now);
                }
            }
            for (at, first) in passed.iter().enumerate() {
                let within = passed[at..].iter().take_while(|own| **own - first < SECOND).count();
                prop_assert!(within <= requests as usize, "{within} in a second");
            }
        }

        /// Who comes back when told passes; who comes back a moment earlier does not.
        #[test]
        fn coming_back_when_told_is_early_enough_and_no_later_than_needed(
            sliding in any::<bool>(),
            requests in 1u32..40,
            pauses in prop::collection::vec(0u64..80_000_000, 1..200),
        ) {
            let algorithm = if sliding { Algorithm::SlidingWindow } else { Algorithm::TokenBucket };
            let meter = meter(algorithm, requests, "1s", None);
            let (mut count, mut now) = (meter.fresh(), 0);
            for pause in pauses {
                now += pause;
                let verdict = meter.take(&mut count, now);
                prop_assert_eq!(verdict.retry == 0, verdict.remaining > 0);
                if !verdict.admitted {
                    let mut copy = count;
                    prop_assert!(!meter.take(&mut copy, now + verdict.retry - 1).admitted);
                    let mut copy = count;
                    prop_assert!(meter.take(&mut copy, now + verdict.retry).admitted);
                }
                prop_assert!(meter.is_idle(&count, now + verdict.reset));
            }
        }

        /// What is given back was never counted.
        #[test]
        fn giving_back_undoes_taking(sliding in any::<bool>(), requests in 1u32..20, taken in 0u32..20) {
            let algorithm = if sliding { Algorithm::SlidingWindow } else { Algorithm::TokenBucket };
            let meter = meter(algorithm, requests, "1s", None);
            let (mut count, now) = (meter.fresh(), 5 * SECOND);
            let admitted = (0..taken).filter(|_| meter.take(&mut count, now).admitted).count();
            (0..admitted).for_each(|_| meter.give_back(&mut count, now));
            prop_assert_eq!(meter.take(&mut count, now).remaining, requests - 1);
        }
    }

    #[test]
    fn what_passed_elsewhere_counts_although_it_is_too_much() {
        for algorithm in [Algorithm::TokenBucket, Algorithm::SlidingWindow] {
            let meter = meter(algorithm, 10, "1s", None);
            let mut count = meter.fresh();
            meter.add(&mut count, 15, SECOND);
            let verdict = meter.take(&mut count, SECOND);
            assert!(!verdict.admitted && verdict.remaining == 0, "{algorithm:?}");
            assert!(meter.take(&mut count, 3 * SECOND).admitted, "{algorithm:?}: it is forgotten in time");
        }
    }
}
