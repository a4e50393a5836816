//! What a task has heard so far.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Frame, State, Work};
use crate::{Source, TaskId};

/// How many origins are remembered, the newest: an event comes again soon or never.
const MAX_ORIGINS: usize = 1_024;

/// A task that listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Listening {
    pub(crate) source: Source,
    #[serde(default)]
    pub(crate) correlation: Correlation,
    /// Events whose tasks have yet to run.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(crate) queue: VecDeque<Arc<Value>>,
    /// What is kept of each event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) results: Vec<Arc<Value>>,
    /// How many events went to their tasks, or to the results.
    #[serde(default)]
    pub(crate) taken: u32,
    /// The event whose tasks run.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::present")]
    pub(crate) item: Option<Arc<Value>>,
    /// Where the newest event came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<String>,
    /// Whether no more is listened for.
    #[serde(default)]
    pub(crate) ended: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) each: Option<(String, String)>,
    #[serde(default)]
    pub(crate) forgets: bool,
}

/// Which events came, and what binds them to each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Correlation {
    /// The filters that have their event, those that end the listening counted after the others.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) matched: BTreeSet<u32>,
    /// The correlation keys.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) keys: BTreeMap<String, Value>,
    /// Where the newest events came from.
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    pub(crate) origins: VecDeque<String>,
}

impl Correlation {
    /// Says whether an event of this origin came before.
    pub(crate) fn knows(&self, origin: Option<&str>) -> bool {
        origin.is_some_and(|origin| self.origins.iter().rev().any(|known| known == origin))
    }

    /// Notes an event.
    pub(crate) fn note(&mut self, origin: Option<&str>, filter: Option<u32>, keys: &BTreeMap<String, Value>) {
        if let Some(origin) = origin {
            remember(&mut self.origins, origin);
        }
        self.matched.extend(filter);
        self.keys.extend(keys.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
}

/// Notes the origin of an event among the newest.
pub(crate) fn remember(origins: &mut VecDeque<String>, origin: &str) {
    if origins.len() >= MAX_ORIGINS {
        origins.pop_front();
    }
    origins.push_back(origin.to_owned());
}

impl Listening {
    /// Says whether nothing is left to do but to go on with what was heard.
    pub(crate) fn is_over(&self) -> bool {
        self.ended && self.item.is_none() && self.queue.is_empty()
    }
}

impl State {
    /// Returns the origin of the newest event that a task which listens heard: a host that hands events in by their order
    /// goes on behind it.
    #[must_use]
    pub fn last_heard(&self, task: TaskId) -> Option<&str> {
        self.frames.get(&task)?.listening()?.last.as_deref()
    }
}

impl Frame {
    pub(crate) fn listening(&self) -> Option<&Listening> {
        if let Work::Listen(listening) = &self.work { Some(listening) } else { None }
    }
}
