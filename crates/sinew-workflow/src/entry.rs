//! What the log of an instance holds: facts with their results, so that replay never evaluates anything.

mod accepted;
mod listening;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::{Decision, Fault, Outcome, Parent, Reference, Status, Target, TaskId, Timestamp};
pub(crate) use accepted::{Accepted, Taken};
pub(crate) use listening::{Heard, ItemLeft, Kept, Listened};

/// One fact about an instance, as the engine recorded it.
///
/// Opaque on purpose: [`apply`](crate::apply) is the only reader. It serializes to any self-describing format; the
/// entries of one [`run`](crate::run) belong together and must be stored together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When it happened.
    pub at: Timestamp,
    #[serde(rename = "is")]
    pub(crate) fact: Fact,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fact {
    Started(Box<Started>),
    Entered(Box<Entered>),
    Skipped(Box<Entered>),
    Called {
        task: TaskId,
        attempt: u32,
        request: Arc<Request>,
        #[serde(default, skip_serializing_if = "Data::is_same")]
        body: Data,
    },
    Emitted {
        task: TaskId,
        attempt: u32,
        id: String,
        event: Arc<Value>,
    },
    Waiting {
        task: TaskId,
        timer: Timer,
    },
    Answered {
        task: TaskId,
        attempt: u32,
        outcome: Answer,
    },
    /// A person answered: the entry behind this one says what.
    Signed {
        task: TaskId,
        who: String,
    },
    /// A person has a question to themselves until then; in the past when it was released.
    Claimed {
        task: TaskId,
        who: String,
        until: Timestamp,
    },
    /// The work of an attempt was taken on, or goes on.
    Accepted(Box<Accepted>),
    Listened(Box<Listened>),
    Heard(Box<Heard>),
    /// The tasks for the next event heard began.
    ItemOpened {
        task: TaskId,
    },
    ItemLeft(Box<ItemLeft>),
    /// A task goes on with what it heard.
    ListeningEnded {
        task: TaskId,
        attempt: u32,
    },
    /// What was in flight for a task is given up: it is about to be closed from outside.
    Stopped {
        task: TaskId,
        attempt: u32,
        /// Whether it was left as a command, which may still wait for its service.
        #[serde(default, skip_serializing_if = "is_false")]
        command: bool,
    },
    Opened(Box<Opened>),
    Left(Box<Left>),
    Ended(Box<Ended>),
    UndoStarted(Box<UndoStarted>),
    UndoFailed(Box<UndoFailed>),
    UndoEnded {
        task: TaskId,
    },
    Decided {
        of: TaskId,
        action: Decided,
        decision: Box<Decision>,
    },
    GaveUp {
        fault: Fault,
    },
    Settled {
        abandoned: bool,
    },
    /// The parent of a completed child wants it undone.
    Recalled {
        fault: Box<Fault>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timer: Option<Timer>,
    },
    /// The instance ended with nothing undone.
    Terminated {
        fault: Box<Fault>,
    },
    Paused,
    Resumed,
    Kept(Box<Kept>),
}

/// The instance began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) id: Arc<str>,
    pub(crate) workflow: Arc<Reference>,
    pub(crate) input: Arc<Value>,
    #[serde(default, skip_serializing_if = "Data::is_same")]
    pub(crate) data: Data,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<Timer>,
    /// Whether the definition compensates or commits anything.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) saga: bool,
    /// Who waits for it, when it is a child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<Parent>,
}

/// A task began, or was skipped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entered {
    pub(crate) task: TaskId,
    pub(crate) parent: TaskId,
    pub(crate) name: Arc<str>,
    pub(crate) pointer: Arc<str>,
    pub(crate) kind: Arc<str>,
    pub(crate) key: Arc<str>,
    /// How often its list ran it before, when `then` jumps backwards.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) visit: u32,
    /// The transformed input, unless it is the parent's data as it is.
    #[serde(default, skip_serializing_if = "Data::is_same")]
    pub(crate) input: Data,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<Timer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) branch: Option<u32>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) compensate: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) pivot: bool,
}

/// A composite began a part of itself: its body, another try, its handler, an iteration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(crate) task: TaskId,
    pub(crate) part: Part,
    /// The data its tasks start from, unless it is the task's input.
    #[serde(default, skip_serializing_if = "Data::is_same")]
    pub(crate) data: Data,
    /// Variables its tasks see.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) vars: BTreeMap<String, Arc<Value>>,
    /// The items of a loop, with its first iteration only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) items: Option<Arc<Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timer: Option<Timer>,
}

/// Which part of a composite runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// The body, for the first time.
    #[default]
    First,
    /// The body again, after so many times: a retry of `try`, an iteration of `for`.
    Again(u32),
    /// The pause before the body runs again, after so many times.
    Pause(u32),
    /// The handler of a `catch`.
    Catch,
}

/// A task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Left {
    pub(crate) task: TaskId,
    /// The output, unless it is what the task had at hand: the reply, its data, its input.
    #[serde(default, skip_serializing_if = "Data::is_same")]
    pub(crate) output: Data,
    #[serde(default, skip_serializing_if = "Data::is_same")]
    pub(crate) context: Data,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<Box<Fault>>,
    /// The case a `switch` took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) chosen: Option<Arc<str>>,
    /// The branch that won a `fork`: the others are undone at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) winner: Option<TaskId>,
}

/// The forward work is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) status: Status,
    #[serde(default, skip_serializing_if = "Data::is_same")]
    pub(crate) output: Data,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<Box<Fault>>,
    /// Why what was done must be undone, if it must.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trigger: Option<Trigger>,
    /// The bound on undoing everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timer: Option<Timer>,
}

/// A compensation began to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct UndoStarted {
    pub(crate) task: TaskId,
    pub(crate) of: TaskId,
    pub(crate) attempt: u32,
}

/// A run of a compensation failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct UndoFailed {
    pub(crate) task: TaskId,
    pub(crate) fault: Box<Fault>,
    /// When it runs again; never by itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timer: Option<Timer>,
    /// Whether the others wait until an operator decided.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) park: bool,
}

/// What an attempt asks for, without its body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) target: Target,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) timeout_ms: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) command: bool,
}

/// What came of an attempt, with the reply shared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    Completed(Arc<Value>),
    Refused(Fault),
    NotSent(Fault),
    Unknown(Fault),
}

/// Why a saga is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Trigger {
    Fault,
    Timeout,
    Cancel,
    Request,
    /// The parent undoes its child.
    Parent,
}

/// What an operator decided, without the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Decided {
    Retry,
    Skip,
    Resolve,
    Abandon,
}

/// A timer an entry started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Timer {
    pub(crate) number: u32,
    pub(crate) at: Timestamp,
}

/// A value, or word that it is one the state already has: most data passes through tasks unchanged.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Data {
    #[default]
    Same,
    Is(Arc<Value>),
}

impl Entry {
    /// Returns the name of the fact, for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.fact {
            Fact::Started(_) => "started",
            Fact::Entered(_) => "entered",
            Fact::Skipped(_) => "skipped",
            Fact::Called { .. } => "called",
            Fact::Emitted { .. } => "emitted",
            Fact::Waiting { .. } => "waiting",
            Fact::Answered { .. } => "answered",
            Fact::Signed { .. } => "signed",
            Fact::Claimed { .. } => "claimed",
            Fact::Accepted(_) => "accepted",
            Fact::Listened(_) => "listened",
            Fact::Heard(_) => "heard",
            Fact::ItemOpened { .. } => "item-opened",
            Fact::ItemLeft(_) => "item-left",
            Fact::ListeningEnded { .. } => "listening-ended",
            Fact::Stopped { .. } => "stopped",
            Fact::Opened(_) => "opened",
            Fact::Left(_) => "left",
            Fact::Ended(_) => "ended",
            Fact::UndoStarted(_) => "undo-started",
            Fact::UndoFailed(_) => "undo-failed",
            Fact::UndoEnded { .. } => "undo-ended",
            Fact::Decided { .. } => "decided",
            Fact::GaveUp { .. } => "gave-up",
            Fact::Settled { .. } => "settled",
            Fact::Recalled { .. } => "recalled",
            Fact::Terminated { .. } => "terminated",
            Fact::Paused => "paused",
            Fact::Resumed => "resumed",
            Fact::Kept(_) => "kept",
        }
    }
}

impl Data {
    pub(crate) fn is_same(&self) -> bool {
        matches!(self, Self::Same)
    }

    pub(crate) fn or(&self, same: &Arc<Value>) -> Arc<Value> {
        match self {
            Self::Same => Arc::clone(same),
            Self::Is(value) => Arc::clone(value),
        }
    }

    /// Notes a value, unless it is the very one the state has.
    pub(crate) fn unless(value: Arc<Value>, same: &Arc<Value>) -> Self {
        if Arc::ptr_eq(&value, same) { Self::Same } else { Self::Is(value) }
    }
}

// Absence means "same", so a present null must stay a value: hence no `Option`.
impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Same => serializer.serialize_unit(),
            Self::Is(value) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self::Is(Arc::new(value)))
    }
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Completed(value) => Self::Completed(Arc::new(value)),
            Outcome::Refused(fault) => Self::Refused(fault),
            Outcome::NotSent(fault) => Self::NotSent(fault),
            Outcome::Unknown(fault) => Self::Unknown(fault),
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}
