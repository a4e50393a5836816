//! What expressions see: the variables of the language at one place of one instance.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Driver;
use crate::language::duration;
use crate::language::jq::{Variables, secrets};
use crate::language::plan::{From, Kind, Length, Task};
use crate::state::{Frame, State};
use crate::{Definition, Fault, Step, TaskId, Timestamp};

/// What `$task` and `$workflow` have.
const TASK: [&str; 7] = ["name", "reference", "definition", "input", "output", "startedAt", "idempotencyKey"];
const WORKFLOW: [&str; 4] = ["id", "definition", "input", "startedAt"];

const NULL: Cow<'static, Value> = Cow::Owned(Value::Null);

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
        let state = &*driver.state;
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
        self.state.frames.get(&self.state.frames.get(&self.scope?)?.undo?).map(Arc::as_ref)
    }

    /// Returns a field of `$task`.
    fn task(&self, key: &str) -> Option<Cow<'_, Value>> {
        let descriptor = self.task.as_ref()?;
        if descriptor.task.extends.is_some() {
            return Some(Cow::Owned(self.extended()?.get(key).cloned().unwrap_or_default()));
        }
        Some(match key {
            "name" => text(&descriptor.task.name),
            "reference" => text(&descriptor.task.pointer),
            "definition" => Cow::Borrowed(&*descriptor.task.definition),
            "input" => Cow::Borrowed(&**descriptor.raw_input),
            "output" => descriptor.raw_output.map_or(NULL, |output| Cow::Borrowed(&**output)),
            "startedAt" => Cow::Owned(moment(descriptor.started_at)),
            // Within a compensation, the key is the one of what it undoes: that is what a participant knows.
            "idempotencyKey" => {
                let undone = self.undo().and_then(|undo| undo.undoes).and_then(|task| self.state.step(task));
                undone.map(|step| &*step.key).or(descriptor.key).map_or(NULL, text)
            }
            _ => return None,
        })
    }

    /// Describes the task that an extension is woven around, with what its definition says: an extension asks for
    /// `$task.with` as well as for `$task.name`.
    fn extended(&self) -> Option<Value> {
        let extends = self.task.as_ref()?.task.extends.as_ref()?;
        let task = self.definition.plan.task(extends.task)?;
        let around = std::iter::successors(self.scope, |task| self.state.frames.get(task)?.parent)
            .filter_map(|task| self.state.frames.get(&task))
            .find(|frame| frame.pointer == extends.around)?;
        let steps = &mut self.state.steps.iter().rev();
        let step = steps.find(|step| step.pointer == task.pointer).filter(|_| extends.after);
        let descriptor = json!({
            "name": &*task.name,
            "reference": &*task.pointer,
            "definition": &*task.definition,
            "input": &*around.raw,
            "output": extends.after.then(|| &*around.data),
            "startedAt": moment(around.started_at),
            "idempotencyKey": step.map(|step| &*step.key),
        });
        let mut described = task.definition.as_object().cloned().unwrap_or_default();
        described.extend(descriptor.as_object().cloned().unwrap_or_default());
        Some(Value::Object(described))
    }

    /// What authorizes the request of the task: its scheme, and a placeholder for what only the host knows.
    fn authorization(&self) -> Value {
        let scheme = self.task.as_ref().and_then(|descriptor| match &descriptor.task.kind {
            Kind::Call(call) => call.authorization,
            Kind::Listen(listen) => match &listen.from {
                From::Protocol(subscription) => subscription.authorization,
                From::Bus(_) => None,
            },
            _ => None,
        });
        let parameter = |scheme| json!({ "scheme": scheme, "parameter": secrets::authorization() });
        scheme.map_or(Value::Null, parameter)
    }

    /// Returns a field of `$workflow`.
    fn workflow_descriptor(&self, key: &str) -> Option<Cow<'_, Value>> {
        Some(match key {
            "id" => text(self.id),
            "definition" => Cow::Borrowed(&self.definition.document),
            "input" => Cow::Borrowed(&**self.workflow_input),
            "startedAt" => Cow::Owned(moment(self.started_at)),
            _ => return None,
        })
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
    fn variable(&self, name: &str) -> Cow<'_, Value> {
        if let Some(value) = self.bound.get(name).or_else(|| self.in_scope(name)) {
            return Cow::Borrowed(value);
        }
        let undo = self.undo();
        match name {
            "context" => Cow::Borrowed(&**undo.map_or(&self.state.context, |undo| &undo.context)),
            // A compensation sees the input of what it undoes, and its output as `.`.
            "input" => {
                undo.map(|undo| &undo.input).or(self.input).map_or(NULL, |value| Cow::Borrowed(&**value))
            }
            "output" => self.output.map_or(NULL, |value| Cow::Borrowed(&**value)),
            "authorization" => Cow::Owned(self.authorization()),
            "task" if self.task.is_none() => NULL,
            "task" if self.task.as_ref().is_some_and(|descriptor| descriptor.task.extends.is_some()) => {
                self.extended().map_or(NULL, Cow::Owned)
            }
            "task" => whole(&TASK, |key| self.task(key)),
            "workflow" => whole(&WORKFLOW, |key| self.workflow_descriptor(key)),
            "runtime" => {
                Cow::Owned(json!({ "name": "sinew", "version": env!("CARGO_PKG_VERSION"), "metadata": {} }))
            }
            "error" => {
                self.state.recovery.as_ref().map_or(NULL, |recovery| Cow::Owned(json!(recovery.fault)))
            }
            "saga" => Cow::Owned(self.saga()),
            _ => NULL,
        }
    }

    fn field(&self, name: &str, key: &str) -> Option<Cow<'_, Value>> {
        if self.bound.contains_key(name) {
            return None;
        }
        match name {
            "task" if self.in_scope(name).is_none() => self.task(key),
            "workflow" if self.in_scope(name).is_none() => self.workflow_descriptor(key),
            _ => None,
        }
    }

    fn now(&self) -> Timestamp {
        self.at
    }
}

/// Makes a whole descriptor of its fields.
fn whole<'e>(keys: &[&str], field: impl Fn(&str) -> Option<Cow<'e, Value>>) -> Cow<'e, Value> {
    let fields = keys.iter().filter_map(|key| Some(((*key).to_owned(), field(key)?.into_owned())));
    Cow::Owned(Value::Object(fields.collect()))
}

fn text<'e>(text: &str) -> Cow<'e, Value> {
    Cow::Owned(Value::String(text.to_owned()))
}

fn moment(at: Timestamp) -> Value {
    let millis = at.as_millis();
    json!({ "iso8601": at.to_string(), "epoch": { "seconds": millis.div_euclid(1_000), "milliseconds": millis } })
}
