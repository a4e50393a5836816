//! Work that is taken on and done later: how long it is waited for, and what a late answer is worth.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::define;
use super::world::World;
use crate::{Effect, Fault, Input, Outcome, Saga, Standing, Status, TaskId, Terms, Timestamp};

const RENDER: &str = "
do:
  - a: { call: a.b, compensate: { call: a.c } }
  - b: { call: video.render, compensate: { call: video.drop } }
";

/// Starts [`RENDER`] and returns the call of `b`.
fn rendering() -> (World, TaskId, u32) {
    let mut world = World::start(define(RENDER), json!({}));
    let first = world.due.remove(0);
    world.answer(&first, "a", "ok");
    let (task, attempt) = next_call(&mut world);
    (world, task, attempt)
}

fn next_call(world: &mut World) -> (TaskId, u32) {
    match world.due.remove(0) {
        Effect::Call { task, attempt, .. } => (task, attempt),
        other => panic!("no call: {other:?}"),
    }
}

fn accept(world: &mut World, task: TaskId, attempt: u32, heartbeat_ms: Option<u64>, within_ms: Option<u64>) {
    let at = world.at();
    world.give(Input::Accepted { task, attempt, terms: Terms { heartbeat_ms, within_ms }, at });
}

fn complete(world: &mut World, task: TaskId, attempt: u32) {
    let at = world.at();
    world.give(Input::Reply { task, attempt, outcome: Outcome::Completed(json!("film")), at });
}

/// The one timer that is due.
fn timer(world: &World) -> (TaskId, u32, Timestamp) {
    let timers = world.state.due().into_iter().filter_map(|effect| match effect {
        Effect::Timer { task, timer, at } => Some((task, timer, at)),
        _ => None,
    });
    let timers: Vec<_> = timers.collect();
    assert_eq!(timers.len(), 1, "one timer bounds the waiting: {timers:?}");
    timers[0]
}

/// Lets the one timer fire at its time.
fn lapse(world: &mut World) {
    let (task, timer, at) = timer(world);
    world.now = world.now.max(at.as_millis());
    let at = world.at();
    world.give(Input::Timer { task, timer, at });
}

#[test]
fn work_taken_on_is_not_asked_for_again_and_is_answered_after_a_crash() {
    let (mut world, task, attempt) = rendering();
    accept(&mut world, task, attempt, None, None);
    world.crash();
    let calls = world.state.due().iter().filter(|effect| matches!(effect, Effect::Call { .. })).count();
    assert_eq!(calls, 0, "it is at work: asking again would do it twice");
    assert_eq!(world.state.standing(task, attempt), Standing::Open);
    complete(&mut world, task, attempt);
    assert_eq!((world.state.status(), world.state.output()), (Status::Completed, Some(&json!("film"))));
    world.check_storage();
}

#[test]
fn an_answer_that_overtakes_the_acceptance_counts() {
    let (mut world, task, attempt) = rendering();
    complete(&mut world, task, attempt);
    assert_eq!(world.state.status(), Status::Completed);
    accept(&mut world, task, attempt, Some(5_000), None);
    assert!(world.state.due().is_empty());
}

#[test]
fn silence_is_a_timeout_that_undoes_what_may_have_been_done() {
    let (mut world, task, attempt) = rendering();
    accept(&mut world, task, attempt, Some(5_000), None);
    world.now += 4_000;
    let at = world.at();
    world.give(Input::Heartbeat { task, attempt, at });
    let (_, _, due) = timer(&world);
    assert_eq!(due.as_millis(), world.now + 5_000, "a heartbeat moves the end of the waiting");
    lapse(&mut world);
    let fault = world.state.fault().unwrap();
    assert_eq!((fault.kind(), fault.code.as_deref()), ("timeout", Some("heartbeat-missed")));
    assert_eq!(world.state.standing(task, attempt), Standing::Gone);
    assert_eq!(world.stopped, ["b"], "whoever is at it should stop");
    let undone = (0..2).map(|_| {
        let effect = world.due.iter().position(|effect| matches!(effect, Effect::Call { .. })).unwrap();
        let effect = world.due.remove(effect);
        let Effect::Call { name, undo: true, .. } = effect.clone() else { panic!("no undo: {effect:?}") };
        world.answer(&effect, &name, "ok");
        name.to_string()
    });
    assert_eq!(undone.collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(world.state.saga(), Saga::Compensated);
}

#[test]
fn heartbeats_do_not_extend_the_time_there_is() {
    let (mut world, task, attempt) = rendering();
    accept(&mut world, task, attempt, Some(5_000), Some(7_000));
    world.now += 4_000;
    let at = world.at();
    world.give(Input::Heartbeat { task, attempt, at });
    lapse(&mut world);
    assert_eq!(world.state.fault().unwrap().code.as_deref(), Some("deadline-exceeded"));
}

#[test]
fn work_nobody_bounds_is_waited_for_a_day_and_new_terms_replace_the_old() {
    let (mut world, task, attempt) = rendering();
    accept(&mut world, task, attempt, None, None);
    assert_eq!(timer(&world).2.as_millis(), world.now + 24 * 3_600 * 1_000);
    accept(&mut world, task, attempt, None, Some(60_000));
    assert_eq!(timer(&world).2.as_millis(), world.now + 60_000);
    assert_eq!(world.state.silence(task, timer(&world).1), None);
    accept(&mut world, task, attempt, Some(2_000), None);
    assert_eq!(world.state.silence(task, timer(&world).1), Some(2_000));
}

#[test]
fn cancelling_the_instance_stops_the_work() {
    let (mut world, task, attempt) = rendering();
    accept(&mut world, task, attempt, Some(5_000), None);
    let at = world.at();
    world.give(Input::Cancel { reason: None, at });
    assert_eq!(world.stopped, ["b"]);
    assert_eq!(world.state.standing(task, attempt), Standing::Gone);
}

#[test]
fn an_answer_is_told_from_work_that_is_not_waited_for() {
    let (mut world, task, attempt) = rendering();
    accept(&mut world, task, attempt, None, None);
    assert_eq!(world.state.standing(task, attempt + 1), Standing::Gone);
    let at = world.at();
    world.give(Input::Pause { at });
    complete(&mut world, task, attempt);
    assert_eq!(world.state.standing(task, attempt), Standing::Answered, "it waits for the resume");
    world.give(Input::Resume { at });
    assert_eq!(world.state.standing(task, attempt), Standing::Answered);
    assert_eq!(world.state.status(), Status::Completed);
}

#[test]
fn a_compensation_may_be_taken_on_as_well() {
    let (mut world, task, attempt) = rendering();
    let (at, fault) = (world.at(), Fault::timeout("no reply"));
    world.give(Input::Reply { task, attempt, outcome: Outcome::Unknown(fault), at });
    let (undo, number) = next_call(&mut world);
    accept(&mut world, undo, number, Some(5_000), None);
    world.crash();
    complete(&mut world, undo, number);
    assert_eq!(world.state.saga(), Saga::Compensating, "the other one is next");
}

/// What may come in about an attempt, in any order and at any distance.
#[derive(Clone, Debug)]
enum Step {
    Accept(Option<u64>, Option<u64>),
    Beat,
    Lapse,
    Crash,
    Later(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let length = || proptest::option::of(0u64..100_000);
    prop_oneof![
        (length(), length()).prop_map(|(heartbeat, within)| Step::Accept(heartbeat, within)),
        Just(Step::Beat),
        Just(Step::Lapse),
        Just(Step::Crash),
        (0i64..50_000).prop_map(Step::Later),
    ]
}

proptest! {
    #[test]
    fn an_attempt_has_one_end_whatever_is_said_about_it(steps in proptest::collection::vec(step(), 0..20)) {
        let (mut world, task, attempt) = rendering();
        let mut taken = false;
        for step in steps {
            let open = world.state.standing(task, attempt) == Standing::Open;
            match step {
                Step::Accept(heartbeat, within) => {
                    accept(&mut world, task, attempt, heartbeat, within);
                    taken |= open;
                }
                Step::Beat => {
                    let at = world.at();
                    world.give(Input::Heartbeat { task, attempt, at });
                }
                Step::Lapse if taken && open => lapse(&mut world),
                Step::Lapse => {}
                Step::Crash => world.crash(),
                Step::Later(millis) => world.now += millis,
            }
            if taken && world.state.standing(task, attempt) == Standing::Open {
                let (of, ..) = timer(&world);
                prop_assert_eq!(of, task, "whoever waits has an end of waiting");
            }
        }
        let (open, before) = (world.state.standing(task, attempt) == Standing::Open, world.state.clone());
        complete(&mut world, task, attempt);
        prop_assert_eq!(open, world.state != before, "an answer counts once, while it is waited for");
        prop_assert_eq!(world.state.status() == Status::Completed, open);
        let after: Option<&Value> = world.state.output();
        prop_assert_eq!(after.is_some(), open);
    }
}
