//! Flow: what runs, with which data, and what errors do. Covers the scenarios of the conformance features that need no
//! other protocol.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::define;
use super::world::{World, check};
use crate::Status;

/// Runs a workflow without a script and compares its output, or its fault.
#[track_caller]
fn outputs(workflow: &str, input: Value, expected: Expect) {
    let mut world = World::start(define(workflow), input);
    world.play("");
    let shown = match (world.state.status(), world.state.output(), world.state.fault()) {
        (Status::Completed, Some(output), _) => output.to_string(),
        (status, _, fault) => format!("{status}: {}", json!(fault)),
    };
    expected.assert_eq(&shown);
}

#[test]
fn tasks_run_in_sequence() {
    let colors = "
do:
  - nested:
      do:
        - setRed: { set: { colors: '${ .colors + [\"red\"] }' } }
        - setGreen: { set: { colors: '${ .colors + [\"green\"] }' } }
  - setBlue: { set: { colors: '${ .colors + [\"blue\"] }' } }
";
    outputs(colors, json!({}), expect![[r#"{"colors":["red","green","blue"]}"#]]);
    let jumping = "
do:
  - setRed: { set: { colors: '${ .colors + [ \"red\" ] }' }, then: setGreen }
  - setBlue: { set: { colors: '${ .colors + [ \"blue\" ] }' }, then: end }
  - setGreen: { set: { colors: '${ .colors + [ \"green\" ] }' }, then: setBlue }
";
    outputs(jumping, json!({}), expect![[r#"{"colors":["red","green","blue"]}"#]]);
}

#[test]
fn exit_leaves_a_list_and_end_the_workflow() {
    let workflow = |then: &str| {
        format!(
            "
do:
  - inner:
      do:
        - one: {{ set: {{ at: 1 }}, then: {then} }}
        - two: {{ set: {{ at: 2 }} }}
  - outer: {{ set: '${{ {{ before: .at }} }}' }}
"
        )
    };
    outputs(&workflow("exit"), json!({}), expect![[r#"{"before":1}"#]]);
    outputs(&workflow("end"), json!({}), expect![[r#"{"at":1}"#]]);
}

#[test]
fn backward_jumps_give_every_pass_its_own_key() {
    let workflow = "
do:
  - count: { set: '${ { n: ((.n // 0) + 1) } }' }
  - work: { call: work.do, output: { as: $input } }
  - more: { switch: [ { again: { when: .n < 3, then: count } }, { done: { then: end } } ] }
";
    let mut world = World::start(define(workflow), json!({}));
    world.play("");
    let keys: Vec<&str> =
        world.state.steps().iter().filter(|step| &*step.kind == "call").map(|step| &*step.key).collect();
    assert_eq!(keys, ["i/do/1/work", "i/do/1/work~1.1", "i/do/1/work~1.2"]);
}

#[test]
fn switches_choose() {
    let workflow = "
do:
  - color:
      switch:
        - any: { then: setOther }
        - red: { when: '.color == \"red\"', then: setRed }
  - setRed: { set: { is: red }, then: end }
  - setOther: { set: { is: '${ \"not red, but \\($input.color)\" }' } }
";
    outputs(workflow, json!({ "color": "red" }), expect![[r#"{"is":"red"}"#]]);
    outputs(workflow, json!({ "color": "blue" }), expect![[r#"{"is":"not red, but blue"}"#]]);
    let no_default = "
do:
  - color: { switch: [ { red: { when: '.color == \"red\"', then: setRed } } ], then: end }
  - setRed: { set: { is: red } }
";
    outputs(no_default, json!({ "color": "blue" }), expect![[r#"{"color":"blue"}"#]]);
}

#[test]
fn data_flows_through_filters() {
    outputs(
        "do: [ { only: { input: { from: .user.id }, set: { id: '${ . }' } } } ]",
        json!({ "user": { "id": 5 } }),
        expect![[r#"{"id":5}"#]],
    );
    outputs(
        "
input: { from: .inner }
output: { as: '{ result: ., context: $context }' }
do:
  - one: { set: { a: '${ .x }' }, output: { as: .a }, export: { as: '{ kept: . }' } }
  - two: { set: '${ [ ., $context.kept, $workflow.id, $task.name, $task.reference, $workflow.input.inner.x ] }' }
",
        json!({ "inner": { "x": 3 } }),
        expect![[r#"{"result":[3,3,"i","two","/do/1/two",3],"context":{"kept":3}}"#]],
    );
}

#[test]
fn text_holds_expressions() {
    outputs(
        "do: [ { one: { set: { plain: $error, mixed: 'Hello ${ .name }, ${ .n + 1 }!', brace: '${ \"}\" + \"\\(.n)\" }' } } } ]",
        json!({ "name": "Ann", "n": 1 }),
        expect![[r#"{"plain":"$error","mixed":"Hello Ann, 2!","brace":"}1"}"#]],
    );
}

#[test]
fn skipped_tasks_pass_their_input_on() {
    let workflow = "
do:
  - never: { if: .age < 18, raise: { error: { type: urn:young, status: 400 } }, then: end }
  - always: { set: { ok: '${ .age }' } }
";
    outputs(workflow, json!({ "age": 20 }), expect![[r#"{"ok":20}"#]]);
    outputs(
        workflow,
        json!({ "age": 10 }),
        expect![[r#"faulted: {"type":"urn:young","status":400,"instance":"/do/0/never"}"#]],
    );
}

#[test]
fn errors_carry_their_origin() {
    let workflow = "
use: { errors: { custom: { type: 'https://example.com/errors/custom', status: 418, title: Custom, detail: '${ \"of \\(.who)\" }' } } }
do: [ { outer: { do: [ { fail: { raise: { error: custom } } } ] } } ]
";
    outputs(
        workflow,
        json!({ "who": "tea" }),
        expect![[
            r#"faulted: {"type":"https://example.com/errors/custom","status":418,"title":"Custom","detail":"of tea","instance":"/do/0/outer/do/0/fail"}"#
        ]],
    );
    outputs(
        "do: [ { bad: { set: '${ .a.b }' } } ]",
        json!({ "a": 1 }),
        expect![[
            r#"faulted: {"type":"https://open-workflow-specification.org/spec/1.0.0/errors/expression","status":400,"title":"Expression Error","detail":"`.a.b` failed: cannot index 1 with \"b\"","instance":"/do/0/bad"}"#
        ]],
    );
    outputs(
        "do: [ { bad: { set: '${ [limit(3; repeat(1))] | last | until(false; .) }' } } ]",
        json!({}),
        expect![[
            r#"faulted: {"type":"https://open-workflow-specification.org/spec/1.0.0/errors/expression","status":400,"title":"Expression Error","detail":"`[limit(3; repeat(1))] | last | until(false; .)` failed: \"it takes too many steps\"","instance":"/do/0/bad"}"#
        ]],
    );
}

#[test]
fn schemas_are_checked() {
    let workflow = "
input: { schema: { document: { type: object, required: [ sku ], properties: { sku: { type: string } } } } }
do: [ { one: { set: { fine: true }, output: { schema: { document: { type: object } } } } } ]
";
    outputs(workflow, json!({ "sku": "a" }), expect![[r#"{"fine":true}"#]]);
    outputs(
        workflow,
        json!({ "sku": 1 }),
        expect![[
            r#"faulted: {"type":"https://open-workflow-specification.org/spec/1.0.0/errors/validation","status":400,"title":"Validation Error","detail":"the workflow input does not match its schema: 1 is not of type \"string\" at /sku","instance":"/"}"#
        ]],
    );
}

#[test]
fn a_handler_sees_the_error() {
    let workflow = "
do:
  - attempt:
      try: [ { fail: { raise: { error: { type: 'https://other.example/dsl/errors/types/communication', status: 404, title: Gone } } } } ]
      catch:
        errors: { with: { type: 'https://open-workflow-specification.org/spec/1.0.0/errors/communication', status: 404 } }
        as: err
        do: [ { keep: { set: { error: '${ $err }' } } } ]
";
    outputs(
        workflow,
        json!({}),
        expect![[
            r#"{"error":{"type":"https://other.example/dsl/errors/types/communication","status":404,"title":"Gone","instance":"/do/0/attempt/try/0/fail"}}"#
        ]],
    );
    outputs(
        &workflow.replace("status: 404 } }\n        as", "status: 500 } }\n        as"),
        json!({}),
        expect![[
            r#"faulted: {"type":"https://other.example/dsl/errors/types/communication","status":404,"title":"Gone","instance":"/do/0/attempt/try/0/fail"}"#
        ]],
    );
}

#[test]
fn a_catch_can_lead_elsewhere() {
    let workflow = "
do:
  - attempt:
      try: [ { fail: { raise: { error: { type: urn:x, status: 500 } } } } ]
      catch: { when: '$error.status == 500', then: failed }
  - ok: { set: { ok: true }, then: end }
  - failed: { set: { ok: false } }
";
    outputs(workflow, json!({}), expect![[r#"{"ok":false}"#]]);
}

#[test]
fn retries_back_off_and_give_up() {
    let workflow = |retry: &str| {
        format!(
            "do: [ {{ attempt: {{ try: [ {{ work: {{ call: work.do }} }} ], catch: {{ retry: {retry} }} }} }} ]"
        )
    };
    let times = |retry: &str, script: &str| {
        let mut world = World::start(define(&workflow(retry)), json!({}));
        world.play(script);
        let step = world.state.steps().iter().find(|step| &*step.name == "work").unwrap();
        let started: Vec<i64> =
            step.attempts.iter().map(|attempt| attempt.started_at.as_millis() - 1_000).collect();
        format!("{started:?} {}", world.summary())
    };
    let script = "work lost | refused | nobody | lost";
    expect!["[0, 1010, 2020, 3030] work ? work ✗ work ∅ work ? → faulted"]
        .assert_eq(&times("{ delay: PT1S, limit: { attempt: { count: 3 } } }", script));
    expect!["[0, 1010, 3020, 6030, 10040] work ? work ✗ work ∅ work ? work ✓ → completed"]
        .assert_eq(&times("{ delay: PT1S, backoff: { linear: {} } }", script));
    expect!["[0, 1010, 3020, 6030, 9040] work ? work ✗ work ∅ work ? work ✓ → completed"]
        .assert_eq(&times("{ delay: PT1S, backoff: { exponential: { max: PT3S } } }", script));
    expect!["[0, 1010, 2020] work ? work ✗ work ∅ → faulted"]
        .assert_eq(&times("{ delay: PT1S, limit: { duration: PT2.5S } }", "work lost | refused | nobody"));
    expect!["[0, 816, 858, 1055, 1103] work ? work ✗ work ∅ work ? work ✓ → completed"]
        .assert_eq(&times("{ jitter: { from: PT0S, to: PT1S }, limit: { attempt: { count: 9 } } }", script));
    expect!["[0, 1010] work ? work ✗ → faulted"].assert_eq(&times(
        "{ delay: PT1S, exceptWhen: '$error.code == \"refused\"' }",
        "work lost | refused",
    ));
    expect!["[0, 6000] work… work ✓ → completed"]
        .assert_eq(&times("{ delay: PT1S, limit: { attempt: { duration: PT5S } } }", "work never | ok"));
}

#[test]
fn waits_and_timeouts_take_time() {
    check(
        "do: [ { rest: { wait: PT30S } }, { work: { call: work.do } } ]",
        "",
        expect!["work ✓ → completed"],
    );
    check(
        "do: [ { work: { call: work.do, timeout: { after: PT5S } } }, { more: { call: work.more } } ]",
        "work never",
        expect!["work… → faulted"],
    );
    let caught = "
do:
  - attempt: { try: [ { slow: { do: [ { work: { call: work.do } } ], timeout: { after: PT5S } } } ], catch: { errors: { with: { status: 408 } } } }
  - more: { call: work.more }
";
    check(caught, "work never", expect!["work… more ✓ → completed"]);
    let mut world =
        World::start(define("do: [ { rest: { wait: '${ .long }' } } ]"), json!({ "long": "PT1M" }));
    world.play("");
    assert_eq!(world.now, 61_000);
}

#[test]
fn events_are_complete_and_stable() {
    let workflow = "
do:
  - tell: { emit: { event: { with: { type: com.example.placed, subject: '${ .id }', data: { n: '${ .n }' } } } } }
";
    outputs(
        workflow,
        json!({ "id": "o1", "n": 2 }),
        expect![[
            r#"{"type":"com.example.placed","subject":"o1","data":{"n":2},"specversion":"1.0","id":"i/do/0/tell","source":"/workflows/test/test","time":"1970-01-01T00:00:01.000Z"}"#
        ]],
    );
    check(workflow, "event com.example.placed refused", expect!["event com.example.placed ✗ → faulted"]);
}

#[test]
fn loops_carry_data_along() {
    let workflow = "
do:
  - loop:
      for: { each: color, in: .colors, at: i }
      while: (.seen | length) < 2
      do: [ { add: { set: { seen: '${ .seen + [ { color: $color, at: $i } ] }' } } } ]
";
    outputs(
        workflow,
        json!({ "colors": ["red", "green", "blue"] }),
        expect![[r#"{"seen":[{"color":"red","at":0},{"color":"green","at":1}]}"#]],
    );
    outputs(workflow, json!({ "colors": [] }), expect![[r#"{"colors":[]}"#]]);
    outputs(
        workflow,
        json!({ "colors": 5 }),
        expect![[
            r#"faulted: {"type":"https://open-workflow-specification.org/spec/1.0.0/errors/expression","status":400,"title":"Expression Error","detail":"`for` goes over a list, not 5","instance":"/do/0/loop"}"#
        ]],
    );
}

#[test]
fn forks_join_or_compete() {
    let workflow = |compete: bool| {
        format!(
            "
do:
  - both:
      fork:
        compete: {compete}
        branches:
          - left: {{ call: work.left, compensate: {{ call: work.unleft }} }}
          - right: {{ call: work.right, compensate: {{ call: work.unright }} }}
  - last: {{ call: work.last }}
"
        )
    };
    check(&workflow(false), "", expect!["left ✓ right ✓ last ✓ → completed, committed"]);
    check(
        &workflow(false),
        "last refused",
        expect!["left ✓ right ✓ last ✗ ↩right ✓ ↩left ✓ → faulted, compensated"],
    );
    check(&workflow(false), "left refused", expect!["left ✗ right ✓ ↩right ✓ → faulted, compensated"]);
    let racing = workflow(true)
        .replace(", compensate: { call: work.unleft }", "")
        .replace(", compensate: { call: work.unright }", "");
    check(&racing, "", expect!["left ✓ right ✓ last ✓ → completed"]);
    outputs(
        "do: [ { f: { fork: { branches: [ { a: { set: { x: 1 } } }, { b: { if: 'false', set: {} } } ] } } } ]",
        json!({ "in": 1 }),
        expect![[r#"[{"x":1},{"in":1}]"#]],
    );
    outputs(
        "do: [ { f: { fork: { compete: true, branches: [ { a: { set: { x: 1 } } }, { b: { set: { x: 2 } } } ] } } } ]",
        json!({}),
        expect![[r#"{"x":1}"#]],
    );
}

#[test]
fn functions_see_their_arguments() {
    let workflow = "
use: { functions: { double: { set: { twice: '${ .n * 2 }' }, input: { schema: { document: { required: [ n ] } } } } } }
do:
  - good: { call: double, with: { n: '${ .value }' }, output: { as: .twice } }
  - bad: { call: double, with: { m: 1 } }
";
    outputs(
        workflow,
        json!({ "value": 4 }),
        expect![[
            r#"faulted: {"type":"https://open-workflow-specification.org/spec/1.0.0/errors/validation","status":400,"title":"Validation Error","detail":"the input does not match its schema: \"n\" is a required property","instance":"/do/1/bad/double"}"#
        ]],
    );
}

#[test]
fn a_workflow_without_end_faults() {
    outputs(
        "do: [ { a: { set: {}, then: b } }, { b: { if: 'true', set: {}, then: a } } ]",
        json!({}),
        expect![[
            r#"faulted: {"type":"https://open-workflow-specification.org/spec/1.0.0/errors/runtime","status":500,"title":"Runtime Error","detail":"more than 20000 steps in a row, or 20000 tasks; split the workflow","instance":"/"}"#
        ]],
    );
}
