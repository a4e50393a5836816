//! Facts about listening: what was heard, which filter it passed, and what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Data, Timer, is_false};
use crate::entry::Answer;
use crate::{Source, TaskId};

/// A task began to listen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Listened {
    pub(crate) task: TaskId,
    pub(crate) attempt: u32,
    pub(crate) source: Source,
    /// When it goes on with what it heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timer: Option<Timer>,
    /// The variables that hold the event and its number, when tasks run for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) each: Option<(String, String)>,
    /// Whether what is heard is forgotten once its tasks ran, since nothing will ever ask for it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) forgets: bool,
}

/// An event arrived that counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Heard {
    pub(crate) task: TaskId,
    pub(crate) attempt: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<String>,
    /// The filter it passed, those that end the listening counted after the others; none when there is no filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<u32>,
    /// The correlation keys it bound.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) keys: BTreeMap<String, Value>,
    /// What the task makes of it; nothing of an event that only ends the listening.
    #[serde(default, skip_serializing_if = "Data::is_same")]
    pub(crate) item: Data,
    /// Whether no more is listened for.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) last: bool,
}

/// The tasks for one event ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ItemLeft {
    pub(crate) task: TaskId,
    /// What is kept of it, unless it is the event itself.
    #[serde(default, skip_serializing_if = "Data::is_same")]
    pub(crate) output: Data,
    #[serde(default, skip_serializing_if = "Data::is_same")]
    pub(crate) context: Data,
}

/// Something that came in while the instance was paused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kept {
    Answer { task: TaskId, attempt: u32, answer: Answer },
    Event { task: TaskId, attempt: u32, event: Arc<Value>, origin: Option<String> },
    Timer { task: TaskId, timer: u32 },
}
