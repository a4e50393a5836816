//! Workflows that run as a task of another, on a real server: what one owner begins, the next one ends.

use std::time::Duration;

use serde_json::json;

use super::lab::Lab;
use crate::harness::eventually;

/// A parent that runs a child and then acts as its input says.
const PARENT: &str = "\
document: { dsl: '1.0.3', namespace: test, name: parent, version: '1.0.0' }
do:
  - child: { run: { workflow: { namespace: test, name: child, version: '1.0.0', input: '${ . }' } } }
  - last: { call: lab.act, with: { step: last, behave: '${ $workflow.input.last }' }, compensate: false }
";

/// A child that pauses, and whose one step can be undone.
const CHILD: &str = "\
document: { dsl: '1.0.3', namespace: test, name: child, version: '1.0.0' }
do:
  - pause: { wait: { milliseconds: 1500 } }
  - act:
      call: lab.act
      with: { step: child }
      compensate: { call: lab.undo, with: { step: child } }
";

#[tokio::test]
async fn a_child_and_its_parent_survive_the_end_of_their_owner() {
    let mut lab = Lab::start().await;
    lab.apply(CHILD).await;
    lab.apply(PARENT).await;
    lab.begin("parent", "p-1", json!({})).await;
    // Both stand in the log, and the child waits.
    eventually(Duration::from_secs(10), || async {
        let parent = lab.get("parent", "p-1").await.ok()?;
        parent.steps.iter().any(|step| step.name == "child" && step.ended_ms.is_none()).then_some(())
    })
    .await;
    lab.stop_orchestrator().await;
    lab.start_orchestrator().await;
    let ended = lab.closed("parent", "p-1").await;
    assert_eq!((ended.status.as_str(), ended.steps.len()), ("completed", 2), "{ended:?}");
    let acts: Vec<_> = lab.ledger.lines().into_iter().map(|line| line.what).collect();
    assert_eq!(acts, ["act child", "act last"], "each was done once");
    lab.stop().await;
}

#[tokio::test]
async fn a_parent_that_fails_undoes_the_child_that_completed() {
    let lab = Lab::start().await;
    lab.apply(CHILD).await;
    lab.apply(PARENT).await;
    let failed = lab.run("parent", "p-2", json!({ "last": "refuse" })).await.unwrap_err();
    assert_eq!(failed.code, "workflow-faulted");
    let ended = lab.closed("parent", "p-2").await;
    assert_eq!((ended.status.as_str(), ended.saga.as_str()), ("faulted", "compensated"), "{ended:?}");
    let done: Vec<_> = lab.ledger.lines().into_iter().map(|line| line.what).collect();
    assert_eq!(done, ["act child", "undo child"]);
    lab.stop().await;
}

#[tokio::test]
async fn cancelling_a_parent_ends_the_child_before_it_acts() {
    let lab = Lab::start().await;
    lab.apply(CHILD).await;
    lab.apply(PARENT).await;
    lab.begin("parent", "p-3", json!({})).await;
    let cancel = sinew::workflow::CancelWorkflow { name: "parent".into(), id: "p-3".into(), reason: None };
    lab.ctx.call(cancel).await.unwrap();
    assert_eq!(lab.closed("parent", "p-3").await.status, "cancelled");
    let list = sinew::workflow::ListWorkflows { name: "child".into(), status: None, limit: None };
    let children = eventually(Duration::from_secs(10), || async {
        let children = lab.ctx.call(list.clone()).await.ok()?.instances;
        children.iter().all(|child| child.ended_ms.is_some()).then_some(children)
    });
    for child in children.await {
        assert_eq!(child.status, "cancelled");
    }
    assert!(lab.ledger.lines().is_empty(), "{:?}", lab.ledger.lines());
    lab.stop().await;
}
