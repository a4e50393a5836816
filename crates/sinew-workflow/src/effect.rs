//! What an instance wants done in the world. Derived from the state, so recovery asks for the same things.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{TaskId, Timestamp};

/// Something to do on behalf of an instance, once the entries that caused it are durable.
///
/// Doing one twice must be harmless: a call repeats its key and attempt, an event its id.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Call an operation and answer with [`Input::Reply`](crate::Input::Reply).
    Call {
        /// The task to answer.
        task: TaskId,
        /// The attempt to answer, from 1.
        attempt: u32,
        /// The idempotency key.
        key: String,
        /// On an undo, the key of the call it undoes.
        forward_key: Option<String>,
        /// Who is asked to do what.
        target: Target,
        /// The request.
        body: Arc<Value>,
        /// Headers to send along.
        headers: BTreeMap<String, String>,
        /// How long to wait, in milliseconds, before answering that the outcome is unknown.
        timeout_ms: u64,
        /// Whether to deliver through a durable work stream instead of request and reply.
        command: bool,
        /// The name of the step, for people.
        name: String,
        /// Whether this undoes an earlier call.
        undo: bool,
    },
    /// Publish an event and answer with [`Input::Reply`](crate::Input::Reply) once it is stored.
    Emit {
        /// The task to answer.
        task: TaskId,
        /// The attempt to answer, from 1.
        attempt: u32,
        /// The event id, the same each time.
        id: String,
        /// The CloudEvent: its attributes and its `data`.
        event: Arc<Value>,
    },
    /// Answer with [`Input::Timer`](crate::Input::Timer) at the given moment, or as soon as possible after it.
    Timer {
        /// The task to answer.
        task: TaskId,
        /// The timer to answer, unique in the instance.
        timer: u32,
        /// When.
        at: Timestamp,
    },
}

/// The operation a call is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The service, such as `inventory`.
    pub service: String,
    /// The operation, such as `reserve`.
    pub operation: String,
    /// A subject that replaces the one the catalogue knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.service, self.operation)
    }
}
