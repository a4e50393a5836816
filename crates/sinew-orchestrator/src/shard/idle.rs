//! Who has had nothing to do for a while: a queue with one entry for each instance, looked at four times a second.

use std::{collections::VecDeque, sync::Arc};

use sinew_workflow::Timestamp;

/// Milliseconds to which moments are rounded up.
const GRAIN: i64 = 250;

#[derive(Default)]
pub(super) struct Idle {
    /// In the order of their moments, as far as they are looked at in time.
    queue: VecDeque<(Timestamp, Arc<str>)>,
}

impl Idle {
    /// Looks at an instance again after `millis`.
    pub(super) fn push(&mut self, now: Timestamp, millis: u64, id: Arc<str>) {
        let at = now.after(millis).as_millis();
        let rounded = at.checked_add(GRAIN - 1).map_or(at, |at| at / GRAIN * GRAIN);
        self.queue.push_back((Timestamp::from_millis(if millis == 0 { at } else { rounded }), id));
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.queue.front().map(|(at, _)| *at)
    }

    /// Takes one to look at.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<Arc<str>> {
        if self.next()? > now {
            return None;
        }
        self.queue.pop_front().map(|(_, id)| id)
    }
}
