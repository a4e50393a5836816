//! The Sinew workflow language and its pure saga engine.
//!
//! A [`Definition`] is a YAML document in the Open Workflow DSL 1.0, with three keys added to tasks: `compensate` says how
//! to undo one, `pivot` from where on nothing is undone, `idempotencyKey` under which key it acts. All of its mistakes are
//! reported at once, each with its place and a fix: see [`Diagnostics`].
//!
//! # The model
//!
//! An instance is a fold. Whatever happens to it is an [`Input`]: a start, a reply, a timer, a cancel, an operator's
//! decision. [`decide`] finds out what follows and says so in [`Entry`]s; [`apply`] folds entries into a [`State`];
//! [`run`] does both. What the instance wants from the world are [`Effect`]s, read off the state: [`State::effects`] for
//! those that just became due, [`State::due`] for all of them after a recovery.
//!
//! ```text
//!             decide                    apply                    effects, due
//!   Input ─────────────► Vec<Entry> ─────────────► State ─────────────────────► Vec<Effect>
//!     ▲                      │ stored                                                │
//!     └──────────────────────┼───────────────── the world does them ◄────────────────┘
//! ```
//!
//! *Entries carry results, never expressions.* Outputs, chosen branches, keys and moments are in the log, so replay
//! evaluates nothing, and a newer engine cannot change the past. Live and recovered instances take the same path, because
//! [`run`] itself applies each entry before it decides about the next.
//!
//! *Nothing here knows time, chance or the network.* Time comes in as `at`, jitter is a hash of the idempotency key and
//! the attempt, and an expression sees its data and nothing else. So a caller can test a whole saga with a loop and a list.
//!
//! # Sagas
//!
//! An error nobody caught, the workflow's deadline, a cancel, or `call: saga.compensate` undoes what was done: every task
//! with a compensation that completed *or whose outcome is unknown*, in the reverse order in which tasks started, one after
//! the other. A definite refusal did nothing and is not undone; a late or lost reply may have done something and is. Once a
//! `pivot` completed nothing is undone any more. Compensations are retried by their own policy; one that spent its retries
//! is [stuck](Saga::Stuck) until an operator [decides](Operate).
//!
//! The losing branches of a competing `fork` are undone at once, while the work goes on. A child workflow that completed
//! stays open until its parent has closed, and is undone with it: [`Child`] says what hosts do for that. [`Cancel`] undoes,
//! [`Terminate`] does not and says what it gave up.
//!
//! [`Cancel`]: Input::Cancel
//! [`Terminate`]: Input::Terminate
//!
//! Two questions therefore have two answers: [`Status`] says how the forward work went, [`Saga`] what became of it.
//!
//! # Events
//!
//! A task that listens is an [`Effect::Listen`], and each event an [`Input::Event`]. Hosts may select by what a filter fixes
//! ([`Wanted`]); the engine has the last word, and notes which filter an event passed and which keys it bound. At most
//! 1,000 events wait while the tasks of another run, and a task hears at most 10,000 whose list is its output: beyond
//! that it faults. Events that start instances are [gathered](Definition::gather) by the same filters, and what happened
//! to an instance is told by [`lifecycle`] events.
//!
//! # Example
//!
//! ```
//! use serde_json::json;
//! use sinew_workflow::{Definition, Effect, Fault, Input, Outcome, Saga, State, Status, Timestamp, run};
//!
//! let definition = Definition::parse(
//!     "
//! document: { dsl: '1.0.3', namespace: shop, name: place-order, version: '1.0.0' }
//! do:
//!   - reserve:
//!       call: inventory.reserve
//!       with: { sku: '${ .sku }' }
//!       compensate:
//!         call: inventory.release
//!         with: { reservation: '${ .id }' }
//!   - charge: { call: payments.charge }
//! ",
//!     "place-order.yaml",
//! )?;
//!
//! let mut state = State::default();
//! let at = Timestamp::from_millis(0);
//! let start = Input::Start { id: "order-7".into(), input: json!({ "sku": "shoe" }), at, trace: None };
//! let mut entries = run(&definition, &mut state, start)?;
//!
//! // The world, in three lines: everything succeeds, except that the card is declined.
//! let mut called = Vec::new();
//! while let Some(Effect::Call { task, attempt, target, .. }) = state.effects(&entries).pop() {
//!     let outcome = match target.to_string().as_str() {
//!         "payments.charge" => Outcome::Refused(Fault::communication("card declined").with_status(402)),
//!         _ => Outcome::Completed(json!({ "id": "r-1" })),
//!     };
//!     called.push(target.to_string());
//!     // A real caller stores the entries before it does their effects.
//!     entries = run(&definition, &mut state, Input::Reply { task, attempt, outcome, at })?;
//! }
//!
//! assert_eq!(called, ["inventory.reserve", "payments.charge", "inventory.release"]);
//! assert_eq!((state.status(), state.saga()), (Status::Faulted, Saga::Compensated));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod contracts;
mod definition;
mod described;
mod diagnostic;
mod fault;
mod need;
mod reference;
mod resource;
mod schedule;
mod time;

mod language;

mod effect;
mod engine;
mod entry;
mod error;
mod input;
mod lifecycle;
mod state;
mod step;

pub use contracts::{Contracts, Known};
pub use definition::Definition;
pub use described::Described;
pub use diagnostic::{Diagnostic, Diagnostics, Severity, code};
pub use effect::{Child, Effect, Operation, Protocol, Since, Source, Target, Verb, Wanted};
pub use engine::{decide, run};
pub use entry::Entry;
pub use error::Error;
pub use fault::Fault;
pub use input::{Input, Operate, Outcome, Parent, Terms};
pub use lifecycle::lifecycle;
pub use need::Need;
pub use reference::Reference;
pub use resource::{Resource, Resources, resources};
pub use schedule::{Gathering, Missed, Schedule};
pub use state::{Question, Saga, Standing, State, Status, apply};
pub use step::{
    Attempt, AttemptOutcome, Claim, Claims, Decision, Step, StepStatus, TaskId, Undo, UndoStatus,
};
pub use time::Timestamp;

#[cfg(test)]
mod tests;
