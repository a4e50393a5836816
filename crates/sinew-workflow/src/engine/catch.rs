//! `try`: which errors are caught, when to try again, and what to do instead.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::env::Env;
use super::key::jitter;
use super::{Driver, Stop, Todo};
use crate::entry::{Data, Fact, Opened, Part, Timer};
use crate::language::jq::Expression;
use crate::language::plan::{Backoff, ErrorFilter, Kind, Length, Retry, Try};
use crate::state::Frame;
use crate::{Error, Fault, TaskId, Timestamp};

/// Where the standard error types live, in the text of the specification and in its conformance files.
const STANDARD: [&str; 2] = ["/spec/1.0.0/errors/", "/dsl/errors/types/"];

/// How a retry stands when another failure comes in.
pub(super) struct Tries<'t> {
    /// How often it was tried, this failure included.
    pub(super) number: u32,
    /// When it was tried first.
    pub(super) since: Timestamp,
    /// What jitter is derived from.
    pub(super) key: &'t str,
}

impl Driver<'_> {
    /// Starts the first attempt of a `try`.
    pub(super) fn begin_attempt(&mut self, id: TaskId) -> Result<(), Stop> {
        if let Some(timer) = self.attempt_timer(id)? {
            self.open(id, Part::First, BTreeMap::new(), Some(timer))?;
        }
        Ok(self.begin_part(id)?)
    }

    /// Starts another attempt of a `try` after its pause.
    pub(super) fn try_again(&mut self, id: TaskId, times: u32) -> Result<(), Error> {
        match self.attempt_timer(id) {
            Ok(timer) => {
                self.open(id, Part::Again(times), BTreeMap::new(), timer)?;
                self.begin_part(id)
            }
            Err(Stop::Fault(fault)) => self.fail(id, fault),
            Err(Stop::Engine(error)) => Err(error),
        }
    }

    /// Says whether a frame is a `try`, whose timer bounds its attempt.
    pub(super) fn is_trying(&self, frame: &Frame) -> bool {
        self.planned(frame).is_ok_and(|(_, task)| matches!(task.kind, Kind::Try(_)))
    }

    /// One attempt took longer than its policy allows: an error inside the `try` like any other.
    pub(super) fn attempt_expired(&mut self, id: TaskId) -> Result<(), Error> {
        let frame = self.state.frame(id)?;
        let (_, task) = self.planned(frame)?;
        let Kind::Try(attempt) = &task.kind else { return Ok(()) };
        let mut fault = Fault::timeout(format!("an attempt of `{}` did not end in time", task.name));
        fault.instance = Some(task.pointer.to_string());
        self.catch(id, attempt, Box::new(fault))
    }

    /// Decides about an error inside a `try`: try again, handle it, or pass it on.
    pub(super) fn catch(&mut self, id: TaskId, attempt: &Try, fault: Box<Fault>) -> Result<(), Error> {
        match self.caught(id, attempt, &fault) {
            Ok(Caught::Again { times, millis }) => {
                let timer = self.next_timer(millis);
                self.open(id, Part::Pause(times), BTreeMap::new(), Some(timer))
            }
            Ok(Caught::Handle) => {
                let vars = BTreeMap::from([(attempt.bind.clone(), Arc::new(json!(fault)))]);
                self.open(id, Part::Catch, vars, None)?;
                self.begin_part(id)
            }
            Ok(Caught::Not) => {
                self.todo.push(Todo::Fail { task: id, fault });
                Ok(())
            }
            Err(Stop::Fault(fault)) => {
                self.todo.push(Todo::Fail { task: id, fault });
                Ok(())
            }
            Err(Stop::Engine(error)) => Err(error),
        }
    }

    /// Decides when to try again, if at all.
    pub(super) fn pause(
        &self,
        retry: &Retry,
        tries: &Tries<'_>,
        env: &Env<'_>,
        input: &Value,
    ) -> Result<Option<u64>, Box<Fault>> {
        if !wanted(retry.when.as_ref(), retry.except_when.as_ref(), input, env)? {
            return Ok(None);
        }
        if retry.count.is_some_and(|count| tries.number > count) {
            return Ok(None);
        }
        let length =
            |length: &Option<Length>| length.as_ref().map(|length| env.length(length, input)).transpose();
        let delay = env.length(&retry.delay, input)?;
        let step = f64::from(tries.number.saturating_sub(1));
        let grown = match &retry.backoff {
            Backoff::Constant => delay,
            Backoff::Linear(increment) => {
                let increment = length(increment)?.unwrap_or(delay);
                delay.saturating_add(increment.saturating_mul(u64::from(tries.number.saturating_sub(1))))
            }
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "saturates"
            )]
            Backoff::Exponential(factor) => (delay as f64 * factor.powf(step)).round() as u64,
        };
        let capped = length(&retry.max)?.map_or(grown, |max| grown.min(max));
        let spread = match &retry.jitter {
            None => 0,
            Some((from, to)) => {
                let (from, to) = (env.length(from, input)?, env.length(to, input)?);
                from.saturating_add(jitter(
                    tries.key,
                    tries.number,
                    to.saturating_sub(from).saturating_add(1),
                ))
            }
        };
        let millis = capped.saturating_add(spread);
        let end = length(&retry.duration)?.map(|limit| tries.since.after(limit));
        Ok(Some(millis).filter(|millis| end.is_none_or(|end| self.at.after(*millis) <= end)))
    }

    fn caught(&self, id: TaskId, attempt: &Try, fault: &Fault) -> Result<Caught, Stop> {
        if !attempt.errors.matches(fault) {
            return Ok(Caught::Not);
        }
        let frame = self.state.frame(id)?;
        let (_, task) = self.planned(frame)?;
        let env = Env::inside(self, id, frame, task).with(&attempt.bind, Arc::new(json!(fault)));
        if !wanted(attempt.when.as_ref(), attempt.except_when.as_ref(), &frame.input, &env)? {
            return Ok(Caught::Not);
        }
        let Some(retry) = &attempt.retry else { return Ok(Caught::Handle) };
        let times = if let Part::Again(times) = frame.part { times + 1 } else { 1 };
        let tries = Tries { number: times, since: frame.started_at, key: &frame.key };
        Ok(match self.pause(retry, &tries, &env, &frame.input)? {
            Some(millis) => Caught::Again { times, millis },
            // A `catch` that only retries has no answer of its own once the retries are spent.
            None if attempt.handler.is_none() && attempt.then.is_none() => Caught::Not,
            None => Caught::Handle,
        })
    }

    fn attempt_timer(&self, id: TaskId) -> Result<Option<Timer>, Stop> {
        let frame = self.state.frame(id)?;
        let (_, task) = self.planned(frame)?;
        let Kind::Try(attempt) = &task.kind else { return Ok(None) };
        let Some(limit) = attempt.retry.as_ref().and_then(|retry| retry.attempt.as_ref()) else {
            return Ok(None);
        };
        let millis = Env::inside(self, id, frame, task).length(limit, &frame.input)?;
        Ok(Some(self.next_timer(millis)))
    }

    fn open(
        &mut self,
        task: TaskId,
        part: Part,
        vars: BTreeMap<String, Arc<Value>>,
        timer: Option<Timer>,
    ) -> Result<(), Error> {
        self.record(Fact::Opened(Box::new(Opened { task, part, data: Data::Same, vars, items: None, timer })))
    }
}

/// What becomes of an error inside a `try`.
enum Caught {
    Not,
    Again { times: u32, millis: u64 },
    Handle,
}

impl ErrorFilter {
    /// Says whether an error is one this filter is for.
    pub(super) fn matches(&self, fault: &Fault) -> bool {
        let same = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| Some(wanted) == found)
        };
        self.r#type.as_deref().is_none_or(|wanted| same_type(wanted, &fault.r#type))
            && self.status.is_none_or(|status| status == i64::from(fault.status))
            && same(&self.instance, fault.instance.as_deref())
            && same(&self.title, fault.title.as_deref())
            && same(&self.detail, fault.detail.as_deref())
    }
}

/// Compares error types. Of standard ones only the last segment counts: the specification spells the rest in two ways and
/// on two hosts.
fn same_type(wanted: &str, found: &str) -> bool {
    let kind = |uri: &'_ str| {
        let (_, kind) = STANDARD.iter().find_map(|path| uri.split_once(path))?;
        Some(kind.to_owned())
    };
    match (kind(wanted), kind(found)) {
        (Some(wanted), Some(found)) => wanted == found,
        _ => wanted == found,
    }
}

fn wanted(
    when: Option<&Expression>,
    except: Option<&Expression>,
    input: &Value,
    env: &Env<'_>,
) -> Result<bool, Box<Fault>> {
    let holds = |expression: &Expression| expression.holds(input, env);
    Ok(when.map_or(Ok(true), holds)? && !except.map_or(Ok(false), holds)?)
}
