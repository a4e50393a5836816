//! The planted violation: effects released before their record is acknowledged, in whole processes, and the checker
//! sees it.
//!
//! No switch in the program plants it: what is shipped is what is tested, and nobody can turn it on by accident. A
//! relay between the orchestrator and the server does, by acknowledging appends that have not reached the log. To the
//! world that is an owner that lets effects out early; killed, it leaves effects without their record. The same relay
//! without the lie is the proof that the delay alone is no violation.

use std::{collections::BTreeSet, time::Duration};

use super::{
    checker::{Wrong, check},
    relay::{Relay, Temper},
    system::{Plan, System},
};
use crate::harness::{Harness, SOON, eventually};

const CONFIG: &str = "lease_seconds: 2\n";
/// How long an append is held back: long enough for several steps of a saga.
const HELD: Duration = Duration::from_millis(150);
/// How long one is held back that was acknowledged: sagas end in the meantime, also on a machine that does much else,
/// so that no repetition makes good what a kill loses.
const LIED_ABOUT: Duration = Duration::from_secs(4);

/// Runs sagas through the relay, kills the orchestrator in the middle of them, and returns the evidence.
async fn through(temper: Temper) -> (System, super::checker::Evidence) {
    let harness = Harness::start_synced().await;
    let (url, relay) = (harness.url().to_owned(), Relay::start(harness.url()).await);
    let plan = Plan { orchestrators: &[relay.url()], config: CONFIG, ..Plan::new(&url) };
    let mut system = System::start(plan).await;
    relay.turn(temper);
    let load = system.load_over_bus("l", 8);
    for _ in 0..3 {
        let effects = system.effects();
        eventually(SOON, || async { system.effects() > effects + 40 }).await;
        system.orchestrators[0].kill().await;
        system.tend();
    }
    relay.turn(Temper::Honest);
    // An owner that went on behind a lie is fenced off; one that starts anew reads what is really there.
    system.orchestrators[0].kill().await;
    system.tend();
    let told = load.finish().await;
    let evidence = system.evidence(told).await;
    drop((relay, harness));
    (system, evidence)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_released_before_its_record_is_stored_is_seen_by_the_checker() {
    let (_, evidence) = through(Temper::Liar(LIED_ABOUT)).await;
    let wrong: BTreeSet<Wrong> = check(&evidence).into_iter().map(|found| found.wrong).collect();
    // Which of them it is depends on what the killed owner's heir did again, and with what outcome: an effect nobody
    // recorded, an accepted start that is gone, or a result that was told and is another now.
    let traces = BTreeSet::from([Wrong::Unrecorded, Wrong::Missing, Wrong::ToldOtherwise]);
    assert!(!wrong.is_disjoint(&traces), "a lie leaves a trace: {wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_appends_that_are_slow_to_arrive_let_nothing_out_early() {
    let (system, evidence) = through(Temper::Slow(HELD)).await;
    system.assert_kept(&evidence);
}
