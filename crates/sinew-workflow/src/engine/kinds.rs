//! What each kind of task does when it starts.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::env::Env;
use super::{Driver, Stop, Todo};
use crate::entry::{Data, Fact, Opened, Part, Request, Trigger};
use crate::language::plan::{Call, Case, Id, Kind, Length, Raise, Task};
use crate::language::template::Template;
use crate::{Error, Fault, Target, TaskId};

impl Driver<'_> {
    pub(super) fn begin(&mut self, id: TaskId, task: &Task) -> Result<(), Error> {
        let begun = self.begin_kind(id, task);
        self.or_fail(id, begun)
    }

    /// Begins another iteration of a loop, or ends it.
    pub(super) fn iterate(&mut self, id: TaskId, times: u32) -> Result<(), Error> {
        let begun = self.iteration(id, times, None);
        self.or_fail(id, begun)
    }

    fn begin_kind(&mut self, id: TaskId, task: &Task) -> Result<(), Stop> {
        match &task.kind {
            Kind::Do(_) | Kind::Extended(_) | Kind::Extension(_) => Ok(self.begin_part(id)?),
            Kind::Try(_) => self.begin_attempt(id),
            Kind::Call(call) => self.call(id, task, call),
            Kind::Human(call, _) => self.call(id, task, call),
            Kind::Listen(listen) => self.listen(id, task, listen),
            Kind::Function { arguments, .. } => self.function(id, task, arguments.as_ref()),
            Kind::Compensate => Ok(self.end_faulted(Trigger::Request, requested(task).into())?),
            Kind::Set(template) => self.set(id, task, template),
            Kind::Switch(cases) => self.switch(id, task, cases),
            Kind::Raise(raise) => Err(self.raised(id, task, raise)?.into()),
            Kind::Wait(length) => self.wait(id, task, length),
            Kind::Emit(template) => self.emit(id, task, template),
            Kind::For(looped) => {
                let frame = self.state.frame(id)?;
                let items = looped.items.evaluate(&frame.input, &Env::inside(self, id, frame, task))?;
                self.iteration(id, 0, Some(items))
            }
            Kind::Fork { branches, .. } => self.fork(id, branches),
            Kind::Foreign => Err(Fault::configuration(format!("`{}` cannot run yet", task.keyword)).into()),
        }
    }

    fn call(&mut self, id: TaskId, task: &Task, call: &Call) -> Result<(), Stop> {
        let frame = self.state.frame(id)?;
        let env = Env::inside(self, id, frame, task);
        let compute = |template: &Option<Template>| {
            template.as_ref().map(|template| template.evaluate(&frame.input, &env)).transpose()
        };
        let lengths = [&call.timeout, &task.timeout].into_iter().flatten();
        let timeouts: Vec<u64> =
            lengths.map(|length| env.length(length, &frame.input)).collect::<Result<_, _>>()?;
        let mut target = call.target.clone();
        if let Target::Operation(operation) = &mut target {
            operation.subject = compute(&call.subject)?.map(|subject| text(&subject).into());
        }
        let request = Arc::new(Request {
            target,
            headers: headers(compute(&call.headers)?.as_deref())?,
            timeout_ms: timeouts.into_iter().min().unwrap_or(call.limit),
            command: call.command,
        });
        let body = compute(&call.body)?.map_or(Data::Same, |body| Data::unless(body, &frame.input));
        let attempt = frame.attempts + 1;
        Ok(self.record(Fact::Called { task: id, attempt, request, body })?)
    }

    fn function(&mut self, id: TaskId, task: &Task, arguments: Option<&Template>) -> Result<(), Stop> {
        if let Some(arguments) = arguments {
            let frame = self.state.frame(id)?;
            let data = Data::Is(arguments.evaluate(&frame.input, &Env::inside(self, id, frame, task))?);
            let opened =
                Opened { task: id, part: Part::First, data, vars: BTreeMap::new(), items: None, timer: None };
            self.record(Fact::Opened(Box::new(opened)))?;
        }
        Ok(self.begin_part(id)?)
    }

    fn set(&mut self, id: TaskId, task: &Task, template: &Template) -> Result<(), Stop> {
        let frame = self.state.frame(id)?;
        let value = template.evaluate(&frame.input, &Env::inside(self, id, frame, task))?;
        self.todo.push(Todo::finish(id, Some(value)));
        Ok(())
    }

    fn switch(&mut self, id: TaskId, task: &Task, cases: &[Case]) -> Result<(), Stop> {
        let frame = self.state.frame(id)?;
        let env = Env::inside(self, id, frame, task);
        let mut chosen = None;
        for case in cases {
            let holds = case.when.as_ref().map_or(Ok(false), |when| when.holds(&frame.input, &env))?;
            if holds {
                chosen = Some(case);
                break;
            }
        }
        // The default is for when nothing else matches, wherever it stands.
        let chosen = chosen.or_else(|| cases.iter().find(|case| case.when.is_none()));
        let (then, chosen) = (chosen.map(|case| case.then), chosen.map(|case| Arc::clone(&case.name)));
        self.todo.push(Todo::Finish { task: id, output: None, then, chosen });
        Ok(())
    }

    fn raised(&self, id: TaskId, task: &Task, raise: &Raise) -> Result<Fault, Stop> {
        let frame = self.state.frame(id)?;
        let env = Env::inside(self, id, frame, task);
        let compute = |template: &Template| template.evaluate(&frame.input, &env);
        let optional = |template: &Option<Template>| {
            let value = template.as_ref().map(compute).transpose()?;
            Ok::<_, Box<Fault>>(value.filter(|value| !value.is_null()).map(|value| text(&value)))
        };
        let status = compute(&raise.status)?;
        let status = status
            .as_u64()
            .or_else(|| status.as_str()?.parse().ok())
            .and_then(|status| u16::try_from(status).ok());
        let status =
            status.ok_or_else(|| Fault::expression("the status of an error is a number such as 409"))?;
        let mut fault = Fault::new(text(&*compute(&raise.r#type)?), status);
        fault.title = optional(&raise.title)?;
        fault.detail = optional(&raise.detail)?;
        fault.instance = optional(&raise.instance)?;
        Ok(fault)
    }

    fn wait(&mut self, id: TaskId, task: &Task, length: &Length) -> Result<(), Stop> {
        let frame = self.state.frame(id)?;
        let millis = Env::inside(self, id, frame, task).length(length, &frame.input)?;
        let timer = self.next_timer(millis);
        Ok(self.record(Fact::Waiting { task: id, timer })?)
    }

    fn emit(&mut self, id: TaskId, task: &Task, template: &Template) -> Result<(), Stop> {
        let frame = self.state.frame(id)?;
        let with = template.evaluate(&frame.input, &Env::inside(self, id, frame, task))?;
        let Value::Object(with) = &*with else {
            return Err(Fault::expression(format!("an event is an object, not {with}")).into());
        };
        let event = self.event(with.clone(), &frame.key);
        let attempt = frame.attempts + 1;
        let event_id = event.get("id").map(text).unwrap_or_default();
        let event = Arc::new(Value::Object(event));
        Ok(self.record(Fact::Emitted { task: id, attempt, id: event_id, event })?)
    }

    /// Completes the attributes of a CloudEvent with what only the engine knows.
    fn event(&self, mut event: Map<String, Value>, key: &str) -> Map<String, Value> {
        let workflow = self.definition.reference();
        let defaults = [
            ("specversion", json!("1.0")),
            ("id", json!(key)),
            ("source", json!(format!("/workflows/{}/{}", workflow.namespace, workflow.name))),
            ("time", json!(self.at.to_string())),
        ];
        for (name, value) in defaults {
            event.entry(name).or_insert(value);
        }
        event
    }

    fn iteration(&mut self, id: TaskId, times: u32, first: Option<Arc<Value>>) -> Result<(), Stop> {
        let frame = self.state.frame(id)?;
        let (_, task) = self.planned(frame)?;
        let Kind::For(looped) = &task.kind else { return Ok(()) };
        let items = first.as_ref().or(frame.items.as_ref()).map(|items| &**items);
        let item = match items {
            None | Some(Value::Null) => None,
            Some(Value::Array(items)) => usize::try_from(times).ok().and_then(|index| items.get(index)),
            Some(other) => {
                return Err(Fault::expression(format!("`for` goes over a list, not {other}")).into());
            }
        };
        let Some(item) = item else {
            self.todo.push(Todo::finish(id, None));
            return Ok(());
        };
        let (item, index) = (Arc::new(item.clone()), Arc::new(json!(times)));
        let env = Env::inside(self, id, frame, task)
            .with(&looped.each, Arc::clone(&item))
            .with(&looped.at, Arc::clone(&index));
        let goes_on =
            looped.condition.as_ref().map_or(Ok(true), |condition| condition.holds(&frame.data, &env))?;
        if !goes_on {
            self.todo.push(Todo::finish(id, None));
            return Ok(());
        }
        let vars = BTreeMap::from([(looped.each.clone(), item), (looped.at.clone(), index)]);
        let part = if times == 0 { Part::First } else { Part::Again(times) };
        let opened = Opened { task: id, part, data: Data::Same, vars, items: first, timer: None };
        self.record(Fact::Opened(Box::new(opened)))?;
        Ok(self.begin_part(id)?)
    }

    fn fork(&mut self, id: TaskId, branches: &[Id]) -> Result<(), Stop> {
        if branches.is_empty() {
            self.todo.push(Todo::finish(id, None));
        }
        let enter =
            |(branch, task): (u32, &Id)| Todo::Enter { parent: id, task: *task, branch: Some(branch) };
        let mut entered: Vec<Todo> = (0..).zip(branches).map(enter).collect();
        entered.reverse();
        self.todo.extend(entered);
        Ok(())
    }

    /// Lets a task raise what stopped it, unless the engine itself did.
    fn or_fail(&mut self, task: TaskId, begun: Result<(), Stop>) -> Result<(), Error> {
        match begun {
            Ok(()) => Ok(()),
            Err(Stop::Engine(error)) => Err(error),
            Err(Stop::Fault(fault)) => {
                self.todo.push(Todo::Fail { task, fault });
                Ok(())
            }
        }
    }
}

/// The fault of a workflow that asks to be undone.
fn requested(task: &Task) -> Fault {
    let mut fault = Fault::new("https://open-workflow-specification.org/spec/1.0.0/errors/compensation", 409);
    fault.title = Some("Compensation Requested".to_owned());
    fault.instance = Some(task.pointer.to_string());
    fault
}

fn headers(value: Option<&Value>) -> Result<BTreeMap<String, String>, Box<Fault>> {
    match value {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(entries)) => {
            Ok(entries.iter().map(|(name, value)| (name.clone(), text(value))).collect())
        }
        Some(other) => Err(Fault::expression(format!("headers are an object, not {other}")).into()),
    }
}

/// Writes a value where text is needed.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
