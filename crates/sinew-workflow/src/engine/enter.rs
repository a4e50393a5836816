//! How tasks start: condition, input, key, timers; then what their kind does first.

use std::sync::Arc;

use serde_json::Value;

use super::env::Env;
use super::{Driver, Todo};
use crate::entry::{Data, Entered, Fact, Part};
use crate::language::plan::{Filter, Id, Kind, Task, Then};
use crate::state::Frame;
use crate::{Error, Fault, TaskId};

/// What evaluating the head of a task gives.
struct Head {
    input: Arc<Value>,
    key: Option<String>,
    timeout: Option<u64>,
}

impl Driver<'_> {
    pub(super) fn enter(&mut self, parent: TaskId, plan: Id, branch: Option<u32>) -> Result<(), Error> {
        // A competing branch may have ended the fork before this one began.
        let Some(frame) = self.state.frames.get(&parent) else { return Ok(()) };
        let Some(task) = self.definition.plan.task(plan) else {
            return Err(Error::UnknownTask { pointer: frame.pointer.to_string() });
        };
        let visit = frame.visits.get(&task.pointer).copied().unwrap_or_default();
        let visit = visit + self.lost_passes(parent, &task.pointer, branch);
        let raw = Arc::clone(&frame.data);
        let (inner, seen) = (self.inner(task), Arc::clone(Self::condition_input(task, frame)));
        let env = Env::before(self, parent, inner, &raw);
        let runs = task.condition.as_ref().map_or(Ok(true), |condition| condition.holds(&seen, &env));
        let head = match &runs {
            Ok(true) => head(task, &raw, env),
            Ok(false) => return self.skip(parent, plan, inner, visit, branch),
            Err(fault) => Err(fault.clone()),
        };
        let (prepared, fault) = match head {
            Ok(head) => (Some(head), None),
            Err(fault) => (None, Some(fault)),
        };
        let own_key = prepared.as_ref().and_then(|head| head.key.clone());
        let mut entered = self.describe(parent, task, visit, branch, own_key);
        if let Some(head) = prepared {
            entered.input = Data::unless(head.input, &raw);
            entered.timeout = head.timeout.map(|millis| self.next_timer(millis));
        }
        let id = entered.task;
        self.record(Fact::Entered(Box::new(entered)))?;
        match fault {
            Some(fault) => self.fail(id, fault),
            None => self.begin(id, task),
        }
    }

    /// Evaluates what stands before something: the schema of its raw data, and how that is transformed.
    pub(super) fn filtered(
        filter: &Filter,
        what: &str,
        raw: &Arc<Value>,
        env: &Env<'_>,
    ) -> Result<Arc<Value>, Box<Fault>> {
        if let Some(schema) = &filter.schema {
            schema.check(what, raw)?;
        }
        filter
            .transform
            .as_ref()
            .map_or_else(|| Ok(Arc::clone(raw)), |transform| transform.evaluate(raw, env))
    }

    /// Starts the first task of what a composite runs now, or ends it when there is none.
    pub(super) fn begin_part(&mut self, task: TaskId) -> Result<(), Error> {
        match self.part(task)?.first() {
            Some(first) => self.todo.push(Todo::Enter { parent: task, task: *first, branch: None }),
            None => self.part_done(task)?,
        }
        Ok(())
    }

    /// Returns the list of tasks a composite runs now.
    pub(super) fn part(&self, task: TaskId) -> Result<&[Id], Error> {
        let frame = self.state.frame(task)?;
        if task == TaskId::WORKFLOW {
            return Ok(&self.definition.plan.body);
        }
        let (_, plan) = self.planned(frame)?;
        Ok(match &plan.kind {
            Kind::Do(body) => body,
            Kind::For(looped) => &looped.body,
            Kind::Try(attempt) if frame.part == Part::Catch => attempt.handler.as_deref().unwrap_or_default(),
            Kind::Try(attempt) => &attempt.body,
            Kind::Function { body, .. } => std::slice::from_ref(body),
            Kind::Listen(listen) => listen.each.as_ref().map(|each| &each.body[..]).unwrap_or_default(),
            Kind::Extended(extended) => &extended.parts,
            Kind::Extension(extension) => &extension.body,
            _ => &[],
        })
    }

    fn skip(
        &mut self,
        parent: TaskId,
        plan: Id,
        task: &Task,
        visit: u32,
        branch: Option<u32>,
    ) -> Result<(), Error> {
        let entered = self.describe(parent, task, visit, branch, None);
        self.record(Fact::Skipped(Box::new(entered)))?;
        self.todo.push(Todo::Next { parent, after: plan, then: Then::Continue });
        Ok(())
    }

    fn describe(
        &self,
        parent: TaskId,
        task: &Task,
        visit: u32,
        branch: Option<u32>,
        own_key: Option<String>,
    ) -> Entered {
        let key = own_key.map_or_else(|| self.key(parent, &task.pointer, visit), Into::into);
        Entered {
            task: self.again(parent, &task.pointer, &key).unwrap_or(TaskId(self.state.next_task)),
            parent,
            name: Arc::clone(&task.name),
            pointer: Arc::clone(&task.pointer),
            kind: Arc::clone(&task.keyword),
            key,
            visit,
            input: Data::Same,
            timeout: None,
            branch,
            compensate: task.compensate.is_some(),
            pivot: task.pivot,
        }
    }

    /// Counts how often a branch lost a race before, inside a `try` that runs again: what it did then is undone under the
    /// keys of that time, so this time has others.
    fn lost_passes(&self, fork: TaskId, pointer: &str, branch: Option<u32>) -> u32 {
        let state = &self.state;
        let lost = |step: &crate::Step| {
            let parts = state.steps.iter().filter(|part| part.is_lost());
            parts.into_iter().any(|part| part.task == step.task || state.is_part(part.task, step.task))
        };
        if branch.is_none() || !state.steps.iter().any(|step| step.is_lost()) {
            return 0;
        }
        let passes = state.steps.iter().filter(|step| step.parent == Some(fork) && &*step.pointer == pointer);
        passes.filter(|step| lost(step)).fold(0, |count, _| count + 1)
    }

    /// Finds the task this is a retry of: the same task of the same pass, inside a `try` that runs again.
    fn again(&self, parent: TaskId, pointer: &str, key: &str) -> Option<TaskId> {
        let frames = &self.state.frames;
        let frame = frames.get(&parent)?;
        let mut around = std::iter::successors(Some(frame), |frame| frames.get(&frame.parent?));
        let retried = |frame: &Arc<Frame>| !frame.is_loop() && matches!(frame.part, Part::Again(_));
        if frame.undo.is_some() || !around.any(retried) {
            return None;
        }
        let own_parent = Some(parent).filter(|parent| *parent != TaskId::WORKFLOW);
        // One that lost a race is undone, even where its author gave this pass the same key.
        let known = |step: &&Arc<crate::Step>| {
            &*step.pointer == pointer && step.parent == own_parent && &*step.key == key && step.undo.is_none()
        };
        self.state.steps.iter().rev().find(known).map(|step| step.task)
    }
}

fn head(task: &Task, raw: &Arc<Value>, env: Env<'_>) -> Result<Head, Box<Fault>> {
    let input = Driver::filtered(&task.input, "input", raw, &env)?;
    let env = env.with_input(&input);
    let timeout = task.timeout.as_ref().map(|length| env.length(length, &input)).transpose()?;
    let key = match task.key.as_ref().map(|key| key.evaluate(&input, &env)).transpose()? {
        None => None,
        Some(Value::String(key)) if !key.is_empty() => Some(key),
        Some(other) => {
            return Err(Fault::expression(format!("an idempotency key is a text, not {other}")).into());
        }
    };
    Ok(Head { input, key, timeout })
}
