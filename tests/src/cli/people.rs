//! What people are asked, on the command line; and the example that starts by an event, asks and waits.

use std::path::Path;

use serde_json::json;

use super::program::{Ran, sinew};
use crate::{
    harness::{Harness, SOON, eventually},
    workflow::Lab,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_refund_example_is_asked_for_approved_confirmed_and_done() {
    let lab = Lab::on(Harness::start().await).await.with_orchestrator().await;
    let run = async |arguments: &[&str]| -> Ran {
        sinew(&[&["--json", "--nats-url", lab.harness.url()], arguments].concat()).await
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/workflows");
    let file = folder.join("refund.yaml").to_str().unwrap().to_owned();
    run(&["workflow", "apply", &file]).await.succeeded();
    run(&["publish", "refunds.asked", r#"{"order":"o-7","amount":40}"#]).await.succeeded();
    let asked = eventually(SOON, || async {
        let listed = run(&["workflow", "task", "ls", "--for", "sales"]).await.succeeded().json();
        listed.as_array().unwrap().first().cloned()
    })
    .await;
    assert_eq!(asked["title"], "Refund 40 for order o-7?");
    let (id, instance) = (asked["id"].as_str().unwrap(), asked["instance"].as_str().unwrap());
    let shown = sinew(&["--nats-url", lab.harness.url(), "workflow", "task", "show", id]).await.succeeded();
    assert!(shown.stdout.contains("for     sales") && shown.stdout.contains("approved"), "{shown:?}");
    // The bank is faster than the person: the task that listens for it has not begun.
    run(&["publish", "bank.confirmed", r#"{"order":"o-7","reference":"b-1"}"#]).await.succeeded();
    let wrong = run(&["workflow", "task", "complete", id, "--answer", r#"{"approved":"maybe"}"#]).await;
    assert_eq!((wrong.code, wrong.error_code()), (1, "invalid-answer".into()), "{wrong:?}");
    let answer = ["--answer", r#"{"approved":true}"#, "--who", "ada"];
    run(&[&["workflow", "task", "complete", id][..], &answer[..]].concat()).await.succeeded();
    let ended = lab.closed("refund", instance).await;
    assert_eq!(ended.output, Some(json!({ "order": "o-7", "amount": 40, "reference": "b-1" })));
    let told =
        sinew(&["--nats-url", lab.harness.url(), "workflow", "get", "refund", instance]).await.succeeded();
    assert!(told.stdout.contains("by ada"), "{told:?}");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_paused_resumed_and_terminated() {
    let lab = Lab::on(Harness::start().await).await.with_orchestrator().await;
    lab.apply(
        "document: { dsl: '1.0.3', namespace: test, name: naps, version: '1.0.0' }\ndo: [ { nap: { wait: PT1H } } ]\n",
    )
    .await;
    lab.begin("naps", "n-1", json!({})).await;
    let run = async |arguments: &[&str]| -> String {
        let ran = sinew(&[&["--nats-url", lab.harness.url(), "workflow"], arguments].concat()).await;
        ran.succeeded().stdout
    };
    run(&["pause", "naps", "n-1"]).await;
    assert!(run(&["ls"]).await.contains("running, paused"));
    run(&["resume", "naps", "n-1"]).await;
    assert!(!run(&["ls"]).await.contains("paused"));
    let ended = run(&["terminate", "naps", "n-1", "--reason", "morning"]).await;
    assert!(ended.contains("cancelled") && ended.contains("terminated: morning"), "{ended}");
    assert_eq!(run(&["task", "ls"]).await.trim(), "nobody is asked anything");
    assert!(run(&["remove", "naps"]).await.contains("removed  test/naps@1.0.0"));
    lab.stop().await;
}
