//! What sagas do when nothing is killed.

use expect_test::expect;
use serde_json::json;
use sinew::workflow::{CancelWorkflow, FAULTED, ListWorkflows, OperateWorkflow, Operation};

use super::lab::{Lab, THREE, timeline};
use crate::harness::{SOON, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_completes_and_is_remembered() {
    let lab = Lab::start().await;
    lab.apply(THREE).await;
    let done = lab.run("three", "i-1", json!({})).await.unwrap();
    expect!["a completed | b completed | c completed → completed/committed"].assert_eq(&timeline(&done));
    assert_eq!(done.output, Some(json!({ "done": "c" })));
    assert_eq!(lab.ledger.effects("i-1"), ["act a", "act b", "act c"]);
    let read = lab.closed("three", "i-1").await;
    assert_eq!(read, done);
    let list =
        lab.ctx.call(ListWorkflows { name: "three".into(), ..ListWorkflows::default() }).await.unwrap();
    assert_eq!(list.instances.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["i-1"]);
    assert_eq!(done.trace_id.len(), 32);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_step_undoes_what_was_done_in_reverse() {
    let lab = Lab::start().await;
    lab.apply(THREE).await;
    let problem = lab.run("three", "i-2", json!({ "c": "refuse" })).await.unwrap_err();
    assert_eq!((problem.status, problem.code.as_str()), (409, FAULTED));
    assert_eq!(problem.extensions["saga"], "compensated");
    assert_eq!(problem.extensions["fault"]["code"], "told-to-refuse");
    assert_eq!(problem.instance.as_deref(), Some("/workflows/three/i-2"));
    assert_eq!(lab.ledger.effects("i-2"), ["act a", "act b", "undo b", "undo a"]);
    let lines = lab.ledger.lines();
    let (forward, back) = (&lines[1], &lines[2]);
    assert_eq!(back.key, format!("{}/undo", forward.key));
    assert_eq!(back.forward.as_ref(), Some(&forward.key));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_outcome_is_unknown_is_undone_too() {
    let lab = Lab::start().await;
    lab.apply(THREE).await;
    let problem = lab.run("three", "i-3", json!({ "c": "slow" })).await.unwrap_err();
    assert_eq!(problem.extensions["fault"]["code"], "deadline-exceeded");
    assert_eq!(lab.ledger.effects("i-3"), ["act a", "act b", "act c", "undo c", "undo b", "undo a"]);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_step_leaves_its_outcome_unknown() {
    let lab = Lab::start().await;
    lab.apply(THREE).await;
    lab.run("three", "i-4", json!({ "c": "panic" })).await.unwrap_err();
    assert_eq!(lab.ledger.effects("i-4"), ["act a", "act b", "undo c", "undo b", "undo a"]);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_is_waited_for_by_the_retry_policy() {
    let mut lab = Lab::start().await;
    lab.apply(
        "\
document: { dsl: '1.0.3', namespace: test, name: patient, version: '1.0.0' }
do:
  - guarded:
      try:
        - a: { call: lab.act, with: { step: a }, compensate: false }
      catch:
        errors: { with: { status: 503 } }
        retry: { delay: PT0.1S, backoff: { constant: {} }, limit: { attempt: { count: 100 } } }
",
    )
    .await;
    lab.stop_service().await;
    lab.begin("patient", "i-5", json!({})).await;
    eventually(SOON, || async {
        let instance = lab.get("patient", "i-5").await.unwrap();
        instance.steps.iter().map(|step| step.attempts).sum::<u32>() >= 2 || instance.steps.len() > 3
    })
    .await;
    lab.start_service().await;
    let done = lab.closed("patient", "i-5").await;
    assert_eq!(done.status, "completed", "{done:#?}");
    assert_eq!(lab.ledger.effects("i-5"), ["act a"]);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_instance_is_undone() {
    let lab = Lab::start().await;
    lab.apply(
        "\
document: { dsl: '1.0.3', namespace: test, name: waiting, version: '1.0.0' }
do:
  - a: { call: lab.act, with: { step: a }, compensate: { call: lab.undo, with: { step: a } } }
  - pause: { wait: PT1H }
",
    )
    .await;
    lab.begin("waiting", "i-6", json!({})).await;
    eventually(SOON, || async { lab.ledger.effects("i-6") == ["act a"] }).await;
    let cancel = CancelWorkflow { name: "waiting".into(), id: "i-6".into(), reason: Some("test".into()) };
    lab.ctx.call(cancel).await.unwrap();
    let ended = lab.closed("waiting", "i-6").await;
    assert_eq!((ended.status.as_str(), ended.saga.as_str()), ("cancelled", "compensated"));
    assert_eq!(lab.ledger.effects("i-6"), ["act a", "undo a"]);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_saga_waits_for_an_operator() {
    let lab = Lab::start().await;
    lab.apply(
        "\
document: { dsl: '1.0.3', namespace: test, name: sticky, version: '1.0.0' }
saga: { retry: { delay: PT0.05S, limit: { attempt: { count: 2 } } } }
do:
  - a: { call: lab.act, with: { step: a }, compensate: { call: lab.undo, with: { step: a, behave: refuse } } }
  - b: { call: lab.act, with: { step: b, behave: refuse }, compensate: false }
",
    )
    .await;
    lab.begin("sticky", "i-7", json!({})).await;
    eventually(SOON, || async { lab.get("sticky", "i-7").await.unwrap().saga == "stuck" }).await;
    let operate = |action| OperateWorkflow {
        name: "sticky".into(),
        id: "i-7".into(),
        action,
        who: "ada".into(),
        why: "undone by hand".into(),
    };
    lab.ctx.call(operate(Operation::Resolve)).await.unwrap();
    let ended = lab.closed("sticky", "i-7").await;
    assert_eq!(
        (ended.status.as_str(), ended.saga.as_str()),
        ("faulted", "compensated"),
        "{}",
        timeline(&ended)
    );
    let again = lab.ctx.call(operate(Operation::Retry)).await.unwrap_err().to_problem();
    assert_eq!(again.code, "wrong-state");
    lab.stop().await;
}
