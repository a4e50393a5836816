//! The circuit breaker: closed while a dependency answers, open while it keeps failing, half open to find out. Pure:
//! times are given, measured from the dependency's beginning.

use std::time::Duration;

/// Slots of the window: old outcomes leave it a tenth at a time.
const SLOTS: usize = 10;

/// When to stop asking a service that keeps failing, and when to ask again.
///
/// Unknown outcomes (no answer in time), missing responders and retriable 5xx problems are failures. Every other answer
/// is a success, refusals among them: the service is well enough to refuse. What its caller dropped, and what was never
/// sent, does not count.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    pub(super) share: f64,
    pub(super) calls: u32,
    pub(super) window: Duration,
    pub(super) pause: Duration,
    pub(super) longest: Duration,
    pub(super) probes: u32,
    /// Failures in a row that open it, however few calls there were.
    pub(super) in_a_row: Option<u32>,
}

/// The right to make one attempt; it has to be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// In which state it was given: what began before the circuit opened says nothing about the time after.
    epoch: u64,
}

/// The breaker at work.
#[derive(Debug)]
pub(super) struct Circuit {
    settings: Breaker,
    state: State,
    epoch: u64,
    /// Openings since it was last closed.
    openings: u32,
    /// Failures since the last good answer.
    in_a_row: u32,
}

#[derive(Debug)]
enum State {
    Closed(Window),
    Open { until: Duration },
    HalfOpen { out: u32, passed: u32 },
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    passed: u32,
    failed: u32,
}

#[derive(Debug)]
struct Window {
    slots: [Slot; SLOTS],
    /// Number of the newest slot, counted from the beginning of time.
    newest: u64,
    /// Length of a slot, in nanoseconds.
    length: u64,
}

impl Default for Breaker {
    /// Opens when half of at least 20 calls within 10 seconds failed; asks again after one second, later and later up
    /// to 30 seconds; closes after three good answers.
    fn default() -> Self {
        Self {
            share: 0.5,
            calls: 20,
            window: Duration::from_secs(10),
            pause: Duration::from_secs(1),
            longest: Duration::from_secs(30),
            probes: 3,
            in_a_row: None,
        }
    }
}

impl Breaker {
    /// Opens when `share` (0 to 1) of at least `calls` calls within `window` failed.
    #[must_use]
    pub fn opens_at(mut self, share: f64, calls: u32, window: Duration) -> Self {
        (self.share, self.calls) = (share.clamp(0.01, 1.0), calls.max(1));
        self.window = window.max(Duration::from_millis(10));
        self
    }

    /// Opens also when `count` calls failed one after another, however few there were.
    #[must_use]
    pub fn opens_after(mut self, count: u32) -> Self {
        self.in_a_row = Some(count.max(1));
        self
    }

    /// Asks again after `first`; each time that fails doubles the pause, up to `longest`.
    #[must_use]
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        (self.pause, self.longest) = (first, longest.max(first));
        self
    }

    /// Closes after `count` good answers, asked for one by one or together; one failure opens it again.
    #[must_use]
    pub fn probes(mut self, count: u32) -> Self {
        self.probes = count.max(1);
        self
    }

    fn pause_after(&self, openings: u32) -> Duration {
        let doubled = 1u32.checked_shl(openings.saturating_sub(1)).and_then(|by| self.pause.checked_mul(by));
        doubled.map_or(self.longest, |pause| pause.min(self.longest))
    }
}

impl Circuit {
    pub(super) fn new(settings: Breaker) -> Self {
        let state = State::Closed(Window::new(settings.window));
        Self { settings, state, epoch: 0, openings: 0, in_a_row: 0 }
    }

    /// Lets an attempt through, or says how long to wait.
    pub(super) fn admit(&mut self, now: Duration) -> Result<Ticket, Duration> {
        if let State::Open { until } = self.state {
            if now < until {
                return Err(until - now);
            }
            self.enter(State::HalfOpen { out: 0, passed: 0 });
        }
        if let State::HalfOpen { out, passed } = &mut self.state {
            if *out + *passed >= self.settings.probes {
                return Err(self.settings.pause);
            }
            *out += 1;
        }
        Ok(Ticket { epoch: self.epoch })
    }

    /// Takes the outcome of an attempt; `None` says nothing about the dependency.
    pub(super) fn settle(&mut self, ticket: Ticket, passed: Option<bool>, now: Duration) {
        if ticket.epoch != self.epoch {
            return;
        }
        let full = match &mut self.state {
            State::Closed(window) => {
                let Some(passed) = passed else { return };
                window.count(passed, now);
                self.in_a_row = if passed { 0 } else { self.in_a_row.saturating_add(1) };
                let row = self.settings.in_a_row.is_some_and(|count| self.in_a_row >= count);
                !passed && (row || window.is_bad(&self.settings))
            }
            State::HalfOpen { out, passed: good } => {
                *out = out.saturating_sub(1);
                *good += u32::from(passed == Some(true));
                if *good >= self.settings.probes {
                    self.openings = 0;
                    let window = Window::new(self.settings.window);
                    return self.enter(State::Closed(window));
                }
                passed == Some(false)
            }
            State::Open { .. } => false,
        };
        if full {
            self.openings = self.openings.saturating_add(1);
            let until = now.saturating_add(self.settings.pause_after(self.openings));
            self.enter(State::Open { until });
        }
    }

    /// Says whether it is open or half open.
    pub(super) fn is_broken(&self) -> bool {
        !matches!(self.state, State::Closed(_))
    }

    /// Returns the state for people.
    pub(super) fn describe(&self) -> super::Circuit {
        match self.state {
            State::Closed(_) => super::Circuit::Closed,
            State::Open { .. } => super::Circuit::Open,
            State::HalfOpen { .. } => super::Circuit::HalfOpen,
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.in_a_row = 0;
        self.epoch += 1;
    }
}

impl Window {
    fn new(length: Duration) -> Self {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Self { slots: [Slot::default(); SLOTS], newest: 0, length: (nanos / SLOTS as u64).max(1) }
    }

    fn count(&mut self, passed: bool, now: Duration) {
        let number = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX) / self.length;
        let elapsed = number.saturating_sub(self.newest).min(SLOTS as u64);
        for step in 1..=elapsed {
            self.slots[index(self.newest + step)] = Slot::default();
        }
        if elapsed > 0 {
            // After a long pause every slot was cleared, whichever numbers they had.
            self.newest = number;
        }
        let slot = &mut self.slots[index(self.newest)];
        if passed {
            slot.passed = slot.passed.saturating_add(1);
        } else {
            slot.failed = slot.failed.saturating_add(1);
        }
    }

    fn is_bad(&self, settings: &Breaker) -> bool {
        let sum = |of: fn(&Slot) -> u32| self.slots.iter().map(|slot| u64::from(of(slot))).sum::<u64>();
        let (passed, failed) = (sum(|slot| slot.passed), sum(|slot| slot.failed));
        let all = passed + failed;
        all >= u64::from(settings.calls) && failed as f64 >= settings.share * all as f64
    }
}

fn index(number: u64) -> usize {
    (number % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests;
