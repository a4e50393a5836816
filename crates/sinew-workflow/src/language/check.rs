//! Static checks of a plan: what is valid, but cannot end well or does not do what its author wants.
//!
//! They run once a document has no errors of other kinds, and look at what is planned, so that functions are checked where
//! they are called.

mod contracts;
mod described;
mod flow;
mod guard;
mod saga;

use super::plan::{Id, Kind, Plan, Task};
use super::report::Report;
use super::yaml::Node;
use crate::Described;

pub(crate) use contracts::Uses;
pub(crate) use guard::gone;

/// A plan and where its tasks stand in the document.
#[derive(Clone, Copy)]
struct Planned<'a> {
    plan: &'a Plan,
    /// The node of each task, in the order of the plan.
    nodes: &'a [&'a Node],
}

/// Checks a plan, and finds out which operations it uses how, and which calls are described elsewhere.
pub(crate) fn check(plan: &Plan, nodes: &[&Node], report: &mut Report) -> (Uses, Vec<Described>) {
    let planned = Planned { plan, nodes };
    flow::check(planned, report);
    if plan.is_saga() {
        saga::check(planned, report);
    }
    guard::check(planned, report);
    (contracts::uses(planned, report), described::described(planned, report))
}

impl<'a> Planned<'a> {
    fn get(self, id: Id) -> Option<(&'a Task, &'a Node)> {
        let node = self.nodes.get(usize::try_from(id.0).ok()?)?;
        Some((self.plan.task(id)?, node))
    }

    /// Says of each task whether anything inside it has a compensation of its own.
    ///
    /// Where nothing has, the compensation of a composite is for all of it, even when only a part was done; otherwise each
    /// part answers for itself.
    fn undone_in_parts(self) -> Vec<bool> {
        let mut parts: Vec<bool> = Vec::with_capacity(self.plan.tasks.len());
        for task in &self.plan.tasks {
            let undone = |id: &Id| {
                let inner = self.plan.task(*id).is_some_and(|task| task.compensate.is_some());
                inner || usize::try_from(id.0).ok().and_then(|at| parts.get(at)) == Some(&true)
            };
            parts.push(task.kind.children().iter().any(undone));
        }
        parts
    }

    /// Returns all tasks with their nodes. What a task contains comes before it.
    fn all(self) -> impl Iterator<Item = (&'a Task, &'a Node)> {
        self.plan.tasks.iter().zip(self.nodes.iter().copied())
    }
}

impl Kind {
    /// Returns the lists of tasks it runs one after the other.
    fn sequences(&self) -> Vec<&[Id]> {
        match self {
            Self::Do(body) => vec![body],
            Self::For(looped) => vec![&looped.body],
            Self::Extension(extension) => vec![&extension.body],
            Self::Try(attempt) => {
                [Some(&*attempt.body), attempt.handler.as_deref()].into_iter().flatten().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the tasks it contains, without compensations.
    fn children(&self) -> Vec<Id> {
        match self {
            Self::Fork { branches, .. } => branches.clone(),
            Self::Function { body, .. } => vec![*body],
            Self::Extended(extended) => extended.parts.clone(),
            _ => self.sequences().concat(),
        }
    }
}
