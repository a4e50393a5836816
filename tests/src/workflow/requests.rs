//! What bad and repeated requests get.

use serde_json::json;
use sinew::workflow::{ApplyWorkflow, ListDefinitions, StartWorkflow};

use super::lab::{Lab, THREE};
use crate::edge::client::Client;
use crate::harness::{Harness, SOON, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn starting_twice_is_answered_as_once_and_another_input_is_refused() {
    let lab = Lab::start().await;
    lab.apply(THREE).await;
    let first = lab.run("three", "d-1", json!({ "n": 1 })).await.unwrap();
    let second = lab.run("three", "d-1", json!({ "n": 1 })).await.unwrap();
    assert_eq!(first, second);
    let other = lab.run("three", "d-1", json!({ "n": 2 })).await.unwrap_err();
    assert_eq!((other.status, other.code.as_str()), (409, "duplicate-start"));
    assert_eq!(lab.ledger.effects("d-1").len(), 3);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_at_the_same_moment_run_once() {
    let lab = Lab::start().await;
    lab.apply(THREE).await;
    let starts = (0..16).map(|_| lab.run("three", "d-2", json!({})));
    for outcome in futures::future::join_all(starts).await {
        assert_eq!(outcome.unwrap().status, "completed");
    }
    assert_eq!(lab.ledger.lines().len(), 3);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_stand_is_said_so() {
    let lab = Lab::start().await;
    lab.apply(THREE).await;
    let unknown = lab.run("thre", "u-1", json!({})).await.unwrap_err();
    assert_eq!((unknown.status, unknown.code.as_str()), (404, "unknown-workflow"));
    assert!(unknown.detail.unwrap().contains("three"));
    let missing = lab.get("three", "nobody").await.unwrap_err().to_problem();
    assert_eq!((missing.status, missing.code.as_str()), (404, "unknown-instance"));
    let id = lab.run("three", "a.b", json!({})).await.unwrap_err();
    assert_eq!((id.status, id.code.as_str()), (400, "invalid-start"));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_definition_is_refused_with_every_error_in_its_place() {
    let lab = Lab::start().await;
    let source = "document: { dsl: '1.0.3', namespace: t, name: bad, version: '1.0.0' }\ndo:\n  - a: { cal: lab.act }\n  - b: { call: lab.act, then: nowhere }\n";
    let request = ApplyWorkflow { source: source.to_owned(), file: "bad.yaml".to_owned() };
    let problem = lab.ctx.call(request).await.unwrap_err().to_problem();
    assert_eq!((problem.status, problem.code.as_str()), (422, "invalid-definition"));
    let diagnostics = problem.extensions["diagnostics"].as_array().unwrap().clone();
    assert!(diagnostics.iter().any(|text| text.as_str().unwrap().contains("bad.yaml:3")), "{diagnostics:?}");
    assert!(diagnostics.iter().any(|text| text.as_str().unwrap().contains("bad.yaml:4")), "{diagnostics:?}");
    assert!(lab.ctx.call(ListDefinitions {}).await.unwrap().is_empty());
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversize_input_is_refused_and_nothing_is_begun() {
    let mut lab = Lab::on(Harness::start().await).await;
    lab.config.max_value_bytes = lab.config.max_record_bytes;
    lab.start_orchestrator().await;
    lab.apply(THREE).await;
    let big = json!({ "text": "x".repeat(700_000) });
    let problem = lab.run("three", "o-1", big).await.unwrap_err();
    assert_eq!((problem.status, problem.code.as_str()), (400, "invalid-start"));
    assert!(lab.get("three", "o-1").await.is_err());
    assert!(lab.ledger.lines().is_empty());
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_run_beside_each_other_and_the_newest_is_the_default() {
    let lab = Lab::start().await;
    let version = |version: &str, value: u32| {
        format!(
            "document: {{ dsl: '1.0.3', namespace: test, name: answer, version: '{version}' }}\ndo:\n  - say: {{ set: {{ answer: {value} }} }}\n"
        )
    };
    for (text, value) in [("1.9.0", 1), ("1.10.0", 2)] {
        lab.apply(&version(text, value)).await;
    }
    let newest = lab.run("answer", "v-1", json!({})).await.unwrap();
    assert_eq!((newest.version.as_str(), newest.output), ("1.10.0", Some(json!({ "answer": 2 }))));
    let old = StartWorkflow { version: Some("1.9.0".into()), ..StartWorkflow::new("answer", json!({})) };
    assert_eq!(lab.ctx.call(old).await.unwrap().output, Some(json!({ "answer": 1 })));
    lab.stop().await;
}

/// Lasts longer than anybody waits for it.
const LONG: &str = "\
document: { dsl: '1.0.3', namespace: test, name: long, version: '1.0.0' }
do:
  - rest: { wait: { hours: 1 } }
";

#[tokio::test(flavor = "multi_thread")]
async fn a_start_over_http_waits_for_the_end_or_says_where_to_look() {
    let lab = Lab::start().await;
    lab.apply(THREE).await;
    let config = sinew_edge::Config { listen: ([127, 0, 0, 1], 0).into(), ..sinew_edge::Config::default() };
    let edge = sinew_edge::start(config, lab.bus.clone()).await.unwrap();
    let client = Client::new(edge.local_addr());
    let waited = client.post("/workflows/three", &json!({})).await;
    assert_eq!((waited.status, waited.json()["status"].as_str()), (200, Some("completed")));
    let headers =
        [("content-type", "application/json"), ("prefer", "respond-async"), ("idempotency-key", "h-1")];
    let accepted = client.send("POST", "/workflows/three", &headers, "{}").await;
    assert_eq!((accepted.status, accepted.header("location")), (202, Some("/workflows/three/h-1")));
    lab.closed("three", "h-1").await;
    let read = client.get("/workflows/three/h-1").await;
    assert_eq!((read.status, read.json()["status"].as_str()), (200, Some("completed")));
    lab.apply(LONG).await;
    let patient = [("content-type", "application/json"), ("prefer", "wait=1"), ("idempotency-key", "h-2")];
    let later = client.send("POST", "/workflows/long", &patient, "{}").await;
    assert_eq!((later.status, later.header("location")), (202, Some("/workflows/long/h-2")));
    assert_eq!(later.header("preference-applied"), Some("wait=1"));
    let refused = client.post("/workflows/three", &json!({ "c": "refuse" })).await;
    assert_eq!(refused.problem(409, "workflow-faulted")["saga"], "compensated");
    client.post("/workflows/four", &json!({})).await.problem(404, "unknown-workflow");
    client.get("/workflows/three/nobody").await.problem(404, "unknown-instance");
    edge.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_an_operation_its_service_does_not_have_is_warned_of() {
    let lab = Lab::start().await;
    let source = "document: { dsl: '1.0.3', namespace: t, name: slip, version: '1.0.0' }\ndo:\n  - a: { call: lab.atc }\n";
    let request = ApplyWorkflow { source: source.to_owned(), file: "slip.yaml".to_owned() };
    // The catalogue follows: what it says is there a moment after the service.
    eventually(SOON, || async {
        let applied = lab.ctx.call(request.clone()).await.unwrap();
        applied.warnings.iter().any(|text| text.contains("slip.yaml:3") && text.contains("SNW-2039"))
    })
    .await;
    lab.stop().await;
}
