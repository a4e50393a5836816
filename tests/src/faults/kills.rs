//! SIGKILL of everything at random moments.

use tokio::time::Instant;

use super::{
    some_moment, span,
    system::{Plan, Process, System},
};
use crate::harness::Harness;

/// Several shards, and leases as short as they can be: a killed owner is missed for a part of the run only.
const CONFIG: &str = "shards: 4\nlease_seconds: 2\n";

/// Whom a kill hits.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Owner,
    /// Then nobody can take over what somebody had just released.
    EveryOwner,
    Participant,
    /// Nobody is there for a moment.
    EveryParticipant,
    /// Whoever asks and whoever is asked: what was done is known to nobody who lives.
    Both,
    Edge,
    Server,
}

/// Owners are missed for seconds, the others for moments: so they die in turn, and seldom at once.
const ROUND: [Victim; 12] = [
    Victim::Participant,
    Victim::Edge,
    Victim::Owner,
    Victim::EveryParticipant,
    Victim::Participant,
    Victim::Server,
    Victim::Participant,
    Victim::Both,
    Victim::Edge,
    Victim::EveryParticipant,
    Victim::Server,
    Victim::EveryOwner,
];

#[tokio::test(flavor = "multi_thread")]
async fn p8_sigkill_of_everything_at_random_moments_loses_no_accepted_saga() {
    let mut harness = Harness::start_synced().await;
    let url = harness.url().to_owned();
    let plan = Plan { orchestrators: &[&url, &url], participants: 3, config: CONFIG, ..Plan::new(&url) };
    let mut system = System::start(plan).await;
    let load = system.load("k", 32);
    let until = Instant::now() + span(20);
    for victim in ROUND.into_iter().cycle() {
        some_moment(300..2_000).await;
        if Instant::now() > until {
            break;
        }
        kill(victim, &mut system, &mut harness).await;
        some_moment(0..200).await;
        system.tend();
    }
    let told = load.finish().await;
    let evidence = system.evidence(told).await;
    system.assert_kept(&evidence);
}

async fn kill(victim: Victim, system: &mut System, harness: &mut Harness) {
    let System { orchestrators, participants, edge, .. } = system;
    match victim {
        Victim::Owner => orchestrators[fastrand::usize(0..2)].kill().await,
        Victim::Participant => participants[fastrand::usize(0..3)].kill().await,
        Victim::Edge => edge.kill().await,
        Victim::EveryOwner => kill_all(orchestrators).await,
        Victim::EveryParticipant => kill_all(participants).await,
        Victim::Both => {
            kill_all(orchestrators).await;
            kill_all(participants).await;
        }
        Victim::Server => {
            harness.kill().await;
            harness.revive().await;
        }
    }
}

async fn kill_all(processes: &mut [Process]) {
    for process in processes {
        process.kill().await;
    }
}
