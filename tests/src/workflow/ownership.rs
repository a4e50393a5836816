//! Who owns the shards: a fair share for every replica, and hand-overs that lose and double nothing.

use std::collections::BTreeMap;

use serde_json::json;
use sinew::{Bus, Config, workflow::StartWorkflow};

use super::lab::{Lab, THREE};
use crate::harness::{Harness, SOON, eventually};

const SHARDS: u16 = 6;

/// An orchestrator with a connection of its own, as another process would have.
struct Replica {
    bus: Bus,
    running: sinew_orchestrator::Running,
}

impl Replica {
    async fn start(lab: &Lab) -> Self {
        let bus = Bus::connect(Config::new(lab.harness.url(), "orchestrator")).await.unwrap();
        let config = sinew_orchestrator::Config { shards: SHARDS, ..lab.config.clone() };
        let running = sinew_orchestrator::start(config, bus.clone()).await.unwrap();
        eventually(SOON, || async { running.is_ready() }).await;
        Self { bus, running }
    }

    async fn leave(self) {
        self.running.drain().await;
        self.bus.close().await;
    }
}

/// How many shards each replica owns, in ascending order.
async fn spread(lab: &Lab) -> Vec<usize> {
    let leases = lab.bus.kv("WORKFLOW_LEASES").await.unwrap().entries("shard.*").await.unwrap();
    let mut counts = BTreeMap::new();
    for (_, holder) in leases {
        let owner = String::from_utf8_lossy(&holder).split(' ').next().unwrap().to_owned();
        *counts.entry(owner).or_insert(0) += 1;
    }
    let mut counts: Vec<usize> = counts.into_values().collect();
    counts.sort_unstable();
    counts
}

async fn begin(lab: &Lab, numbers: std::ops::Range<usize>) -> Vec<String> {
    let mut ids = Vec::new();
    for number in numbers {
        let id = format!("o-{number}");
        let start = StartWorkflow::new("three", json!({ "c": "ok" })).id(id.clone()).without_waiting();
        eventually(SOON, || async { lab.ctx.call(start.clone()).await.is_ok() }).await;
        ids.push(id);
    }
    ids
}

/// Each step of each saga was asked for once: nobody had to repeat what another had begun.
async fn assert_done_once(lab: &Lab, ids: &[String]) {
    for id in ids {
        assert_eq!(lab.closed("three", id).await.status, "completed");
        let own = format!("{id}/");
        let asked: Vec<String> = lab
            .ledger
            .lines()
            .into_iter()
            .filter(|line| line.key.starts_with(&own))
            .map(|l| l.what)
            .collect();
        assert_eq!(asked, ["act a", "act b", "act c"], "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_are_spread_fairly_when_replicas_come_and_go_and_no_saga_notices() {
    let lab = Lab::on(Harness::start().await).await;
    let first = Replica::start(&lab).await;
    lab.apply(THREE).await;
    assert_eq!(spread(&lab).await, [6]);
    let mut ids = begin(&lab, 0..20).await;
    let second = Replica::start(&lab).await;
    ids.extend(begin(&lab, 20..40).await);
    eventually(SOON, || async { spread(&lab).await == [3, 3] }).await;
    let third = Replica::start(&lab).await;
    ids.extend(begin(&lab, 40..60).await);
    eventually(SOON, || async { spread(&lab).await == [2, 2, 2] }).await;
    ids.extend(begin(&lab, 60..80).await);
    first.leave().await;
    ids.extend(begin(&lab, 80..100).await);
    eventually(SOON, || async { spread(&lab).await == [3, 3] }).await;
    assert_done_once(&lab, &ids).await;
    second.leave().await;
    third.leave().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_hand_over_waits_for_calls_in_flight_so_that_none_is_repeated() {
    let mut lab = Lab::start().await;
    lab.apply(THREE).await;
    lab.begin("three", "h-1", json!({ "c": "patient" })).await;
    eventually(SOON, || async { lab.ledger.lines().iter().any(|line| line.what == "act c") }).await;
    lab.stop_orchestrator().await;
    lab.start_orchestrator().await;
    assert_done_once(&lab, &["h-1".to_owned()]).await;
    lab.stop().await;
}
