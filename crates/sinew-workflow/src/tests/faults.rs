//! Faults at every place: each official example that can run, and each workflow of our features, with the n-th effect
//! refused, lost or unheard, with a crash before the n-th reply, and with the n-th reply given twice.
//!
//! The invariants of sagas hold after every input (see [`World::give`]); a crash or a repetition changes nothing at all.

use std::fs;

use serde_json::{Value, json};

use super::world::World;
use super::{features, shared};
use crate::{Definition, Effect, Fault, Input, Outcome, Saga, TaskId};

/// How many effects of one workflow get a fault of their own.
const MAX_EFFECTS: usize = 12;
/// How many inputs a run may take: some workflows never end, and are left then.
const MAX_INPUTS: usize = 300;

/// What happens to one effect.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    None,
    Refused,
    Nobody,
    Lost,
    Crash,
    Repeat,
}

#[test]
fn official_examples_stand_every_fault() {
    let Some(folder) = shared("open-workflow/examples") else { return };
    let mut ran = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let source = fs::read_to_string(&path).unwrap();
        let define = || Definition::parse(&source, "example.yaml").unwrap();
        if define().runnable().is_ok() {
            stand(&path.display().to_string(), &define, &json!({}));
            ran += 1;
        }
    }
    assert!(ran >= 20, "only {ran} examples can run");
}

#[test]
fn the_workflows_of_our_features_stand_every_fault() {
    let workflows = features::workflows();
    assert!(workflows.len() > 60);
    for (name, source, input) in workflows {
        let Ok(definition) = Definition::parse(&source, "feature.yaml") else { continue };
        if definition.runnable().is_ok() {
            stand(&name, &|| Definition::parse(&source, "feature.yaml").unwrap(), &input);
        }
    }
}

/// Runs a workflow with every trouble at every effect.
fn stand(name: &str, define: &dyn Fn() -> Definition, input: &Value) {
    let (plain, effects) = drive(define(), input, Trouble::None, usize::MAX);
    for at in 0..effects.min(MAX_EFFECTS) {
        for trouble in [Trouble::Refused, Trouble::Nobody, Trouble::Lost] {
            drive(define(), input, trouble, at);
        }
        for trouble in [Trouble::Crash, Trouble::Repeat] {
            let (world, _) = drive(define(), input, trouble, at);
            assert_eq!(
                world.state, plain.state,
                "{name}: {trouble:?} at effect {at} changes what becomes of it"
            );
        }
    }
}

/// Runs a workflow until nothing is due or it has had enough; returns it with the number of its effects.
fn drive(definition: Definition, input: &Value, trouble: Trouble, at: usize) -> (World, usize) {
    let mut world = World::start(definition, input.clone());
    let mut asked = 0;
    for _ in 0..MAX_INPUTS {
        let Some(effect) = next(&world) else { break };
        let input = match effect {
            Effect::Timer { task, timer, at } => {
                world.now = world.now.max(at.as_millis());
                Input::Timer { task, timer, at: world.at() }
            }
            Effect::Call { task, attempt, .. } | Effect::Emit { task, attempt, .. } => {
                asked += 1;
                let here = asked - 1 == at;
                if here && trouble == Trouble::Crash {
                    world.crash();
                }
                let outcome = if here { outcome(trouble, task) } else { outcome(Trouble::None, task) };
                Input::Reply { task, attempt, outcome, at: world.at() }
            }
            _ => break,
        };
        world.give(input.clone());
        if trouble == Trouble::Repeat && asked.checked_sub(1) == Some(at) {
            let before = world.log.len();
            world.give(input);
            assert_eq!(world.log.len(), before, "a repeated input changes nothing");
        }
    }
    assert!(
        !world.state.is_closed() || world.state.saga() != Saga::Compensating,
        "closed while it is undone"
    );
    world.check_storage();
    world.crash();
    (world, asked)
}

fn outcome(trouble: Trouble, task: TaskId) -> Outcome {
    match trouble {
        Trouble::Refused => Outcome::Refused(Fault::communication("refused").with_status(409)),
        Trouble::Nobody => Outcome::NotSent(Fault::communication("nobody there").with_status(503)),
        Trouble::Lost => Outcome::Unknown(Fault::timeout("lost")),
        Trouble::None | Trouble::Crash | Trouble::Repeat => Outcome::Completed(json!({ "n": task.get() })),
    }
}

/// Returns what is done next: whatever was asked first, and timers by their moment.
fn next(world: &World) -> Option<Effect> {
    let due = world.state.due();
    let asks = |effect: &&Effect| matches!(effect, Effect::Call { .. } | Effect::Emit { .. });
    if let Some(effect) = due.iter().find(asks) {
        return Some(effect.clone());
    }
    let moment = |effect: &Effect| {
        if let Effect::Timer { at, timer, .. } = effect { Some((*at, *timer)) } else { None }
    };
    due.into_iter().filter(|effect| moment(effect).is_some()).min_by_key(moment)
}
