//! How handlers are begun: in place where they are quick, in tasks of their own where they compute for long.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// A handler that takes longer than this until it first waits gets a task of its own.
const LIGHT: Duration = Duration::from_micros(30);
/// Messages after which the pace of such a handler is measured again.
const HEAVY_FOR: u32 = 1_024;

/// The pace of one handler.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Messages that still get tasks of their own, because one took long.
    heavy: AtomicU32,
}

impl Pace {
    /// Says whether the next `count` messages get tasks of their own.
    pub(crate) fn is_heavy(&self, count: usize) -> bool {
        let left = self.heavy.load(Ordering::Relaxed);
        if left > 0 {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.heavy.store(left.saturating_sub(count), Ordering::Relaxed);
        }
        left > 0
    }

    /// Takes note of how long `count` handlers took until they first waited.
    pub(crate) fn note(&self, elapsed: Duration, count: usize) {
        if elapsed > LIGHT * u32::try_from(count).unwrap_or(u32::MAX) {
            self.heavy.store(HEAVY_FOR, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_that_computes_for_long_gets_tasks_and_another_chance() {
        let pace = Pace::default();
        assert!(!pace.is_heavy(1));
        pace.note(LIGHT * 4, 4);
        assert!(!pace.is_heavy(1));
        pace.note(LIGHT * 5, 4);
        assert!(pace.is_heavy(1_000));
        assert!(pace.is_heavy(64));
        assert!(!pace.is_heavy(1));
    }
}
