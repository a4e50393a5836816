//! Data that no record of the log holds: kept beside it, found again after a kill, and gone with their instance.

use serde_json::{Value, json};
use sinew::workflow::{INPUTS, InputReference, StartWorkflow};

use super::{
    Orchestrator,
    lab::{Lab, timeline},
};
use crate::{
    cli::program::sinew,
    harness::{Harness, SOON, eventually},
};

/// Hands its input through a call that waits a while, and adds a reply of 600 kB.
const HEAVY: &str = "\
document: { dsl: '1.0.3', namespace: test, name: heavy, version: '1.0.0' }
do:
  - a:
      call: lab.act
      with: { step: '${ \"a \\(.text | length)\" }', behave: patient }
      output: { as: '${ $workflow.input }' }
      compensate: false
  - nap: { wait: PT1S }
  - b:
      call: lab.act
      with: { step: b, behave: large }
      compensate: false
      output: { as: '${ { text: $workflow.input.text, reply: . } }' }
";

fn heavy() -> Value {
    json!({ "text": "x".repeat(5_000_000) })
}

/// Every object that is kept beside the log.
async fn kept(lab: &Lab) -> usize {
    lab.bus.known_objects("WORKFLOW_PAYLOADS").list().await.unwrap().len()
}

fn assert_whole(output: &Value) {
    assert_eq!(output["text"].as_str().map(str::len), Some(5_000_000));
    assert_eq!(output["reply"].as_str().map(str::len), Some(600_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn five_megabytes_go_through_a_workflow_and_leave_nothing_behind() {
    let lab = Lab::on(Harness::start_wide().await).await.with_orchestrator().await;
    lab.apply(HEAVY).await;
    let instance = lab.run("heavy", "m-1", heavy()).await.unwrap();
    assert_whole(instance.output.as_ref().unwrap());
    assert_eq!(lab.ledger.effects("m-1"), ["act a 5000000", "act b"]);
    eventually(SOON, || async { kept(&lab).await == 0 }).await;
    let read = lab.closed("heavy", "m-1").await;
    assert_whole(read.output.as_ref().unwrap());
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_five_megabytes_survive_a_killed_orchestrator() {
    let lab = Lab::on(Harness::start_wide().await).await;
    let first = Orchestrator::start(lab.harness.url());
    eventually(SOON, || async { lab.try_apply(HEAVY).await }).await;
    lab.begin("heavy", "m-2", heavy()).await;
    assert_eq!(kept(&lab).await, 1, "the input, before the start is answered");
    eventually(SOON, || async { lab.ledger.effects("m-2").len() == 1 }).await;
    first.kill();
    let second = Orchestrator::start(lab.harness.url());
    let instance = lab.closed("heavy", "m-2").await;
    assert_eq!(timeline(&instance), "a completed | nap completed | b completed → completed/none");
    assert_whole(instance.output.as_ref().unwrap());
    eventually(SOON, || async { kept(&lab).await == 0 }).await;
    second.kill();
    lab.stop().await;
}

/// Says how long its input is.
const COUNT: &str = "\
document: { dsl: '1.0.3', namespace: test, name: count, version: '1.0.0' }
do:
  - a: { call: lab.act, with: { step: a }, compensate: false, output: { as: '${ { letters: ($workflow.input.text | length) } }' } }
";

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_sends_five_megabytes_through_a_server_that_takes_one() {
    let mut lab = Lab::start().await;
    lab.apply(COUNT).await;
    assert_eq!(lab.bus.max_payload(), 1024 * 1024);
    let start = StartWorkflow::new("count", heavy()).id("i-1");
    let instance = start.clone().send(&lab.ctx, SOON).await.unwrap();
    assert_eq!(instance.output, Some(json!({ "letters": 5_000_000 })));
    eventually(SOON, || async { kept(&lab).await == 0 }).await;
    // Sent again it is the same, also to who knows the first from its history only.
    assert_eq!(start.clone().send(&lab.ctx, SOON).await.unwrap().output, instance.output);
    lab.stop_orchestrator().await;
    lab.start_orchestrator().await;
    assert_eq!(start.send(&lab.ctx, SOON).await.unwrap().output, instance.output);
    let other = StartWorkflow::new("count", json!({ "text": "y".repeat(5_000_000) })).id("i-1");
    assert_eq!(other.send(&lab.ctx, SOON).await.unwrap_err().to_problem().code, "duplicate-start");
    assert_eq!(lab.bus.known_objects(INPUTS).list().await.unwrap(), [], "nothing is left beside it");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_five_megabytes_is_an_input_on_the_command_line() {
    let lab = Lab::start().await;
    lab.apply(COUNT).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("input.json");
    std::fs::write(&file, heavy().to_string()).unwrap();
    let input = format!("@{}", file.display());
    let arguments =
        ["--json", "--nats-url", lab.harness.url(), "workflow", "start", "count", "--input", &input];
    let started = sinew(&arguments).await.succeeded().json();
    assert_eq!(started["output"], json!({ "letters": 5_000_000 }));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_is_gone_is_refused_and_says_so() {
    let lab = Lab::start().await;
    lab.apply(COUNT).await;
    let mut start = StartWorkflow::new("count", json!(null));
    start.input_at = Some(InputReference { id: "none".into(), size: 1, digest: "00".into() });
    let problem = lab.ctx.call(start).await.unwrap_err().to_problem();
    assert_eq!(problem.code, "invalid-start");
    assert!(problem.detail.unwrap().contains("store it again"));
    lab.stop().await;
}
