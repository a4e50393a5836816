//! SIGKILL of everything at random moments.

use tokio::time::Instant;

use super::{
    some_moment, span,
    system::{Plan, System},
};
use crate::harness::Harness;

#[tokio::test(flavor = "multi_thread")]
async fn p8_sigkill_of_everything_at_random_moments_loses_no_accepted_saga() {
    let mut harness = Harness::start_synced().await;
    let url = harness.url().to_owned();
    let plan = Plan { url: &url, orchestrators: &[&url, &url], participants: 3, config: "" };
    let mut system = System::start(plan).await;
    let load = system.load("k", 16);
    let until = Instant::now() + span(15);
    while Instant::now() < until {
        some_moment(50..500).await;
        match fastrand::usize(0..10) {
            victim @ 0..2 => system.orchestrators[victim].kill().await,
            // Both: then nobody can take over what the first one had just released.
            2 => {
                system.orchestrators[0].kill().await;
                system.orchestrators[1].kill().await;
            }
            victim @ 3..6 => system.participants[victim - 3].kill().await,
            6 => system.edge.kill().await,
            7 => {
                harness.kill().await;
                harness.revive().await;
            }
            // Nobody is there for a moment.
            8 => {
                for one in &mut system.participants {
                    one.kill().await;
                }
                some_moment(0..300).await;
            }
            // The owner and those it asks at once: what was done is known to nobody who lives.
            _ => {
                system.orchestrators[0].kill().await;
                system.orchestrators[1].kill().await;
                for one in &mut system.participants {
                    one.kill().await;
                }
            }
        }
        some_moment(0..200).await;
        system.tend();
    }
    system.tend();
    let told = load.finish().await;
    let evidence = system.evidence(told).await;
    system.assert_kept(&evidence);
}
