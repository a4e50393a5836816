//! Where an instance stands: the fold of its entries, and nothing that is not in them.

mod accepted;
mod child;
mod due;
mod fold;
mod listening;
mod question;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::entry::{Kept, Part, Request, Taken, Timer, Trigger};
pub use accepted::Standing;
pub use fold::apply;
pub(crate) use listening::{Correlation, Listening, remember};
pub use question::Question;

use crate::{Error, Fault, Parent, Reference, Step, TaskId, Timestamp};

/// An instance between two inputs.
///
/// Made by [`apply`](crate::apply) alone, comparable, and serializable to any self-describing format, so that it can be
/// stored as a snapshot. A copy shares the tasks it does not change, so that a host can decide on a copy and keep the
/// original until what was decided is safe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    pub(crate) id: Arc<str>,
    pub(crate) workflow: Arc<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<Arc<str>>,
    pub(crate) input: Arc<Value>,
    pub(crate) context: Arc<Value>,
    pub(crate) status: Option<Status>,
    pub(crate) saga: Saga,
    /// Whether the definition compensates or commits anything.
    pub(crate) is_saga: bool,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub(crate) output: Option<Arc<Value>>,
    pub(crate) fault: Option<Fault>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
    /// How many entries it is the fold of.
    pub(crate) folded: u64,
    pub(crate) next_task: u32,
    pub(crate) next_timer: u32,
    pub(crate) steps: Vec<Arc<Step>>,
    /// The open tasks, the workflow itself among them.
    pub(crate) frames: BTreeMap<TaskId, Arc<Frame>>,
    /// What may have to be undone.
    pub(crate) records: BTreeMap<TaskId, Record>,
    pub(crate) recovery: Option<Recovery>,
    /// Whether a pivot completed.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) committed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<Parent>,
    /// The tasks that ran other workflows as children and waited for them.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) children: BTreeSet<TaskId>,
    /// Where the newest events came from that any task heard.
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    pub(crate) heard: VecDeque<String>,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) paused: bool,
    /// What came in since it is paused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) kept: Vec<Kept>,
}

/// How the forward work of an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is being done.
    Running,
    /// It is done.
    Completed,
    /// An error nobody caught, or the deadline, ended it.
    Faulted,
    /// Somebody ended it.
    Cancelled,
}

/// How undoing the work of an instance stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Saga {
    /// There is nothing to undo.
    #[default]
    None,
    /// Compensations run.
    Compensating,
    /// Every eligible task is undone, or an operator saw to it.
    Compensated,
    /// A compensation has spent its retries: an operator must decide.
    Stuck,
    /// An operator gave up.
    Abandoned,
    /// The work stands: the workflow completed, or passed its pivot.
    Committed,
    /// The work is done and can still be undone: the parent of this child decides.
    Pending,
}

/// An open task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Frame {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<TaskId>,
    /// The compensation this task is part of: the frame that runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) undo: Option<TaskId>,
    pub(crate) name: Arc<str>,
    pub(crate) pointer: Arc<str>,
    pub(crate) key: Arc<str>,
    pub(crate) visit: u32,
    pub(crate) started_at: Timestamp,
    /// The input before `input.from`.
    pub(crate) raw: Arc<Value>,
    pub(crate) input: Arc<Value>,
    /// What the next task inside gets.
    pub(crate) data: Arc<Value>,
    /// Variables the tasks inside see.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) vars: BTreeMap<String, Arc<Value>>,
    pub(crate) part: Part,
    /// How often each task inside was entered in this part.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) visits: BTreeMap<Arc<str>, u32>,
    /// The items of a loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) items: Option<Arc<Value>>,
    /// What the last task inside chose, when it had a choice where to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chosen: Option<Arc<str>>,
    /// Which branch of a fork this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) branch: Option<u32>,
    /// The outputs of a fork's branches so far.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) results: BTreeMap<u32, Arc<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<Timer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timer: Option<Timer>,
    pub(crate) attempts: u32,
    pub(crate) work: Work,
    /// The reply, once there is one.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<Arc<Value>>,
    /// Whether anything it sent was done or may have been done.
    pub(crate) touched: bool,
    /// Whether its last attempt was definitely not done.
    pub(crate) refused: bool,
    pub(crate) compensate: bool,
    pub(crate) pivot: bool,
    /// On the frame that runs a compensation: the step it undoes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) undoes: Option<TaskId>,
    /// On the frame that runs a compensation: attempts that no longer count, since an operator asked again.
    pub(crate) spent: u32,
    /// On the frame that runs a compensation: `$context` as it was then.
    pub(crate) context: Arc<Value>,
}

/// What an open task waits for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    #[default]
    None,
    Call(Box<Call>),
    Emit {
        id: String,
        event: Arc<Value>,
    },
    Listen(Box<Listening>),
}

/// A call in flight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) request: Arc<Request>,
    pub(crate) body: Arc<Value>,
    /// On which terms it was taken on, to be answered later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) taken: Option<Taken>,
}

/// What undoing a task needs to know, as it was when the task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Null when the outcome is unknown.
    pub(crate) output: Arc<Value>,
    pub(crate) input: Arc<Value>,
    pub(crate) context: Arc<Value>,
}

/// Undoing, once it began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recovery {
    pub(crate) trigger: Trigger,
    pub(crate) fault: Fault,
    pub(crate) started_at: Timestamp,
    pub(crate) timer: Option<Timer>,
}

impl State {
    /// Returns the instance id, empty before it is started.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As [`State::id`], for whoever keeps it.
    #[must_use]
    pub fn shared_id(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }

    /// Returns the definition the instance pins.
    #[must_use]
    pub fn workflow(&self) -> &Reference {
        &self.workflow
    }

    /// Returns what the caller attached to the start.
    #[must_use]
    pub fn trace(&self) -> Option<&str> {
        self.trace.as_deref()
    }

    /// Returns how the forward work stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.unwrap_or(Status::Running)
    }

    /// Returns how undoing stands.
    #[must_use]
    pub fn saga(&self) -> Saga {
        self.saga
    }

    /// Says whether nothing will ever happen again.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.ended_at.is_some()
    }

    /// Returns the input as the caller gave it.
    #[must_use]
    pub fn input(&self) -> &Value {
        &self.input
    }

    /// Returns the output, once the workflow completed.
    #[must_use]
    pub fn output(&self) -> Option<&Value> {
        self.output.as_deref()
    }

    /// Returns why the workflow faulted or was cancelled.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Returns when the instance started.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        self.started_at
    }

    /// Returns when the instance closed.
    #[must_use]
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.ended_at
    }

    /// Returns the timeline, in the order tasks started.
    #[must_use]
    pub fn steps(&self) -> &[Arc<Step>] {
        &self.steps
    }

    /// Says whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started_at.is_some()
    }

    pub(crate) fn frame(&self, task: TaskId) -> Result<&Frame, Error> {
        self.frames
            .get(&task)
            .map(Arc::as_ref)
            .ok_or(Error::Illegal { entry: "any", reason: "the task is not open" })
    }

    pub(crate) fn step(&self, task: TaskId) -> Option<&Step> {
        let index = self.steps.binary_search_by_key(&task, |step| step.task).ok()?;
        self.steps.get(index).map(Arc::as_ref)
    }

    /// Says whether an open task is inside another, at any depth.
    pub(crate) fn is_within(&self, inner: TaskId, outer: TaskId) -> bool {
        let parent = |task: TaskId| self.frames.get(&task).and_then(|frame| frame.parent);
        std::iter::successors(parent(inner), |task| parent(*task)).any(|ancestor| ancestor == outer)
    }

    /// Says whether a step belongs to another, at any depth.
    pub(crate) fn is_part(&self, step: TaskId, of: TaskId) -> bool {
        let parent = |task: TaskId| self.step(task).and_then(|step| step.parent);
        std::iter::successors(parent(step), |task| parent(*task)).any(|ancestor| ancestor == of)
    }

    pub(crate) fn step_mut(&mut self, task: TaskId) -> Option<&mut Step> {
        let index = self.steps.binary_search_by_key(&task, |step| step.task).ok()?;
        self.steps.get_mut(index).map(Arc::make_mut)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Faulted => "faulted",
            Self::Cancelled => "cancelled",
        })
    }
}

impl fmt::Display for Saga {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Compensating => "compensating",
            Self::Compensated => "compensated",
            Self::Stuck => "stuck",
            Self::Abandoned => "abandoned",
            Self::Committed => "committed",
            Self::Pending => "pending",
        })
    }
}

/// Reads a value that is there, null included, as present.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<Value>>, D::Error> {
    Value::deserialize(deserializer).map(|value| Some(Arc::new(value)))
}

fn is_false(value: &bool) -> bool {
    !value
}
