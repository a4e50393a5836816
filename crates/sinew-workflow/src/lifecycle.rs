//! The specification's lifecycle events: what happened to an instance and its tasks, as CloudEvents. Publishes nothing.

use serde_json::{Map, Value, json};

use crate::entry::{Entry, Fact, Left, Part};
use crate::state::Frame;
use crate::{Error, Source, State, Status, TaskId, Timestamp, apply};

/// What the types of all lifecycle events begin with. The specification kept this name when it changed its own.
const PREFIX: &str = "io.serverlessworkflow.";

/// Returns the lifecycle events that entries stand for, in order, given the state they follow.
///
/// An event says the same and has the same id whenever it is derived from the same entries, so publishing again after a
/// crash is recognised. The subject is the instance. Left out are the optional `status-changed` events; tasks whose `if`
/// said no have none; the tasks of compensations have theirs like any other.
///
/// # Errors
/// [`Error::Illegal`] when the entries do not follow from the state.
///
/// ```
/// use serde_json::json;
/// use sinew_workflow::{Definition, Input, State, Timestamp, lifecycle, run};
///
/// let definition = Definition::parse(
///     "
/// document: { dsl: '1.0.3', namespace: shop, name: greet, version: '1.0.0' }
/// do: [ { hello: { set: { text: hello } } } ]
/// ",
///     "greet.yaml",
/// )?;
/// let (before, at) = (State::default(), Timestamp::from_millis(0));
/// let mut state = before.clone();
/// let entries = run(&definition, &mut state, Input::Start { id: "7".into(), input: json!({}), at, trace: None })?;
/// let events = lifecycle(&before, &entries)?;
/// let types: Vec<_> = events.iter().filter_map(|event| event["type"].as_str()).collect();
/// assert_eq!(types, [
///     "io.serverlessworkflow.workflow.started.v1",
///     "io.serverlessworkflow.task.created.v1",
///     "io.serverlessworkflow.task.started.v1",
///     "io.serverlessworkflow.task.completed.v1",
///     "io.serverlessworkflow.workflow.completed.v1",
/// ]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn lifecycle(before: &State, entries: &[Entry]) -> Result<Vec<Value>, Error> {
    let mut state = before.clone();
    let mut events = Vec::new();
    for entry in entries {
        let mut after = state.clone();
        apply(&mut after, entry)?;
        Change { before: &state, after: &after, at: entry.at, events: &mut events }.tell(&entry.fact);
        state = after;
    }
    Ok(events)
}

/// One entry, with the state on either side of it.
struct Change<'c> {
    before: &'c State,
    after: &'c State,
    at: Timestamp,
    events: &'c mut Vec<Value>,
}

impl Change<'_> {
    fn tell(mut self, fact: &Fact) {
        self.cancelled(fact);
        match fact {
            Fact::Started(_) => {
                let of = &self.after.workflow;
                let definition = json!({ "namespace": of.namespace, "name": of.name, "version": of.version });
                self.workflow("started", "startedAt", &[("definition", definition)]);
            }
            Fact::Entered(entered) => {
                if self.before.step(entered.task).is_none() {
                    self.task(entered.task, "created", "createdAt", &[]);
                }
                self.task(entered.task, "started", "startedAt", &[]);
            }
            Fact::Opened(opened) if self.is_retry(opened.task, opened.part) => {
                self.task(opened.task, "retried", "retriedAt", &[]);
            }
            Fact::Left(left) => self.left(left),
            Fact::Listened(listened) if matches!(listened.source, Source::Bus(_)) => {
                self.workflow("correlation-started", "startedAt", &[]);
            }
            Fact::ListeningEnded { task, .. } => self.correlated(*task),
            Fact::Ended(_) | Fact::Terminated { .. } => self.ended(),
            Fact::Paused => self.paused("suspended", "suspendedAt"),
            Fact::Resumed => self.paused("resumed", "resumedAt"),
            _ => {}
        }
    }

    /// Tells of tasks that others closed, the innermost first.
    fn cancelled(&mut self, fact: &Fact) {
        let own = if let Fact::Left(left) = fact { Some(left.task) } else { None };
        let (before, after) = (self.before, self.after);
        for (task, frame) in before.frames.iter().rev() {
            if frame.is_task() && Some(*task) != own && !after.frames.contains_key(task) {
                self.task(*task, "cancelled", "cancelledAt", &[]);
            }
        }
    }

    fn left(&mut self, left: &Left) {
        match (&left.fault, self.before.frames.get(&left.task)) {
            (Some(fault), _) => self.task(left.task, "faulted", "faultedAt", &[("error", json!(fault))]),
            (None, Some(frame)) => {
                let output = Value::clone(&left.output.or(frame.outcome()));
                self.task(left.task, "completed", "completedAt", &[("output", output)]);
            }
            (None, None) => {}
        }
    }

    fn correlated(&mut self, task: TaskId) {
        let Some(listening) = self.before.frames.get(&task).and_then(|frame| frame.listening()) else {
            return;
        };
        if !matches!(listening.source, Source::Bus(_)) {
            return;
        }
        let keys = &listening.correlation.keys;
        let keys = if keys.is_empty() { vec![] } else { vec![("correlationKeys", json!(keys))] };
        self.workflow("correlation-completed", "completedAt", &keys);
    }

    fn ended(&mut self) {
        if self.before.status() != Status::Running {
            return;
        }
        match self.after.status() {
            Status::Completed => {
                let output = self.after.output().cloned().unwrap_or_default();
                self.workflow("completed", "completedAt", &[("output", output)]);
            }
            Status::Cancelled => self.workflow("cancelled", "cancelledAt", &[]),
            Status::Faulted | Status::Running => {
                self.workflow("faulted", "faultedAt", &[("error", json!(self.after.fault()))]);
            }
        }
    }

    fn paused(&mut self, happened: &str, moment: &str) {
        self.workflow(happened, moment, &[]);
        let frames = &self.after.frames;
        for (task, _) in frames.iter().filter(|(_, frame)| frame.is_task() && frame.undo.is_none()) {
            self.task(*task, happened, moment, &[]);
        }
    }

    fn is_retry(&self, task: TaskId, part: Part) -> bool {
        let frame = self.after.frames.get(&task);
        matches!(part, Part::Again(_)) && frame.is_some_and(|frame| !frame.is_loop())
    }

    fn workflow(&mut self, happened: &str, moment: &str, more: &[(&str, Value)]) {
        let data = json!({ "name": self.name() });
        self.event(&format!("workflow.{happened}"), None, data, moment, more);
    }

    fn task(&mut self, task: TaskId, happened: &str, moment: &str, more: &[(&str, Value)]) {
        let frame = self.after.frames.get(&task).or_else(|| self.before.frames.get(&task));
        let Some(frame) = frame else { return };
        let data = json!({ "workflow": self.name(), "task": &*frame.pointer });
        self.event(&format!("task.{happened}"), Some(task), data, moment, more);
    }

    fn event(
        &mut self,
        happened: &str,
        task: Option<TaskId>,
        data: Value,
        moment: &str,
        more: &[(&str, Value)],
    ) {
        let (id, of, at) = (&self.after.id, &self.after.workflow, self.at.to_string());
        let mut fields = if let Value::Object(fields) = data { fields } else { Map::new() };
        fields.insert(moment.to_owned(), json!(at));
        fields.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let place = task.map(|task| format!(".{task}")).unwrap_or_default();
        self.events.push(json!({
            "specversion": "1.0",
            "id": format!("{id}/{happened}/{}{place}", self.after.folded),
            "source": format!("/workflows/{}/{}", of.namespace, of.name),
            "type": format!("{PREFIX}{happened}.v1"),
            "subject": id,
            "time": at,
            "datacontenttype": "application/json",
            "data": fields,
        }));
    }

    /// Returns the qualified name of the instance, as the specification writes it.
    fn name(&self) -> String {
        let of = &self.after.workflow;
        format!("{}-{}.{}", of.name, self.after.id, of.namespace)
    }
}

impl Frame {
    /// Says whether it is a task of the definition, not the workflow itself or what runs a compensation.
    fn is_task(&self) -> bool {
        self.undoes.is_none() && self.parent.is_some()
    }
}
