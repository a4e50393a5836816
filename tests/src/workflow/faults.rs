//! P8: an accepted start ends completed, compensated or visibly stuck, whatever is killed.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;
use sinew::{Bus, Config, workflow::StartWorkflow};

use super::lab::{Lab, Line, THREE};
use crate::{
    faults::checker::{Effect, Evidence, Told, Verb, check},
    harness::{Harness, SOON, eventually},
};

/// Set for the process that plays the orchestrator.
const PART: &str = "SINEW_TEST_ORCHESTRATOR";

/// Where that process sends its spans.
const TRACES: &str = "SINEW_TEST_TRACES";

/// An orchestrator in a process of its own, to be killed.
pub(crate) struct Orchestrator(Child);

impl Orchestrator {
    pub(crate) fn start(nats: &str) -> Self {
        Self::start_traced(nats, "")
    }

    /// Starts one that sends its spans to `collector`.
    pub(crate) fn start_traced(nats: &str, collector: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "workflow::faults::plays_the_orchestrator", "--ignored", "--nocapture"]);
        command.env(PART, nats).env(TRACES, collector).stdout(Stdio::null()).stderr(Stdio::inherit());
        Self(command.spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Orchestrator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the part of another process in the tests below"]
async fn plays_the_orchestrator() {
    let Ok(nats) = std::env::var(PART) else { return };
    let config = Config::new(nats, "orchestrator").traced_to(std::env::var(TRACES).ok());
    let bus = Bus::connect(config).await.unwrap();
    let running =
        sinew_orchestrator::start(sinew_orchestrator::Config::default(), bus.clone()).await.unwrap();
    sinew::shutdown::requested().await;
    running.drain().await;
    bus.close().await;
}

async fn applied_by_child(lab: &Lab) {
    eventually(SOON, || async { lab.try_apply(THREE).await }).await;
}

/// Starts sagas one after another, every third of which is refused at its last step, and repeats each start under its
/// id until it is accepted, as a client would; returns the ids.
async fn starts(lab: &Lab, from: usize, count: usize) -> Vec<String> {
    let mut accepted = Vec::new();
    for number in from..from + count {
        let id = format!("s-{number}");
        let behave = if number % 3 == 0 { "refuse" } else { "ok" };
        let request = StartWorkflow::new("three", json!({ "c": behave })).id(id.clone()).without_waiting();
        eventually(SOON, || async {
            lab.ctx.call(request.clone()).within(Duration::from_millis(500)).await.is_ok()
        })
        .await;
        accepted.push(id);
    }
    accepted
}

/// Holds every accepted saga against the checker of whole systems.
async fn assert_kept(lab: &Lab, accepted: &[String]) {
    let mut evidence = Evidence::default();
    for id in accepted {
        evidence.told.insert(id.clone(), vec![Told::Accepted]);
        evidence.instances.insert(id.clone(), lab.closed("three", id).await);
    }
    evidence.effects = lab.ledger.lines().iter().map(effect).collect();
    assert!(evidence.effects.len() >= accepted.len(), "an idle run shows nothing");
    let found: Vec<String> = check(&evidence).iter().map(ToString::to_string).collect();
    assert_eq!(found, Vec::<String>::new());
}

/// Reads a line of the ledger as the checker does; the lab's steps do not name their instance, so their keys do.
fn effect(line: &Line) -> Effect {
    let (verb, step) = line.what.split_once(' ').expect("a verb and a step");
    let (saga, _) = line.key.split_once('/').expect("the key of a step");
    Effect {
        verb: if verb == "undo" { Verb::Revoke } else { Verb::Perform },
        saga: saga.to_owned(),
        step: step.to_owned(),
        key: line.key.clone(),
        forward: line.forward.clone(),
        at_us: 0,
        pid: 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_sigkill_of_the_orchestrator_loses_no_accepted_saga() {
    let lab = Lab::on(Harness::start_synced().await).await;
    let mut accepted = Vec::new();
    let mut running = Orchestrator::start(lab.harness.url());
    applied_by_child(&lab).await;
    for round in 0..3 {
        accepted.extend(starts(&lab, round * 30, 30).await);
        // Right behind the last acceptance the newest sagas are in the middle of their steps.
        running.kill();
        running = Orchestrator::start(lab.harness.url());
    }
    assert_kept(&lab, &accepted).await;
    running.kill();
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_sigkill_of_the_server_loses_no_accepted_saga() {
    let mut lab = Lab::on(Harness::start_synced().await).await.with_orchestrator().await;
    lab.apply(THREE).await;
    let accepted = starts(&lab, 0, 40).await;
    lab.harness.kill().await;
    lab.harness.revive().await;
    assert_kept(&lab, &accepted).await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_an_owner_that_slept_past_its_lease_lets_nothing_out() {
    let lab = Lab::on(Harness::start_synced().await).await;
    let sleeper = Orchestrator::start(lab.harness.url());
    applied_by_child(&lab).await;
    let mut accepted = starts(&lab, 0, 10).await;
    sleeper.signal("-STOP");
    let heir = Orchestrator::start(lab.harness.url());
    accepted.extend(starts(&lab, 1_000, 10).await);
    sleeper.signal("-CONT");
    accepted.extend(starts(&lab, 2_000, 10).await);
    assert_kept(&lab, &accepted).await;
    heir.kill();
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_orchestrator_hands_over_at_once_and_timers_go_on() {
    let mut lab = Lab::start().await;
    lab.apply("document: { dsl: '1.0.3', namespace: test, name: nap, version: '1.0.0' }\ndo:\n  - nap: { wait: PT1S }\n  - a: { call: lab.act, with: { step: a }, compensate: false }\n").await;
    lab.begin("nap", "n-1", json!({})).await;
    lab.stop_orchestrator().await;
    lab.start_orchestrator().await;
    assert_eq!(lab.closed("nap", "n-1").await.status, "completed");
    assert_eq!(lab.ledger.effects("n-1"), ["act a"]);
    lab.stop().await;
}
