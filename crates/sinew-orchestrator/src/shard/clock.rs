//! The time of a shard: never earlier than before, and never at a stand.

use sinew_workflow::Timestamp;
use tokio::time::Instant;

use crate::view;

/// Follows the wall clock forward. Where that is set back, time goes on from where it was, so that neither the order of
/// the log nor a timer suffers from it.
pub(super) struct Clock {
    last: i64,
    read: Instant,
}

impl Clock {
    /// Starts a clock that shows at least `after`: the machine of the owner before may have been ahead.
    pub(super) fn after(after: i64) -> Self {
        Self { last: after, read: Instant::now() }
    }

    pub(super) fn now(&mut self) -> Timestamp {
        self.now_with(view::now_ms())
    }

    fn now_with(&mut self, wall: i64) -> Timestamp {
        let whole = i64::try_from(self.read.elapsed().as_millis()).unwrap_or(0);
        let passed = self.last.saturating_add(whole);
        if wall >= passed || whole > 0 {
            // Fractions of a millisecond are not lost: reading is only noted when a whole one has passed.
            (self.last, self.read) = (wall.max(passed), Instant::now());
        }
        Timestamp::from_millis(self.last)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_set_back_goes_on_from_where_it_was() {
        let mut clock = Clock::after(0);
        assert_eq!(clock.now_with(5_000).as_millis(), 5_000);
        assert_eq!(clock.now_with(1_000).as_millis(), 5_000);
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(clock.now_with(1_250).as_millis(), 5_250, "time passes although the wall clock is behind");
        assert_eq!(clock.now_with(9_000).as_millis(), 9_000);
    }
}
