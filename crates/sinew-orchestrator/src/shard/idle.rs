//! Who has had nothing to do for a while: a queue with one entry for each instance, looked at four times a second.

use std::{collections::VecDeque, sync::Arc};

use sinew_workflow::Timestamp;

/// Milliseconds to which moments are rounded up.
const GRAIN: i64 = 250;

/// Both in the order of their moments, as far as they are looked at in time.
#[derive(Default)]
pub(super) struct Idle {
    queue: VecDeque<(Timestamp, Arc<str>)>,
    /// Those who were looked at too soon: apart, as they would hold up who comes behind them.
    again: VecDeque<(Timestamp, Arc<str>)>,
}

impl Idle {
    /// Looks at an instance after `millis`.
    pub(super) fn push(&mut self, now: Timestamp, millis: u64, id: Arc<str>) {
        self.queue.push_back((moment(now, millis), id));
    }

    /// Looks at an instance again after `millis`.
    pub(super) fn push_again(&mut self, now: Timestamp, millis: u64, id: Arc<str>) {
        self.again.push_back((moment(now, millis), id));
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        let first = |queue: &VecDeque<(Timestamp, Arc<str>)>| queue.front().map(|(at, _)| *at);
        [first(&self.queue), first(&self.again)].into_iter().flatten().min()
    }

    /// Takes one to look at.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<Arc<str>> {
        let is_due =
            |queue: &&mut VecDeque<(Timestamp, Arc<str>)>| queue.front().is_some_and(|(at, _)| *at <= now);
        let queue = [&mut self.queue, &mut self.again].into_iter().find(is_due)?;
        queue.pop_front().map(|(_, id)| id)
    }
}

/// Returns the moment after `millis`, rounded up, but for one that is now.
fn moment(now: Timestamp, millis: u64) -> Timestamp {
    let at = now.after(millis).as_millis();
    let rounded = at.checked_add(GRAIN - 1).map_or(at, |at| at / GRAIN * GRAIN);
    Timestamp::from_millis(if millis == 0 { at } else { rounded })
}
