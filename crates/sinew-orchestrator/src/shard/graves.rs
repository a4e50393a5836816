//! Children that were undone before they started: they never start, however late the word to start them comes.
//!
//! A grave is a note in the log of the shard the child would live in. It is kept for a day, which is longer than any word
//! is under way, and then until the cleaner would have to write it again.

use std::time::Duration;

use serde_json::Value;
use sinew_workflow::Timestamp;

use super::{Answer, Reply, Shard, World};
use crate::journal::Journal;

/// What the name of the note begins with.
const KIND: &str = "grave/";
/// How long a child may not start.
const KEPT: Duration = Duration::from_secs(24 * 3_600);

/// Says whether a note is a grave that is not needed any more.
pub(super) fn is_old(name: &str, until: &Value, now: Timestamp) -> bool {
    name.starts_with(KIND) && until.as_i64().is_none_or(|until| until < now.as_millis())
}

impl<J: Journal, W: World> Shard<J, W> {
    /// Sees to it that an instance nobody knows never starts; the answer leaves when that is in the log.
    pub(super) fn bury(&mut self, id: &str, reply: Reply) {
        if !self.live.contains_key(id) && !self.recent.has(id) {
            let until = self.clock.now().after(u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX));
            self.write_note(&name_of(id), until.as_millis().into(), None, false);
            return self.answer(reply, Ok(Answer::Unknown));
        }
        self.tell(id, reply);
    }

    /// Says whether an instance was undone before it started.
    pub(super) fn is_buried(&self, id: &str) -> bool {
        self.notes.has(&name_of(id))
    }
}

fn name_of(id: &str) -> String {
    format!("{KIND}{id}")
}
