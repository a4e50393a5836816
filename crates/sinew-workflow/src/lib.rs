//! The Sinew workflow language and its pure saga engine.

mod definition;
mod diagnostic;
mod effect;
mod engine;
mod entry;
mod error;
mod fault;
mod input;
mod language;
mod reference;
mod state;
mod step;
mod time;

pub use definition::Definition;
pub use diagnostic::{Diagnostic, Diagnostics, Severity, code};
pub use effect::{Effect, Target};
pub use engine::{decide, run};
pub use entry::Entry;
pub use error::Error;
pub use fault::Fault;
pub use input::{Input, Operate, Outcome};
pub use reference::Reference;
pub use state::{Saga, State, Status, apply};
pub use step::{Attempt, AttemptOutcome, Decision, Step, StepStatus, TaskId, Undo, UndoStatus};
pub use time::Timestamp;

#[cfg(test)]
mod tests;
