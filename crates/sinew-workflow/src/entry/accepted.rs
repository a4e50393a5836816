//! Facts about work that was taken on and is done later: on which terms, and signs of life.

use serde::{Deserialize, Serialize};

use super::Timer;
use crate::{TaskId, Timestamp};

/// Somebody took the work of an attempt on, or changed the terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Accepted {
    pub(crate) task: TaskId,
    pub(crate) attempt: u32,
    pub(crate) taken: Taken,
    /// When the instance gives up waiting for the result, or for the next sign of life.
    pub(crate) timer: Timer,
}

/// On which terms work was taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// When it has to be done.
    pub(crate) until: Timestamp,
    /// The longest silence, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) heartbeat_ms: Option<u64>,
}

impl Taken {
    /// Returns when waiting ends if nothing is heard after `at`.
    pub(crate) fn lapse(&self, at: Timestamp) -> Timestamp {
        self.heartbeat_ms.map_or(self.until, |millis| at.after(millis).min(self.until))
    }
}
