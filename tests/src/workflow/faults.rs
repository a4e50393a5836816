//! P8: an accepted start ends completed, compensated or visibly stuck, whatever is killed.

use std::{
    collections::HashMap,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;
use sinew::{
    Bus, Config,
    workflow::{StartWorkflow, WorkflowInstance},
};

use super::lab::{Lab, Ledger, THREE};
use crate::harness::{Harness, SOON, eventually};

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

/// The checker: compares what the history says with what the service saw. Returns every violation.
fn violations(instance: &WorkflowInstance, ledger: &Ledger) -> Vec<String> {
    let mut found = Vec::new();
    let effects = ledger.effects(&instance.id);
    let (acts, undos): (Vec<&str>, Vec<&str>) =
        effects.iter().map(String::as_str).partition(|e| e.starts_with("act"));
    let steps = |effects: &[&str]| {
        effects.iter().map(|e| e.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (done, mut undone) = (steps(&acts), steps(&undos));
    undone.reverse();
    let in_order = effects.iter().skip_while(|e| e.starts_with("act")).all(|e| e.starts_with("undo"));
    let kept = match (instance.status.as_str(), instance.saga.as_str()) {
        ("completed", _) => done == ["a", "b", "c"] && undone.is_empty(),
        // An undo without its act is that of a request that never arrived and whose outcome was unknown.
        ("faulted", "compensated") => {
            in_order && undone.is_sorted() && done.iter().all(|step| undone.contains(step))
        }
        _ => false,
    };
    if !kept {
        let ended = (&instance.status, &instance.saga);
        found.push(format!("{} ended as {ended:?} but the effects were {effects:?}", instance.id));
    }
    let mut keys = HashMap::<String, String>::new();
    for line in ledger.lines().into_iter().filter(|line| line.key.starts_with(&format!("{}/", instance.id))) {
        if let Some(other) = keys.insert(line.what.clone(), line.key.clone()).filter(|key| *key != line.key) {
            found.push(format!("{} was asked under {other} and {}", line.what, line.key));
        }
    }
    found
}

#[test]
fn the_checker_sees_what_it_is_for() {
    let json = json!({ "id": "x", "name": "three", "version": "1", "status": "completed", "saga": "none", "started_ms": 0 });
    let instance: WorkflowInstance = serde_json::from_value(json).unwrap();
    assert_eq!(violations(&instance, &Ledger::default()).len(), 1, "completed without its effects");
    let kept = |status: &str, effects: &[&str]| {
        let saga = if status == "completed" { "committed" } else { "compensated" };
        let instance = WorkflowInstance { status: status.into(), saga: saga.into(), ..instance.clone() };
        violations(&instance, &Ledger::of("x", effects)).is_empty()
    };
    assert!(kept("completed", &["act a", "act b", "act c"]));
    assert!(kept("faulted", &["act a", "act b", "undo b", "undo a"]));
    assert!(!kept("faulted", &["act a", "act b", "undo a"]), "one effect is left over");
    assert!(!kept("faulted", &["act a", "act b", "undo a", "undo b"]), "undone in the wrong order");
    assert!(!kept("faulted", &["act a", "undo a", "act b", "undo b"]), "forward work after an undo");
    assert!(!kept("completed", &["act a", "act b", "act c", "undo c"]), "undone although completed");
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

/// Holds every accepted saga against the checker.
async fn assert_kept(lab: &Lab, accepted: &[String]) {
    let mut found = Vec::new();
    for id in accepted {
        found.extend(violations(&lab.closed("three", id).await, &lab.ledger));
    }
    assert_eq!(found, Vec::<String>::new());
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
