//! Expressions in their places: which arguments they see, what those say, and what loose evaluation means.

use expect_test::expect;
use serde_json::{Value, json};

use super::define;
use super::documents::{HEAD, reports};
use super::world::World;
use crate::{Effect, Fault};

fn ended(workflow: &str, input: Value) -> World {
    let mut world = World::start(define(workflow), input);
    world.play("");
    world
}

fn output(workflow: &str, input: Value) -> Value {
    let world = ended(workflow, input);
    world.state.output().cloned().unwrap_or_else(|| panic!("{:?}", world.state.fault()))
}

#[test]
fn arguments_are_there_where_the_specification_has_them() {
    let everything = "[$context, $input, $output, $authorization, $task, $workflow, $runtime]";
    let source = format!(
        "input: {{ from: '{everything}' }}
output: {{ as: '{everything}' }}
do:
  - a:
      if: '{everything}'
      input: {{ from: '{everything}' }}
      set: {{ x: '${{ {everything} }}' }}
      output: {{ as: '{everything}' }}
      export: {{ as: '{everything}' }}
"
    );
    reports(
        &format!("{HEAD}{source}"),
        expect![[r#"
            a.yaml:2:16: error[SNW-2012]: `$context` is not available before the workflow starts; use `.`, or one of $workflow, $runtime @/input/from
            a.yaml:3:15: error[SNW-2012]: `$input` is not available in the output of the workflow; use `.`, or one of $context, $workflow, $runtime @/output/as
            a.yaml:6:11: error[SNW-2012]: `$input` is not available where it is decided whether a task runs; use `.`, or one of $context, $task, $workflow, $runtime @/do/0/a/if
            a.yaml:7:22: error[SNW-2012]: `$input` is not available in `input.from`; use `.`, or one of $context, $task, $workflow, $runtime @/do/0/a/input/from
            a.yaml:8:17: error[SNW-2012]: `$output` is not available inside a task; use `.`, or one of $context, $input, $authorization, $task, $workflow, $runtime @/do/0/a/set/x
            a.yaml:9:21: error[SNW-2012]: `$output` is not available in `output.as`; use `.`, or one of $context, $input, $authorization, $task, $workflow, $runtime @/do/0/a/output/as"#]],
    );
    let allowed = "input: { from: '[$workflow.id, $runtime.name]' }
output: { as: '[., $context, $workflow.id, $runtime.name]' }
do:
  - a:
      if: '[$context, $task.name, $workflow.id, $runtime.name]'
      input: { from: '[$context, $task.name, $workflow.id, $runtime.name]' }
      set: { x: '${ [$context, $input, $authorization, $task.name, $workflow.id, $runtime.name] }' }
      output: { as: '[., $input, $context]' }
      export: { as: '{ last: $output }' }
";
    let output = output(allowed, json!({}));
    assert_eq!(output[1]["last"], output[0]);
    assert_eq!(output[0][0]["x"][4], "i");
}

#[test]
fn a_compensation_sees_the_input_of_what_it_undoes_everywhere() {
    let workflow = "do:
  - a: { call: a.b, compensate: { if: $input.yes, input: { from: '{ v: $input.v }' }, call: a.undo, with: { v: '${ .v }' } } }
  - b: { raise: { error: { type: 'urn:x', status: 400 } } }
";
    let mut world = World::start(define(workflow), json!({ "yes": true, "v": 1 }));
    let first = world.due.remove(0);
    world.answer(&first, "a", "ok");
    let Some(Effect::Call { body, undo: true, .. }) = world.due.first() else { panic!("{:?}", world.due) };
    assert_eq!(**body, json!({ "v": 1 }));
}

#[test]
fn descriptors_say_what_the_specification_says() {
    let output = output(
        "input: { from: .inner }
do:
  - a:
      input: { from: .x }
      set: { workflow: '${ $workflow }', task: '${ $task }', runtime: '${ $runtime }', input: '${ $input }', context: '${ $context }' }
      output: { as: '${ . + { raw: $task.output.input } }' }
",
        json!({ "inner": { "x": 7 } }),
    );
    let moment =
        json!({ "iso8601": "1970-01-01T00:00:01.000Z", "epoch": { "seconds": 1, "milliseconds": 1_000 } });
    assert_eq!(output["workflow"]["id"], "i");
    assert_eq!(output["workflow"]["input"], json!({ "inner": { "x": 7 } }));
    assert_eq!(output["workflow"]["startedAt"], moment);
    assert_eq!(output["workflow"]["definition"]["document"]["name"], "test");
    assert_eq!(
        (
            &output["task"]["name"],
            &output["task"]["reference"],
            &output["task"]["input"],
            &output["task"]["output"]
        ),
        (&json!("a"), &json!("/do/0/a"), &json!({ "x": 7 }), &Value::Null)
    );
    assert_eq!(output["task"]["definition"]["input"], json!({ "from": ".x" }));
    assert_eq!(output["task"]["startedAt"], moment);
    assert_eq!((&output["runtime"]["name"], &output["runtime"]["metadata"]), (&json!("sinew"), &json!({})));
    assert!(output["runtime"]["version"].is_string());
    // The context begins as the transformed input of the workflow.
    assert_eq!(
        (&output["input"], &output["context"], &output["raw"]),
        (&json!(7), &json!({ "x": 7 }), &json!(7))
    );
}

#[test]
fn loose_text_is_tried_and_else_taken_literally() {
    let workflow = "evaluate: { mode: loose }
do:
  - a:
      set: { number: '1 + 1', field: .n, missing: '.n.deep', words: some words, plain: hello, mixed: 'n is ${ .n }', marked: '${ .n.deep }', list: [ '.n' ], quoted: '\"text\"' }
";
    assert_eq!(
        output(workflow, json!({ "n": 3 })),
        json!({
            "number": 2, "field": 3, "missing": ".n.deep", "words": "some words", "plain": "hello",
            "mixed": "n is 3", "marked": "${ .n.deep }", "list": [3], "quoted": "text"
        })
    );
}

#[test]
fn loose_transforms_fall_back_too_and_conditions_do_not() {
    let workflow = "evaluate: { mode: loose }
do: [ { a: { input: { from: .n.deep }, set: '.', output: { as: '[.]' } } } ]
";
    assert_eq!(output(workflow, json!({ "n": 3 })), json!([".n.deep"]));
    let world =
        ended("evaluate: { mode: loose }\ndo: [ { a: { if: .n.deep, set: {} } } ]", json!({ "n": 3 }));
    assert_eq!(world.state.fault().unwrap().kind(), "expression");
}

#[test]
fn strict_text_is_text() {
    assert_eq!(
        output("do: [ { a: { set: { v: '1 + 1', w: .n } } } ]", json!({})),
        json!({ "v": "1 + 1", "w": ".n" })
    );
}

#[test]
fn other_languages_and_schema_formats_are_refused() {
    let source = "evaluate: { language: cel, mode: lose }
input: { schema: { format: avro, document: {} } }
do: [ { a: { set: {}, output: { schema: { format: json } } } } ]
";
    reports(
        &format!("{HEAD}{source}"),
        expect![[r#"
        a.yaml:2:23: error[SNW-2006]: `cel` is not allowed here; known here: jq @/evaluate/language
        a.yaml:2:34: error[SNW-2006]: `lose` is not allowed here; did you mean `loose`? @/evaluate/mode
        a.yaml:3:28: error[SNW-2013]: only JSON schemas are supported; write `format: json`, or leave it out @/input/schema/format
        a.yaml:4:41: error[SNW-2005]: a schema has a `document` or a `resource`; write the schema below `document:` @/do/0/a/output/schema"#]],
    );
}

#[test]
fn data_is_never_evaluated() {
    let input = json!({ "v": "${ 1 + 1 }", "w": "{id}", "id": 1 });
    assert_eq!(
        output("do: [ { a: { set: { v: '${ .v }', w: '${ .w }' } } } ]", input.clone()),
        json!({ "v": "${ 1 + 1 }", "w": "{id}" })
    );
    assert_eq!(
        output("evaluate: { mode: loose }\ndo: [ { a: { set: { v: .v } } } ]", input),
        json!({ "v": "${ 1 + 1 }" })
    );
}

#[test]
fn standard_errors_have_the_types_of_the_specification() {
    let table = [
        (Fault::configuration(""), "configuration", 400),
        (Fault::validation(""), "validation", 400),
        (Fault::expression(""), "expression", 400),
        (Fault::authentication(""), "authentication", 401),
        (Fault::authorization(""), "authorization", 403),
        (Fault::timeout(""), "timeout", 408),
        (Fault::communication(""), "communication", 500),
        (Fault::runtime(""), "runtime", 500),
    ];
    for (fault, kind, status) in table {
        assert_eq!((fault.kind(), fault.status), (kind, status));
        assert!(fault.r#type.ends_with(&format!("/spec/1.0.0/errors/{kind}")), "{}", fault.r#type);
    }
}

#[test]
fn errors_point_at_the_task_that_raised_them() {
    for (workflow, kind, instance) in [
        ("do: [ { a: { set: { v: '${ .n.deep }' } } } ]", "expression", "/do/0/a"),
        ("do: [ { a: { do: [ { b: { if: .n.deep, set: {} } } ] } } ]", "expression", "/do/0/a/do/0/b"),
        (
            "do: [ { a: { set: {}, input: { schema: { document: { type: string } } } } } ]",
            "validation",
            "/do/0/a",
        ),
        (
            "do: [ { a: { set: {}, output: { schema: { document: { type: string } } } } } ]",
            "validation",
            "/do/0/a",
        ),
        (
            "do: [ { a: { set: {}, export: { as: '1', schema: { document: { type: string } } } } } ]",
            "validation",
            "/do/0/a",
        ),
        ("do: [ { a: { wait: PT1H, timeout: { after: PT1S } } } ]", "timeout", "/do/0/a"),
        (
            "do: [ { a: { try: [ { b: { wait: PT1H, timeout: { after: PT1S } } } ], catch: { errors: { with: { status: 500 } } } } } ]",
            "timeout",
            "/do/0/a/try/0/b",
        ),
        ("do: [ { a: { wait: PT1H } } ]\ntimeout: { after: PT1S }", "timeout", "/"),
        ("input: { schema: { document: { type: string } } }\ndo: [ { a: { set: {} } } ]", "validation", "/"),
        ("output: { schema: { document: { type: string } } }\ndo: [ { a: { set: {} } } ]", "validation", "/"),
        ("do: [ { a: { for: { in: .n }, do: [ { b: { set: {} } } ] } } ]", "expression", "/do/0/a"),
    ] {
        let world = ended(workflow, json!({ "n": 3 }));
        let fault = world.state.fault().unwrap_or_else(|| panic!("{workflow}"));
        assert_eq!((fault.kind(), fault.instance.as_deref()), (kind, Some(instance)), "{workflow}");
    }
}

#[test]
fn the_type_of_an_error_is_a_uri_template() {
    let world = ended(
        "do: [ { a: { raise: { error: { type: 'https://x/{kind}', status: 400 } } } } ]",
        json!({ "kind": "gone" }),
    );
    assert_eq!(world.state.fault().unwrap().r#type, "https://x/gone");
}
