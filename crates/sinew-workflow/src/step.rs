//! The timeline of an instance: what users see and exported spans are drawn from.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Fault, Timestamp};

/// A task within one instance, numbered in the order tasks started. Zero is the workflow itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub(crate) u32);

/// One task of the timeline, in the order tasks started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The task, unique in the instance.
    pub task: TaskId,
    /// The task that contains this one, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    /// The name the author gave it.
    pub name: Arc<str>,
    /// Where the definition declares it, a JSON pointer.
    pub pointer: Arc<str>,
    /// The keyword of the task: `call`, `set`, `switch`, …
    pub kind: Arc<str>,
    /// How far it got.
    pub status: StepStatus,
    /// When it started first.
    pub started_at: Timestamp,
    /// When it ended, unless it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The requests or events it sent, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Why it failed, when it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Its compensation, once one is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
    /// The idempotency key, the same over retries and restarts.
    pub key: Arc<str>,
    /// The number of its last attempt, where those to listen count as well.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) sent: u32,
}

/// How far a [`Step`] got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepStatus {
    /// It is working, or one of its tasks is.
    Running,
    /// It waits for a moment in time, or for events.
    Waiting,
    /// It finished, and what it did counts.
    Completed,
    /// It was definitely not done: the service refused or was never reached.
    Refused,
    /// Nobody knows whether it was done: the reply was late, lost or interrupted.
    Unknown,
    /// It raised an error of its own, or one of its tasks did.
    Failed,
    /// Its `if` said no.
    Skipped,
}

/// One request or event sent by a task, or one run of a compensation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counts from 1 within the task.
    pub number: u32,
    /// When it was sent.
    pub started_at: Timestamp,
    /// When its outcome was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The outcome, unless it is in flight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AttemptOutcome>,
    /// What went wrong, when something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// The person who answered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Who claimed it, where a person was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Box<Claims>>,
}

/// Who had a question to themselves, the newest last: the newest 100.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Claims(Vec<Claim>);

/// A person who has a question to themselves for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Who it is.
    pub who: String,
    /// Since when.
    pub at: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

impl Claims {
    /// Claims kept of one attempt.
    const MOST: usize = 100;

    /// Returns them in order.
    pub fn iter(&self) -> impl Iterator<Item = &Claim> {
        self.0.iter()
    }

    /// Returns who has it at a moment.
    #[must_use]
    pub fn at(&self, moment: Timestamp) -> Option<&Claim> {
        self.0.last().filter(|claim| claim.until > moment)
    }

    /// Notes one; who has it already goes on having it until then.
    pub(crate) fn note(&mut self, who: &str, at: Timestamp, until: Timestamp) {
        match self.0.last_mut().filter(|last| last.who == who && last.until > at) {
            Some(last) => last.until = until,
            None => self.0.push(Claim { who: who.to_owned(), at, until }),
        }
        if self.0.len() > Self::MOST {
            self.0.remove(0);
        }
    }
}

/// How an [`Attempt`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptOutcome {
    /// It was done.
    Completed,
    /// The service said no and did nothing.
    Refused,
    /// It never reached a service.
    NotSent,
    /// It may or may not have been done.
    Unknown,
}

/// The compensation of one [`Step`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Undo {
    /// How far it got.
    pub status: UndoStatus,
    /// When it started first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The runs of the compensation, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Why it is stuck, or the last run failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Who decided, and why, when an operator did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided: Option<Decision>,
    /// Whether it is undone because its branch of a `fork` lost, and not because the workflow is.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lost: bool,
}

/// How far an [`Undo`] got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UndoStatus {
    /// Its turn has not come.
    Pending,
    /// It runs, or waits for its next run.
    Running,
    /// It finished: the step is undone.
    Compensated,
    /// Its retries are spent: an operator must decide.
    Stuck,
    /// An operator let it be.
    Skipped,
    /// An operator undid the step by hand.
    Resolved,
    /// An operator gave the whole saga up.
    Abandoned,
}

/// An operator's decision on a stuck compensation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Who decided.
    pub who: String,
    /// Why.
    pub why: String,
    /// When.
    pub at: Timestamp,
    /// The value given with `resolve`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<serde_json::Value>,
}

impl TaskId {
    /// The workflow itself, which owns its deadline.
    pub const WORKFLOW: Self = Self(0);

    /// Makes the id of the task with this number.
    #[must_use]
    pub const fn of(number: u32) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Step {
    /// Says whether its branch of a `fork` lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.undo.as_ref().is_some_and(|undo| undo.lost)
    }
}

impl Undo {
    /// Plans a compensation.
    pub(crate) fn pending(lost: bool) -> Self {
        let status = UndoStatus::Pending;
        Self {
            status,
            started_at: None,
            ended_at: None,
            attempts: Vec::new(),
            fault: None,
            decided: None,
            lost,
        }
    }
}

impl UndoStatus {
    /// Says whether this compensation has its one outcome.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Compensated | Self::Skipped | Self::Resolved | Self::Abandoned)
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_false(value: &bool) -> bool {
    !value
}
