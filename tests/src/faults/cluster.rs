//! Three orchestrators on a cluster of three servers: one is killed and started again, or cut off and joined again.

use sinew::Bus;

use super::{
    some_moment, span,
    system::{Plan, System},
};
use crate::harness::{Cluster, SOON, eventually};

const CONFIG: &str = "shards: 3\nreplicas: 3\nlease_seconds: 2\n";

/// What happens to a server.
#[derive(Clone, Copy)]
enum Fault {
    Killed,
    CutOff,
}

/// Lets one server after another suffer, and returns the system and what its starters were told.
async fn suffer(cluster: &mut Cluster, fault: Fault) {
    let url = cluster.url().to_owned();
    // A network that is cut holds copies of requests back, and lets them go when the saga is undone: the participants'
    // barrier is for those.
    let barrier = matches!(fault, Fault::CutOff).then_some(3);
    let plan = Plan { orchestrators: &[&url, &url, &url], config: CONFIG, barrier, ..Plan::new(&url) };
    let system = System::start(plan).await;
    let load = system.load_over_bus("c", 12);
    let until = tokio::time::Instant::now() + span(9);
    let first = fastrand::usize(0..3);
    for (round, victim) in (0..3).cycle().skip(first).enumerate() {
        // Work goes on: a cluster that had one server missing a moment ago is whole again.
        let effects = system.effects();
        eventually(SOON * 3, || async { system.effects() > effects + 40 }).await;
        if round >= 3 && tokio::time::Instant::now() > until {
            break;
        }
        match fault {
            Fault::Killed => cluster.kill(victim).await,
            Fault::CutOff => cluster.cut(victim, true),
        }
        some_moment(1_500..4_000).await;
        match fault {
            Fault::Killed => cluster.revive(victim),
            Fault::CutOff => cluster.cut(victim, false),
        }
    }
    let told = load.finish().await;
    let evidence = system.evidence(told).await;
    system.assert_kept(&evidence);
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_three_orchestrators_on_a_cluster_survive_that_its_servers_are_killed_in_turn() {
    suffer(&mut Cluster::start().await, Fault::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_three_orchestrators_on_a_cluster_survive_that_its_servers_are_cut_off_in_turn() {
    match Cluster::start_apart().await {
        Ok(mut cluster) => suffer(&mut cluster, Fault::CutOff).await,
        Err(reason) => println!("SKIPPED, no network can be cut here: {reason}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_an_orchestrator_creates_has_as_many_copies_as_it_is_told() {
    let cluster = Cluster::start().await;
    let bus = Bus::connect(sinew::Config::new(cluster.url(), "copies")).await.unwrap();
    let config = sinew_orchestrator::Config { replicas: 3, ..sinew_orchestrator::Config::default() };
    let running = sinew_orchestrator::start(config, bus.clone()).await.unwrap();
    let streams = bus.streams().await.unwrap();
    for kind in ["KV_", "OBJ_", "EVENTS"] {
        assert!(streams.iter().any(|stream| stream.name.starts_with(kind)), "{kind}: {streams:?}");
    }
    let single: Vec<&str> =
        streams.iter().filter(|stream| stream.replicas < 3).map(|stream| &*stream.name).collect();
    assert_eq!(single, [""; 0]);
    running.drain().await;
    bus.close().await;
}
