//! What expressions see: the variables of the language at one place of one instance.

use std::collections::BTreeMap;
use std::sync::Arc;

use jaq_json::Val;
use serde_json::{Value, json};

use super::Driver;
use crate::language::duration;
use crate::language::jq::{Variables, secrets, to_jq};
use crate::language::plan::{Kind, Length, Task};
use crate::state::{Frame, State};
use crate::{Definition, Fault, Step, TaskId, Timestamp};

/// The place an expression stands at.
pub(super) struct Env<'e> {
    definition: &'e Definition,
    state: &'e State,
    id: &'e str,
    at: Timestamp,
    workflow_input: &'e Arc<Value>,
    started_at: Timestamp,
    /// The open task whose variables are in reach, with those around it.
    scope: Option<TaskId>,
    input: Option<&'e Arc<Value>>,
    output: Option<&'e Arc<Value>>,
    task: Option<Descriptor<'e>>,
    bound: BTreeMap<String, Arc<Value>>,
}

/// What `$task` says.
pub(super) struct Descriptor<'e> {
    task: &'e Task,
    raw_input: &'e Arc<Value>,
    raw_output: Option<&'e Arc<Value>>,
    started_at: Timestamp,
    key: Option<&'e str>,
}

impl<'e> Env<'e> {
    /// Before the instance has a state of its own.
    pub(super) fn starting(driver: &'e Driver<'_>, id: &'e str, input: &'e Arc<Value>) -> Self {
        let Driver { definition, state, at, .. } = driver;
        let (bound, started_at) = (BTreeMap::new(), *at);
        Self {
            definition,
            state,
            id,
            at: *at,
            workflow_input: input,
            started_at,
            scope: None,
            input: None,
            output: None,
            task: None,
            bound,
        }
    }

    /// At the workflow itself.
    pub(super) fn workflow(driver: &'e Driver<'_>) -> Self {
        let state = &driver.state;
        let started_at = state.started_at.unwrap_or(driver.at);
        Self { started_at, ..Self::starting(driver, &state.id, &state.input) }
    }

    /// At a task that is about to start inside another.
    pub(super) fn before(
        driver: &'e Driver<'_>,
        parent: TaskId,
        task: &'e Task,
        raw: &'e Arc<Value>,
    ) -> Self {
        let descriptor =
            Descriptor { task, raw_input: raw, raw_output: None, started_at: driver.at, key: None };
        Self { scope: Some(parent), input: Some(raw), task: Some(descriptor), ..Self::workflow(driver) }
    }

    /// At an open task.
    pub(super) fn inside(driver: &'e Driver<'_>, id: TaskId, frame: &'e Frame, task: &'e Task) -> Self {
        let descriptor = Descriptor {
            task,
            raw_input: &frame.raw,
            raw_output: None,
            started_at: frame.started_at,
            key: Some(&frame.key),
        };
        Self { scope: Some(id), input: Some(&frame.input), task: Some(descriptor), ..Self::workflow(driver) }
    }

    /// With the input as `input.from` left it.
    pub(super) fn with_input(mut self, input: &'e Arc<Value>) -> Self {
        self.input = Some(input);
        self
    }

    /// With the raw output of the task.
    pub(super) fn with_raw_output(mut self, output: &'e Arc<Value>) -> Self {
        if let Some(task) = &mut self.task {
            task.raw_output = Some(output);
        }
        self
    }

    /// With the transformed output of the task.
    pub(super) fn with_output(mut self, output: &'e Arc<Value>) -> Self {
        self.output = Some(output);
        self
    }

    /// With a variable that is not in the state yet.
    pub(super) fn with(mut self, name: &str, value: Arc<Value>) -> Self {
        self.bound.insert(name.to_owned(), value);
        self
    }

    /// Computes a length of time, in milliseconds.
    pub(super) fn length(&self, length: &Length, input: &Value) -> Result<u64, Box<Fault>> {
        match length {
            Length::Fixed(millis) => Ok(*millis),
            Length::Computed(expression) => match expression.evaluate(input, self)? {
                Value::String(text) => Ok(duration::parse(&text).map_err(Fault::expression)?),
                other => {
                    Err(Fault::expression(format!("expected an ISO 8601 duration, found {other}")).into())
                }
            },
        }
    }

    /// Looks a variable up in the open tasks, the innermost first.
    fn in_scope(&self, name: &str) -> Option<&Arc<Value>> {
        let frames = std::iter::successors(self.scope, |task| self.state.frames.get(task)?.parent);
        frames.filter_map(|task| self.state.frames.get(&task)).find_map(|frame| frame.vars.get(name))
    }

    /// Returns the frame that runs the compensation this is part of.
    fn undo(&self) -> Option<&Frame> {
        self.state.frames.get(&self.state.frames.get(&self.scope?)?.undo?)
    }

    fn task(&self) -> Value {
        let Some(descriptor) = &self.task else { return Value::Null };
        // Within a compensation, the key is the one of what it undoes: that is what a participant knows.
        let undone = self.undo().and_then(|undo| undo.undoes).and_then(|task| self.state.step(task));
        json!({
            "name": &*descriptor.task.name,
            "reference": &*descriptor.task.pointer,
            "definition": &*descriptor.task.definition,
            "input": &**descriptor.raw_input,
            "output": descriptor.raw_output.map(|output| &**output),
            "startedAt": moment(descriptor.started_at),
            "idempotencyKey": undone.map(|step| &*step.key).or(descriptor.key),
        })
    }

    /// What authorizes the request of the task: its scheme, and a placeholder for what only the host knows.
    fn authorization(&self) -> Value {
        let Some(Kind::Call(call)) = self.task.as_ref().map(|descriptor| &descriptor.task.kind) else {
            return Value::Null;
        };
        let parameter = |scheme| json!({ "scheme": scheme, "parameter": secrets::authorization() });
        call.authorization.map_or(Value::Null, parameter)
    }

    fn workflow_descriptor(&self) -> Val {
        let fields = [
            ("id", Val::from(self.id.to_owned())),
            ("definition", self.definition.document.clone()),
            ("input", to_jq(self.workflow_input)),
            ("startedAt", to_jq(&moment(self.started_at))),
        ];
        Val::obj(fields.into_iter().map(|(key, value)| (Val::from(key.to_owned()), value)).collect())
    }

    fn saga(&self) -> Value {
        let undone = self.undo().and_then(|undo| undo.undoes).and_then(|task| self.state.step(task));
        let recovery = self.state.recovery.as_ref().filter(|_| !undone.is_some_and(Step::is_lost));
        if recovery.is_none() && undone.is_none() {
            return Value::Null;
        }
        json!({
            // What lost a race is undone whatever becomes of the workflow.
            "trigger": recovery.map_or(json!("compete"), |recovery| json!(recovery.trigger)),
            "error": recovery.map(|recovery| &recovery.fault),
            "startedAt": recovery.map(|recovery| moment(recovery.started_at)),
            "task": undone.map(|step| json!({ "name": &*step.name, "reference": &*step.pointer })),
        })
    }
}

impl Variables for Env<'_> {
    fn variable(&self, name: &str) -> Val {
        if let Some(value) = self.bound.get(name).or_else(|| self.in_scope(name)) {
            return to_jq(value);
        }
        let undo = self.undo();
        match name {
            "context" => to_jq(undo.map_or(&self.state.context, |undo| &undo.context)),
            // A compensation sees the input of what it undoes, and its output as `.`.
            "input" => undo.map(|undo| &undo.input).or(self.input).map_or(Val::Null, |value| to_jq(value)),
            "output" => self.output.map_or(Val::Null, |value| to_jq(value)),
            "authorization" => to_jq(&self.authorization()),
            "task" => to_jq(&self.task()),
            "workflow" => self.workflow_descriptor(),
            "runtime" => {
                to_jq(&json!({ "name": "sinew", "version": env!("CARGO_PKG_VERSION"), "metadata": {} }))
            }
            "error" => {
                self.state.recovery.as_ref().map_or(Val::Null, |recovery| to_jq(&json!(recovery.fault)))
            }
            "saga" => to_jq(&self.saga()),
            _ => Val::Null,
        }
    }

    fn now(&self) -> Timestamp {
        self.at
    }
}

fn moment(at: Timestamp) -> Value {
    let millis = at.as_millis();
    json!({ "iso8601": at.to_string(), "epoch": { "seconds": millis.div_euclid(1_000), "milliseconds": millis } })
}
