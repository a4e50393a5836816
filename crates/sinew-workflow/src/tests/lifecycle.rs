//! Lifecycle events: which there are, what they say, and that they say it again.

use serde_json::{Value, json};

use super::define;
use super::world::World;
use crate::{Input, State, apply, lifecycle};

/// Derives the events of everything that happened, entry by entry and all at once, and compares.
fn events(world: &World) -> Vec<Value> {
    let whole = lifecycle(&State::default(), &world.log).unwrap();
    let mut state = State::default();
    let mut parts = Vec::new();
    for entry in &world.log {
        parts.extend(lifecycle(&state, std::slice::from_ref(entry)).unwrap());
        apply(&mut state, entry).unwrap();
    }
    assert_eq!(parts, whole, "how entries are grouped does not matter");
    let mut ids: Vec<&str> = whole.iter().map(|event| event["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), whole.len(), "ids are unique");
    whole
}

/// Writes events as `task.started /do/0/a`.
fn story(world: &World) -> Vec<String> {
    let words = |event: &Value| {
        let kind = event["type"].as_str().unwrap();
        let kind = kind.strip_prefix("io.serverlessworkflow.").unwrap().strip_suffix(".v1").unwrap();
        let task = event["data"]["task"].as_str().unwrap_or_default();
        format!("{kind} {task}").trim().to_owned()
    };
    events(world).iter().map(words).collect()
}

#[test]
fn a_saga_tells_of_its_tasks_and_those_of_its_compensations() {
    let workflow = "
do:
  - a: { call: a.b, compensate: { call: a.c } }
  - b: { try: [ { x: { call: a.d } } ], catch: { retry: { delay: PT1S, limit: { attempt: { count: 1 } } } } }
";
    let mut world = World::start(define(workflow), json!({}));
    world.play("x refused | refused");
    assert_eq!(
        story(&world),
        [
            "workflow.started",
            "task.created /do/0/a",
            "task.started /do/0/a",
            "task.completed /do/0/a",
            "task.created /do/1/b",
            "task.started /do/1/b",
            "task.created /do/1/b/try/0/x",
            "task.started /do/1/b/try/0/x",
            "task.faulted /do/1/b/try/0/x",
            "task.retried /do/1/b",
            "task.started /do/1/b/try/0/x",
            "task.faulted /do/1/b/try/0/x",
            "task.faulted /do/1/b",
            "workflow.faulted",
            "task.created /do/0/a/compensate",
            "task.started /do/0/a/compensate",
            "task.completed /do/0/a/compensate",
        ]
    );
}

#[test]
fn an_event_has_the_members_of_the_specification() {
    let mut world = World::start(define("do: [ { a: { call: a.b } } ]"), json!({}));
    world.play("a ok {\"x\": 1}");
    let told = events(&world);
    let workflow = "test-i.test";
    let reference = json!({ "namespace": "test", "name": "test", "version": "1.0.0" });
    let started =
        json!({ "name": workflow, "definition": reference, "startedAt": "1970-01-01T00:00:01.000Z" });
    assert_eq!(
        (&told[0]["data"], &told[0]["subject"], &told[0]["specversion"]),
        (&started, &json!("i"), &json!("1.0"))
    );
    let completed = json!({ "workflow": workflow, "task": "/do/0/a", "completedAt": "1970-01-01T00:00:01.010Z", "output": { "x": 1 } });
    assert_eq!(told[3]["data"], completed);
    assert_eq!(
        told[4]["data"],
        json!({ "name": workflow, "completedAt": "1970-01-01T00:00:01.010Z", "output": { "x": 1 } })
    );
}

#[test]
fn what_others_close_is_cancelled() {
    let workflow = "
do:
  - race: { fork: { compete: true, branches: [ { a: { call: a.a } }, { b: { do: [ { c: { call: a.c } } ] } } ] } }
  - wait: { wait: PT1H }
";
    let mut world = World::start(define(workflow), json!({}));
    let first = world.due.remove(0);
    world.answer(&first, "a", "ok");
    let at = world.at();
    world.give(Input::Pause { at });
    world.give(Input::Resume { at });
    world.give(Input::Cancel { reason: None, at });
    assert_eq!(
        story(&world)[10..],
        [
            "task.cancelled /do/0/race/fork/branches/1/b/do/0/c",
            "task.cancelled /do/0/race/fork/branches/1/b",
            "task.completed /do/0/race",
            "task.created /do/1/wait",
            "task.started /do/1/wait",
            "workflow.suspended",
            "task.suspended /do/1/wait",
            "workflow.resumed",
            "task.resumed /do/1/wait",
            "task.cancelled /do/1/wait",
            "workflow.cancelled",
        ]
    );
}

#[test]
fn listening_tells_of_its_correlation() {
    let workflow = "
do:
  - wait: { listen: { to: { one: { with: { type: a }, correlate: { room: { from: .data } } } } } }
";
    let mut world = World::start(define(workflow), json!({}));
    world.arrive(json!({ "type": "a", "data": 7 }), None);
    let told = events(&world);
    assert_eq!(
        story(&world)[3..],
        [
            "workflow.correlation-started",
            "workflow.correlation-completed",
            "task.completed /do/0/wait",
            "workflow.completed",
        ]
    );
    assert_eq!(told[4]["data"]["correlationKeys"], json!({ "room": 7 }));
}
