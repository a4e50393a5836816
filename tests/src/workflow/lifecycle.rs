//! Lifecycle events: what happened to a saga, told on the bus after it is in the log.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Value, json};
use sinew::{
    EVENTS,
    wire::{CloudEvent, Headers},
};
use sinew_orchestrator::Lifecycle;

use super::lab::{Lab, THREE};
use crate::harness::{Harness, SOON, eventually};

const PREFIX: &str = "io.serverlessworkflow.";

/// Returns the lifecycle events in the stream, in its order.
async fn told(lab: &Lab) -> Vec<CloudEvent> {
    let mut reader = lab.bus.read_stream(EVENTS, &format!("evt.{PREFIX}>"), 1).await.unwrap();
    let mut events = Vec::new();
    loop {
        let batch = reader.batch().await.unwrap();
        if batch.is_empty() {
            return events;
        }
        events.extend(batch.iter().map(|stored| CloudEvent::read(&stored.headers).unwrap()));
    }
}

/// Waits for the event that ends it, and returns the types of all.
async fn types_up_to(lab: &Lab, last: &str, count: usize) -> Vec<String> {
    let events = eventually(SOON, || async {
        let events = told(lab).await;
        let seen = events.iter().filter(|event| event.kind == format!("{PREFIX}{last}.v1")).count();
        (seen == count).then_some(events)
    })
    .await;
    let ids: BTreeSet<_> = events.iter().map(|event| &event.id).collect();
    assert_eq!(ids.len(), events.len(), "each is told once");
    let short = |event: &CloudEvent| event.kind[PREFIX.len()..event.kind.len() - 3].to_owned();
    events.iter().map(short).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compensated_saga_is_told_step_by_step_once() {
    let mut lab = Lab::on(Harness::start().await).await;
    lab.config.lifecycle = Lifecycle::Tasks;
    lab.start_orchestrator().await;
    lab.apply(THREE).await;
    lab.run("three", "l-1", json!({ "c": "refuse" })).await.unwrap_err();
    lab.closed("three", "l-1").await;
    let types = types_up_to(&lab, "task.completed", 4).await;
    let expected = "workflow.started task.created task.started task.completed task.created task.started task.completed \
                    task.created task.started task.faulted workflow.faulted task.created task.started task.completed \
                    task.created task.started task.completed";
    assert_eq!(types.join(" "), expected);
    lab.stop_orchestrator().await;
    lab.start_orchestrator().await;
    lab.run("three", "l-2", json!({ "c": "ok" })).await.unwrap();
    let types = types_up_to(&lab, "workflow.completed", 1).await;
    assert_eq!(types.iter().filter(|kind| *kind == "workflow.started").count(), 2, "none is told again");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_workflows_can_be_listened_for_and_nothing_is_told_where_nobody_asked() {
    let mut lab = Lab::on(Harness::start().await).await;
    lab.start_orchestrator().await;
    lab.apply(THREE).await;
    lab.run("three", "silent", json!({})).await.unwrap();
    assert!(told(&lab).await.is_empty());
    lab.stop_orchestrator().await;
    lab.config.lifecycle = Lifecycle::Workflows;
    lab.start_orchestrator().await;
    lab.apply(
        "document: { dsl: '1.0.3', namespace: test, name: watch, version: '1.0.0' }\n\
         do:\n  - wait: { listen: { to: { one: { with: { type: io.serverlessworkflow.workflow.completed.v1, subject: t-2 } } } } }\n",
    )
    .await;
    lab.begin("watch", "w-1", json!({})).await;
    for id in ["t-1", "t-2"] {
        lab.run("three", id, json!({ "c": id })).await.unwrap();
    }
    let heard: Value = lab.closed("watch", "w-1").await.output.unwrap();
    assert_eq!(heard[0]["name"], "three-t-2.test");
    let kinds = types_up_to(&lab, "workflow.completed", 3).await;
    assert!(kinds.iter().all(|kind| kind.starts_with("workflow.")), "{kinds:?}");
    assert!(!told(&lab).await.iter().any(|event| event.id.starts_with("silent")));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_told_yet_is_told_by_the_next_owner_after_the_log_was_cleaned() {
    let mut lab = Lab::on(Harness::start().await).await;
    (lab.config.lifecycle, lab.config.clean_every) = (Lifecycle::Workflows, 4);
    lab.start_orchestrator().await;
    lab.apply(THREE).await;
    // Nobody takes events any more, and sagas go on.
    let delete = format!("$JS.API.STREAM.DELETE.{EVENTS}");
    lab.bus.request(&delete, &Headers::new(), Bytes::new(), SOON).await.unwrap();
    for number in 0..20 {
        lab.run("three", &format!("g-{number}"), json!({ "c": "ok" })).await.unwrap();
    }
    lab.stop_orchestrator().await;
    lab.start_orchestrator().await;
    let types = types_up_to(&lab, "workflow.completed", 20).await;
    assert_eq!(types.iter().filter(|kind| *kind == "workflow.started").count(), 20);
    // And then the log is let go.
    let left = || async { lab.bus.stream_state("WORKFLOW_LOG").await.unwrap().messages };
    eventually(SOON, || async {
        lab.run("three", &sinew::new_id(), json!({ "c": "ok" })).await.unwrap();
        left().await < 40
    })
    .await;
    lab.stop().await;
}
