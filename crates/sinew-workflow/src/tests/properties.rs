//! Invariants of sagas over generated workflows and arbitrary interleavings of replies, repeats, timers, cancels, crashes
//! and operators. What must hold after every input is in [`World::give`] and [`check_invariants`].
//!
//! [`check_invariants`]: super::world::check_invariants

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::define;
use super::world::World;
use crate::{AttemptOutcome, Effect, Fault, Input, Operate, Outcome, Saga, Status, StepStatus, UndoStatus};

/// How often each property is tried; `PROPTEST_CASES` says otherwise.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn sagas_keep_their_promises(shape in tape(60), events in tape(80)) {
        let mut world = World::start(workflow(&mut Tape(&shape)), json!({}));
        let mut given = Vec::new();
        let mut events = Tape(&events);
        while !events.is_empty() && !world.state.is_closed() {
            happen(&mut world, &mut events, &mut given);
        }
        finish(&mut world);
        check_end(&world);
    }

    #[test]
    fn extensions_that_do_nothing_change_nothing(shape in tape(40), outcomes in tape(40)) {
        let mut plain = tasks(&mut Tape(&shape), &mut 0, 2, true);
        let told = tell(definition(&plain), &outcomes);
        let nothing = json!({ "set": { "n": "nothing" } });
        let extension = json!({ "extend": "all", "before": [{ "b": nothing }], "after": [{ "a": nothing }] });
        plain["use"] = json!({ "extensions": [{ "quiet": extension }, { "silent": extension }] });
        prop_assert_eq!(tell(definition(&plain), &outcomes), told);
    }

    #[test]
    fn parallel_sagas_settle_everything(shape in tape(40), failing in 0_u8..6) {
        let mut workflow = tasks(&mut Tape(&shape), &mut 0, 2, true);
        workflow["saga"] = json!({ "order": "parallel" });
        let mut world = World::start(definition(&workflow), json!({}));
        for _ in 0..failing {
            let Some(effect) = next_call(&world) else { break };
            world.answer(&effect, "", "ok");
            world.due.retain(|due| *due != effect);
        }
        let at = world.at();
        world.give(Input::Cancel { reason: None, at });
        finish(&mut world);
        check_end(&world);
    }
}

/// Runs a workflow to its end and tells everything the world saw of it: each outcome is the next of the list, then success.
fn tell(definition: crate::Definition, outcomes: &[u8]) -> (Vec<String>, Status, Saga, Option<Value>) {
    let mut world = World::start(definition, json!({ "n": 0 }));
    let (mut seen, mut outcomes) = (Vec::new(), Tape(outcomes));
    while !world.state.is_closed() {
        let next = world.due.iter().position(|effect| !matches!(effect, Effect::Timer { .. }));
        let moment = |effect: &Effect| if let Effect::Timer { at, .. } = effect { *at } else { world.at() };
        let first = (0..world.due.len()).min_by_key(|index| moment(&world.due[*index]));
        let Some(index) = next.or(first) else {
            operate(&mut world, 1);
            continue;
        };
        let effect = world.due.remove(index);
        match &effect {
            Effect::Call { name, key, body, undo, .. } => {
                seen.push(format!("{name} {key} {body} {undo}"));
            }
            Effect::Emit { id, .. } => seen.push(id.clone()),
            _ => {}
        }
        let input = answer(&mut world, &effect, &mut outcomes);
        world.give(match input {
            // The number of the task is all that may differ.
            Input::Reply { task, attempt, outcome: Outcome::Completed(_), at } => {
                Input::Reply { task, attempt, outcome: Outcome::Completed(json!({ "n": seen.len() })), at }
            }
            other => other,
        });
        if matches!(effect, Effect::Listen { .. }) && world.state.due().contains(&effect) {
            world.due.push(effect);
        }
    }
    (seen, world.state.status(), world.state.saga(), world.state.output().cloned())
}

/// Bytes that decide: what a test case is made of, so that shrinking removes decisions.
struct Tape<'t>(&'t [u8]);

impl Tape<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Decides between so many possibilities; an empty tape takes the first.
    fn pick(&mut self, possibilities: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % possibilities
    }
}

fn tape(length: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..length)
}

fn workflow(tape: &mut Tape<'_>) -> crate::Definition {
    let mut workflow = tasks(tape, &mut 0, 3, true);
    workflow["saga"] = json!({
        "retry": { "delay": "PT1S", "limit": { "attempt": { "count": tape.pick(3) } } },
        "onStuck": (["park", "continue"][tape.pick(2)]),
    });
    if tape.pick(3) == 1 {
        workflow["timeout"] = json!({ "after": "PT20S" });
    }
    definition(&workflow)
}

/// Writes a workflow as text: a key a line, each value in JSON, which is YAML as well.
fn definition(workflow: &Value) -> crate::Definition {
    let lines = workflow.as_object().unwrap().iter().map(|(key, value)| format!("{key}: {value}\n"));
    define(&lines.collect::<String>())
}

/// Makes `{ do: [ … ] }` with up to four tasks.
fn tasks(tape: &mut Tape<'_>, names: &mut u32, depth: u32, pivots: bool) -> Value {
    let count = 1 + tape.pick(4);
    let list: Vec<Value> = (0..count).map(|_| task(tape, names, depth, pivots)).collect();
    json!({ "do": list })
}

fn task(tape: &mut Tape<'_>, names: &mut u32, depth: u32, pivots: bool) -> Value {
    *names += 1;
    let name = format!("t{names}");
    let kinds = if depth == 0 { 8 } else { 14 };
    let mut inner = |tape: &mut Tape<'_>, pivots| tasks(tape, names, depth - 1, pivots)["do"].clone();
    let mut task = match tape.pick(kinds) {
        0..=3 => json!({ "call": "some.thing" }),
        4 => json!({ "wait": "PT3S" }),
        5 => json!({ "emit": { "event": { "with": { "type": "happened" } } } }),
        6 => {
            json!({ "listen": { "to": { "all": [{ "with": { "type": "a" } }, { "with": { "type": "b" } }] } } })
        }
        7 => json!({ "run": { "workflow": { "namespace": "n", "name": "child", "version": "1.0.0" } } }),
        8 => json!({ "do": inner(tape, pivots) }),
        9 => {
            json!({ "try": inner(tape, false), "catch": { "retry": { "delay": "PT1S", "limit": { "attempt": { "count": 2 } } } } })
        }
        10 => {
            json!({ "try": inner(tape, false), "catch": { "do": [ { format!("c{name}"): { "call": "some.rescue" } } ] } })
        }
        11 => json!({ "for": { "in": "[1, 2]" }, "do": inner(tape, false) }),
        12 => json!({ "fork": { "branches": inner(tape, false) } }),
        _ => json!({ "fork": { "compete": true, "branches": inner(tape, false) } }),
    };
    match tape.pick(8) {
        0..=3 => task["compensate"] = json!({ "call": "some.undo" }),
        4 => {
            task["compensate"] = json!({ "do": [ { "first": { "call": "some.undo" } }, { "second": { "call": "some.undo" } } ] })
        }
        5 if pivots && tape.pick(4) == 0 => task["pivot"] = json!(true),
        6 => task["timeout"] = json!({ "after": "PT4S" }),
        _ => {}
    }
    json!({ name: task })
}

/// Lets one thing happen.
fn happen(world: &mut World, tape: &mut Tape<'_>, given: &mut Vec<Input>) {
    let at = world.at();
    match tape.pick(16) {
        0..=9 if !world.due.is_empty() => {
            let index = tape.pick(world.due.len());
            let effect = world.due.remove(index);
            let input = answer(world, &effect, tape);
            given.push(input.clone());
            world.give(input);
            let listens = matches!(effect, Effect::Listen { .. });
            if listens && world.state.due().contains(&effect) {
                world.due.push(effect);
            }
        }
        10 | 11 if !given.is_empty() => {
            let before = world.log.len();
            world.give(given[tape.pick(given.len())].clone());
            assert_eq!(world.log.len(), before, "a repeated input changes nothing");
        }
        12 => world.crash(),
        13 if tape.pick(6) == 0 => world.give(Input::Cancel { reason: None, at }),
        13 if tape.pick(3) == 0 => match world.state.is_paused() {
            true => world.give(Input::Resume { at }),
            false => world.give(Input::Pause { at }),
        },
        14 if world.state.saga() == Saga::Stuck => operate(world, tape.pick(4)),
        15 if tape.pick(8) == 1 => world.give(Input::Terminate { reason: None, at }),
        _ => world.now += 500,
    }
}

/// Makes the input an effect asks for.
fn answer(world: &mut World, effect: &Effect, tape: &mut Tape<'_>) -> Input {
    if let Effect::Listen { task, attempt, .. } = effect {
        world.now += 10;
        let kind = if world.now / 10 % 7 < 3 { "a" } else { "b" };
        let event = Arc::new(json!({ "type": kind, "data": world.now }));
        let origin = Some(world.now.to_string());
        return Input::Event { task: *task, attempt: *attempt, event, origin, at: world.at() };
    }
    let (Effect::Call { task, attempt, .. } | Effect::Emit { task, attempt, .. }) = effect else {
        let Effect::Timer { task, timer, at } = effect else { unreachable!() };
        world.now = world.now.max(at.as_millis());
        return Input::Timer { task: *task, timer: *timer, at: world.at() };
    };
    let outcome = match tape.pick(8) {
        0..=4 => Outcome::Completed(json!({ "n": task.get() })),
        5 => Outcome::Refused(Fault::communication("no")),
        6 => Outcome::NotSent(Fault::communication("nobody")),
        _ => Outcome::Unknown(Fault::timeout("lost")),
    };
    world.now += 10;
    Input::Reply { task: *task, attempt: *attempt, outcome, at: world.at() }
}

fn operate(world: &mut World, which: usize) {
    let action = [Operate::Retry, Operate::Skip, Operate::Resolve(json!(1)), Operate::Abandon][which].clone();
    let at = world.at();
    world.give(Input::Operator { action, who: "ann".to_owned(), why: "test".to_owned(), at });
}

/// Does everything that is still due, with success, until the instance closes.
fn finish(world: &mut World) {
    world.crash();
    let at = world.at();
    world.give(Input::Resume { at });
    for _ in 0..2_000 {
        if world.state.is_closed() {
            return;
        }
        if world.due.is_empty() {
            assert_eq!(
                world.state.saga(),
                Saga::Stuck,
                "an open instance waits for something: {:?}",
                world.state
            );
            operate(world, 1);
            continue;
        }
        let effect = world.due.remove(0);
        let input = answer(world, &effect, &mut Tape(&[]));
        world.give(input);
        if matches!(effect, Effect::Listen { .. }) && world.state.due().contains(&effect) {
            world.due.push(effect);
        }
    }
    panic!("the instance never closes: {:?}", world.state);
}

fn next_call(world: &World) -> Option<Effect> {
    world.due.iter().find(|effect| matches!(effect, Effect::Call { undo: false, .. })).cloned()
}

/// Checks how an instance ended against what its timeline says happened.
fn check_end(world: &World) {
    world.check_storage();
    let state = &world.state;
    // What lost a race is undone whatever becomes of the rest.
    let undone = |step: &Arc<crate::Step>| {
        step.undo.as_ref().is_some_and(|undo| undo.status == UndoStatus::Compensated && !undo.lost)
    };
    match (state.status(), state.saga()) {
        (Status::Completed, saga) => assert!(matches!(saga, Saga::None | Saga::Committed | Saga::Abandoned)),
        (Status::Faulted | Status::Cancelled, Saga::Committed | Saga::None) => {
            assert!(!state.steps().iter().any(undone), "nothing is undone without a saga");
        }
        (Status::Faulted | Status::Cancelled, saga) => {
            assert!(matches!(saga, Saga::Compensated | Saga::Abandoned))
        }
        (Status::Running, _) => panic!("closed, but running"),
    }
    let planned = |step: &crate::Step| world.definition.plan.find(&step.pointer).map(|(_, task)| task);
    for step in state.steps().iter().filter(|step| step.status == StepStatus::Completed) {
        if planned(step).is_some_and(|task| task.pivot) {
            assert!(!state.steps().iter().any(undone), "nothing is undone once a pivot completed: {step:?}");
        }
        if step.undo.is_some() {
            let inside = |other: &&Arc<crate::Step>| {
                std::iter::successors(other.parent, |task| state.step(*task)?.parent)
                    .any(|task| task == step.task)
            };
            assert!(
                !state.steps().iter().filter(inside).any(undone),
                "a composite is undone as a whole: {step:?}"
            );
        }
    }
    // Every leaf that could be undone, and was done or may have been, was undone, or a composite around it was.
    if state.saga() == Saga::Compensated {
        for step in state.steps().iter().filter(|step| {
            matches!(&*step.kind, "call" | "run")
                && planned(step).is_some_and(|task| task.compensate.is_some())
        }) {
            let sent = step.attempts.iter().any(|attempt| {
                matches!(attempt.outcome, Some(AttemptOutcome::Completed | AttemptOutcome::Unknown))
            });
            let done = step.status == StepStatus::Completed || sent;
            let around = std::iter::successors(step.parent, |parent| state.step(*parent)?.parent);
            let covered = step.undo.is_some()
                || around.filter_map(|task| state.step(task)).any(|step| step.undo.is_some());
            assert!(covered || !done, "an eligible task has no outcome: {step:?}");
        }
    }
}
