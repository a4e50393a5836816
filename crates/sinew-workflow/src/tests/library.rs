//! Functions and schemas that stand elsewhere: what has to be fetched, and what they do once they are there.

use expect_test::expect;
use serde_json::json;

use super::documents::HEAD;
use super::world::World;
use crate::{Definition, Resources, StepStatus, resources};

const GREET: &str = "
input: { schema: { document: { type: object, required: [ name ] } } }
output: { schema: { document: { type: object, required: [ text ] } } }
do:
  - ask: { call: greeter.greet, with: { to: '${ .name }', from: '${ $input.name }' } }
  - answer: { set: { text: '${ .by }' } }
";
const CATALOG: &str = "use: { catalogs: { shop: { endpoint: { uri: 'https://github.com/o/r/tree/main', authentication: { use: me } } } }, authentications: { me: { bearer: { token: '${ $secrets.key }' } } }, secrets: [ key ] }\n";
const URI: &str = "https://raw.githubusercontent.com/o/r/refs/heads/main/functions/greet/1.0.0/function.yaml";

fn source(rest: &str) -> String {
    format!("{HEAD}{rest}")
}

fn world(rest: &str, given: &Resources, input: serde_json::Value) -> World {
    let definition =
        Definition::parse_with(&source(rest), "a.yaml", given).unwrap_or_else(|found| panic!("{found}"));
    World::start(definition, input)
}

fn uris(rest: &str, given: &Resources) -> Vec<String> {
    resources(&source(rest), "a.yaml", given).into_iter().map(|missing| missing.uri).collect()
}

#[test]
fn functions_of_a_catalogue_are_fetched_and_run() {
    let workflow =
        format!("{CATALOG}do: [ {{ hi: {{ call: 'greet:1.0.0@shop', with: {{ name: '${{ .who }}' }} }} }} ]");
    let missing = resources(&source(&workflow), "a.yaml", &Resources::default());
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0].uri, URI);
    assert_eq!(
        missing[0].endpoint,
        json!({ "uri": URI, "authentication": { "bearer": { "token": "\u{E000}secret:key\u{E001}" } } })
    );
    assert_eq!((missing[0].file.as_str(), missing[0].pointer.as_str()), ("a.yaml", "/do/0/hi/call"));
    let given = [(URI, GREET)].into_iter().collect();
    assert!(uris(&workflow, &given).is_empty());
    let mut world = world(&workflow, &given, json!({ "who": "Ada" }));
    world.play("ask ok {\"by\": \"hello\"}");
    assert_eq!(world.summary(), "ask ✓ → completed");
    assert_eq!(world.state.output(), Some(&json!({ "text": "hello" })));
    let pointers: Vec<_> = world.state.steps().iter().map(|step| &*step.pointer).collect();
    assert_eq!(
        pointers,
        ["/do/0/hi", "/do/0/hi/greet", "/do/0/hi/greet/do/0/ask", "/do/0/hi/greet/do/1/answer"]
    );
}

#[test]
fn a_function_checks_what_it_is_given_and_gives() {
    let workflow = "do: [ { hi: { call: 'https://x/greet.yaml', with: {} } } ]";
    let given = [("https://x/greet.yaml", GREET)].into_iter().collect();
    let world = world(workflow, &given, json!({}));
    let fault = world.state.fault().unwrap();
    assert_eq!((fault.kind(), fault.status), ("validation", 400));
    assert_eq!(fault.instance.as_deref(), Some("/do/0/hi/https:~1~1x~1greet.yaml"));
    assert!(world.state.steps().iter().all(|step| step.status == StepStatus::Failed));
}

#[test]
fn functions_are_known_once_those_they_call_are() {
    let workflow = "do: [ { hi: { call: 'a:1.0.0@default' } } ]";
    let a = "catalog://default/functions/a/1.0.0/function.yaml";
    let mut given = Resources::default();
    assert_eq!(uris(workflow, &given), [a]);
    given.insert(a, "do: [ { x: { call: 'https://x/b.yaml' } }, { y: { call: 'https://x/b.yaml' } } ]");
    assert_eq!(uris(workflow, &given), ["https://x/b.yaml"]);
    given.insert("https://x/b.yaml", "call: b.c");
    assert!(uris(workflow, &given).is_empty());
    let definition = Definition::parse_with(&source(workflow), "a.yaml", &given).unwrap();
    assert_eq!(definition.operations().collect::<Vec<_>>(), [("b", "c")]);
}

#[test]
fn a_catalogue_named_default_replaces_the_hosts() {
    let workflow = "use: { catalogs: { default: { endpoint: 'https://x/c/' } } }\ndo: [ { hi: { call: 'a:2@default' } } ]";
    assert_eq!(uris(workflow, &Resources::default()), ["https://x/c/functions/a/2/function.yaml"]);
}

#[test]
fn schemas_may_stand_elsewhere() {
    let workflow =
        "input: { schema: { resource: { endpoint: 'https://x/s.json' } } }\ndo: [ { a: { set: {} } } ]";
    assert_eq!(uris(workflow, &Resources::default()), ["https://x/s.json"]);
    let given: Resources =
        [("https://x/s.json", "{ \"type\": \"object\", \"required\": [\"id\"] }")].into_iter().collect();
    let refused = world(workflow, &given, json!({}));
    assert_eq!(refused.state.fault().unwrap().kind(), "validation");
    assert_eq!(refused.definition.input_schema().unwrap()["required"], json!(["id"]));
    let taken = world(workflow, &given, json!({ "id": 1 }));
    assert!(taken.state.fault().is_none());
}

#[test]
fn what_is_missing_is_named_where_it_is_used() {
    let workflow = "input: { schema: { resource: { endpoint: 'https://x/s.json' } } }
do:
  - a: { call: 'https://x/f.yaml' }
";
    let definition = Definition::parse(&source(workflow), "a.yaml").unwrap();
    expect![[r#"
        a.yaml:2:30: error[SNW-2022]: the schema at `https://x/s.json` was not fetched; check that it can be reached, and give it along with the workflow
        a.yaml:4:16: error[SNW-2022]: the function at `https://x/f.yaml` was not fetched; check that it can be reached, and give it along with the workflow"#]].assert_eq(&definition.runnable().unwrap_err().to_string());
}

#[test]
fn mistakes_in_another_document_name_that_document() {
    let workflow = "use: { catalogs: { shop: { endpoint: '${ .where }' } } }
do:
  - a: { call: 'https://x/f.yaml' }
  - b: { call: 'https://x/f.yaml' }
  - c: { call: 'https://x/loop.yaml' }
  - d: { call: 'https://x/broken.yaml' }
  - e: { call: 'f:1@shop' }
  - g: { call: 'f:1@shpo' }
";
    let given = [
        ("https://x/f.yaml", "cal: a.b\nwith: { x: 1 }"),
        ("https://x/loop.yaml", "call: https://x/loop.yaml"),
        ("https://x/broken.yaml", "a: ["),
    ]
    .into_iter()
    .collect();
    let found = Definition::parse_with(&source(workflow), "a.yaml", &given).unwrap_err();
    expect![[r#"
        a.yaml:2:38: error[SNW-2022]: the address of a document must be known before the workflow runs; write the URI itself
        a.yaml:9:16: error[SNW-2010]: there is no catalog `shpo` below `use.catalogs`; did you mean `shop`?
        https://x/f.yaml:1:1: error[SNW-2007]: this task has no keyword that says what it does; did you mean `call` instead of `cal`?
        https://x/loop.yaml:1:7: error[SNW-2010]: `https://x/loop.yaml` calls itself; functions cannot be recursive
        https://x/broken.yaml:2:1: error[SNW-2001]: while parsing a node, did not find expected node content"#]].assert_eq(&found.to_string());
}

#[test]
fn warnings_about_another_document_name_that_document() {
    let workflow =
        "do: [ { a: { call: 'https://x/f.yaml' } }, { b: { call: c.d, compensate: { call: c.e } } } ]";
    let given = [("https://x/f.yaml", "# It writes.\ndo:\n  - x: { call: a.b }")].into_iter().collect();
    let definition = Definition::parse_with(&source(workflow), "a.yaml", &given).unwrap();
    let warnings: Vec<String> = definition.warnings().iter().map(ToString::to_string).collect();
    expect!["https://x/f.yaml:3:8: warning[SNW-2033]: nothing undoes `x` when the saga fails after it; add `compensate:` with the task that undoes it, `compensate: false` when there is nothing to undo, or `pivot: true`"].assert_eq(&warnings.join("\n"));
}

#[test]
fn chains_of_functions_are_bounded() {
    let functions: Vec<String> = (0..5_000).map(|n| format!("f{n}: {{ call: f{} }}", n + 1)).collect();
    let workflow = format!(
        "use: {{ functions: {{ {}, f5000: {{ set: {{}} }} }} }}\ndo: [ {{ a: {{ call: f0 }} }} ]",
        functions.join(", ")
    );
    let found = Definition::parse(&source(&workflow), "a.yaml").unwrap_err();
    assert!(found.as_slice().iter().any(|finding| finding.message.contains("more than 32 times deep")));
}

#[test]
fn the_number_of_documents_is_bounded() {
    let tasks: Vec<String> =
        (0..100).map(|n| format!("{{ t{n}: {{ call: 'https://x/{n}.yaml' }} }}")).collect();
    let found = Definition::parse(&source(&format!("do: [ {} ]", tasks.join(", "))), "a.yaml").unwrap_err();
    assert!(found.to_string().contains("more than 64 documents"), "{found}");
}
