//! SIGSTOP of an owner for longer than its lease, and then SIGCONT: it may not append, and lets nothing out.

use std::collections::BTreeSet;

use super::{
    some_moment, span,
    system::{Plan, System},
};
use crate::harness::{Harness, SOON, eventually};

/// One shard, so that the sleeper is the owner of everything; a lease that is soon over.
const CONFIG: &str = "lease_seconds: 2\n";

/// Participants have their barrier here: what an owner had in the buffer of its socket when it was stopped, no check of
/// its own can take back, and that is what the barrier is for. That it begins nothing else is a test of the orchestrator.
#[tokio::test(flavor = "multi_thread")]
async fn p8_owners_stopped_for_longer_than_their_lease_append_nothing_and_let_no_effect_out() {
    let harness = Harness::start_synced().await;
    let url = harness.url().to_owned();
    let plan = Plan { orchestrators: &[&url, &url], config: CONFIG, barrier: Some(1), ..Plan::new(&url) };
    let system = System::start(plan).await;
    let load = system.load_over_bus("s", 24);
    let mut owners = BTreeSet::new();
    let until = tokio::time::Instant::now() + span(12);
    let mut rounds = 0;
    while rounds < 2 || tokio::time::Instant::now() < until {
        some_moment(300..1_200).await;
        // Neither knows who owns the shard; who is stopped when it does not own it has nothing to let out.
        let sleeper = rounds % 2;
        let before = owner(&system).await;
        system.orchestrators[sleeper].signal("-STOP");
        // A lease that is not renewed is over after two seconds; then there is another owner, or the same one still.
        some_moment(2_500..3_500).await;
        let heir = owner(&system).await;
        let effects = system.effects();
        eventually(SOON, || async { system.effects() > effects + 20 }).await;
        system.orchestrators[sleeper].signal("-CONT");
        owners.extend([before, heir]);
        rounds += 1;
    }
    assert!(owners.len() > 1, "nobody took over: {owners:?}");
    let told = load.finish().await;
    let evidence = system.evidence(told).await;
    system.assert_kept(&evidence);
}

/// Returns who owns the shard, as the leases say.
async fn owner(system: &System) -> String {
    let asked = || async {
        let leases = system.bus().kv("WORKFLOW_LEASES").await.ok()?.entries("shard.*").await.ok()?;
        let (_, holder) = leases.into_iter().next()?;
        String::from_utf8_lossy(&holder).split(' ').next().map(str::to_owned)
    };
    eventually(SOON, asked).await
}
