//! What the log holds: as much as lives in it, and nothing it could choke on.

use serde_json::json;
use sinew::workflow::CancelWorkflow;

use super::lab::{Lab, THREE};
use crate::harness::{Harness, SOON, eventually};

const WAITING: &str = "\
document: { dsl: '1.0.3', namespace: test, name: waiting, version: '1.0.0' }
do:
  - a: { call: lab.act, with: { step: a }, compensate: { call: lab.undo, with: { step: a } } }
  - pause: { wait: PT1H }
";

async fn records(lab: &Lab) -> u64 {
    lab.bus.stream_state("WORKFLOW_LOG").await.unwrap().messages
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_the_cleaner_keeps_the_log_short_and_loses_no_waiting_instance() {
    let mut lab = Lab::on(Harness::start().await).await;
    lab.config.clean_every = 8;
    lab.start_orchestrator().await;
    lab.apply(WAITING).await;
    lab.apply(THREE).await;
    let waiting: Vec<String> = (0..20).map(|number| format!("w-{number}")).collect();
    for id in &waiting {
        lab.begin("waiting", id, json!({})).await;
    }
    for number in 0..60 {
        lab.run("three", &format!("t-{number}"), json!({})).await.unwrap();
    }
    let appended = lab.bus.stream_state("WORKFLOW_LOG").await.unwrap().last_sequence;
    eventually(SOON, || async { records(&lab).await < appended / 2 }).await;
    lab.stop_orchestrator().await;
    lab.start_orchestrator().await;
    for id in &waiting {
        assert_eq!(lab.get("waiting", id).await.unwrap().status, "running");
        assert_eq!(lab.ledger.effects(id), ["act a"], "what is done is not asked for again");
        let cancel = CancelWorkflow { name: "waiting".into(), id: id.clone(), reason: None };
        lab.ctx.call(cancel).await.unwrap();
    }
    for id in &waiting {
        assert_eq!(lab.closed("waiting", id).await.saga, "compensated");
        assert_eq!(lab.ledger.effects(id), ["act a", "undo a"]);
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_a_reply_too_large_for_the_log_is_undone_and_holds_nobody_up() {
    let mut lab = Lab::on(Harness::start().await).await;
    lab.config.max_value_bytes = lab.config.max_record_bytes;
    lab.start_orchestrator().await;
    lab.apply(THREE).await;
    let problem = lab.run("three", "l-1", json!({ "c": "large" })).await.unwrap_err();
    assert_eq!(problem.extensions["fault"]["code"], "too-large");
    assert_eq!(problem.extensions["saga"], "compensated");
    assert_eq!(lab.ledger.effects("l-1"), ["act a", "act b", "act c", "undo c", "undo b", "undo a"]);
    assert_eq!(lab.run("three", "l-2", json!({})).await.unwrap().status, "completed");
    lab.stop().await;
}
