//! Replies that come twice, in another order, and after everybody has given them up.

use std::time::Duration;

use super::{
    relay::{Relay, Temper},
    span,
    system::{Plan, System},
};
use crate::harness::{Harness, SOON, eventually};

/// Longer than the steps of these sagas wait for a reply.
const LATE: Duration = Duration::from_millis(2_500);

#[tokio::test(flavor = "multi_thread")]
async fn p8_replies_that_come_twice_late_and_out_of_order_count_once() {
    let harness = Harness::start_synced().await;
    let relay = Relay::start(harness.url()).await;
    let plan = Plan { orchestrators: &[relay.url()], ..Plan::new(harness.url()) };
    let system = System::start(plan).await;
    relay.turn(Temper::Echo(LATE));
    let load = system.load_over_bus("r", 24);
    let until = tokio::time::Instant::now() + span(6);
    while tokio::time::Instant::now() < until {
        let effects = system.effects();
        eventually(SOON, || async { system.effects() > effects + 20 }).await;
    }
    relay.turn(Temper::Honest);
    let told = load.finish().await;
    let evidence = system.evidence(told).await;
    let late = evidence.instances.values().flat_map(|one| &one.steps).filter(|one| one.outcome == "unknown");
    assert!(late.count() > 0, "no reply was late: the run shows nothing");
    system.assert_kept(&evidence);
}
