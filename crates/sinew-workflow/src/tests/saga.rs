//! Sagas: what is undone, in which order, and when not.

use expect_test::expect;
use serde_json::json;

use super::world::{World, check};
use super::{define, shared};
use crate::{Effect, Fault, Input, Operate, Outcome, Saga, Status, StepStatus, run};

const ORDER: &str = "
do:
  - reserve: { call: stock.reserve, with: { order: '${ .order }' }, compensate: { call: stock.release } }
  - charge: { call: pay.charge, compensate: { call: pay.refund } }
  - ship: { call: ship.book, compensate: { call: ship.cancel } }
";

#[test]
fn everything_done_is_committed() {
    check(ORDER, "", expect!["reserve ✓ charge ✓ ship ✓ → completed, committed"]);
}

#[test]
fn a_refusal_undoes_what_was_done() {
    check(
        ORDER,
        "ship refused",
        expect!["reserve ✓ charge ✓ ship ✗ ↩charge ✓ ↩reserve ✓ → faulted, compensated"],
    );
    check(ORDER, "charge refused", expect!["reserve ✓ charge ✗ ↩reserve ✓ → faulted, compensated"]);
    check(ORDER, "reserve refused", expect!["reserve ✗ → faulted"]);
}

#[test]
fn nobody_there_is_definite_too() {
    check(ORDER, "charge nobody", expect!["reserve ✓ charge ∅ ↩reserve ✓ → faulted, compensated"]);
}

#[test]
fn an_unknown_outcome_is_undone() {
    check(ORDER, "charge lost", expect!["reserve ✓ charge ? ↩charge ✓ ↩reserve ✓ → faulted, compensated"]);
    check(ORDER, "reserve lost", expect!["reserve ? ↩reserve ✓ → faulted, compensated"]);
}

#[test]
fn a_cancel_undoes_what_is_in_flight() {
    check(
        ORDER,
        "charge cancel",
        expect!["reserve ✓ charge… cancel ↩charge ✓ ↩reserve ✓ → cancelled, compensated"],
    );
}

#[test]
fn a_compensation_is_retried_until_it_works() {
    check(
        ORDER,
        "charge refused; undo reserve lost | refused | nobody",
        expect!["reserve ✓ charge ✗ ↩reserve ? ↩reserve ✗ ↩reserve ∅ ↩reserve ✓ → faulted, compensated"],
    );
}

#[test]
fn spent_retries_leave_the_saga_stuck() {
    let workflow =
        format!("saga: {{ retry: {{ delay: PT1S, limit: {{ attempt: {{ count: 1 }} }} }} }}{ORDER}");
    check(
        &workflow,
        "ship refused; undo charge refused | refused",
        expect!["reserve ✓ charge ✓ ship ✗ ↩charge ✗ ↩charge ✗ → faulted, stuck"],
    );
    let on = workflow.replace("saga: {", "saga: { onStuck: continue,");
    check(
        &on,
        "ship refused; undo charge refused | refused",
        expect!["reserve ✓ charge ✓ ship ✗ ↩charge ✗ ↩charge ✗ ↩reserve ✓ → faulted, stuck"],
    );
}

#[test]
fn nothing_past_the_pivot_is_undone() {
    let workflow = "
do:
  - reserve: { call: stock.reserve, compensate: { call: stock.release } }
  - confirm: { call: orders.confirm, pivot: true, compensate: { call: orders.reopen } }
  - announce: { call: mail.send, compensate: { call: mail.sorry } }
  - last: { call: mail.last }
";
    check(workflow, "last refused", expect!["reserve ✓ confirm ✓ announce ✓ last ✗ → faulted, committed"]);
    check(workflow, "confirm refused", expect!["reserve ✓ confirm ✗ ↩reserve ✓ → faulted, compensated"]);
    check(
        workflow,
        "confirm lost",
        expect!["reserve ✓ confirm ? ↩confirm ✓ ↩reserve ✓ → faulted, compensated"],
    );
    check(
        workflow,
        "last cancel",
        expect!["reserve ✓ confirm ✓ announce ✓ last… cancel → cancelled, committed"],
    );
}

#[test]
fn a_caught_error_undoes_nothing_by_itself() {
    let workflow = "
do:
  - reserve: { call: stock.reserve, compensate: { call: stock.release } }
  - attempt:
      try:
        - charge: { call: pay.charge, compensate: { call: pay.refund } }
      catch: { do: [ { later: { call: pay.invoice } } ] }
  - ship: { call: ship.book }
";
    check(workflow, "charge refused", expect!["reserve ✓ charge ✗ later ✓ ship ✓ → completed, committed"]);
    check(
        workflow,
        "charge refused; ship refused",
        expect!["reserve ✓ charge ✗ later ✓ ship ✗ ↩reserve ✓ → faulted, compensated"],
    );
    check(
        workflow,
        "charge lost; ship refused",
        expect!["reserve ✓ charge ? later ✓ ship ✗ ↩charge ✓ ↩reserve ✓ → faulted, compensated"],
    );
}

#[test]
fn a_completed_composite_is_undone_as_a_whole() {
    let workflow = "
do:
  - trip:
      do:
        - car: { call: car.book, compensate: { call: car.cancel } }
        - hotel: { call: hotel.book, compensate: { call: hotel.cancel } }
      compensate: { call: trip.cancel }
  - pay: { call: pay.charge }
";
    check(workflow, "pay refused", expect!["car ✓ hotel ✓ pay ✗ ↩trip ✓ → faulted, compensated"]);
    check(workflow, "hotel refused", expect!["car ✓ hotel ✗ ↩car ✓ → faulted, compensated"]);
    check(workflow, "hotel lost", expect!["car ✓ hotel ? ↩hotel ✓ ↩car ✓ → faulted, compensated"]);
}

#[test]
fn a_composite_without_parts_to_undo_is_undone_when_anything_happened() {
    let workflow = "
do:
  - trip:
      do:
        - car: { call: car.book }
        - hotel: { call: hotel.book }
      compensate: { call: trip.cancel }
";
    check(workflow, "hotel refused", expect!["car ✓ hotel ✗ ↩trip ✓ → faulted, compensated"]);
    check(workflow, "car refused", expect!["car ✗ → faulted"]);
}

#[test]
fn loops_are_undone_in_reverse() {
    let workflow = "
do:
  - all:
      for: { each: item, in: '[1, 2, 3]' }
      do:
        - add: { call: cart.add, with: '${ $item }', compensate: { call: cart.remove, with: '${ .undo }' } }
  - pay: { call: pay.charge }
";
    let mut world = World::start(define(workflow), json!({}));
    world.play("add ok {\"undo\": 1} | ok {\"undo\": 2} | ok {\"undo\": 3}; pay refused");
    assert_eq!(world.summary(), "add ✓ add ✓ add ✓ pay ✗ ↩add ✓ ↩add ✓ ↩add ✓ → faulted, compensated");
    let keys: Vec<&str> =
        world.state.steps().iter().filter(|step| &*step.name == "add").map(|step| &*step.key).collect();
    assert_eq!(keys, ["i/do/0/all/do/0/add", "i/do/0/all/do/0/add#1", "i/do/0/all/do/0/add#2"]);
}

#[test]
fn a_compensation_sees_what_the_task_saw() {
    let workflow = "
do:
  - remember: { set: { seen: true }, export: { as: '{ mark: .order }' }, output: { as: '$workflow.input' } }
  - reserve:
      call: stock.reserve
      input: { from: '{ wanted: .order }' }
      output: { as: '{ id: .reservation }' }
      compensate:
        call: stock.release
        with:
          out: '${ . }'
          in: '${ $input }'
          context: '${ $context }'
          error: '${ $error.code }'
          trigger: '${ $saga.trigger }'
          key: '${ $task.idempotencyKey }'
  - forget: { set: {}, export: { as: '{}' } }
  - charge: { call: pay.charge }
";
    let mut world = World::start(define(workflow), json!({ "order": 7 }));
    let find = |world: &World, wanted: &str| {
        world
            .due
            .iter()
            .find(|effect| matches!(effect, Effect::Call { name, .. } if **name == *wanted))
            .cloned()
            .unwrap()
    };
    let reserve = find(&world, "reserve");
    world.answer(&reserve, "reserve", "ok {\"reservation\": \"r1\"}");
    let charge = find(&world, "charge");
    world.due.clear();
    world.answer(&charge, "charge", "refused");
    let [Effect::Call { key, forward_key, body, undo: true, .. }] = &world.due[..] else {
        panic!("{:?}", world.due)
    };
    assert_eq!((&**key, forward_key.as_deref()), ("i/do/1/reserve/undo", Some("i/do/1/reserve")));
    let expected = json!({
        "out": { "id": "r1" },
        "in": { "wanted": 7 },
        "context": { "mark": 7 },
        "error": "refused",
        "trigger": "fault",
        "key": "i/do/1/reserve",
    });
    assert_eq!(**body, expected);
}

#[test]
fn functions_bring_their_compensation_along() {
    let workflow = "
use:
  functions:
    reserve: { call: stock.reserve, compensate: { call: stock.release, with: { is: '${ . }' } } }
do:
  - first: { call: reserve }
  - second: { call: reserve, compensate: { call: stock.special } }
  - third: { call: reserve, compensate: false }
  - charge: { call: pay.charge }
";
    check(
        workflow,
        "charge refused",
        expect!["reserve ✓ reserve ✓ reserve ✓ charge ✗ ↩second ✓ ↩reserve ✓ → faulted, compensated"],
    );
}

#[test]
fn a_function_with_retries_is_undone_when_its_outcome_is_unknown() {
    let workflow = "
use:
  functions:
    reserve:
      try: [ { request: { call: stock.reserve } } ]
      catch: { retry: { delay: PT1S, limit: { attempt: { count: 1 } } } }
      compensate: { call: stock.release }
do:
  - get: { call: reserve }
";
    check(workflow, "request lost | lost", expect!["request ? request ? ↩reserve ✓ → faulted, compensated"]);
    check(
        workflow,
        "request lost | refused",
        expect!["request ? request ✗ ↩reserve ✓ → faulted, compensated"],
    );
    check(workflow, "request refused | refused", expect!["request ✗ request ✗ → faulted"]);
    check(workflow, "request refused", expect!["request ✗ request ✓ → completed, committed"]);
}

#[test]
fn an_unknown_attempt_counts_even_if_the_next_is_refused() {
    let workflow = "
do:
  - attempt:
      try: [ { charge: { call: pay.charge, compensate: { call: pay.refund } } } ]
      catch: { retry: { delay: PT1S, limit: { attempt: { count: 1 } } } }
";
    let mut world = World::start(define(workflow), json!({}));
    world.play("charge lost | refused");
    assert_eq!(world.summary(), "charge ? charge ✗ ↩charge ✓ → faulted, compensated");
    assert_eq!(world.state.steps()[1].status, StepStatus::Unknown);
}

#[test]
fn an_operator_never_makes_compensations_overlap() {
    let policy = "{ onStuck: continue, retry: { limit: { attempt: { count: 0 } } } }";
    let mut world = World::start(define(&format!("saga: {policy}{ORDER}")), json!({}));
    for outcome in ["ok", "ok", "refused", "refused"] {
        let effect = world.due.remove(0);
        world.answer(&effect, "", outcome);
    }
    // The refund is stuck and the release runs: both verbs must wait for it.
    for action in [Operate::Retry, Operate::Skip] {
        let (who, why, at) = (String::new(), String::new(), world.at());
        let mut other = world.state.clone();
        let entries = run(&world.definition, &mut other, Input::Operator { action, who, why, at }).unwrap();
        assert_eq!(other.effects(&entries), []);
    }
}

#[test]
fn the_deadline_undoes_and_compensations_outlive_it() {
    let workflow = format!("timeout: {{ after: PT10S }}{ORDER}");
    check(
        &workflow,
        "charge never; undo reserve lost | lost | lost | lost",
        expect![
            "reserve ✓ charge… ↩charge ✓ ↩reserve ? ↩reserve ? ↩reserve ? ↩reserve ? ↩reserve ✓ → faulted, compensated"
        ],
    );
}

#[test]
fn the_policy_says_when_to_undo() {
    let workflow = format!("saga: {{ on: [ cancel ] }}{ORDER}");
    check(&workflow, "charge refused", expect!["reserve ✓ charge ✗ → faulted"]);
    check(
        &workflow,
        "charge cancel",
        expect!["reserve ✓ charge… cancel ↩charge ✓ ↩reserve ✓ → cancelled, compensated"],
    );
}

#[test]
fn a_workflow_can_ask_to_be_undone() {
    let workflow = "
do:
  - reserve: { call: stock.reserve, compensate: { call: stock.release } }
  - stop: { try: [ { back: { call: saga.compensate } } ], catch: {} }
";
    check(workflow, "", expect!["reserve ✓ ↩reserve ✓ → faulted, compensated"]);
}

#[test]
fn operators_decide_about_stuck_compensations() {
    let workflow = format!("saga: {{ retry: {{ limit: {{ attempt: {{ count: 0 }} }} }} }}{ORDER}");
    let decide = |actions: &[Operate], script: &str| {
        let mut world = World::start(define(&workflow), json!({}));
        world.play(&format!("ship refused; {script}"));
        assert_eq!((world.state.status(), world.state.saga()), (Status::Faulted, Saga::Stuck));
        for action in actions {
            let (who, why, at) = ("ann".to_owned(), "ticket 7".to_owned(), world.at());
            world.give(Input::Operator { action: action.clone(), who, why, at });
            world.play("");
        }
        let undos = world
            .state
            .steps()
            .iter()
            .filter_map(|step| Some(format!("{}: {:?}", step.name, step.undo.as_ref()?.status)));
        format!("{} [{}]", world.summary(), undos.collect::<Vec<_>>().join(", "))
    };
    let script = "undo charge refused";
    expect!["reserve ✓ charge ✓ ship ✗ ↩charge ✗ ↩charge ✓ ↩reserve ✓ → faulted, compensated [reserve: Compensated, charge: Compensated]"].assert_eq(&decide(&[Operate::Retry], script));
    expect!["reserve ✓ charge ✓ ship ✗ ↩charge ✗ ↩reserve ✓ → faulted, compensated [reserve: Compensated, charge: Skipped]"].assert_eq(&decide(&[Operate::Skip], script));
    expect!["reserve ✓ charge ✓ ship ✗ ↩charge ✗ ↩reserve ✓ → faulted, compensated [reserve: Compensated, charge: Resolved]"].assert_eq(&decide(&[Operate::Resolve(json!("by hand"))], script));
    expect![
        "reserve ✓ charge ✓ ship ✗ ↩charge ✗ → faulted, abandoned [reserve: Abandoned, charge: Abandoned]"
    ]
    .assert_eq(&decide(&[Operate::Abandon], script));
}

#[test]
fn an_expression_that_fails_in_a_compensation_is_stuck_at_once() {
    let workflow = "
do:
  - reserve: { call: stock.reserve, compensate: { call: stock.release, with: '${ error(\"no\") }' } }
  - charge: { call: pay.charge }
";
    check(workflow, "charge refused", expect!["reserve ✓ charge ✗ → faulted, stuck"]);
}

#[test]
fn compensations_can_be_composite() {
    let workflow = "
do:
  - reserve:
      call: stock.reserve
      compensate:
        do:
          - tell: { call: mail.send, with: { key: '${ $task.idempotencyKey }' } }
          - rest: { wait: PT5S }
          - release: { call: stock.release }
  - charge: { call: pay.charge }
";
    check(
        workflow,
        "charge refused; undo release lost",
        expect!["reserve ✓ charge ✗ ↩tell ✓ ↩release ? ↩tell ✓ ↩release ✓ → faulted, compensated"],
    );
}

#[test]
fn a_parallel_saga_undoes_everything_at_once() {
    let workflow = format!("saga: {{ order: parallel }}{ORDER}");
    let mut world = World::start(define(&workflow), json!({}));
    for _ in 0..2 {
        let effect = world.due.remove(0);
        world.answer(&effect, "done", "ok");
    }
    let effect = world.due.remove(0);
    let Effect::Call { task, attempt, .. } = effect else { panic!() };
    let (outcome, at) = (Outcome::Refused(Fault::communication("no")), world.at());
    let entries =
        run(&world.definition, &mut world.state, Input::Reply { task, attempt, outcome, at }).unwrap();
    assert_eq!(world.state.effects(&entries).len(), 2);
}

#[test]
fn both_spellings_run_alike() {
    let Some(folder) = shared("workflow-extension") else { return };
    let story = |name: &str| {
        let source = std::fs::read_to_string(folder.join(name)).unwrap();
        // People are not part of this engine yet: let a service approve instead.
        let source = source.replace("call: human", "call: people.approve");
        let definition = crate::Definition::parse(&source, name).unwrap();
        definition.runnable().unwrap();
        let input = json!({ "orderId": "o1", "customerId": "c", "items": [1], "total": 2000 });
        let mut world = World::start(definition, input);
        world.play("managerApproval ok {\"approved\": true}; request nobody | ok {\"reservationId\": \"r\"}; confirm refused");
        let calls: Vec<String> = world
            .state
            .steps()
            .iter()
            .map(|step| format!("{} {:?} {:?}", step.key, step.status, step.undo))
            .collect();
        (world.summary(), calls)
    };
    let (one, other) = (story("place-order.yaml"), story("place-order.portable.yaml"));
    assert_eq!(one, other);
    expect!["request ∅ request ✓ managerApproval ✓ chargePayment ✓ ship ✓ confirm ✗ ↩ship ✓ ↩chargePayment ✓ ↩reserve ✓ → faulted, compensated"].assert_eq(&one.0);
}
