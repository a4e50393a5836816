//! Instances that wait are left to the log: they wake for what they wait for, whoever owns them by then.

use std::{collections::HashSet, time::Duration};

use futures::{StreamExt, stream};
use serde_json::json;
use sinew::workflow::{CancelWorkflow, ListWorkflows};

use super::{
    faults::Orchestrator,
    lab::{Lab, timeline},
    listen::pay,
};
use crate::harness::{Harness, eventually};

const LONG: Duration = Duration::from_secs(120);

const NAP: &str = "\
document: { dsl: '1.0.3', namespace: test, name: nap, version: '1.0.0' }
do:
  - nap: { wait: PT45S }
  - woke: { call: lab.act, with: { step: woke }, compensate: { call: lab.undo, with: { step: woke } } }
";

const PAYMENT: &str = "\
document: { dsl: '1.0.3', namespace: test, name: payment, version: '1.0.0' }
do:
  - before: { call: lab.act, with: { step: before }, compensate: { call: lab.undo, with: { step: before } } }
  - wait:
      listen:
        to:
          one:
            with: { type: lab.paid.v1 }
            correlate: { order: { from: .data.order, expect: '${ $workflow.input.order }' } }
";

/// Counts the parked states in the log.
async fn parked(lab: &Lab) -> usize {
    let mut reader = lab.bus.read_stream("WORKFLOW_LOG", "wf.log.>", 1).await.unwrap();
    let mut count = 0;
    loop {
        let batch = reader.batch().await.unwrap();
        if batch.is_empty() {
            return count;
        }
        // What a record calls them.
        let name = b"\xa6parked";
        let all =
            batch.iter().map(|one| one.payload.windows(name.len()).filter(|bytes| bytes == name).count());
        count += all.sum::<usize>();
    }
}

async fn begin(lab: &Lab, name: &str, prefix: &str, count: usize) {
    let start = |number: usize| async move {
        let id = format!("{prefix}-{number}");
        lab.begin(name, &id, json!({ "order": id })).await;
    };
    stream::iter(0..count).map(start).buffer_unordered(64).collect::<Vec<()>>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_ten_thousand_parked_instances_wake_for_their_timers_after_a_restart() {
    const COUNT: usize = 10_000;
    let mut lab = Lab::on(Harness::start().await).await;
    lab.config.park_after_seconds = 0;
    lab.start_orchestrator().await;
    lab.apply(NAP).await;
    begin(&lab, "nap", "n", COUNT).await;
    eventually(LONG, || async { parked(&lab).await >= COUNT }).await;
    assert_eq!(lab.ledger.lines(), [], "all of them were parked before the first one was due");
    lab.stop_orchestrator().await;
    lab.start_orchestrator_within(LONG).await;
    let woke = || async { lab.ledger.lines().len() >= COUNT };
    eventually(LONG, woke).await;
    let lines = lab.ledger.lines();
    let keys: HashSet<&str> = lines.iter().map(|line| line.key.as_str()).collect();
    assert_eq!((keys.len(), lines.len()), (COUNT, COUNT), "each woke, and once");
    for number in [0, COUNT / 2, COUNT - 1] {
        assert_eq!(lab.closed("nap", &format!("n-{number}")).await.status, "completed");
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_parked_listeners_hear_their_event_once_after_their_owner_was_killed() {
    const COUNT: usize = 500;
    let lab = Lab::on(Harness::start().await).await;
    let owner = Orchestrator::start(lab.harness.url());
    eventually(LONG, || async { lab.try_apply(PAYMENT).await }).await;
    begin(&lab, "payment", "p", COUNT).await;
    eventually(LONG, || async { parked(&lab).await >= COUNT }).await;
    // One of them is being woken when its owner dies.
    let cancel = CancelWorkflow { name: "payment".to_owned(), id: "p-0".to_owned(), reason: None };
    let (cancelled, ()) = tokio::join!(lab.ctx.call(cancel.clone()).within(Duration::from_secs(1)), async {
        owner.kill();
    });
    drop(cancelled);
    let _heir = Orchestrator::start(lab.harness.url());
    let list =
        ListWorkflows { name: "payment".to_owned(), status: Some("running".to_owned()), limit: Some(20) };
    let listed = eventually(LONG, || async { lab.ctx.call(list.clone()).await.ok() }).await;
    assert_eq!(listed.instances.len(), 20, "those who are parked are listed too");
    for number in 1..COUNT {
        pay(&lab, &format!("p-{number}"), 1).await;
    }
    for number in 1..COUNT {
        let instance = lab.closed("payment", &format!("p-{number}")).await;
        assert_eq!(timeline(&instance), "before completed | wait completed → completed/committed");
        assert_eq!(instance.output, Some(json!([{ "order": format!("p-{number}"), "amount": 1 }])));
    }
    eventually(LONG, || async { lab.ctx.call(cancel.clone()).await.is_ok() }).await;
    assert_eq!(lab.closed("payment", "p-0").await.saga, "compensated");
    assert_eq!(lab.ledger.effects("p-0"), ["act before", "undo before"]);
    lab.stop().await;
}
