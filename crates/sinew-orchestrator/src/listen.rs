//! Events on their way into instances: who listens for what, and how each event reaches each listener once.
//!
//! One task per shard reads the stream of events, in order, narrowed down to what its listeners want, and hands each event
//! to the shard for those it may concern; the engine has the last word. The entry that says what was heard names the
//! sequence of the event, so that an event given again is ignored.
//!
//! How far that went is in the shard's own log, as a [`Position`]: up to which sequence everybody who had begun to listen
//! before a moment has been offered everything. It is appended behind the entries it speaks of, so that whoever owns the
//! shard next reads on from there; nothing has to be acknowledged to the server. A listener who began later is offered
//! what was stored since its window began.

mod ears;
mod event;
mod index;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sinew_workflow::{Since, TaskId, Wanted};

pub(crate) use ears::{Ears, Told};
pub(crate) use event::{origin_of, read};
pub(crate) use index::subjects;

/// Settings of how events reach workflows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Seconds by which an event may be stored before a task begins to listen and still reach it; never one from before the
    /// instance started. Zero: only what is stored afterwards.
    pub early_window_seconds: u64,
}

/// A task that listens for events of the bus.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listener {
    pub(crate) id: String,
    pub(crate) task: TaskId,
    pub(crate) attempt: u32,
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) since: Since,
    /// The origin of the newest event it heard.
    pub(crate) last: Option<String>,
}

/// How far a shard has read: everybody who began to listen before `at` was offered everything up to `sequence`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) sequence: u64,
    pub(crate) at: i64,
}

impl Default for Listen {
    fn default() -> Self {
        Self { early_window_seconds: 60 }
    }
}

impl Listen {
    pub(crate) fn early_window(&self) -> Duration {
        Duration::from_secs(self.early_window_seconds)
    }
}

impl Listener {
    /// Returns from where on events count: behind this sequence, and stored at this moment or later.
    pub(crate) fn start(&self, position: Position, window: Duration) -> (u64, i64) {
        let last = self.last.as_deref().and_then(event::sequence_of).unwrap_or(0);
        let (opened, started) = (self.since.opened.as_millis(), self.since.started.as_millis());
        if opened < position.at {
            return (last.max(position.sequence), 0);
        }
        let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        (last, started.max(opened.saturating_sub(window)))
    }
}

#[cfg(test)]
mod tests {
    use sinew_workflow::Timestamp;

    use super::*;

    fn listener(opened: i64, started: i64, last: Option<&str>) -> Listener {
        let since =
            Since { opened: Timestamp::from_millis(opened), started: Timestamp::from_millis(started) };
        let (id, last) = ("i".to_owned(), last.map(str::to_owned));
        Listener { id, task: TaskId::WORKFLOW, attempt: 1, wanted: Vec::new(), since, last }
    }

    #[test]
    fn a_listener_goes_on_where_its_shard_was_or_where_its_window_begins() {
        let (position, window) = (Position { sequence: 40, at: 10_000 }, Duration::from_secs(2));
        let start = |opened, started, last| listener(opened, started, last).start(position, window);
        assert_eq!(start(9_999, 0, None), (40, 0), "it was offered everything up to there");
        assert_eq!(start(9_999, 0, Some("EVENTS/44")), (44, 0), "and heard more since");
        assert_eq!(start(10_000, 0, None), (0, 8_000), "the position may be older than it");
        assert_eq!(start(10_000, 9_500, Some("EVENTS/41")), (41, 9_500), "never from before the instance");
    }
}
