//! `call: a2a`.

use serde_json::{Value, json};
use sinew_workflow::Protocol;

use super::server::{Answer, Server};
use super::{done, not_sent, outcome, protocols, refused, unknown};

async fn agent() -> Server {
    Server::start(|seen| match seen.path() {
        "/card" => Answer::json(200, &json!({ "name": "agent", "url": "rpc" })),
        "/silent" => Answer::json(200, &json!({ "name": "agent" })),
        _ => {
            let message = seen.json();
            let answer = |result: Value| json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
            match message["method"].as_str().unwrap() {
                "message/stream" => {
                    let events =
                        [answer(json!(1)), answer(json!(2))].map(|event| format!("data: {event}\n\n"));
                    Answer::typed(200, "text/event-stream", events.concat())
                }
                "tasks/cancel" | "tasks/get" => {
                    let error = json!({ "code": -32001, "message": "task not found" });
                    Answer::json(200, &json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }))
                }
                _ => Answer::json(200, &answer(message["params"].clone())),
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_message_is_completed_and_sent_where_the_card_says() {
    let server = agent().await;
    let card = json!({ "endpoint": { "uri": server.url("/card"), "authentication": { "bearer": { "token": "t" } } } });
    let message = json!({ "parts": [{ "kind": "text", "text": "hi" }] });
    let arguments =
        json!({ "method": "message/send", "agentCard": card, "parameters": { "message": message } });
    let first = done(outcome(&protocols(), Protocol::A2a, &arguments).await);
    assert_eq!(
        (&first["message"]["role"], &first["message"]["parts"][0]["text"]),
        (&json!("user"), &json!("hi"))
    );
    let id = first["message"]["messageId"].as_str().unwrap();
    assert!(uuid::Uuid::parse_str(id).is_ok(), "{id}");
    let again = done(outcome(&protocols(), Protocol::A2a, &arguments).await);
    assert_eq!(again, first, "a repetition has the same id");
    let seen = server.seen();
    assert_eq!((seen[1].path(), seen[1].header("authorization")), ("/rpc", Some("Bearer t")));
}

#[tokio::test]
async fn a_stream_results_in_a_list() {
    let server = agent().await;
    let arguments = json!({ "method": "message/stream", "server": server.url("/rpc") });
    assert_eq!(done(outcome(&protocols(), Protocol::A2a, &arguments).await), json!([1, 2]));
}

#[tokio::test]
async fn errors_are_runtime_faults() {
    let server = agent().await;
    let call =
        |method: &str| json!({ "method": method, "server": server.url("/rpc"), "parameters": { "id": "t" } });
    let fault = unknown(outcome(&protocols(), Protocol::A2a, &call("tasks/cancel")).await);
    assert_eq!(fault.kind(), "runtime");
    assert!(fault.detail.unwrap().contains("task not found"));
    not_sent(outcome(&protocols(), Protocol::A2a, &call("tasks/get")).await);
    refused(outcome(&protocols(), Protocol::A2a, &call("tasks/delete")).await);
    refused(outcome(&protocols(), Protocol::A2a, &json!({ "method": "tasks/get" })).await);
    let silent = json!({ "method": "tasks/get", "agentCard": { "endpoint": server.url("/silent") } });
    refused(outcome(&protocols(), Protocol::A2a, &silent).await);
}
