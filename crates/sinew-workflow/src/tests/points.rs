//! The thirteen points of the semantics of sagas, a test for each and named by it.

use expect_test::expect;
use serde_json::json;

use super::define;
use super::world::{World, check};
use crate::{Effect, Input, Operate, Saga, Status, UndoStatus};

const ORDER: &str = "
do:
  - reserve: { call: stock.reserve, compensate: { call: stock.release } }
  - charge: { call: pay.charge, compensate: { call: pay.refund } }
  - ship: { call: ship.book }
";

#[test]
fn point_1_faults_deadlines_cancels_and_requests_trigger_and_caught_errors_do_not() {
    check(
        ORDER,
        "ship refused",
        expect!["reserve ✓ charge ✓ ship ✗ ↩charge ✓ ↩reserve ✓ → faulted, compensated"],
    );
    check(
        ORDER,
        "ship cancel",
        expect!["reserve ✓ charge ✓ ship… cancel ↩charge ✓ ↩reserve ✓ → cancelled, compensated"],
    );
    let deadline = format!("timeout: {{ after: PT1M }}{ORDER}");
    check(
        &deadline,
        "ship never",
        expect!["reserve ✓ charge ✓ ship… ↩charge ✓ ↩reserve ✓ → faulted, compensated"],
    );
    let request = ORDER.replace("ship.book", "saga.compensate");
    check(&request, "", expect!["reserve ✓ charge ✓ ↩charge ✓ ↩reserve ✓ → faulted, compensated"]);
    let caught =
        ORDER.replace("{ call: ship.book }", "{ try: [ { book: { call: ship.book } } ], catch: {} }");
    check(&caught, "book refused", expect!["reserve ✓ charge ✓ book ✗ → completed, committed"]);
}

#[test]
fn point_1_the_policy_chooses_among_the_triggers() {
    for (on, script, undone) in [
        ("fault", "ship refused", true),
        ("cancel", "ship refused", false),
        ("cancel", "ship cancel", true),
        ("fault", "ship cancel", false),
        ("timeout", "ship never", true),
        ("fault, cancel", "ship never", false),
    ] {
        let mut world = World::start(
            define(&format!("saga: {{ on: [ {on} ] }}\ntimeout: {{ after: PT1M }}{ORDER}")),
            json!({}),
        );
        world.play(script);
        let saga = if undone { Saga::Compensated } else { Saga::None };
        assert_eq!(world.state.saga(), saga, "{on}: {script}");
    }
}

#[test]
fn point_2_only_what_was_done_or_may_have_been_is_undone() {
    check(ORDER, "charge lost", expect!["reserve ✓ charge ? ↩charge ✓ ↩reserve ✓ → faulted, compensated"]);
    check(ORDER, "charge refused", expect!["reserve ✓ charge ✗ ↩reserve ✓ → faulted, compensated"]);
    check(ORDER, "charge nobody", expect!["reserve ✓ charge ∅ ↩reserve ✓ → faulted, compensated"]);
    check(
        ORDER,
        "charge cancel",
        expect!["reserve ✓ charge… cancel ↩charge ✓ ↩reserve ✓ → cancelled, compensated"],
    );
    let timeout = ORDER.replace("pay.charge,", "pay.charge, timeout: { after: PT5S },");
    check(&timeout, "charge never", expect!["reserve ✓ charge… ↩charge ✓ ↩reserve ✓ → faulted, compensated"]);
    let other = ORDER.replace("compensate: { call: pay.refund }", "compensate: false");
    check(&other, "ship refused", expect!["reserve ✓ charge ✓ ship ✗ ↩reserve ✓ → faulted, compensated"]);
}

#[test]
fn point_3_undoing_reverses_the_order_of_starts_one_at_a_time() {
    let fork = "
do:
  - both:
      fork:
        branches:
          - slow: { call: a.slow, compensate: { call: a.unslow } }
          - fast: { call: a.fast, compensate: { call: a.unfast } }
  - last: { call: a.last }
";
    let mut world = World::start(define(fork), json!({}));
    let [slow, fast] = &world.due.clone()[..] else { panic!() };
    // They end the other way round: what counts is when they started.
    world.answer(fast, "fast", "ok");
    world.answer(slow, "slow", "ok");
    world.due.drain(..2);
    world.play("last refused");
    assert_eq!(world.summary(), "fast ✓ slow ✓ last ✗ ↩fast ✓ ↩slow ✓ → faulted, compensated");
}

#[test]
fn point_4_a_compensation_sees_the_task_as_it_was() {
    let workflow = "
do:
  - note: { set: { a: 1 }, export: { as: '{ seen: 1 }' } }
  - reserve:
      call: stock.reserve
      compensate: { call: stock.release, with: { out: '${ . }', input: '${ $input }', context: '${ $context }', error: '${ $error.status }', saga: '${ $saga.trigger }', key: '${ $task.idempotencyKey }' } }
  - more: { set: '${ $input }', export: { as: '{ seen: 2 }' } }
  - charge: { call: pay.charge }
";
    let undo = |script: &str| {
        let mut world = World::start(define(workflow), json!({}));
        world.play(&format!("{script}; undo reserve never"));
        let [Effect::Call { body, .. }] = &world.state.due()[..] else { panic!("{:?}", world.state.due()) };
        (**body).clone()
    };
    let seen = |out, status| json!({ "out": out, "input": { "a": 1 }, "context": { "seen": 1 }, "error": status, "saga": "fault", "key": "i/do/1/reserve" });
    assert_eq!(undo("charge refused"), seen(json!({ "by": "reserve" }), 409));
    assert_eq!(undo("reserve lost"), seen(json!(null), 408));
}

#[test]
fn point_5_a_composite_is_undone_as_a_whole_and_loops_in_reverse() {
    let workflow = "
do:
  - each:
      for: { in: '[1, 2]' }
      do:
        - inner:
            do: [ { add: { call: a.add, compensate: { call: a.remove } } } ]
            compensate: { call: a.clear, with: '${ $input }' }
  - last: { call: a.last }
";
    check(workflow, "last refused", expect!["add ✓ add ✓ last ✗ ↩inner ✓ ↩inner ✓ → faulted, compensated"]);
    check(workflow, "add ok | refused", expect!["add ✓ add ✗ ↩inner ✓ → faulted, compensated"]);
    check(workflow, "add lost", expect!["add ? ↩add ✓ → faulted, compensated"]);
}

const RACE: &str = "
do:
  - first: { call: a.first, compensate: { call: a.unfirst } }
  - race:
      fork:
        compete: true
        branches:
          - left: { do: [ { lone: { call: l.one, compensate: { call: l.unone } } }, { ltwo: { call: l.two, compensate: { call: l.untwo } } } ] }
          - right: { do: [ { rone: { call: r.one, compensate: { call: r.unone } } }, { rtwo: { call: r.two, compensate: { call: r.untwo } } } ] }
  - next: { call: a.next }
";

/// Lets the right branch of the race win, with the left one at its second call.
fn race(workflow: &str) -> World {
    let mut world = World::start(define(workflow), json!({}));
    let find = |world: &mut World, wanted: &str| {
        let call = |effect: &Effect| matches!(effect, Effect::Call { name, .. } if **name == *wanted);
        let index = world.due.iter().position(call).unwrap_or_else(|| panic!("{wanted}: {:?}", world.due));
        world.due.remove(index)
    };
    for name in ["first", "lone", "rone", "rtwo"] {
        let effect = find(&mut world, name);
        world.answer(&effect, name, "ok");
        world.crash();
    }
    world
}

#[test]
fn point_5_losers_of_a_race_are_undone_at_once() {
    let mut world = race(RACE);
    let names: Vec<_> =
        world
            .due
            .iter()
            .filter_map(|effect| {
                if let Effect::Call { name, undo, .. } = effect { Some((&**name, *undo)) } else { None }
            })
            .collect();
    assert_eq!(names, [("ltwo", true), ("next", false)], "the work goes on meanwhile");
    assert_eq!((world.state.status(), world.state.saga()), (Status::Running, Saga::Compensating));
    world.play("next ok");
    assert_eq!(world.summary(), "first ✓ lone ✓ rone ✓ rtwo ✓ ↩ltwo ✓ next ✓ ↩lone ✓ → completed, committed");
    let lost: Vec<_> = world
        .state
        .steps()
        .iter()
        .filter(|step| step.undo.as_ref().is_some_and(|undo| undo.lost))
        .map(|step| &*step.name)
        .collect();
    assert_eq!(lost, ["lone", "ltwo"]);
}

#[test]
fn point_5_what_lost_joins_the_saga_when_the_work_fails_later() {
    let mut world = race(RACE);
    world.play("next refused; undo ltwo lost");
    assert_eq!(
        world.summary(),
        "first ✓ lone ✓ rone ✓ rtwo ✓ ↩ltwo ? next ✗ ↩ltwo ✓ ↩rtwo ✓ ↩rone ✓ ↩lone ✓ ↩first ✓ → faulted, compensated"
    );
}

#[test]
fn point_5_losers_are_undone_past_a_pivot_too() {
    let pivot = RACE.replace("call: a.next", "call: a.next, pivot: true") + "  - end: { call: a.end }\n";
    let mut world = race(&pivot);
    world.play("end refused; undo ltwo lost | ok");
    assert_eq!(
        world.summary(),
        "first ✓ lone ✓ rone ✓ rtwo ✓ ↩ltwo ? next ✓ end ✗ ↩ltwo ✓ ↩lone ✓ → faulted, committed"
    );
}

#[test]
fn point_5_a_loser_that_is_stuck_keeps_the_instance_open() {
    let policy = "saga: { retry: { limit: { attempt: { count: 0 } } } }";
    let mut world = race(&format!("{policy}{RACE}"));
    world.play("undo ltwo refused");
    assert_eq!(world.summary(), "first ✓ lone ✓ rone ✓ rtwo ✓ ↩ltwo ✗ next ✓ → completed, stuck");
    assert!(!world.state.is_closed());
    let (who, why, at) = ("ann".to_owned(), "by hand".to_owned(), world.at());
    world.give(Input::Operator { action: Operate::Resolve(json!(1)), who, why, at });
    world.play("");
    assert_eq!((world.state.status(), world.state.saga()), (Status::Completed, Saga::Committed));
}

#[test]
fn point_5_losers_are_undone_even_if_the_fork_has_its_own_compensation() {
    let own = RACE.replace("  - next:", "      compensate: { call: a.unrace }\n  - next:");
    let mut world = race(&own);
    world.play("next refused");
    assert_eq!(
        world.summary(),
        "first ✓ lone ✓ rone ✓ rtwo ✓ ↩ltwo ✓ next ✗ ↩lone ✓ ↩race ✓ ↩first ✓ → faulted, compensated"
    );
}

#[test]
fn point_5_nested_forks_undo_the_losers_inside_the_winner_first() {
    let workflow = "
do:
  - outer:
      fork:
        compete: true
        branches:
          - a:
              fork:
                compete: true
                branches:
                  - x: { call: a.x, compensate: { call: a.unx } }
                  - y: { call: a.y, compensate: { call: a.uny } }
          - b: { call: a.b, compensate: { call: a.unb } }
";
    let mut world = World::start(define(workflow), json!({}));
    let x = world
        .due
        .iter()
        .find(|effect| matches!(effect, Effect::Call { name, .. } if &**name == "x"))
        .unwrap()
        .clone();
    world.answer(&x, "x", "ok");
    world.due = world.state.due();
    world.play("");
    assert_eq!(world.summary(), "x ✓ ↩y ✓ ↩b ✓ → completed, committed");
}

#[test]
fn point_7_compensations_outlive_deadline_and_cancel() {
    let workflow = format!("timeout: {{ after: PT10S }}{ORDER}");
    let mut world = World::start(define(&workflow), json!({}));
    world.play("ship never; undo charge lost | lost | lost | lost | cancel");
    world.due = world.state.due();
    world.play("");
    assert_eq!(world.state.saga(), Saga::Compensated);
    assert!(world.now > 15_000, "retries took longer than the deadline: {}", world.now);
}

#[test]
fn point_7_by_default_retries_go_on_for_a_day() {
    let mut world = World::start(define(ORDER), json!({}));
    let never = vec!["refused"; 400].join(" | ");
    let script = format!("ship refused; undo charge {never}");
    let mut story = 0;
    let mut starts = Vec::new();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.play(&script)));
    assert!(outcome.is_err(), "not all of the refusals are asked for");
    for attempt in &world.state.steps()[1].undo.as_ref().unwrap().attempts {
        starts.push(attempt.started_at.as_millis());
        story += 1;
    }
    let pauses: Vec<i64> = starts.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000).collect();
    assert_eq!(pauses[..4], [1, 2, 4, 8]);
    assert_eq!(pauses.iter().max(), Some(&300));
    assert!(story > 280 && starts.last().unwrap() - starts[0] <= 24 * 60 * 60 * 1_000);
    assert_eq!(world.state.saga(), Saga::Stuck);
}

#[test]
fn point_8_a_stuck_saga_waits_for_an_operator_and_keeps_who_and_why() {
    let workflow = format!("saga: {{ retry: {{ limit: {{ attempt: {{ count: 0 }} }} }} }}{ORDER}");
    let mut world = World::start(define(&workflow), json!({}));
    world.play("ship refused; undo charge refused");
    assert_eq!(world.state.saga(), Saga::Stuck);
    let (who, why, at) = ("ann".to_owned(), "refunded by hand".to_owned(), world.at());
    world.give(Input::Operator { action: Operate::Resolve(json!("r-1")), who, why, at });
    world.play("");
    let undo = world.state.steps()[1].undo.clone().unwrap();
    let decision = undo.decided.unwrap();
    assert_eq!(
        (undo.status, decision.who.as_str(), decision.why.as_str()),
        (UndoStatus::Resolved, "ann", "refunded by hand")
    );
    assert_eq!(world.state.saga(), Saga::Compensated);
}

#[test]
fn point_10_forward_work_and_undoing_are_two_axes() {
    for (script, status, saga) in [
        ("", Status::Completed, Saga::Committed),
        ("reserve refused", Status::Faulted, Saga::None),
        ("ship refused", Status::Faulted, Saga::Compensated),
        ("ship cancel", Status::Cancelled, Saga::Compensated),
    ] {
        let mut world = World::start(define(ORDER), json!({}));
        world.play(script);
        assert_eq!((world.state.status(), world.state.saga()), (status, saga), "{script}");
    }
}

#[test]
fn point_11_past_a_pivot_there_is_only_forward_recovery() {
    let workflow = ORDER.replace("compensate: { call: pay.refund }", "pivot: true");
    check(&workflow, "ship refused", expect!["reserve ✓ charge ✓ ship ✗ → faulted, committed"]);
    check(&workflow, "ship cancel", expect!["reserve ✓ charge ✓ ship… cancel → cancelled, committed"]);
    check(&workflow, "charge lost", expect!["reserve ✓ charge ? ↩reserve ✓ → faulted, compensated"]);
}

#[test]
fn point_12_keys_stay_the_same_over_retries_and_restarts() {
    let workflow = "
do:
  - each:
      for: { in: '[1, 2]' }
      do:
        - add:
            try: [ { put: { call: a.put, compensate: { call: a.take } } } ]
            catch: { retry: { delay: PT1S, limit: { attempt: { count: 3 } } } }
  - last: { call: a.last }
";
    let mut world = World::start(define(workflow), json!({}));
    world.play("put lost | ok | ok; last refused; undo put lost");
    let keys: Vec<_> = world
        .state
        .steps()
        .iter()
        .filter(|step| &*step.name == "put")
        .map(|step| (&*step.key, step.attempts.len()))
        .collect();
    assert_eq!(keys, [("i/do/0/each/do/0/add/try/0/put", 2), ("i/do/0/each/do/0/add/try/0/put#1", 1)]);
}

#[test]
fn functions_bring_undo_pivot_and_key_along() {
    let workflow = "
use:
  functions:
    reserve: { call: stock.reserve, idempotencyKey: '${ \"r-\" + .order }', compensate: { call: stock.release } }
    confirm: { call: orders.confirm, pivot: true }
do:
  - get: { call: reserve, with: { order: a } }
  - ok: { call: confirm }
  - last: { call: a.last }
";
    check(workflow, "confirm refused", expect!["reserve ✓ confirm ✗ ↩reserve ✓ → faulted, compensated"]);
    check(workflow, "last refused", expect!["reserve ✓ confirm ✓ last ✗ → faulted, committed"]);
    let world = World::start(define(workflow), json!({}));
    let [Effect::Call { key, .. }] = &world.due[..] else { panic!() };
    assert_eq!(&**key, "r-a");
}

#[test]
fn terminating_undoes_nothing_and_says_so() {
    let mut world = World::start(define(ORDER), json!({}));
    world.play("ship never");
    let at = world.at();
    world.give(Input::Terminate { reason: Some("now".to_owned()), at });
    assert_eq!(world.summary(), "reserve ✓ charge ✓ ship… → cancelled, abandoned");
    assert_eq!(world.state.fault().unwrap().kind(), "terminated");
    assert_eq!(world.stopped, ["ship"]);
    let undos: Vec<_> =
        world.state.steps().iter().map(|step| step.undo.as_ref().map(|undo| undo.status)).collect();
    assert_eq!(undos, [Some(UndoStatus::Abandoned), Some(UndoStatus::Abandoned), None]);
    world.crash();
}

#[test]
fn terminating_ends_undoing_as_well() {
    let mut world = World::start(define(ORDER), json!({}));
    world.play("ship refused; undo charge never");
    let at = world.at();
    world.give(Input::Terminate { reason: None, at });
    assert_eq!(world.summary(), "reserve ✓ charge ✓ ship ✗ ↩charge… → faulted, abandoned");
    assert!(world.state.is_closed());
}

#[test]
fn a_paused_instance_keeps_what_comes_in_and_begins_nothing() {
    let mut world = World::start(define(ORDER), json!({}));
    let at = world.at();
    world.give(Input::Pause { at });
    assert!(world.state.is_paused());
    let reserve = world.due.remove(0);
    world.answer(&reserve, "reserve", "ok");
    world.answer(&reserve, "reserve", "ok");
    assert_eq!(world.due, [], "nothing new begins");
    world.crash();
    world.check_storage();
    world.due.clear();
    let at = world.at();
    world.give(Input::Resume { at });
    world.play("");
    assert_eq!(world.summary(), "reserve ✓ reserve ✓ charge ✓ ship ✓ → completed, committed");
}

#[test]
fn a_paused_instance_can_be_cancelled_and_undoes() {
    let mut world = World::start(define(ORDER), json!({}));
    let at = world.at();
    world.give(Input::Pause { at });
    let reserve = world.due.remove(0);
    world.answer(&reserve, "reserve", "ok");
    let at = world.at();
    world.give(Input::Cancel { reason: None, at });
    world.play("");
    assert_eq!(world.summary(), "reserve ✓ ↩reserve ✓ → cancelled, compensated");
}
