//! Calls and runs that leave the bus: what the host is asked to do.

use expect_test::expect;
use serde_json::{Value, json};

use super::define;
use super::documents::{HEAD, reports};
use super::world::World;
use crate::{Definition, Effect, Need, Protocol, Target};

/// Starts a workflow and returns what its first call asks for.
fn asked(workflow: &str, input: Value) -> (World, Target, Value, u64) {
    let world = World::start(define(workflow), input);
    let call = world.due.iter().find(|effect| matches!(effect, Effect::Call { .. })).cloned();
    let Some(Effect::Call { target, body, timeout_ms, .. }) = call else {
        panic!("nothing is called: {} {:?}", world.state.status(), world.state.fault());
    };
    (world, target, (*body).clone(), timeout_ms)
}

#[test]
fn arguments_are_computed_and_completed() {
    let (world, target, body, timeout) = asked(
        "do: [ { pet: { call: http, with: { method: get, endpoint: 'https://x/{id}', query: { q: '${ .q }' }, headers: '${ .h }' } } } ]",
        json!({ "id": "a/b", "q": [1], "h": { "X": "y" } }),
    );
    assert_eq!(target, Target::Protocol(Protocol::Http));
    assert_eq!(
        body,
        json!({ "method": "get", "endpoint": "https://x/a%2Fb", "query": { "q": [1] }, "headers": { "X": "y" }, "output": "content", "redirect": false })
    );
    assert_eq!(timeout, 30_000);
    assert_eq!(world.definition.needs(), [Need::Protocol(Protocol::Http)].into());
}

#[test]
fn what_is_said_stays() {
    let (_, _, body, timeout) = asked(
        "do: [ { pet: { call: http, with: { method: get, endpoint: { uri: '${ .uri }' }, output: raw, redirect: true }, timeout: { after: PT2S } } } ]",
        json!({ "uri": "https://x/{id}", "id": 1 }),
    );
    // What an expression gives is data, in which braces are just braces.
    assert_eq!(body["endpoint"], json!({ "uri": "https://x/{id}" }));
    assert_eq!((&body["output"], &body["redirect"], timeout), (&json!("raw"), &json!(true), 2_000));
}

#[test]
fn every_protocol_is_asked_with_its_arguments() {
    let cases = [
        (
            "openapi",
            "{ document: { endpoint: 'https://x/{v}.json' }, operationId: find, parameters: { a: '${ .v }' } }",
            json!({ "document": { "endpoint": "https://x/2.json" }, "operationId": "find", "parameters": { "a": 2 }, "output": "content", "redirect": false }),
        ),
        (
            "grpc",
            "{ proto: { endpoint: 'file://a.proto' }, service: { name: A, host: localhost, port: 1 }, method: B, arguments: { n: '${ .v }' } }",
            json!({ "proto": { "endpoint": "file://a.proto" }, "service": { "name": "A", "host": "localhost", "port": 1 }, "method": "B", "arguments": { "n": 2 } }),
        ),
        (
            "asyncapi",
            "{ document: { endpoint: 'https://x/a.json' }, operation: tell, message: { payload: { n: '${ .v }' } } }",
            json!({ "document": { "endpoint": "https://x/a.json" }, "operation": "tell", "message": { "payload": { "n": 2 } } }),
        ),
        (
            "a2a",
            "{ server: 'https://x/{v}', method: message/send, parameters: '${ { n: .v } }' }",
            json!({ "server": "https://x/2", "method": "message/send", "parameters": { "n": 2 } }),
        ),
        (
            "mcp",
            "{ method: tools/call, timeout: PT5S, parameters: { name: a }, transport: { http: { endpoint: 'https://x/{v}' } } }",
            json!({ "method": "tools/call", "timeout": "PT5S", "parameters": { "name": "a" }, "transport": { "http": { "endpoint": "https://x/2" } }, "protocolVersion": "2025-06-18" }),
        ),
    ];
    for (function, with, expected) in cases {
        let (_, target, body, timeout) =
            asked(&format!("do: [ {{ a: {{ call: {function}, with: {with} }} }} ]"), json!({ "v": 2 }));
        assert_eq!((target.to_string().as_str(), body), (function, expected));
        assert_eq!(
            timeout,
            match function {
                "mcp" => 5_000,
                "a2a" => 120_000,
                _ => 30_000,
            },
            "{function}"
        );
    }
}

#[test]
fn processes_are_asked_for_with_what_they_return() {
    let (_, target, body, _) = asked(
        "do: [ { a: { run: { shell: { command: 'echo ${ .v }', stdin: '${ . }', arguments: [ '${ .v }' ] }, return: all } } } ]",
        json!({ "v": 2 }),
    );
    assert_eq!(target, Target::Protocol(Protocol::Shell));
    assert_eq!(
        body,
        json!({ "shell": { "command": "echo 2", "stdin": { "v": 2 }, "arguments": [2] }, "return": "all", "await": true })
    );
    let (_, target, body, _) = asked(
        "do: [ { a: { run: { script: { language: python, source: { endpoint: 'https://x/{v}.py' }, arguments: { v: '${ .v }' } } } } } ]",
        json!({ "v": 2 }),
    );
    assert_eq!(target, Target::Protocol(Protocol::Script));
    assert_eq!(body["script"]["source"]["endpoint"], "https://x/2.py");
    assert_eq!((&body["script"]["arguments"], &body["return"]), (&json!({ "v": 2 }), &json!("stdout")));
}

#[test]
fn a_process_that_is_not_awaited_leaves_its_input() {
    let mut world = World::start(
        define(
            "do: [ { a: { input: { from: '${ .v }' }, run: { container: { image: alpine }, await: false } } } ]",
        ),
        json!({ "v": 2 }),
    );
    world.play("a ok");
    assert_eq!(world.state.output(), Some(&json!(2)));
}

#[test]
fn authentication_is_found_by_name_wherever_it_stands() {
    let policies = "use: { authentications: { pets: { bearer: { token: '${ .token }' } }, main: { oauth2: { authority: 'https://a/{token}', grant: client_credentials, client: { id: me }, scopes: [ x ] } } } }\n";
    let bearer = json!({ "bearer": { "token": "t" } });
    let oauth = json!({ "oauth2": { "authority": "https://a/t", "grant": "client_credentials", "client": { "id": "me" }, "scopes": ["x"] } });
    for (call, pointer, expected) in [
        (
            "http, with: { method: get, endpoint: { uri: 'https://x', authentication: { use: pets } } }",
            "/endpoint/authentication",
            &bearer,
        ),
        (
            "openapi, with: { document: { endpoint: { uri: 'https://x', authentication: { use: main } } }, operationId: a }",
            "/document/endpoint/authentication",
            &oauth,
        ),
        (
            "openapi, with: { document: { endpoint: 'https://x' }, operationId: a, authentication: pets }",
            "/authentication",
            &bearer,
        ),
        (
            "grpc, with: { proto: { endpoint: 'https://x' }, service: { name: a, host: b, authentication: { use: pets } }, method: c }",
            "/service/authentication",
            &bearer,
        ),
        (
            "mcp, with: { method: tools/list, transport: { http: { endpoint: { uri: 'https://x', authentication: { use: main } } } } }",
            "/transport/http/endpoint/authentication",
            &oauth,
        ),
    ] {
        let (_, _, body, _) =
            asked(&format!("{policies}do: [ {{ a: {{ call: {call} }} }} ]"), json!({ "token": "t" }));
        assert_eq!(body.pointer(pointer), Some(expected), "{call}");
    }
}

#[test]
fn data_that_looks_like_an_argument_stays_data() {
    let (_, _, body, _) = asked(
        "do: [ { a: { call: http, with: { method: post, endpoint: 'https://x', body: { authentication: { use: nobody }, endpoint: '{v}' } } } } ]",
        json!({ "v": 2 }),
    );
    assert_eq!(body["body"], json!({ "authentication": { "use": "nobody" }, "endpoint": "{v}" }));
}

#[test]
fn a_property_that_is_no_text_cannot_be_part_of_a_uri() {
    let world = World::start(
        define("do: [ { a: { call: http, with: { method: get, endpoint: 'https://x/{v}' } } } ]"),
        json!({ "v": {} }),
    );
    let fault = world.state.fault().unwrap();
    assert_eq!((fault.kind(), fault.status, fault.instance.as_deref()), ("expression", 400, Some("/do/0/a")));
}

#[test]
fn arguments_that_exclude_each_other_are_reported() {
    let source = "do:
  - a: { call: asyncapi, with: { document: { endpoint: 'https://x' }, message: {}, subscription: { consume: { amount: 1 } } } }
  - b: { call: a2a, with: { method: tasks/get } }
  - c: { run: { script: { language: js, code: '1', source: { endpoint: 'https://x' } } } }
  - d: { run: { await: false } }
  - e: { run: { container: { image: a, lifetime: { cleanup: eventually } } } }
  - f: { call: http, with: { method: get, endpoint: { uri: 'https://x', authentication: { use: nobody } } } }
";
    reports(
        &format!("{HEAD}{source}"),
        expect![[r#"
            a.yaml:3:32: error[SNW-2005]: exactly one of operation, channel must be here, found 0 @/do/0/a/with
            a.yaml:3:32: error[SNW-2006]: exactly one of message, subscription must be here, found 2 @/do/0/a/with
            a.yaml:4:27: error[SNW-2005]: exactly one of agentCard, server must be here, found 0 @/do/1/b/with
            a.yaml:5:25: error[SNW-2006]: exactly one of code, source must be here, found 2 @/do/2/c/run/script
            a.yaml:6:15: error[SNW-2005]: exactly one of container, script, shell, workflow must be here, found 0 @/do/3/d/run
            a.yaml:7:50: error[SNW-2005]: `cleanup: eventually` needs `after`; add `after:` and how long to keep the container @/do/4/e/run/container/lifetime
            a.yaml:8:96: error[SNW-2010]: there is no authentication `nobody` below `use.authentications` @/do/5/f/with/endpoint/authentication/use"#]],
    );
}

#[test]
fn a_host_is_told_what_it_lacks_and_where() {
    let source = format!(
        "{HEAD}do:\n  - a: {{ call: http, with: {{ method: get, endpoint: 'https://x' }} }}\n  - b: {{ run: {{ shell: {{ command: ls }} }} }}\n"
    );
    let definition = Definition::parse(&source, "a.yaml").unwrap();
    assert!(definition.runnable().is_ok() && definition.runnable_by(|_| true).is_ok());
    let missing = definition.runnable_by(|need| need == Need::Protocol(Protocol::Http)).unwrap_err();
    expect!["a.yaml:4:15: error[SNW-2014]: `run: shell` is beyond what runs this"]
        .assert_eq(&missing.to_string());
}

#[test]
fn policies_say_all_they_have_to() {
    let source = "use:
  authentications:
    a: { basic: { username: me } }
    b: { use: a }
    c: { oauth2: { grant: password } }
    d: { bearer: {} }
do:
  - e: { call: http, with: { method: get, endpoint: { uri: 'https://x', authentication: { digest: { password: x } } } } }
";
    reports(
        &format!("{HEAD}{source}"),
        expect![[r#"
        a.yaml:4:17: error[SNW-2005]: `basic` needs `password`; add `password:`, or `use:` and the secret that holds all of it @/use/authentications/a/basic
        a.yaml:5:15: error[SNW-2006]: a named policy cannot name another one; write its scheme here, such as `basic:` or `bearer:` @/use/authentications/b/use
        a.yaml:6:18: error[SNW-2005]: `oauth2` needs `authority`; add `authority:`, or `use:` and the secret that holds all of it @/use/authentications/c/oauth2
        a.yaml:7:18: error[SNW-2005]: `bearer` needs `token`; add `token:`, or `use:` and the secret that holds all of it @/use/authentications/d/bearer
        a.yaml:9:99: error[SNW-2005]: `digest` needs `username`; add `username:`, or `use:` and the secret that holds all of it @/do/0/e/with/endpoint/authentication/digest"#]],
    );
}

#[test]
fn braces_in_credentials_are_no_template() {
    let (_, _, body, _) = asked(
        "do: [ { a: { call: http, with: { method: get, endpoint: { uri: 'https://x', authentication: { bearer: { token: 'a{v}' } } } } } } ]",
        json!({ "v": 2 }),
    );
    assert_eq!(body["endpoint"]["authentication"]["bearer"]["token"], "a{v}");
}
