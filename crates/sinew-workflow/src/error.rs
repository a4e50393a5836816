//! What can go wrong when the engine is asked something. Faults *of a workflow* are data: see [`Fault`](crate::Fault).

use crate::{Diagnostics, Reference};

/// Why the engine refused. The state is as it was, except after the last two: see [`run`](crate::run).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The instance has not been started.
    #[error("the instance is not started: send a start first")]
    NotStarted,
    /// The instance runs under another id.
    #[error("the instance is already started as {id}: start another one under its own id")]
    AlreadyStarted {
        /// The id it runs under.
        id: String,
    },
    /// The instance pins another definition.
    #[error("the instance pins {pinned}, but was given {given}: load the pinned definition")]
    WrongDefinition {
        /// What the instance runs.
        pinned: Box<Reference>,
        /// What it was given.
        given: Box<Reference>,
    },
    /// The definition uses something this version cannot run.
    #[error("the definition cannot run yet:\n{0}")]
    NotRunnable(Diagnostics),
    /// What a person answered is not what the task asks for. Tell the person; the task goes on waiting.
    #[error("the answer does not fit: {0}")]
    Unfit(Box<crate::Fault>),
    /// Somebody else has claimed what a person wants to answer, claim or release. Tell the person.
    #[error("{who} has claimed this until {until}: ask them to release it, or wait")]
    Claimed {
        /// Who has.
        who: String,
        /// Until when.
        until: crate::Timestamp,
    },
    /// There is no stuck compensation to decide about.
    #[error("no compensation is stuck: operator verbs apply to stuck sagas only")]
    NotStuck,
    /// An entry does not fit the state: the log is damaged or out of order.
    #[error("entry `{entry}` does not fit the state: {reason}; check the order of the log")]
    Illegal {
        /// The name of the entry.
        entry: &'static str,
        /// What does not fit.
        reason: &'static str,
    },
    /// The state names a task its definition does not have.
    #[error("the definition has no task at {pointer}: load the definition the instance was started with")]
    UnknownTask {
        /// The pointer the state holds.
        pointer: String,
    },
}
