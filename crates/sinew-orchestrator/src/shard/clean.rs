//! Keeping the log as short as what lives in it: whole states of old instances are written again, then what stands
//! before the oldest needed record is forgotten.

use super::{Release, Shard};
use crate::{journal::Journal, record::Item};

/// States written again in one pass, so that a pass never holds up the shard.
const PER_PASS: usize = 256;

impl<J: Journal> Shard<J> {
    /// Runs a pass if enough was appended since the last one.
    pub(super) fn clean(&mut self) {
        let every = self.parts.config.clean_every;
        if self.last < self.cleaned + every {
            return;
        }
        self.cleaned = self.last;
        let horizon = self.live.values().filter(|live| live.stored).map(|live| live.since).min().unwrap_or(self.last);
        let forget = self.journal.forget(horizon);
        self.work.spawn(async move {
            if let Err(error) = forget.await {
                tracing::debug!(%error, "the log could not be shortened this time");
            }
        });
        let old = self.last.saturating_sub(every);
        let laggards: Vec<Item> = self
            .live
            .iter()
            .filter(|(_, live)| live.stored && live.since < old)
            .take(PER_PASS)
            .map(|(id, live)| live.snapshot(id))
            .collect();
        for item in laggards {
            let id = item.id.clone();
            self.push(item, vec![Release::Began { id }]);
        }
    }
}
