//! Extensions: what runs around which tasks, and what that changes.

use expect_test::expect;
use serde_json::{Value, json};

use super::documents::{HEAD, reports};
use super::world::{World, check};
use super::{define, shared};
use crate::{Definition, Effect};

/// An extension with a call before and a call after.
fn logging(name: &str, extend: &str) -> String {
    format!(
        "{{ {name}: {{ extend: {extend}, before: [ {{ {name}-before: {{ call: log.write }} }} ], after: [ {{ {name}-after: {{ call: log.write }} }} ] }} }}"
    )
}

fn using(extensions: &[String]) -> String {
    format!("use: {{ extensions: [ {} ] }}\n", extensions.join(", "))
}

fn output(workflow: &str, script: &str, input: Value) -> Value {
    let mut world = World::start(define(workflow), input);
    world.play(script);
    world.state.output().cloned().unwrap_or_else(|| panic!("{:?}", world.state.fault()))
}

#[test]
fn the_first_extension_is_the_outermost() {
    let workflow = format!(
        "{}do: [ {{ x: {{ call: a.b }} }}, {{ y: {{ set: {{ z: 1 }} }} }} ]",
        using(&[logging("one", "call"), logging("two", "all"), logging("three", "set")])
    );
    check(
        &workflow,
        "",
        expect![
            "one-before ✓ two-before ✓ x ✓ two-after ✓ one-after ✓ two-before ✓ three-before ✓ three-after ✓ two-after ✓ → completed"
        ],
    );
}

#[test]
fn what_they_put_out_changes_no_data() {
    let workflow = format!(
        "{}do: [ {{ x: {{ set: {{ v: '${{ .n + 1 }}' }} }} }}, {{ y: {{ set: {{ v: '${{ .v + 1 }}' }} }} }} ]",
        using(&[logging("log", "set")])
    );
    assert_eq!(
        output(&workflow, "log-before ok {\"n\": 100} | ok {\"v\": 100}", json!({ "n": 1 })),
        json!({ "v": 3 })
    );
}

#[test]
fn a_task_can_be_replaced_before_it_runs() {
    let workflow = "use: { extensions: [ { mock: { extend: call, when: '$task.with.to == \"me\"', before: [ { answer: { set: { by: mock }, then: exit } } ], after: [ { never: { call: log.write } } ] } } ] }
do: [ { x: { call: a.b, with: { to: me }, then: end } }, { y: { call: a.b } } ]";
    assert_eq!(output(workflow, "", json!({})), json!({ "by": "mock" }));
    let workflow = workflow.replace("to: me", "to: you");
    let mut world = World::start(define(&workflow), json!({}));
    world.play("");
    assert_eq!(world.summary(), "x ✓ → completed");
}

#[test]
fn an_output_can_be_replaced_after_the_task() {
    let workflow = "use: { extensions: [ { double: { extend: set, after: [ { d: { set: { v: '${ .v * 2 }' }, then: exit } } ] } }, { add: { extend: set, after: [ { a: { set: { v: '${ .v + 1 }' }, then: exit } } ] } } ] }
do: [ { x: { set: { v: 3 } } } ]";
    assert_eq!(output(workflow, "", json!({})), json!({ "v": 8 }));
}

#[test]
fn the_task_is_the_extended_one() {
    let workflow = "use: { extensions: [ { log: { extend: set, before: [ { b: { call: log.write, with: { r: '${ $task.reference }', n: '${ $task.name }', i: '${ $task.input.n }', o: '${ $task.output }', d: '${ $task.definition.set }' } } } ], after: [ { a: { call: log.write, with: { r: '${ $task.reference }', o: '${ $task.output }', k: '${ $task.idempotencyKey }' } } } ] } } ] }
do: [ { x: { set: { v: 3 } } } ]";
    let mut world = World::start(define(workflow), json!({ "n": 1 }));
    let mut bodies = Vec::new();
    while let Some(effect) = world.due.first().cloned() {
        world.due.clear();
        if let Effect::Call { body, .. } = &effect {
            bodies.push((**body).clone());
        }
        world.answer(&effect, "", "ok");
    }
    assert_eq!(
        bodies,
        [
            json!({ "r": "/do/0/x", "n": "x", "i": 1, "o": null, "d": { "v": 3 } }),
            json!({ "r": "/do/0/x", "o": { "v": 3 }, "k": "i/do/0/x" })
        ]
    );
}

#[test]
fn every_task_keeps_a_pointer_and_a_key_of_its_own() {
    let workflow = format!(
        "{}do: [ {{ loop: {{ for: {{ in: '[1, 2]' }}, do: [ {{ x: {{ call: a.b }} }} ] }} }} ]",
        using(&[logging("log", "call")])
    );
    let mut world = World::start(define(&workflow), json!({}));
    world.play("");
    let steps = world.state.steps();
    let keys: Vec<_> =
        steps.iter().filter(|step| &*step.kind == "call").map(|step| step.key.to_string()).collect();
    expect![[r#"
        i/do/0/loop/do/0/x/@log/before/0/log-before
        i/do/0/loop/do/0/x
        i/do/0/loop/do/0/x/@log/after/0/log-after
        i/do/0/loop/do/0/x/@log/before/0/log-before#1
        i/do/0/loop/do/0/x#1
        i/do/0/loop/do/0/x/@log/after/0/log-after#1"#]]
    .assert_eq(&keys.join("\n"));
}

#[test]
fn where_a_task_leads_survives_what_comes_after_it() {
    let workflow = format!(
        "{}do:
  - choose: {{ switch: [ {{ one: {{ when: '.n == 1', then: first }} }}, {{ two: {{ when: '.n == 2', then: exit }} }}, {{ other: {{ then: last }} }} ] }}
  - middle: {{ set: {{ at: middle }} }}
  - first: {{ set: {{ at: first }}, then: end }}
  - last: {{ try: [ {{ t: {{ raise: {{ error: {{ type: 'urn:x', status: 400 }} }} }} }} ], catch: {{ then: handled }} }}
  - skipped: {{ set: {{ at: skipped }} }}
  - handled: {{ set: {{ at: handled }}, then: exit }}
  - never: {{ set: {{ at: never }} }}
",
        using(&[logging("log", "all")])
    );
    assert_eq!(output(&workflow, "", json!({ "n": 1 })), json!({ "at": "first" }));
    assert_eq!(output(&workflow, "", json!({ "n": 2 })), json!({ "n": 2 }));
    assert_eq!(output(&workflow, "", json!({ "n": 3 })), json!({ "at": "handled" }));
}

#[test]
fn a_case_that_continues_is_followed_with_extensions_as_without() {
    let rest =
        "do: [ { s: { switch: [ { c: { then: continue } } ], then: end } }, { x: { set: { at: x } } } ]";
    for extensions in [String::new(), using(&[logging("log", "switch")])] {
        assert_eq!(output(&format!("{extensions}{rest}"), "", json!({})), json!({ "at": "x" }));
    }
}

#[test]
fn a_skipped_task_is_not_extended() {
    let workflow = format!("{}do: [ {{ x: {{ if: .no, call: a.b }} }} ]", using(&[logging("log", "call")]));
    let mut world = World::start(define(&workflow), json!({}));
    world.play("");
    assert_eq!(world.summary(), "→ completed");
    assert_eq!(&*world.state.steps()[0].pointer, "/do/0/x");
}

#[test]
fn a_skipped_branch_wins_a_race_with_extensions_as_without() {
    let race = "do: [ { r: { fork: { compete: true, branches: [ { x: { call: a.b, compensate: { call: a.undo } } }, { y: { if: .no, call: a.b } } ] } } } ]";
    check(race, "", expect!["↩x ✓ → completed, committed"]);
    let quiet = "{ quiet: { extend: call, before: [ { b: { set: {} } } ] } }".to_owned();
    check(&format!("{}{race}", using(&[quiet])), "", expect!["↩x ✓ → completed, committed"]);
}

#[test]
fn an_error_of_an_extension_is_one_of_the_task() {
    let workflow = format!(
        "{}do: [ {{ t: {{ try: [ {{ x: {{ call: a.b }} }} ], catch: {{ do: [ {{ ok: {{ set: {{ at: '${{ $error.instance }}' }} }} }} ] }} }} }} ]",
        using(&[logging("log", "call")])
    );
    assert_eq!(
        output(&workflow, "log-before refused", json!({})),
        json!({ "at": "/do/0/t/try/0/x/@log/before/0/log-before" })
    );
}

#[test]
fn branches_functions_and_retries_are_extended_alike() {
    let workflow = format!(
        "use: {{ functions: {{ f: {{ call: a.b, compensate: {{ call: a.undo }} }} }}, extensions: [ {} ] }}
do:
  - forked: {{ fork: {{ branches: [ {{ x: {{ call: f }} }}, {{ y: {{ set: {{ v: 1 }} }} }} ] }} }}
  - again: {{ try: [ {{ z: {{ call: f }} }} ], catch: {{ retry: {{ limit: {{ attempt: {{ count: 1 }} }} }} }} }}
  - bad: {{ raise: {{ error: {{ type: 'urn:x', status: 400 }} }} }}
",
        logging("log", "call")
    );
    check(
        &workflow,
        "f ok | refused",
        expect![
            "log-before ✓ log-before ✓ f ✓ log-after ✓ log-after ✓ log-before ✓ log-before ✓ f ✗ log-before ✓ log-before ✓ f ✓ log-after ✓ log-after ✓ ↩f ✓ ↩f ✓ → faulted, compensated"
        ],
    );
}

#[test]
fn the_official_example_mocks_what_its_condition_can_tell() {
    let Some(folder) = shared("open-workflow/examples") else { return };
    let source = std::fs::read_to_string(folder.join("mock-service-extension.yaml")).unwrap();
    let run = |source: &str| {
        let definition = Definition::parse(source, "mock.yaml").unwrap();
        assert!(definition.runnable_by(|_| true).is_ok());
        World::start(definition, json!({}))
    };
    // As it is written, its condition takes an object for text: an error of jq, and so of the task.
    assert_eq!(run(&source).state.fault().unwrap().kind(), "expression");
    let source = source.replace("endpoint:\n          uri:", "endpoint:");
    let mocked = run(&source.replace("https://fake.com", "https://mocked.service.com"));
    assert_eq!(mocked.state.output().unwrap()["content"], json!({ "foo": { "bar": "baz" } }));
}

#[test]
fn mistakes_in_extensions_are_reported_once() {
    let source = "use: { extensions: [ { a: { extend: cal, when: '$output', before: [ { x: { set: { v: '${ $item }' } } } ] } }, { a: { extend: set, after: [ { y: { set: { v: '${ $input }' } } } ] } } ] }
do: [ { l: { for: { in: .list }, do: [ { s: { set: {} } }, { t: { set: {} } } ] } } ]
";
    reports(
        &format!("{HEAD}{source}"),
        expect![[r#"
            a.yaml:2:37: error[SNW-2006]: `cal` is not allowed here; did you mean `call`? @/use/extensions/0/a/extend
            a.yaml:2:48: error[SNW-2012]: `$output` is not available where it is decided whether a task runs; use `.`, or one of $context, $task, $workflow, $runtime @/use/extensions/0/a/when
            a.yaml:2:86: error[SNW-2012]: the expression does not compile: there is no variable `$item` here @/use/extensions/0/a/before/0/x/set/v
            a.yaml:2:117: error[SNW-2008]: two extensions are called `a`; rename one of them @/use/extensions/1/a"#]],
    );
}

#[test]
fn the_number_of_extensions_is_bounded() {
    let many: Vec<String> = (0..1_500).map(|n| format!("{{ e{n}: {{ extend: all }} }}")).collect();
    let tasks: Vec<String> = (0..1_500).map(|n| format!("{{ t{n}: {{ set: {{}} }} }}")).collect();
    let source = format!("{HEAD}{}do: [ {} ]", using(&many), tasks.join(", "));
    let found = Definition::parse(&source, "a.yaml").unwrap_err();
    assert_eq!(found.as_slice().iter().filter(|finding| finding.is_error()).count(), 1);
    assert!(found.to_string().contains("more than 100 extensions"), "{found}");
}
