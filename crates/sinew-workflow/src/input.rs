//! Everything that can happen to an instance, in one closed list.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Fault, TaskId, Timestamp};

/// Something that happened to an instance.
///
/// Inputs may repeat and may arrive late: the engine ignores those that no longer matter.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The instance begins. Repeating it with the same id changes nothing.
    Start {
        /// The instance id: unique among all instances, and the first part of every key.
        id: String,
        /// The input as the caller gave it.
        input: Value,
        /// When.
        at: Timestamp,
        /// An opaque value kept for the caller, such as a span context.
        trace: Option<String>,
    },
    /// The instance begins as the child of another, which may still undo what it did after it completed: it then stays
    /// open until [`Undo`](Self::Undo) or [`Release`](Self::Release).
    StartChild {
        /// The instance id.
        id: String,
        /// The input as the parent gave it.
        input: Value,
        /// Who waits for it.
        parent: Parent,
        /// When.
        at: Timestamp,
        /// An opaque value kept for the caller, such as a span context.
        trace: Option<String>,
    },
    /// The answer to an [`Effect::Call`](crate::Effect::Call) or [`Effect::Emit`](crate::Effect::Emit).
    Reply {
        /// The task the effect named.
        task: TaskId,
        /// The attempt the effect named.
        attempt: u32,
        /// What came of it.
        outcome: Outcome,
        /// When.
        at: Timestamp,
    },
    /// The answer of a person to a `call: human`, as [`Reply`](Self::Reply), with their name.
    Decision {
        /// The task the effect named.
        task: TaskId,
        /// The attempt the effect named.
        attempt: u32,
        /// What they decided.
        outcome: Outcome,
        /// Who they are; kept in the timeline.
        who: String,
        /// When.
        at: Timestamp,
    },
    /// A person wants to answer a `call: human`, so that nobody else does meanwhile; or does not want to any more.
    Claim {
        /// The task the effect named.
        task: TaskId,
        /// The attempt the effect named.
        attempt: u32,
        /// Who they are; kept in the timeline.
        who: String,
        /// For how long, in milliseconds; `None` releases it.
        for_ms: Option<u64>,
        /// When.
        at: Timestamp,
    },
    /// Somebody took the work of an [`Effect::Call`](crate::Effect::Call) on and will answer it later, however often the
    /// instance is recovered meanwhile. Given again, the terms are new.
    Accepted {
        /// The task the effect named.
        task: TaskId,
        /// The attempt the effect named.
        attempt: u32,
        /// How long it may take.
        terms: Terms,
        /// When.
        at: Timestamp,
    },
    /// A sign of life of work that was taken on.
    Heartbeat {
        /// The task the effect named.
        task: TaskId,
        /// The attempt the effect named.
        attempt: u32,
        /// When.
        at: Timestamp,
    },
    /// An event an [`Effect::Listen`](crate::Effect::Listen) waits for.
    Event {
        /// The task the effect named.
        task: TaskId,
        /// The attempt the effect named.
        attempt: u32,
        /// The CloudEvent: its attributes and its `data`; for a protocol, the message.
        event: Arc<Value>,
        /// Where it came from and which it was there, so that the same one given again is ignored.
        origin: Option<String>,
        /// When.
        at: Timestamp,
    },
    /// An [`Effect::Timer`](crate::Effect::Timer) is due.
    Timer {
        /// The task the effect named.
        task: TaskId,
        /// The timer the effect named, which tells stale ones apart.
        timer: u32,
        /// When.
        at: Timestamp,
    },
    /// Somebody wants the instance to stop. Ignored once it has ended or is being undone.
    Cancel {
        /// Why.
        reason: Option<String>,
        /// When.
        at: Timestamp,
    },
    /// The parent undoes what this child did: a running one stops as by a cancel, and is undone whatever its policy says.
    Undo {
        /// Why.
        reason: Option<String>,
        /// When.
        at: Timestamp,
    },
    /// The parent closed without undoing this child: what it did stands. Ignored unless the child waits for it.
    Release {
        /// When.
        at: Timestamp,
    },
    /// Somebody wants the instance to end at once, with nothing undone: what could be is given up, and shown as such.
    Terminate {
        /// Why.
        reason: Option<String>,
        /// When.
        at: Timestamp,
    },
    /// Nothing new is to begin until [`Resume`](Self::Resume); what comes in meanwhile is kept. Compensations go on.
    Pause {
        /// When.
        at: Timestamp,
    },
    /// The instance goes on, with what came in meanwhile first. Ignored unless it is paused.
    Resume {
        /// When.
        at: Timestamp,
    },
    /// An operator decides about the first stuck compensation.
    Operator {
        /// The decision.
        action: Operate,
        /// Who decides.
        who: String,
        /// Why.
        why: String,
        /// When.
        at: Timestamp,
    },
}

/// Who waits for a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The instance.
    pub id: String,
    /// Its task that runs the child.
    pub task: TaskId,
    /// The attempt of that task.
    pub attempt: u32,
}

/// On which terms work is taken on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The longest silence, in milliseconds: without a heartbeat for so long the work counts as lost. At least a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
    /// How long it may take, in milliseconds; a day where nothing is said, and at most a year.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done, and this is the reply.
    Completed(Value),
    /// The service said no: definite, it did nothing.
    Refused(Fault),
    /// Nobody was there to receive it: definite, nothing happened.
    NotSent(Fault),
    /// The reply is late or lost: it may have been done.
    Unknown(Fault),
}

/// What an operator can do about a stuck compensation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operate {
    /// Run it again, with fresh retries.
    Retry,
    /// Leave the step as it is and go on.
    Skip,
    /// The step was undone by hand; the value is kept in the timeline.
    Resolve(Value),
    /// Give up undoing this saga.
    Abandon,
}

impl Input {
    /// Returns when it happened.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        match self {
            Self::Start { at, .. }
            | Self::StartChild { at, .. }
            | Self::Undo { at, .. }
            | Self::Release { at }
            | Self::Terminate { at, .. }
            | Self::Pause { at }
            | Self::Resume { at }
            | Self::Reply { at, .. }
            | Self::Decision { at, .. }
            | Self::Claim { at, .. }
            | Self::Accepted { at, .. }
            | Self::Heartbeat { at, .. }
            | Self::Event { at, .. }
            | Self::Timer { at, .. }
            | Self::Cancel { at, .. }
            | Self::Operator { at, .. } => *at,
        }
    }
}
