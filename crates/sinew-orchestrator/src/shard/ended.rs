//! The end of an instance: told, stored as history, and only then forgotten by the log.

use super::{Release, Shard, World, command};
use crate::{journal::Journal, record::Item};

impl<J: Journal, W: World> Shard<J, W> {
    pub(super) fn closed(&mut self, id: &str) {
        let Some(live) = self.live.get_mut(id) else { return };
        self.world.draw(&live.state, &mut live.spans);
        self.timers.clear(&live.id, &mut live.timers);
        let (record, told) = live.finish();
        for waiter in live.take_waiters() {
            waiter.send(Ok(told.clone()));
        }
        self.world.archive(record, live.children().collect());
    }

    pub(super) fn rested(&mut self, id: &str) {
        let Some(live) = self.live.get_mut(id) else { return };
        let (answer, waiters) = (command::shown(live), live.take_waiters());
        waiters.into_iter().for_each(|waiter| waiter.send(Ok(answer.clone())));
    }

    pub(super) fn archived(&mut self, id: String) {
        let Some(live) = self.live.get_mut(&id).filter(|live| !live.leaving) else { return };
        match (Item { archived: true, ..Item::new(&id) }).encode() {
            Ok(item) => {
                live.leaving = true;
                self.push(item, vec![Release::Forgotten { id }]);
            }
            Err(error) => tracing::error!(instance = id, %error, "the end of an instance cannot be written"),
        }
    }

    pub(super) fn forgotten(&mut self, id: &str) {
        let Some(live) = self.live.remove(id) else { return };
        self.cleaner.release(live.since, id);
        self.repeated.forget(id);
        self.discard(live.claims.into_iter().chain(live.obsolete).collect());
        if let Some(record) = live.ended {
            self.recent.push(record);
        }
    }
}
