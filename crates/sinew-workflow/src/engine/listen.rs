//! `listen`, and subscriptions of protocols: what an event means, the tasks for each, and when it is enough.

use std::sync::Arc;

use serde_json::Value;

use super::env::Env;
use super::filter::{Hit, Place};
use super::{Driver, Stop, Todo};
use crate::entry::{Data, Fact, Heard, ItemLeft, Listened};
use crate::language::plan::{Events, Foreach, From, Kind, Listen, Subscription, Task, Until};
use crate::state::{Frame, Listening};
use crate::{Error, Fault, Source, TaskId};

/// How many events may wait while the tasks of another run.
const MAX_QUEUED: usize = 1_000;
/// How many events a task may hear whose output holds them all.
const MAX_HEARD: usize = 10_000;

impl Driver<'_> {
    /// Starts to listen.
    pub(super) fn listen(&mut self, id: TaskId, task: &Task, listen: &Listen) -> Result<(), Stop> {
        let frame = self.state.frame(id)?;
        let env = Env::inside(self, id, frame, task);
        let (source, lasts) = match &listen.from {
            From::Bus(events) => (Source::Bus(events.wanted(&frame.input, &env)), None),
            From::Protocol(subscription) => {
                let arguments = subscription.arguments.evaluate(&frame.input, &env)?;
                let lasts = subscription.lasts.as_ref();
                let lasts = lasts.map(|length| env.length(length, &frame.input)).transpose()?;
                (Source::Protocol { protocol: subscription.protocol, arguments }, lasts)
            }
        };
        let forgets =
            listen.each.is_some() && matches!(&listen.from, From::Bus(Events { until: Until::Never, .. }));
        let listened = Listened {
            task: id,
            attempt: frame.attempts + 1,
            source,
            timer: lasts.map(|millis| self.next_timer(millis)),
            each: listen.each.as_ref().map(|each| (each.item.clone(), each.at.clone())),
            forgets,
        };
        Ok(self.record(Fact::Listened(Box::new(listened)))?)
    }

    /// An event arrived for a task that may listen.
    pub(super) fn hear(
        &mut self,
        id: TaskId,
        attempt: u32,
        event: &Value,
        origin: Option<&str>,
    ) -> Result<(), Error> {
        let Some(frame) = self.state.frames.get(&id).filter(|frame| frame.attempts == attempt) else {
            return Ok(());
        };
        let Some(listening) = frame.listening() else { return Ok(()) };
        if listening.ended || listening.correlation.knows(origin) {
            return Ok(());
        }
        let Some(hit) = self.hit(id, frame, event)? else { return Ok(()) };
        let (_, task) = self.planned(frame)?;
        let Kind::Listen(listen) = &task.kind else { return Ok(()) };
        if !hit.ends
            && let Some(fault) = listening.is_full()
        {
            return self.fail(id, fault.into());
        }
        let item = if hit.ends { Data::Same } else { Data::Is(Arc::new(listen.read.of(event))) };
        let origin = origin.map(str::to_owned);
        let Hit { filter, keys, last, .. } = hit;
        self.record(Fact::Heard(Box::new(Heard { task: id, attempt, origin, filter, keys, item, last })))?;
        match &listen.each {
            Some(_) => self.next_item(id),
            None if last || self.is_enough(id, task, listen)? => self.end_listening(id),
            None => Ok(()),
        }
    }

    /// The time to listen is over, or the source came to its end: what waits is still gone through.
    pub(super) fn hush(&mut self, id: TaskId) -> Result<(), Error> {
        let frame = self.state.frame(id)?;
        let attempt = frame.attempts;
        if frame.listening().is_some_and(|listening| !listening.ended) {
            self.record(Fact::Heard(Box::new(Heard { last: true, ..Heard::nothing(id, attempt) })))?;
        }
        self.next_item(id)
    }

    /// The tasks for one event ended.
    pub(super) fn item_done(&mut self, id: TaskId, each: &Foreach) -> Result<(), Error> {
        let frame = self.state.frame(id)?;
        let (_, task) = self.planned(frame)?;
        let left = match self.item_left(id, frame, task, each) {
            Ok(left) => left,
            Err(fault) => return self.fail(id, fault),
        };
        self.record(Fact::ItemLeft(Box::new(left)))?;
        let Kind::Listen(listen) = &task.kind else { return Ok(()) };
        if self.is_enough(id, task, listen)? { self.end_listening(id) } else { self.next_item(id) }
    }

    /// Goes on with the next event that waits, or with what was heard if there will be none.
    fn next_item(&mut self, id: TaskId) -> Result<(), Error> {
        let Some(listening) = self.state.frame(id)?.listening() else { return Ok(()) };
        if listening.is_over() {
            return self.end_listening(id);
        }
        if listening.item.is_some() || listening.queue.is_empty() {
            return Ok(());
        }
        self.record(Fact::ItemOpened { task: id })?;
        self.begin_part(id)
    }

    fn end_listening(&mut self, id: TaskId) -> Result<(), Error> {
        let attempt = self.state.frame(id)?.attempts;
        self.record(Fact::ListeningEnded { task: id, attempt })?;
        self.todo.push(Todo::finish(id, None));
        Ok(())
    }

    /// Finds what an event is good for where a task listens, if anything.
    pub(super) fn hit(&self, id: TaskId, frame: &Frame, event: &Value) -> Result<Option<Hit>, Error> {
        let (_, task) = self.planned(frame)?;
        let (Kind::Listen(listen), Some(listening)) = (&task.kind, frame.listening()) else {
            return Ok(None);
        };
        let env = Env::inside(self, id, frame, task);
        Ok(match (&listening.source, &listen.from) {
            (Source::Bus(fixed), From::Bus(events)) => {
                let place = Place { input: &frame.input, variables: &env, fixed };
                events.hear(&listening.correlation, event, &place)
            }
            (_, From::Protocol(subscription)) => subscription.hear(listening, event, &env),
            _ => None,
        })
    }

    /// Says whether what was heard so far is enough. An expression that fails says so as a fault of the task.
    fn is_enough(&mut self, id: TaskId, task: &Task, listen: &Listen) -> Result<bool, Error> {
        let frame = self.state.frame(id)?;
        let Some(listening) = frame.listening() else { return Ok(false) };
        let (until, goes_on) = match &listen.from {
            From::Bus(Events { until: Until::Holds(until), .. }) => (Some(until), None),
            From::Bus(_) => (None, None),
            From::Protocol(of) => (of.until.as_ref(), of.goes_on.as_ref()),
        };
        if until.is_none() && goes_on.is_none() {
            return Ok(false);
        }
        let heard: Value = listening.results.iter().map(|result| Value::clone(result)).collect();
        let env = Env::inside(self, id, frame, task);
        let enough = until
            .map_or(Ok(false), |until| until.holds(&heard, &env))
            .and_then(|ends| Ok(ends || !goes_on.map_or(Ok(true), |goes_on| goes_on.holds(&heard, &env))?));
        match enough {
            Ok(enough) => Ok(enough),
            Err(fault) => {
                self.todo.push(Todo::Fail { task: id, fault });
                Ok(false)
            }
        }
    }

    fn item_left(
        &self,
        id: TaskId,
        frame: &Frame,
        task: &Task,
        each: &Foreach,
    ) -> Result<ItemLeft, Box<Fault>> {
        let env = Env::inside(self, id, frame, task).with_raw_output(&frame.data);
        let transform = each.output.transform.as_ref();
        let output = transform.map(|transform| transform.evaluate(&frame.data, &env)).transpose()?;
        let item = frame.listening().and_then(|listening| listening.item.as_ref()).unwrap_or(&frame.data);
        let kept = output.as_ref().unwrap_or(item);
        if let Some(schema) = &each.output.schema {
            schema.check("output for an event", kept)?;
        }
        let env = env.with_output(kept);
        let export = each.export.transform.as_ref();
        let context = export.map(|export| export.evaluate(kept, &env)).transpose()?;
        if let (Some(schema), Some(context)) = (&each.export.schema, &context) {
            schema.check("context", context)?;
        }
        let (output, context) = (output.map_or(Data::Same, Data::Is), context.map_or(Data::Same, Data::Is));
        Ok(ItemLeft { task: id, output, context })
    }
}

impl Subscription {
    fn hear(&self, listening: &Listening, message: &Value, env: &Env<'_>) -> Option<Hit> {
        let fits = self.filter.as_ref().is_none_or(|filter| filter.holds(message, env).unwrap_or(false));
        let heard = listening.taken.saturating_add(u32::try_from(listening.queue.len()).unwrap_or(u32::MAX));
        let last = self.amount.is_some_and(|amount| heard.saturating_add(1) >= amount);
        fits.then(|| Hit { last, ..Hit::default() })
    }
}

impl Listening {
    fn is_full(&self) -> Option<Fault> {
        if self.queue.len() >= MAX_QUEUED {
            let waits = format!("more than {MAX_QUEUED} events wait for their tasks; make those faster");
            return Some(Fault::runtime(waits));
        }
        (self.results.len() + self.queue.len() >= MAX_HEARD).then(|| {
            Fault::runtime(format!(
                "more than {MAX_HEARD} events heard by one task; listen in a loop instead"
            ))
        })
    }
}

impl Heard {
    fn nothing(task: TaskId, attempt: u32) -> Self {
        let keys = std::collections::BTreeMap::new();
        Self { task, attempt, origin: None, filter: None, keys, item: Data::Same, last: false }
    }
}
