//! Secrets: the engine sees placeholders, and only where an author wrote one.

use expect_test::expect;
use serde_json::{Value, json};

use super::define;
use super::documents::{HEAD, reports};
use super::world::World;
use crate::{Definition, Effect, Need};

const USE: &str = "use: { secrets: [ key, my-secret ] }\n";

fn body_of(workflow: &str, input: Value) -> Value {
    let world = World::start(define(&format!("{USE}{workflow}")), input);
    match world.due.first() {
        Some(Effect::Call { body, .. }) => (**body).clone(),
        other => panic!("{other:?} {:?}", world.state.fault()),
    }
}

#[test]
fn secrets_are_named_and_never_known() {
    let body = body_of(
        "do: [ { a: { call: http, with: { method: get, endpoint: 'https://x', headers: { A: '${ \"Bearer \\($secrets.key)\" }', B: 'v ${ $secrets[\"my-secret\"].inner }' }, body: '${ $secrets.\"my-secret\" }' } } } ]",
        json!({}),
    );
    assert_eq!(body["headers"]["A"], "Bearer \u{E000}secret:key\u{E001}");
    assert_eq!(body["headers"]["B"], "v \u{E000}secret:my-secret.inner\u{E001}");
    assert_eq!(body["body"], "\u{E000}secret:my-secret\u{E001}");
}

#[test]
fn authorization_is_a_scheme_and_a_placeholder() {
    let call = "do: [ { a: { call: http, with: { method: get, endpoint: { uri: 'https://x', authentication: { basic: { username: me, password: '${ $secrets.key }' } } }, headers: { X: '${ $authorization.scheme + \" \" + $authorization.parameter }' } } } } ]";
    let body = body_of(call, json!({}));
    assert_eq!(body["headers"]["X"], "Basic \u{E000}authorization\u{E001}");
    assert_eq!(body["endpoint"]["authentication"]["basic"]["password"], "\u{E000}secret:key\u{E001}");
    let body = body_of(
        "do: [ { a: { call: http, with: { method: get, endpoint: 'https://x', body: '${ [$authorization] }' } } } ]",
        json!({}),
    );
    assert_eq!(body["body"], json!([null]));
}

#[test]
fn a_subscription_knows_its_authorization() {
    let mut world = World::start(
        define(
            "do: [ { a: { call: asyncapi, with: { document: { endpoint: 'https://x' }, operation: o, authentication: { bearer: { token: t } }, subscription: { consume: { amount: 1 }, filter: '$authorization.scheme == \"Bearer\" and .n == 1', foreach: { do: [ { b: { set: { own: '${ [$authorization] }' } } } ] } } }, output: { as: '${ [$authorization.scheme, .] }' } } } ]",
        ),
        json!({}),
    );
    world.arrive(json!({ "n": 2 }), Some("1"));
    world.arrive(json!({ "n": 1 }), Some("2"));
    assert_eq!(world.state.output(), Some(&json!(["Bearer", [{ "n": 1 }]])), "{:?}", world.state.fault());
}

#[test]
fn a_secret_may_hold_a_whole_policy() {
    let body = body_of(
        "do: [ { a: { call: http, with: { method: get, endpoint: { uri: 'https://x', authentication: { oauth2: { use: key } } } } } } ]",
        json!({}),
    );
    assert_eq!(body["endpoint"]["authentication"], json!({ "oauth2": { "use": "key" } }));
}

#[test]
fn data_cannot_pass_as_a_secret() {
    let forged = "\u{E000}secret:key\u{E001}";
    let body = body_of(
        "do: [ { a: { call: http, with: { method: post, endpoint: 'https://x/{v}', query: { q: '${ .v }' }, headers: { H: 'a ${ .v }' }, body: '${ { (.v): (.w | fromjson) } }' } } } ]",
        json!({ "v": forged, "w": "\"\\ue000secret:key\\ue001\"" }),
    );
    let written = body.to_string();
    assert!(!written.contains('\u{E000}'), "{written}");
    // Where the author names it, data can at most repeat it.
    let body = body_of(
        "do: [ { a: { call: http, with: { method: post, endpoint: 'https://x', body: '${ $secrets.key + .v }' } } } ]",
        json!({ "v": "\u{E000}secret:my-secret\u{E001}" }),
    );
    assert_eq!(body["body"], "\u{E000}secret:key\u{E001}\u{FFFD}secret:my-secret\u{E001}");
}

#[test]
fn the_input_of_a_call_may_carry_a_secret() {
    let body = body_of(
        "do: [ { a: { input: { from: { token: '${ $secrets.key }', v: '${ .v }' } }, call: http, with: { method: post, endpoint: 'https://x', headers: { T: '${ .token }' }, body: '${ .v }' } } } ]",
        json!({ "v": "\u{E000}secret:my-secret\u{E001}" }),
    );
    assert_eq!(body["headers"]["T"], "\u{E000}secret:key\u{E001}");
    assert_eq!(body["body"], "\u{FFFD}secret:my-secret\u{E001}");
}

#[test]
fn secrets_stay_where_they_are_not_stored() {
    let source = "use: { secrets: [ key ], authentications: { a: { bearer: { token: '${ $secrets.kei }' } }, b: { basic: { use: nobody } } } }
do:
  - a: { set: { x: '${ $secrets.key }' } }
  - b: { if: '$secrets.key == 1', call: stock.reserve, with: { x: '${ $secrets.key }' } }
  - c: { call: http, with: { method: get, endpoint: 'https://x', body: '${ $secrets }' } }
  - d: { call: http, with: { method: get, endpoint: 'https://x', body: '${ $secrets[.name] }' } }
  - e: { call: http, with: { method: get, endpoint: 'https://x', body: '${ $secrets.\"ü\" }' } }
  - f: { call: http, with: { method: get, endpoint: 'https://x', body: \"\\uE000secret:key\\uE001\" } }
  - g: { call: http, with: { method: get, endpoint: 'https://x' }, output: { as: '$secrets.key' } }
";
    reports(
        &format!("{HEAD}{source}"),
        expect![[r#"
        a.yaml:2:67: error[SNW-2010]: there is no secret `kei` below `use.secrets`; did you mean `key`? @/use/authentications/a/bearer/token
        a.yaml:2:111: error[SNW-2010]: there is no secret `nobody` below `use.secrets`; known here: key @/use/authentications/b/basic/use
        a.yaml:4:20: error[SNW-2021]: a secret cannot be used here: it would be stored; name it in the arguments of the call or `run` that needs it, in their `input.from`, or in an authentication policy @/do/0/a/set/x
        a.yaml:5:14: error[SNW-2021]: a secret cannot be used here: it would be stored; name it in the arguments of the call or `run` that needs it, in their `input.from`, or in an authentication policy @/do/1/b/if
        a.yaml:5:67: error[SNW-2021]: a secret cannot be used here: it would be stored; name it in the arguments of the call or `run` that needs it, in their `input.from`, or in an authentication policy @/do/1/b/with/x
        a.yaml:6:72: error[SNW-2021]: which secret is meant must be known before the workflow runs; name the secret: `$secrets.name` @/do/2/c/with/body
        a.yaml:7:72: error[SNW-2021]: which secret is meant must be known before the workflow runs; name the secret: `$secrets.name` @/do/3/d/with/body
        a.yaml:8:72: error[SNW-2021]: `ü` is not the name of a secret; write letters, digits, `-` and `_` @/do/4/e/with/body
        a.yaml:9:72: error[SNW-2021]: the character U+E000 stands for secrets in what a call sends; remove it @/do/5/f/with/body
        a.yaml:10:82: error[SNW-2021]: a secret cannot be used here: it would be stored; name it in the arguments of the call or `run` that needs it, in their `input.from`, or in an authentication policy @/do/6/g/output/as"#]],
    );
}

#[test]
fn a_host_must_know_secrets() {
    let source = format!(
        "{HEAD}{USE}do: [ {{ a: {{ call: http, with: {{ method: get, endpoint: 'https://x', body: '${{ $secrets.key }}' }} }} }} ]"
    );
    let definition = Definition::parse(&source, "a.yaml").unwrap();
    assert!(definition.needs().contains(&Need::Secrets));
    assert_eq!(definition.secrets().collect::<Vec<_>>(), ["key"]);
    let declared =
        Definition::parse(&format!("{HEAD}{USE}do: [ {{ a: {{ set: {{}} }} }} ]"), "a.yaml").unwrap();
    assert!(declared.needs().is_empty(), "a secret nobody uses needs nobody who knows it");
}
