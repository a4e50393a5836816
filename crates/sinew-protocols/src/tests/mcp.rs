//! `call: mcp`.

use serde_json::{Value, json};
use sinew_workflow::{Outcome, Protocol};

use super::server::{Answer, Seen, Server};
use super::{done, not_sent, outcome, protocols, refused, unknown};
use crate::{Allow, Protocols, Settings};

/// Answers a session's messages, and `result` to the question.
async fn serving(streams: bool, answer: Value) -> Server {
    Server::start(move |seen| {
        if seen.method == "DELETE" {
            return Answer::with(200, &[], "");
        }
        let message = seen.json();
        let id = &message["id"];
        match message["method"].as_str().unwrap() {
            "initialize" => {
                let result = json!({ "protocolVersion": "2025-03-26", "capabilities": {}, "serverInfo": {} });
                let body = json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string();
                Answer::with(200, &[("content-type", "application/json"), ("mcp-session-id", "s1")], body)
            }
            "notifications/initialized" => Answer::with(202, &[], ""),
            _ => {
                let mut answer = answer.clone();
                answer["jsonrpc"] = json!("2.0");
                answer["id"] = id.clone();
                let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": {} });
                if streams { Answer::events(&[progress, answer]) } else { Answer::json(200, &answer) }
            }
        }
    })
    .await
}

fn arguments(server: &Server, method: &str) -> Value {
    let transport = json!({ "http": { "endpoint": server.url("/mcp"), "headers": { "X-Shop": "north" } } });
    json!({ "method": method, "parameters": { "name": "add", "arguments": { "a": 1 } }, "transport": transport })
}

async fn called(server: &Server, method: &str) -> Outcome {
    outcome(&protocols(), Protocol::Mcp, &arguments(server, method)).await
}

#[tokio::test]
async fn a_session_is_begun_used_and_ended() {
    let server = serving(false, json!({ "result": { "content": [] } })).await;
    assert_eq!(done(called(&server, "tools/call").await), json!({ "content": [] }));
    let seen = server.seen();
    let said = |seen: &Seen| match seen.method.as_str() {
        "DELETE" => "end".to_owned(),
        _ => seen.json()["method"].as_str().unwrap().to_owned(),
    };
    let said: Vec<_> = seen.iter().map(said).collect();
    assert_eq!(said, ["initialize", "notifications/initialized", "tools/call", "end"]);
    let of = |seen: &Seen, name: &str| seen.header(name).map(str::to_owned);
    assert_eq!(of(&seen[0], "mcp-session-id"), None);
    for later in &seen[1..] {
        assert_eq!(of(later, "mcp-session-id").as_deref(), Some("s1"));
        assert_eq!(of(later, "mcp-protocol-version").as_deref(), Some("2025-03-26"));
        assert_eq!(of(later, "x-shop").as_deref(), Some("north"));
    }
    let keys: Vec<_> = seen.iter().map(|seen| of(seen, "idempotency-key")).collect();
    assert_eq!(keys, [None, None, Some("order-7/charge".to_owned()), None]);
    assert_eq!(seen[2].json()["params"], json!({ "name": "add", "arguments": { "a": 1 } }));
    assert_eq!(seen[0].json()["params"]["clientInfo"]["name"], "sinew");
}

#[tokio::test]
async fn a_stream_is_read_until_the_answer_came() {
    // The server leaves the stream open: waiting for its end would take until the deadline.
    let server = serving(true, json!({ "result": { "tools": [] } })).await;
    assert_eq!(done(called(&server, "tools/list").await), json!({ "tools": [] }));
}

#[tokio::test]
async fn failures_are_runtime_faults_and_say_what_was_done() {
    let error = |code: i64| json!({ "error": { "code": code, "message": "no such thing" } });
    let server = serving(false, error(-32602)).await;
    let fault = refused(called(&server, "tools/call").await);
    assert_eq!(fault.kind(), "runtime");
    assert!(fault.detail.unwrap().contains("no such thing"));
    let server = serving(false, error(-32000)).await;
    unknown(called(&server, "tools/call").await);
    not_sent(called(&server, "resources/read").await);

    let failed =
        json!({ "result": { "isError": true, "content": [{ "type": "text", "text": "out of shoes" }] } });
    let server = serving(false, failed).await;
    assert_eq!(
        unknown(called(&server, "tools/call").await).detail.as_deref(),
        Some("the tool `add` failed: out of shoes")
    );
    refused(called(&server, "tools/delete").await);
}

#[tokio::test]
async fn a_session_that_cannot_be_begun_asked_nothing() {
    let server = Server::start(|_| Answer::with(500, &[], "")).await;
    assert!(not_sent(called(&server, "tools/call").await).detail.unwrap().contains("initializing"));
    assert_eq!(server.seen().len(), 1);
}

/// Talks as a server does, and asks for a ping in between.
const STDIO: &str = r#"
read line; case "$line" in *initialize*) ;; *) exit 1;; esac
echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18"}}'
read line; case "$line" in *initialized*) ;; *) exit 1;; esac
read line
echo '{"jsonrpc":"2.0","id":2,"method":"ping"}'
read pong; case "$pong" in *result*) ;; *) exit 1;; esac
echo "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"shop\":\"$SHOP\",\"arg\":\"$1\"}}"
exec sleep 300
"#;

#[tokio::test]
async fn a_process_is_spoken_to_by_its_standard_streams() {
    let stdio = json!({ "command": "sh", "arguments": ["-c", STDIO, "sh", "x y"], "environment": { "SHOP": "north" } });
    let arguments = json!({ "method": "tools/call", "transport": { "stdio": stdio } });
    let fault = refused(outcome(&protocols(), Protocol::Mcp, &arguments).await);
    assert!(fault.detail.unwrap().contains("allow.shell"));

    let allow = Allow { shell: ["sh".to_owned()].into(), ..Allow::default() };
    let allowing = Protocols::new(Settings { allow, ..Settings::default() }).unwrap();
    let output = done(outcome(&allowing, Protocol::Mcp, &arguments).await);
    assert_eq!(output, json!({ "shop": "north", "arg": "x y" }));

    let gone = json!({ "command": "sh", "arguments": ["-c", "exit 0"] });
    let gone = json!({ "method": "tools/call", "transport": { "stdio": gone } });
    assert!(
        not_sent(outcome(&allowing, Protocol::Mcp, &gone).await).detail.unwrap().contains("initializing")
    );
    let silent = json!({ "command": "sh", "arguments": ["-c", "sleep 300"] });
    let silent = json!({ "method": "tools/call", "timeout": { "milliseconds": 200 }, "transport": { "stdio": silent } });
    assert_eq!(unknown(outcome(&allowing, Protocol::Mcp, &silent).await).kind(), "timeout");
}
