//! Other workflows and people: what is asked of them, and what their answers mean.

use serde_json::json;

use super::define;
use super::world::{World, check};
use crate::{
    Child, Definition, Effect, Error, Fault, Input, Outcome, Parent, Protocol, Saga, State, Status, Target,
    TaskId, Verb, decide, run,
};
use expect_test::expect;

const PARENT: &str = "
do:
  - ship: { run: { workflow: { namespace: shop, name: ship, version: '1.0.0', input: { order: '${ .order }' } } } }
  - pay: { call: pay.charge }
";

#[test]
fn a_child_is_a_call_whose_reply_is_its_output() {
    let world = World::start(define(PARENT), json!({ "order": 7 }));
    let [Effect::Call { target: Target::Workflow(child), body, key, timeout_ms, .. }] = &world.due[..] else {
        panic!("{:?}", world.due)
    };
    let (namespace, name, version) = ("shop".to_owned(), "ship".to_owned(), "1.0.0".to_owned());
    assert_eq!(*child, Child { namespace, name, version, wait: true, verb: Verb::Run });
    assert_eq!((&**body, &**key, *timeout_ms), (&json!({ "order": 7 }), "i/do/0/ship", u64::MAX));
    check(PARENT, "ship ok {\"by\": 1}", expect!["ship ✓ pay ✓ → completed, committed"]);
}

#[test]
fn a_completed_child_is_undone_with_its_parent() {
    check(PARENT, "pay refused", expect!["ship ✓ pay ✗ ↩ship ✓ → faulted, compensated"]);
    let mut world = World::start(define(PARENT), json!({}));
    world.play("pay refused; undo ship never");
    let [Effect::Call { target: Target::Workflow(child), forward_key, key, undo: true, .. }] =
        &world.state.due()[..]
    else {
        panic!("{:?}", world.state.due())
    };
    assert_eq!(child.verb, Verb::Undo);
    assert_eq!((&**key, forward_key.as_deref()), ("i/do/0/ship/undo", Some("i/do/0/ship")));
    let children: Vec<&str> = world.state.children().map(|step| &*step.key).collect();
    assert_eq!(children, ["i/do/0/ship"]);
}

#[test]
fn a_child_can_have_another_compensation_or_none() {
    let with = |compensate: &str| {
        PARENT.replace("'${ .order }' } } }", &format!("'${{ .order }}' }} }}, compensate: {compensate}"))
    };
    let own = with("{ call: ship.back }")
        .replace("compensate: { call: ship.back }", "await: true }, compensate: { call: ship.back }");
    check(&own, "pay refused", expect!["ship ✓ pay ✗ ↩ship ✓ → faulted, compensated"]);
    let none = with("false").replace("compensate: false", "await: true }, compensate: false");
    check(&none, "pay refused", expect!["ship ✓ pay ✗ → faulted"]);
}

#[test]
fn the_fault_of_a_child_is_the_one_of_its_task() {
    let mut world = World::start(define(PARENT), json!({}));
    let Effect::Call { task, attempt, .. } = world.due.remove(0) else { panic!() };
    let mut fault = Fault::new("https://example.com/no-stock", 409);
    (fault.title, fault.detail) = (Some("No stock".to_owned()), Some("none left".to_owned()));
    fault.instance = Some("/do/3/reserve".to_owned());
    let (outcome, at) = (Outcome::Refused(fault.clone()), world.at());
    world.give(Input::Reply { task, attempt, outcome, at });
    fault.instance = Some("/do/0/ship".to_owned());
    assert_eq!(world.state.fault(), Some(&fault));
    assert_eq!(world.state.saga(), Saga::None, "a child that failed has undone itself");
}

#[test]
fn a_child_in_flight_is_stopped_and_undone_with_its_parent() {
    let mut world = World::start(define(PARENT), json!({}));
    let Effect::Call { task, attempt, .. } = world.due[0] else { panic!() };
    assert!(world.state.awaits(task, attempt));
    world.play("ship cancel");
    assert_eq!(world.summary(), "ship… cancel ↩ship ✓ → cancelled, compensated");
    assert_eq!(world.stopped, ["ship"]);
    assert!(!world.state.awaits(task, attempt));
}

#[test]
fn nobody_waits_for_a_child_that_is_not_awaited() {
    let workflow = PARENT.replace("} } } }", "} }, await: false } }");
    let mut world = World::start(define(&workflow), json!({ "order": 7 }));
    world.play("ship ok \"accepted\"; pay refused");
    assert_eq!(world.summary(), "ship ✓ pay ✗ → faulted");
    assert_eq!(world.state.children().count(), 0);
    let output =
        World::start(define(&workflow.replace("- pay: { call: pay.charge }", "")), json!({ "order": 7 }));
    let mut world = output;
    world.play("ship ok \"accepted\"");
    assert_eq!(world.state.output(), Some(&json!({ "order": 7 })));
}

const CHILD: &str = "
do:
  - reserve: { call: stock.reserve, compensate: { call: stock.release } }
  - book: { call: van.book, compensate: { call: van.cancel } }
";

fn child(definition: Definition, script: &str) -> World {
    let mut world = World::start(define("do: []"), json!({}));
    (world.definition, world.state, world.log) = (definition, State::default(), Vec::new());
    let parent = Parent { id: "p".to_owned(), task: TaskId(1), attempt: 1 };
    let (id, at) = ("c".to_owned(), world.at());
    world.give(Input::StartChild { id, input: json!({}), parent, at, trace: None });
    world.play(script);
    world
}

#[test]
fn a_completed_child_waits_for_its_parent() {
    let world = child(define(CHILD), "");
    assert_eq!(world.summary(), "reserve ✓ book ✓ → completed, pending");
    assert!(!world.state.is_closed());
    assert_eq!(world.state.parent().map(|parent| parent.id.as_str()), Some("p"));
    assert_eq!(world.state.reply(), Some(Outcome::Completed(json!({ "by": "book" }))));
    assert_eq!(world.state.undone(), None);
}

#[test]
fn a_released_child_stands() {
    let mut world = child(define(CHILD), "");
    let at = world.at();
    world.give(Input::Release { at });
    assert_eq!(world.summary(), "reserve ✓ book ✓ → completed, committed");
    assert!(world.state.is_closed());
}

#[test]
fn an_undone_child_says_when_it_is() {
    let mut world = child(define(CHILD), "");
    let at = world.at();
    world.give(Input::Undo { reason: None, at });
    assert_eq!((world.state.status(), world.state.saga()), (Status::Completed, Saga::Compensating));
    assert_eq!(world.state.undone(), None);
    world.play("undo book lost");
    assert_eq!(world.summary(), "reserve ✓ book ✓ ↩book ? ↩book ✓ ↩reserve ✓ → completed, compensated");
    assert_eq!(world.state.undone(), Some(Outcome::Completed(json!(null))));
}

#[test]
fn a_running_child_is_undone_whatever_its_policy_says() {
    let mut world = child(define(&format!("saga: {{ on: [] }}{CHILD}")), "book never");
    let at = world.at();
    world.give(Input::Undo { reason: Some("the parent was cancelled".to_owned()), at });
    world.due = world.state.due();
    world.play("");
    assert_eq!(world.summary(), "reserve ✓ book… ↩book ✓ ↩reserve ✓ → cancelled, compensated");
    assert_eq!(world.state.undone(), Some(Outcome::Completed(json!(null))));
}

#[test]
fn a_failed_child_answers_once_it_is_undone() {
    let mut world = child(define(CHILD), "book refused; undo reserve never");
    assert_eq!((world.state.status(), world.state.reply()), (Status::Faulted, None));
    world.crash();
    world.play("");
    let Some(Outcome::Refused(fault)) = world.state.reply() else { panic!("{:?}", world.state.reply()) };
    assert_eq!(fault.code.as_deref(), Some("refused"));
}

#[test]
fn a_child_past_its_pivot_cannot_be_undone() {
    let pivot = CHILD.replace("compensate: { call: van.cancel }", "pivot: true");
    let mut world = child(define(&pivot), "");
    assert_eq!(world.summary(), "reserve ✓ book ✓ → completed, committed");
    let at = world.at();
    world.give(Input::Undo { reason: None, at });
    assert!(matches!(world.state.undone(), Some(Outcome::Refused(fault)) if fault.kind() == "compensation"));
    let mut world = World::start(define(PARENT), json!({}));
    world.play("pay refused; undo ship never");
    let [Effect::Call { task, attempt, .. }] = world.state.due()[..] else { panic!() };
    let (outcome, at) = (child(define(&pivot), "").state.undone().unwrap(), world.at());
    world.give(Input::Reply { task, attempt, outcome, at });
    assert_eq!(world.state.saga(), Saga::Stuck, "nobody claims that it was undone");
}

#[test]
fn a_child_with_nothing_to_undo_closes_by_itself() {
    let world = child(define("do: [ { a: { call: a.b } } ]"), "");
    assert!(world.state.is_closed());
    assert_eq!(world.state.undone(), Some(Outcome::Completed(json!(null))));
}

const APPROVAL: &str = "
do:
  - approve:
      call: human
      with: { title: '${ \"order \\(.order)\" }', candidates: [ sales ], schema: { type: object, required: [ approved ] } }
      timeout: { after: PT4H }
";

#[test]
fn a_person_is_asked_with_computed_arguments() {
    let world = World::start(define(APPROVAL), json!({ "order": 7 }));
    let [Effect::Call { target, body, timeout_ms, .. }, Effect::Timer { .. }] = &world.state.due()[..] else {
        panic!("{:?}", world.state.due())
    };
    assert_eq!(*target, Target::Protocol(Protocol::Human));
    assert_eq!((&body["title"], &body["candidates"]), (&json!("order 7"), &json!(["sales"])));
    assert_eq!(*timeout_ms, 4 * 60 * 60 * 1_000);
}

#[test]
fn a_decision_that_does_not_fit_goes_back_to_the_person() {
    let mut world = World::start(define(APPROVAL), json!({}));
    let [Effect::Call { task, attempt, .. }, ..] = world.state.due()[..] else { panic!() };
    let (outcome, at) = (Outcome::Completed(json!({ "yes": true })), world.at());
    let before = world.state.clone();
    let wrong = Input::Reply { task, attempt, outcome, at };
    let Err(Error::Unfit(fault)) = decide(&world.definition, &world.state, &wrong) else { panic!() };
    assert_eq!((fault.kind(), fault.status), ("validation", 400));
    assert!(run(&world.definition, &mut world.state, wrong).is_err());
    assert_eq!(world.state, before, "the task goes on waiting");
    let outcome = Outcome::Completed(json!({ "approved": true }));
    world.give(Input::Reply { task, attempt, outcome, at });
    assert_eq!(world.state.output(), Some(&json!({ "approved": true })));
}

#[test]
fn a_person_who_takes_too_long_is_a_timeout() {
    let mut world = World::start(define(APPROVAL), json!({}));
    world.play("approve never");
    assert_eq!(world.state.fault().unwrap().status, 408);
    assert_eq!(world.stopped, ["approve"], "the inbox is told");
}

#[test]
fn who_answers_is_kept_and_only_what_is_asked_can_be_answered() {
    let mut world = World::start(define(APPROVAL), json!({ "order": 7 }));
    let [question] = &world.state.questions()[..] else { panic!("{:?}", world.state.questions()) };
    assert_eq!((&*question.name, &question.arguments["title"]), ("approve", &json!("order 7")));
    assert_eq!(question.due_at, Some(question.asked_at.after(4 * 60 * 60 * 1_000)));
    let (task, attempt, at) = (question.task, question.attempt, world.at());
    let by = |attempt, answer, who: &str| Input::Decision {
        task,
        attempt,
        outcome: Outcome::Completed(answer),
        who: who.to_owned(),
        at,
    };
    assert!(run(&world.definition, &mut world.state, by(attempt, json!({}), "eve")).is_err());
    world.give(by(attempt + 1, json!({ "approved": false }), "eve"));
    assert_eq!(world.state.steps()[0].attempts[0].by, None, "neither of them counted");
    world.give(Input::Pause { at });
    world.give(by(attempt, json!({ "approved": true }), "ada"));
    world.crash();
    assert!(world.state.questions().is_empty());
    world.give(by(attempt, json!({ "approved": false }), "eve"));
    world.give(Input::Resume { at });
    assert_eq!(world.state.steps()[0].attempts[0].by.as_deref(), Some("ada"));
    assert_eq!(world.state.output(), Some(&json!({ "approved": true })));
    world.give(by(attempt, json!({ "approved": false }), "eve"));
    world.check_storage();
}

#[test]
fn what_one_person_claimed_nobody_else_answers_until_it_is_released_or_over() {
    let mut world = World::start(define(APPROVAL), json!({ "order": 7 }));
    let (task, attempt) = (world.state.questions()[0].task, 1);
    let start = world.at();
    let claim = |who: &str, for_ms, at| Input::Claim { task, attempt, who: who.to_owned(), for_ms, at };
    let answer = |who: &str, at| {
        let outcome = Outcome::Completed(json!({ "approved": true }));
        Input::Decision { task, attempt, outcome, who: who.to_owned(), at }
    };
    let refused = |world: &mut World, input| match run(&world.definition, &mut world.state, input) {
        Err(Error::Claimed { who, .. }) => who,
        other => panic!("not refused: {other:?}"),
    };
    world.give(claim("ada", Some(60_000), start));
    assert_eq!(refused(&mut world, claim("eve", Some(1), start.after(1))), "ada");
    assert_eq!(refused(&mut world, claim("eve", None, start.after(1))), "ada");
    assert_eq!(refused(&mut world, answer("eve", start.after(2))), "ada");
    world.crash();
    assert_eq!(refused(&mut world, answer("eve", start.after(59_999))), "ada");
    world.give(claim("ada", None, start.after(30_000)));
    world.give(claim("bob", Some(1_000), start.after(40_000)));
    world.give(claim("ada", Some(1_000), start.after(41_000)));
    world.give(answer("ada", start.after(41_500)));
    let made = &world.state.steps()[0].attempts[0];
    let claims: Vec<_> = made.claims.iter().flat_map(|claims| claims.iter()).collect();
    let spans: Vec<_> =
        claims.iter().map(|one| (&*one.who, one.at.since(start), one.until.since(start))).collect();
    assert_eq!(spans, [("ada", 0, 30_000), ("bob", 40_000, 41_000), ("ada", 41_000, 42_000)]);
    assert_eq!(made.by.as_deref(), Some("ada"));
    world.check_storage();
}
