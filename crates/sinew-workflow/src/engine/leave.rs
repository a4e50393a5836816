//! How tasks end, and what comes next.

use std::sync::Arc;

use serde_json::Value;

use super::env::Env;
use super::{Driver, Todo};
use crate::entry::{Data, Ended, Fact, Left, Part, Timer, Trigger};
use crate::language::plan::{Id, Kind, Task, Then};
use crate::state::Frame;
use crate::{Error, Fault, Status, TaskId};

/// What a task leaves behind.
struct Parting {
    output: Arc<Value>,
    /// The context it exports, if it does.
    context: Option<Arc<Value>>,
}

impl Driver<'_> {
    /// Ends a task that did what it should, unless its output or export raises an error.
    pub(super) fn finish(
        &mut self,
        id: TaskId,
        output: Option<Arc<Value>>,
        then: Option<Then>,
        chosen: Option<Arc<str>>,
    ) -> Result<(), Error> {
        let Some(frame) = self.state.frames.get(&id) else { return Ok(()) };
        let (plan, task) = self.planned(frame)?;
        let (Some(parent), raw) = (frame.parent, output.unwrap_or_else(|| Arc::clone(frame.outcome())))
        else {
            return Ok(());
        };
        let Parting { output, context } = match self.parting(id, frame, task, &raw) {
            Ok(parting) => parting,
            Err(fault) => return self.fail(id, fault),
        };
        let output = Data::unless(output, frame.outcome());
        let context = context.map_or(Data::Same, Data::Is);
        let winner = self.winner(id, task);
        self.record(Fact::Left(Box::new(Left { task: id, output, context, fault: None, chosen, winner })))?;
        self.todo.push(Todo::Next { parent, after: plan, then: then.unwrap_or(task.then) });
        if winner.is_some() { self.recover() } else { Ok(()) }
    }

    /// Ends a task that raised an error, and lets what contains it decide.
    pub(super) fn fail(&mut self, id: TaskId, mut fault: Box<Fault>) -> Result<(), Error> {
        let Some(frame) = self.state.frames.get(&id) else { return Ok(()) };
        let Some(parent) = frame.parent else { return Ok(()) };
        fault.instance.get_or_insert_with(|| frame.pointer.to_string());
        let left = Left {
            task: id,
            output: Data::Same,
            context: Data::Same,
            fault: Some(fault.clone()),
            chosen: None,
            winner: None,
        };
        self.record(Fact::Left(Box::new(left)))?;
        self.raise(parent, fault)
    }

    /// Goes on after a task inside another.
    pub(super) fn next(&mut self, parent: TaskId, after: Id, then: Then) -> Result<(), Error> {
        let Some(frame) = self.state.frames.get(&parent) else { return Ok(()) };
        if frame.undoes.is_some() {
            return self.undone(parent);
        }
        if then == Then::End {
            return self.end(parent, after);
        }
        if parent != TaskId::WORKFLOW {
            let (_, task) = self.planned(frame)?;
            match &task.kind {
                Kind::Fork { branches, compete } => return self.branch_done(parent, branches, *compete),
                Kind::Extended(extended) => return self.next_part(parent, extended, after, then),
                Kind::Extension(_) if then == Then::Exit => return self.end_extension(parent, then),
                _ => {}
            }
        }
        let part = self.part(parent)?;
        let following = match then {
            Then::To(position) => part.get(position),
            Then::Continue => {
                part.iter().position(|task| *task == after).and_then(|position| part.get(position + 1))
            }
            Then::Exit | Then::End => None,
        };
        match following.copied() {
            Some(task) => self.todo.push(Todo::Enter { parent, task, branch: None }),
            None => self.part_done(parent)?,
        }
        Ok(())
    }

    /// Ends or continues a composite that ran all tasks of one part.
    pub(super) fn part_done(&mut self, id: TaskId) -> Result<(), Error> {
        if id == TaskId::WORKFLOW {
            return self.complete();
        }
        let Some(frame) = self.state.frames.get(&id) else { return Ok(()) };
        let (_, task) = self.planned(frame)?;
        let part = frame.part;
        let then = match &task.kind {
            Kind::For(_) => {
                let times = if let Part::Again(times) = part { times } else { 0 };
                return self.iterate(id, times.saturating_add(1));
            }
            Kind::Extension(_) => return self.end_extension(id, Then::Continue),
            Kind::Try(attempt) if part == Part::Catch => attempt.then,
            Kind::Listen(listen) => {
                return listen.each.as_ref().map_or(Ok(()), |each| self.item_done(id, each));
            }
            _ => None,
        };
        // Noted, because what leads on may have to wait for extensions after the task.
        let chosen = then.map(|_| "catch".into());
        self.todo.push(Todo::Finish { task: id, output: None, then, chosen });
        Ok(())
    }

    /// Ends the instance because of an error nobody caught, the deadline, a cancel or a request.
    pub(super) fn end_faulted(&mut self, trigger: Trigger, mut fault: Box<Fault>) -> Result<(), Error> {
        self.drop_forward();
        let policy = &self.definition.plan.saga;
        let wanted = match trigger {
            Trigger::Fault => policy.on_fault,
            Trigger::Timeout => policy.on_timeout,
            Trigger::Cancel => policy.on_cancel,
            Trigger::Request | Trigger::Parent => true,
        };
        let wanted = wanted && !self.state.committed;
        let status = match trigger {
            Trigger::Cancel | Trigger::Parent => Status::Cancelled,
            Trigger::Fault | Trigger::Timeout | Trigger::Request => Status::Faulted,
        };
        fault.instance.get_or_insert_with(|| "/".to_owned());
        let timer = self.recovery_timer().filter(|_| wanted);
        self.ended(Ended {
            status,
            output: Data::Same,
            fault: Some(fault),
            trigger: wanted.then_some(trigger),
            timer,
        })?;
        self.recover()
    }

    /// Bounds undoing everything, when the policy says so.
    pub(super) fn recovery_timer(&self) -> Option<Timer> {
        self.definition.plan.saga.timeout.as_ref().map(|length| {
            let millis = Env::workflow(self).length(length, &self.state.input);
            // A bound that cannot be computed must not keep the saga from being undone.
            self.next_timer(millis.unwrap_or(u64::from(u32::MAX)))
        })
    }

    /// Finds the branch that won a fork.
    fn winner(&self, fork: TaskId, task: &Task) -> Option<TaskId> {
        let Kind::Fork { branches, compete: true } = &task.kind else { return None };
        let branch = *self.state.frames.get(&fork)?.results.keys().next()?;
        let won = self.definition.plan.task(*branches.get(usize::try_from(branch).ok()?)?)?;
        // A skipped task is no extended one, whatever extends those that run.
        let pointers = [&won.pointer, &self.inner(won).pointer];
        let is_won =
            |step: &&Arc<crate::Step>| step.parent == Some(fork) && pointers.contains(&&step.pointer);
        self.state.steps.iter().rev().find(is_won).map(|step| step.task)
    }

    fn ended(&mut self, ended: Ended) -> Result<(), Error> {
        self.record(Fact::Ended(Box::new(ended)))
    }

    /// Evaluates what stands after a task: its output and what it exports.
    fn parting(
        &self,
        id: TaskId,
        frame: &Frame,
        task: &Task,
        raw: &Arc<Value>,
    ) -> Result<Parting, Box<Fault>> {
        let env = Env::inside(self, id, frame, task).with_raw_output(raw);
        let output = match &task.output.transform {
            Some(transform) => transform.evaluate(raw, &env)?,
            None => Arc::clone(raw),
        };
        if let Some(schema) = &task.output.schema {
            schema.check("output", &output)?;
        }
        let env = env.with_output(&output);
        let context =
            task.export.transform.as_ref().map(|export| export.evaluate(&output, &env)).transpose()?;
        if let (Some(schema), Some(context)) = (&task.export.schema, &context) {
            schema.check("context", context)?;
        }
        Ok(Parting { output, context })
    }

    /// Lets a composite, the workflow or a compensation decide about an error inside it.
    fn raise(&mut self, parent: TaskId, fault: Box<Fault>) -> Result<(), Error> {
        let Some(frame) = self.state.frames.get(&parent) else { return Ok(()) };
        if frame.undoes.is_some() {
            return self.undo_failed(parent, fault);
        }
        if parent == TaskId::WORKFLOW {
            return self.end_faulted(Trigger::Fault, fault);
        }
        let (_, task) = self.planned(frame)?;
        match &task.kind {
            Kind::Try(attempt) if frame.part != Part::Catch => self.catch(parent, attempt, fault),
            _ => {
                self.todo.push(Todo::Fail { task: parent, fault });
                Ok(())
            }
        }
    }

    /// `then: end` completes the workflow wherever it stands; inside a compensation it ends that.
    fn end(&mut self, parent: TaskId, after: Id) -> Result<(), Error> {
        let frame = self.state.frame(parent)?;
        if let Some(undo) = frame.undo {
            self.drop_inside(undo);
            return self.undone(undo);
        }
        // In a fork it was a branch that ended, whose output is not the fork's data.
        let branch = self.planned(frame).ok().and_then(|(_, task)| match &task.kind {
            Kind::Fork { branches, .. } => branches.iter().position(|branch| *branch == after),
            _ => None,
        });
        let result = branch.and_then(|branch| frame.results.get(&u32::try_from(branch).ok()?));
        let output = Arc::clone(result.unwrap_or(&frame.data));
        self.drop_forward();
        self.complete_with(output)
    }

    fn complete(&mut self) -> Result<(), Error> {
        let output = Arc::clone(&self.state.frame(TaskId::WORKFLOW)?.data);
        self.complete_with(output)
    }

    fn complete_with(&mut self, raw: Arc<Value>) -> Result<(), Error> {
        let filter = &self.definition.plan.output;
        let env = Env::workflow(self);
        let transformed = filter
            .transform
            .as_ref()
            .map_or(Ok(Arc::clone(&raw)), |transform| transform.evaluate(&raw, &env));
        let checked = transformed.and_then(|output| {
            filter.schema.iter().try_for_each(|schema| schema.check("workflow output", &output))?;
            Ok(output)
        });
        match checked {
            Ok(output) => {
                let output = Data::unless(output, &self.state.frame(TaskId::WORKFLOW)?.data);
                self.ended(Ended {
                    status: Status::Completed,
                    output,
                    fault: None,
                    trigger: None,
                    timer: None,
                })?;
                self.recover()
            }
            Err(fault) => self.end_faulted(Trigger::Fault, fault),
        }
    }

    fn branch_done(&mut self, id: TaskId, branches: &[Id], compete: bool) -> Result<(), Error> {
        let frame = self.state.frame(id)?;
        let results = &frame.results;
        let output = if compete {
            results.values().next().cloned()
        } else if results.len() == branches.len() {
            Some(Arc::new(results.values().map(|output| Value::clone(output)).collect()))
        } else {
            None
        };
        if output.is_some() {
            self.todo.push(Todo::finish(id, output));
        }
        Ok(())
    }
}
