//! The server: killed in the middle of appends with every write synced, and a power failure at a moment nobody chose.

use std::{path::Path, process::Command};

use super::{
    some_moment, span,
    system::{Plan, System},
};
use crate::harness::{Harness, SOON, eventually};

const CONFIG: &str = "lease_seconds: 2\n";

#[tokio::test(flavor = "multi_thread")]
async fn p8_a_synced_server_killed_in_the_middle_of_appends_loses_no_accepted_saga() {
    let mut harness = Harness::start_synced().await;
    let url = harness.url().to_owned();
    let plan = Plan { config: CONFIG, ..Plan::new(&url) };
    let system = System::start(plan).await;
    let load = system.load_over_bus("b", 32);
    let until = tokio::time::Instant::now() + span(8);
    let mut rounds = 0;
    while rounds < 4 || tokio::time::Instant::now() < until {
        // Effects come out: so appends are under way, at every moment.
        let effects = system.effects();
        eventually(SOON, || async { system.effects() > effects + 50 }).await;
        some_moment(0..300).await;
        harness.kill().await;
        harness.revive().await;
        rounds += 1;
    }
    let told = load.finish().await;
    let evidence = system.evidence(told).await;
    system.assert_kept(&evidence);
}

/// The server is frozen while its directory is copied, so the copy is what stood in its files at one moment; that is
/// more than a disk keeps that was not synced, but nothing that was acknowledged may be missing from it. What happened
/// after the copy began is not promised to anybody: the system begins again from the copy, and is asked for what it had
/// accepted before.
#[tokio::test(flavor = "multi_thread")]
async fn p8_what_was_accepted_before_the_power_failed_is_there_when_it_comes_back_and_ends() {
    let mut harness = Harness::start_synced().await;
    let url = harness.url().to_owned();
    let plan = Plan { config: CONFIG, ..Plan::new(&url) };
    let mut system = System::start(plan).await;
    let mut load = system.load_over_bus("w", 32);
    let effects = system.effects();
    eventually(SOON, || async { system.effects() > effects + 300 }).await;
    some_moment(0..1_000).await;
    let before = load.told();
    harness.signal("-STOP");
    let copy = tempfile::tempdir().unwrap();
    copied(harness.data_dir(), copy.path());
    // Everything dies with the power; nobody has anything in memory when it is back.
    system.orchestrators[0].kill().await;
    load.abandon().await;
    harness.kill().await;
    emptied(harness.data_dir());
    copied(copy.path(), harness.data_dir());
    harness.revive().await;
    system.tend();
    assert!(before.len() > 20, "only {} were accepted before", before.len());
    let evidence = system.evidence(before).await;
    system.assert_kept(&evidence);
}

fn copied(from: &Path, to: &Path) {
    // Whole, with everything's own time and owner.
    let copied = Command::new("cp").arg("-a").arg(from.join("jetstream")).arg(to).status().unwrap();
    assert!(copied.success(), "the directory could not be copied");
}

fn emptied(dir: &Path) {
    std::fs::remove_dir_all(dir.join("jetstream")).unwrap();
}
