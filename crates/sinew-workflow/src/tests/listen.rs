//! Listening: which events count, what becomes of them, and when it is enough.

use serde_json::{Value, json};

use super::define;
use super::world::World;
use crate::{Effect, Fault, Input, Outcome, Protocol, Source, Status, StepStatus};

/// Starts an instance whose only task listens, with what follows `listen`.
fn listen(rest: &str) -> World {
    World::start(define(&format!("do: [ {{ wait: {{ listen: {rest} }} }} ]")), json!({ "order": 7 }))
}

fn event(kind: &str, data: Value) -> Value {
    json!({ "specversion": "1.0", "id": "1", "source": "/test", "type": kind, "data": data })
}

/// Lets events arrive, each with a crash after it, and returns the output once there is one.
fn hear(world: &mut World, events: impl IntoIterator<Item = Value>) -> Option<Value> {
    for event in events {
        world.arrive(event, None);
        world.crash();
        world.check_storage();
    }
    world.state.output().cloned()
}

#[test]
fn one_event_is_the_output_in_a_list() {
    let mut world = listen("{ to: { one: { with: { type: done } } } }");
    assert_eq!(world.state.steps()[0].status, StepStatus::Waiting);
    assert_eq!(hear(&mut world, [event("other", json!(1))]), None);
    assert_eq!(world.log.len(), 3, "what passes no filter leaves no trace");
    assert_eq!(hear(&mut world, [event("done", json!(2))]), Some(json!([2])));
}

#[test]
fn hosts_are_told_what_to_look_for_and_when_to_stop() {
    let to = "{ any: [ { with: { type: a, source: '${ .x }' } }, { with: { type: b, subject: '${ $input.order }' } } ] }";
    let mut world = listen(&format!("{{ to: {to} }}"));
    let [Effect::Listen { task, attempt: 1, source: Source::Bus(wanted), .. }] = &world.state.due()[..]
    else {
        panic!("{:?}", world.state.due())
    };
    let (task, wanted) = (*task, serde_json::to_value(wanted).unwrap());
    assert_eq!(wanted, json!([{ "type": "a" }, { "type": "b" }]));
    world.due.clear();
    let mut heard = event("b", json!(1));
    heard["subject"] = json!(7);
    hear(&mut world, [heard]);
    assert_eq!(world.state.status(), Status::Completed);
    assert!(world.log.iter().any(|entry| entry.name() == "listening-ended"));
    let stops = world.state.effects(&world.log);
    assert!(stops.contains(&Effect::Stop { task, attempt: 1 }), "{stops:?}");
}

#[test]
fn all_waits_for_one_event_of_each() {
    let mut world = listen("{ to: { all: [ { with: { type: a } }, { with: { type: b } } ] } }");
    let output = hear(&mut world, [event("b", json!(1)), event("b", json!(2)), event("a", json!(3))]);
    assert_eq!(output, Some(json!([1, 3])));
}

#[test]
fn any_of_nothing_is_anything() {
    let mut world = listen("{ to: { any: [] } }");
    assert_eq!(hear(&mut world, [event("whatever", json!(1))]), Some(json!([1])));
}

#[test]
fn data_is_filtered_by_expressions_members_and_values() {
    let passes = |data: &str, found: Value| {
        let mut world = listen(&format!("{{ to: {{ one: {{ with: {{ data: {data} }} }} }} }}"));
        hear(&mut world, [event("a", found)]).is_some()
    };
    assert!(passes("'${ .heat > 38 }'", json!({ "heat": 39 })));
    assert!(!passes("'${ .heat > 38 }'", json!({ "heat": 37 })));
    assert!(!passes("'${ .heat | ascii_downcase }'", json!({ "heat": 37 })), "what fails does not fit");
    assert!(passes(
        "{ order: '${ . == $input.order }', at: { home: true } }",
        json!({ "order": 7, "at": { "home": true, "x": 1 } })
    ));
    assert!(!passes("{ at: { home: true } }", json!({ "at": {} })));
    assert!(passes("text", json!("text")));
}

#[test]
fn attributes_are_texts_patterns_or_expressions() {
    let passes = |with: &str, kind: &str| {
        let mut world = listen(&format!("{{ to: {{ one: {{ with: {{ type: {with} }} }} }} }}"));
        hear(&mut world, [event(kind, json!(null))]).is_some()
    };
    assert!(passes("com.example.done", "com.example.done"));
    assert!(!passes("com.example.done", "com-example-done"), "a dot is a dot");
    assert!(passes("'com\\.example\\..*'", "com.example.done"));
    assert!(!passes("'com\\.example\\.(done|gone)'", "com.example.done.later"), "a pattern fits as a whole");
    assert!(passes("'${ startswith(\"com.\") }'", "com.example"));
    assert!(passes("'${ \"o-\\($input.order)\" }'", "o-7"));
}

#[test]
fn correlation_binds_with_the_first_event() {
    let filter =
        |kind: &str| format!("{{ with: {{ type: {kind} }}, correlate: {{ room: {{ from: .room }} }} }}");
    let mut world = listen(&format!("{{ to: {{ all: [ {}, {} ] }} }}", filter("heat"), filter("damp")));
    let reading = |kind: &str, room: u32| {
        let mut event = event(kind, json!(room));
        event["room"] = json!(room);
        event
    };
    let missing = event("heat", json!(0));
    let events = [missing, reading("heat", 1), reading("damp", 2), reading("damp", 1)];
    assert_eq!(hear(&mut world, events), Some(json!([1, 1])));
}

#[test]
fn correlation_can_expect_a_value() {
    let mut world = listen(
        "{ to: { one: { with: { type: paid }, correlate: { order: { from: .data.order, expect: '${ .order }' } } } } }",
    );
    let paid = |order: u32| event("paid", json!({ "order": order }));
    assert_eq!(hear(&mut world, [paid(6), paid(7)]), Some(json!([{ "order": 7 }])));
}

#[test]
fn until_looks_at_what_was_heard() {
    let mut world = listen("{ to: { any: [], until: '( . | length ) > 2' } }");
    let output = hear(&mut world, (1..=4).map(|number| event("a", json!(number))));
    assert_eq!(output, Some(json!([1, 2, 3])));
}

#[test]
fn until_can_wait_for_other_events_that_do_not_count() {
    let mut world = listen(
        "{ to: { any: [ { with: { type: a } } ], until: { all: [ { with: { type: x } }, { with: { type: y } } ] } } }",
    );
    let kinds = ["a", "y", "a", "y", "x", "a"];
    assert_eq!(hear(&mut world, kinds.map(|kind| event(kind, json!(kind)))), Some(json!(["a", "a"])));
}

#[test]
fn until_that_fails_is_a_fault_of_the_task() {
    let mut world = listen("{ to: { any: [], until: '${ error(\"no\") }' } }");
    hear(&mut world, [event("a", json!(1))]);
    assert_eq!(world.state.fault().unwrap().kind(), "expression");
}

#[test]
fn events_are_read_as_asked() {
    let read = |read: &str| {
        let mut world = listen(&format!("{{ to: {{ any: [] }}, read: {read} }}"));
        hear(&mut world, [event("a", json!({ "x": 1 }))]).unwrap()[0].clone()
    };
    assert_eq!(read("data"), json!({ "x": 1 }));
    assert_eq!(read("envelope"), event("a", json!({ "x": 1 })));
    assert_eq!(read("raw"), json!("{\"x\":1}"));
}

#[test]
fn the_same_origin_twice_counts_once() {
    let mut world = listen("{ to: { any: [], until: '( . | length ) > 1' } }");
    for _ in 0..3 {
        world.arrive(event("a", json!(1)), Some("EVENTS 7"));
        world.crash();
    }
    assert_eq!(world.state.status(), Status::Running);
    world.arrive(event("a", json!(1)), Some("EVENTS 8"));
    assert_eq!(world.state.output(), Some(&json!([1, 1])));
}

const EACH: &str = "
do:
  - gather:
      listen: { to: { any: [ { with: { type: a } } ], until: { one: { with: { type: stop } } } } }
      foreach:
        item: event
        at: number
        do: [ { store: { call: db.put, with: { is: '${ $event }', at: '${ $number }', in: '${ . }' }, compensate: { call: db.drop } } } ]
        output: { as: '{ stored: $event, by: . }' }
        export: { as: '{ last: $number }' }
  - after: { set: { heard: '${ . }', context: '${ $context }' } }
";

#[test]
fn each_event_has_its_tasks_one_after_the_other() {
    let mut world = World::start(define(EACH), json!({}));
    for number in 1..=3 {
        world.arrive(event("a", json!(number)), None);
    }
    let calls = |world: &World| {
        let due = world.state.due();
        let calls = due.into_iter().filter(|effect| matches!(effect, Effect::Call { .. }));
        calls.collect::<Vec<_>>()
    };
    for number in 1..=3 {
        let [call] = &calls(&world)[..] else { panic!("{:?}", world.state.due()) };
        let Effect::Call { body, key, .. } = call else { panic!() };
        assert_eq!(**body, json!({ "is": number, "at": number - 1, "in": number }));
        let suffix = if number == 1 { String::new() } else { format!("#{}", number - 1) };
        assert_eq!(**key, format!("i/do/0/gather/foreach/do/0/store{suffix}"));
        if number == 2 {
            world.arrive(event("stop", json!(null)), None);
            world.arrive(event("a", json!("too late")), None);
            world.crash();
        }
        world.answer(call, "store", &format!("ok {{ \"n\": {number} }}"));
    }
    let heard = |number: u32| json!({ "stored": number, "by": { "n": number } });
    let expected = json!({ "heard": [heard(1), heard(2), heard(3)], "context": { "last": 2 } });
    assert_eq!(world.state.output(), Some(&expected));
}

#[test]
fn tasks_for_events_are_undone_in_reverse() {
    let workflow =
        EACH.replace("- after: {", "- after: { if: 'false',") + "  - charge: { call: pay.charge }\n";
    let mut world = World::start(define(&workflow), json!({}));
    world.arrive(event("a", json!(1)), None);
    world.arrive(event("a", json!(2)), None);
    world.arrive(event("stop", json!(null)), None);
    world.play("charge refused");
    assert_eq!(world.summary(), "store ✓ store ✓ charge ✗ ↩store ✓ ↩store ✓ → faulted, compensated");
}

#[test]
fn too_many_waiting_events_are_a_fault() {
    let mut world = World::start(define(EACH), json!({}));
    for _ in 0..1_001 {
        let [.., Effect::Listen { task, attempt, .. }] = &world.state.due()[..1] else { panic!() };
        let (task, attempt, at) = (*task, *attempt, world.at());
        let event = std::sync::Arc::new(event("a", json!(1)));
        let input = Input::Event { task, attempt, event, origin: None, at };
        crate::run(&world.definition, &mut world.state, input).unwrap();
    }
    assert_eq!(world.state.status(), Status::Running);
    world.arrive(event("a", json!(1)), None);
    assert_eq!(world.state.fault().unwrap().kind(), "runtime");
}

#[test]
fn a_timeout_ends_listening_and_changes_nothing_else() {
    let workflow = "
do:
  - wait: { listen: { to: { any: [] } }, timeout: { after: PT1M }, compensate: { call: never.called } }
";
    let mut world = World::start(define(workflow), json!({}));
    world.play("");
    assert_eq!((world.summary(), world.stopped), ("→ faulted".to_owned(), vec!["wait".to_owned()]));
    assert_eq!(world.state.fault().unwrap().status, 408);
    assert_eq!(world.state.steps()[0].status, StepStatus::Failed);
}

#[test]
fn listening_again_after_an_error_starts_anew() {
    let workflow = "
do:
  - again:
      try:
        - wait: { listen: { to: { one: { with: { type: a } } } } }
        - check: { set: '${ if . == [1] then error(\"not this\") else . end }' }
      catch: { errors: {}, retry: { delay: PT0S, limit: { attempt: { count: 3 } } } }
";
    let mut world = World::start(define(workflow), json!({}));
    world.arrive(event("a", json!(1)), Some("1"));
    world.play("");
    let [Effect::Listen { attempt, .. }] = &world.state.due()[..] else { panic!("{:?}", world.state.due()) };
    assert_eq!(*attempt, 2, "what arrives late for the first is told apart");
    world.arrive(event("a", json!(2)), Some("2"));
    assert_eq!(world.state.output(), Some(&json!([2])));
}

#[test]
fn a_source_that_fails_or_ends_is_told_by_a_reply() {
    let start = || {
        let mut world = listen("{ to: { any: [], until: false } }");
        world.arrive(event("a", json!(1)), None);
        let [Effect::Listen { task, attempt, .. }] = world.state.due()[..] else { panic!() };
        (world, task, attempt)
    };
    let (mut world, task, attempt) = start();
    let (outcome, at) = (Outcome::Refused(Fault::communication("no such stream")), world.at());
    world.give(Input::Reply { task, attempt, outcome, at });
    assert_eq!(world.state.fault().unwrap().kind(), "communication");
    let (mut world, task, attempt) = start();
    let (outcome, at) = (Outcome::Completed(json!(null)), world.at());
    world.give(Input::Reply { task, attempt, outcome, at });
    assert_eq!(world.state.output(), Some(&json!([1])));
}

fn subscribe(consume: &str, rest: &str) -> World {
    let with = "document: { endpoint: 'https://x.test' }, operation: chat";
    let subscription = format!("{{ filter: '${{ .room == $input.order }}', consume: {consume}{rest} }}");
    let workflow =
        format!("do: [ {{ chat: {{ call: asyncapi, with: {{ {with}, subscription: {subscription} }} }} }} ]");
    World::start(define(&workflow), json!({ "order": 7 }))
}

fn message(number: u32) -> Value {
    json!({ "room": 7, "payload": number })
}

#[test]
fn a_subscription_consumes_an_amount() {
    let mut world = subscribe("{ amount: 2 }", "");
    let [Effect::Listen { source: Source::Protocol { protocol, arguments }, .. }] = &world.state.due()[..]
    else {
        panic!("{:?}", world.state.due())
    };
    assert_eq!(*protocol, Protocol::AsyncApi);
    assert_eq!(**arguments, json!({ "document": { "endpoint": "https://x.test" }, "operation": "chat" }));
    let elsewhere = json!({ "room": 8, "payload": 0 });
    let output = hear(&mut world, [elsewhere, message(1), message(2)]);
    assert_eq!(output, Some(json!([message(1), message(2)])));
}

#[test]
fn a_subscription_lasts_while_until_or_for_so_long() {
    let mut world = subscribe("{ while: '${ length < 2 }' }", "");
    assert_eq!(hear(&mut world, [message(1), message(2)]), Some(json!([message(1), message(2)])));
    let mut world = subscribe("{ until: '${ length == 1 }' }", "");
    assert_eq!(hear(&mut world, [message(1)]), Some(json!([message(1)])));
    let mut world = subscribe("{ amount: 5, for: PT10S }", "");
    hear(&mut world, [message(1)]);
    world.due = world.state.due();
    world.play("");
    assert_eq!(world.state.output(), Some(&json!([message(1)])), "time is up: go on with what came");
}

#[test]
fn a_subscription_runs_tasks_for_each_message() {
    let rest = ", foreach: { item: message, do: [ { tell: { call: mail.send, with: '${ $message.payload }' } } ], output: { as: .by } }";
    let mut world = subscribe("{ amount: 2 }", rest);
    hear(&mut world, [message(1), message(2)]);
    world.due = world.state.due();
    world.play("");
    assert_eq!(world.state.output(), Some(&json!(["tell", "tell"])));
}

#[test]
fn hosts_are_told_the_correlation_that_is_known_beforehand() {
    let filter = "{ with: { type: paid }, correlate: { order: { from: '${ .data.order }', expect: '${ $input.order }' }, \
                  way: { from: .data.way }, odd: { from: '.data | length', expect: '3' } } }";
    let world = listen(&format!("{{ to: {{ one: {filter} }} }}"));
    let [Effect::Listen { source: Source::Bus(wanted), since, .. }] = &world.state.due()[..] else {
        panic!()
    };
    assert_eq!(serde_json::to_value(wanted).unwrap(), json!([{ "type": "paid", ".data.order": "7" }]));
    assert_eq!(Some(since.started), world.state.started_at());
}

#[test]
fn who_listens_later_does_not_hear_again_what_the_instance_has_heard() {
    let one = "{ listen: { to: { one: { with: { type: a } } } } }";
    let definition = define(&format!("do: [ {{ first: {one} }}, {{ second: {one} }} ]"));
    let mut world = World::start(definition, json!({}));
    for origin in ["e/1", "e/1", "e/2"] {
        world.arrive(event("a", json!(origin)), Some(origin));
        world.crash();
        world.check_storage();
    }
    assert_eq!(world.state.output(), Some(&json!(["e/2"])));
}
