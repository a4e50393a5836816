//! The events that start instances: which belong together, and when they are all there.

use std::sync::Arc;

use serde_json::Value;

use super::Driver;
use super::env::Env;
use super::filter::Place;
use crate::language::plan::{Events, Until};
use crate::schedule::Group;
use crate::{Definition, Gathering, Schedule, State, Timestamp, Wanted};

/// How many groups of events may be on their way.
const MAX_GROUPS: usize = 1_000;
/// How many events a group may hold.
const MAX_EVENTS: usize = 10_000;

impl Definition {
    /// Returns when instances start by themselves, if they do.
    #[must_use]
    pub fn schedule(&self) -> Option<&Schedule> {
        self.plan.schedule.as_ref()
    }

    /// Returns what to look for among events, for [`gather`](Self::gather) to decide about; empty when none matters.
    #[must_use]
    pub fn triggers(&self) -> Vec<Wanted> {
        let Some((events, _)) = &self.plan.trigger else { return Vec::new() };
        let nothing = Arc::new(Value::Null);
        let mut state = State::default();
        let driver = Driver::idle(self, &mut state, Timestamp::default());
        events.wanted(&Value::Null, &Env::starting(&driver, "", &nothing))
    }

    /// Takes an event into account, and returns the input of an instance to start once the schedule has all it waits for:
    /// the list of those events, in the order they came.
    ///
    /// `origin` says where the event came from and which it was there: the same one given again is ignored. Events that
    /// wait for others with the same correlation keys, and those without, start instances of their own. The same events
    /// in the same order give the same inputs.
    #[must_use]
    pub fn gather(
        &self,
        gathering: &mut Gathering,
        event: &Value,
        origin: Option<&str>,
        at: Timestamp,
    ) -> Option<Value> {
        let (events, read) = self.plan.trigger.as_ref()?;
        if gathering.came.knows(origin) {
            return None;
        }
        let nothing = Arc::new(Value::Null);
        let mut state = State::default();
        let driver = Driver::idle(self, &mut state, at);
        let env = Env::starting(&driver, "", &nothing);
        let fixed = events.wanted(&Value::Null, &env);
        let place = Place { input: &Value::Null, variables: &env, fixed: &fixed };
        let known = gathering.groups.iter().enumerate().find_map(|(index, group)| {
            events.hear(&group.correlation, event, &place).map(|hit| (index, hit))
        });
        let (index, hit) = match known {
            Some(found) => found,
            None => {
                let hit = events.hear(&Group::default().correlation, event, &place)?;
                if gathering.groups.len() >= MAX_GROUPS {
                    gathering.groups.remove(0);
                }
                gathering.groups.push(Group::default());
                (gathering.groups.len() - 1, hit)
            }
        };
        gathering.came.note(origin, None, &std::collections::BTreeMap::new());
        let group = gathering.groups.get_mut(index)?;
        group.correlation.note(None, hit.filter, &hit.keys);
        if !hit.ends && group.events.len() < MAX_EVENTS {
            group.events.push(read.of(event));
        }
        let complete = hit.last || events.are_enough(&group.events, &env);
        complete.then(|| Value::Array(gathering.groups.remove(index).events))
    }
}

impl Events {
    fn are_enough(&self, heard: &[Value], env: &Env<'_>) -> bool {
        let Until::Holds(until) = &self.until else { return false };
        until.holds(&Value::Array(heard.to_vec()), env).unwrap_or(false)
    }
}

impl<'d> Driver<'d> {
    /// Makes one that only lends its place to expressions.
    fn idle(definition: &'d Definition, state: &'d mut State, at: Timestamp) -> Self {
        let (entries, todo) = (Vec::new(), Vec::new());
        Self { definition, state, entries, at, todo, transitions: 0 }
    }
}
