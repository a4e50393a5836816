//! Invariants of sagas over generated workflows and arbitrary interleavings of replies, repeats, timers, cancels, crashes
//! and operators. What must hold after every input is in [`World::give`] and [`check_invariants`].
//!
//! [`check_invariants`]: super::world::check_invariants

mod generate;

use std::sync::Arc;

use generate::{Tape, definition, tape, tasks, workflow};
use proptest::prelude::*;
use serde_json::{Value, json};

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
    fn sagas_keep_their_promises(shape in tape(90), events in tape(90)) {
        let mut world = begin(&mut Tape(&shape));
        let mut given = Vec::new();
        let mut events = Tape(&events);
        while !events.is_empty() && !world.state.is_closed() {
            happen(&mut world, &mut events, &mut given);
        }
        finish(&mut world);
        check_end(&world);
    }

    #[test]
    fn extensions_that_do_nothing_change_nothing(shape in tape(50), outcomes in tape(40)) {
        extended_alike(&shape, &outcomes);
    }

    #[test]
    fn parallel_sagas_settle_everything(shape in tape(50), failing in 0_u8..6) {
        let mut workflow = tasks(&mut Tape(&shape), 2, true);
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

/// Cases that failed once.
#[test]
fn what_failed_once_holds() {
    // A loser of a race runs again in another attempt, under a key its author chose.
    let shape = [9, 187, 15, 7, 9, 8, 239, 58, 112, 0, 3, 36, 194, 194, 88, 0, 0, 7, 0, 0, 0, 3, 126, 0, 174];
    extended_alike(&shape, &[88, 8, 0, 0, 0, 0, 21, 0, 0]);
    // Nothing was due for a task that listened on.
    extended_alike(&[9, 0, 6, 62, 7], &[88]);
}

/// Checks that extensions which do nothing change nothing.
fn extended_alike(shape: &[u8], outcomes: &[u8]) {
    let mut plain = tasks(&mut Tape(shape), 2, true);
    let told = tell(definition(&plain), outcomes);
    let nothing = json!({ "set": { "n": "nothing" } });
    let extension = json!({ "extend": "all", "before": [{ "b": nothing }], "after": [{ "a": nothing }] });
    plain["use"]["extensions"] = json!([{ "quiet": extension }, { "silent": extension }]);
    assert_eq!(tell(definition(&plain), outcomes), told, "{}", plain["do"]);
}

/// Starts an instance, now and then as the child of another.
fn begin(shape: &mut Tape<'_>) -> World {
    let as_child = shape.pick(4) == 1;
    let definition = definition(&workflow(shape));
    match as_child {
        true => World::start_child(definition, json!({})),
        false => World::start(definition, json!({})),
    }
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
        15 if world.is_child() && tape.pick(4) == 1 => world.give(Input::Undo { reason: None, at }),
        15 if world.is_child() && tape.pick(2) == 1 => world.give(Input::Release { at }),
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
        if world.due.is_empty() && world.state.saga() == Saga::Pending {
            let at = world.at();
            world.give(Input::Undo { reason: None, at });
            continue;
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
        // A child that completed is undone when its parent says so.
        (Status::Completed, Saga::Compensated) => assert!(world.is_child()),
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
