//! Tasks with extensions around them: in which order their parts run, and what takes the place of what.

use std::sync::Arc;

use super::{Driver, Todo};
use crate::language::plan::{Extended, Id, Kind, Task, Then};
use crate::state::Frame;
use crate::{Error, TaskId};

impl<'d> Driver<'d> {
    /// Goes on after a part of an extended task.
    pub(super) fn next_part(
        &mut self,
        id: TaskId,
        extended: &Extended,
        after: Id,
        then: Then,
    ) -> Result<(), Error> {
        let Some(position) = extended.parts.iter().position(|part| *part == after) else { return Ok(()) };
        let is_body = after == extended.body;
        let replaced = then == Then::Exit && extended.parts[position..].contains(&extended.body) && !is_body;
        let following = extended.parts.get(position + 1).filter(|_| !replaced);
        match following {
            Some(task) => self.todo.push(Todo::Enter { parent: id, task: *task, branch: None }),
            None => {
                let then = if is_body { then } else { self.directive(id, extended)? };
                self.todo.push(Todo::Finish { task: id, output: None, then: Some(then), chosen: None });
            }
        }
        Ok(())
    }

    /// Ends the tasks of an extension. What they put out counts only when they were left by `exit`.
    pub(super) fn end_extension(&mut self, id: TaskId, then: Then) -> Result<(), Error> {
        let exits = then == Then::Exit;
        let output = if exits { None } else { Some(Arc::clone(&self.state.frame(id)?.raw)) };
        self.todo.push(Todo::Finish { task: id, output, then: exits.then_some(then), chosen: None });
        Ok(())
    }

    /// Returns the plan of what stands in a list: of an extended task itself, not of what is around it.
    pub(super) fn inner(&self, task: &'d Task) -> &'d Task {
        match &task.kind {
            Kind::Extended(extended) => self.definition.plan.task(extended.body).unwrap_or(task),
            _ => task,
        }
    }

    /// Finds out where the extended task leads, once everything after it is done.
    fn directive(&self, id: TaskId, extended: &Extended) -> Result<Then, Error> {
        let chosen = self.state.frame(id)?.chosen.as_deref();
        let body = self.definition.plan.task(extended.body).map(|task| &task.kind);
        let then = match (body, chosen) {
            (Some(Kind::Switch(cases)), Some(chosen)) => {
                cases.iter().find(|case| &*case.name == chosen).map(|case| case.then)
            }
            (Some(Kind::Try(attempt)), Some(_)) => attempt.then,
            _ => None,
        };
        Ok(then.unwrap_or(extended.then))
    }

    /// Returns what the condition of an extension sees: the input of the task it extends.
    pub(super) fn condition_input<'f>(task: &Task, parent: &'f Frame) -> &'f Arc<serde_json::Value> {
        if matches!(task.kind, Kind::Extension(_)) { &parent.raw } else { &parent.data }
    }
}
