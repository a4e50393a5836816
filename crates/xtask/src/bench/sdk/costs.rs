//! What tracing costs, and what a crowd of slow requests does to memory.

use std::time::Duration;

use sinew::{Bus, CallError, Config, Ctx, telemetry};
use tokio::task::JoinSet;

use super::{ROUNDS, requests::sdk};
use crate::bench::{Error, load, messages::Slow, peer::Peer, server};

const IN_FLIGHT: usize = 64;
/// How many short rounds are one long one.
const SHORT: u32 = 3;
const CROWD: usize = 10_000;

pub(super) async fn run(time: Duration) -> Result<(), Error> {
    tracing_cost(time).await?;
    crowd().await
}

/// The same calls without a trace, in one that nobody records, and in one that is exported by both sides. Who serves decides
/// whether it records, so there are two services, each on a broker of its own, and all three kinds take turns in short
/// rounds: first in one order, then in the other. The collector is a process that reads and throws away, so what it takes
/// of the machine is the network's part, as with one elsewhere.
async fn tracing_cost(time: Duration) -> Result<(), Error> {
    println!("\nsdk: what tracing costs, 64 in flight, both sides");
    let (broker, beside) = (server(false).await?, server(false).await?);
    let collector = Peer::start("collector", broker.url())?;
    let _service = Peer::start("service", broker.url())?;
    let _exporting = Peer::start_traced("service", beside.url(), &collector.said)?;
    let bus = Bus::connect(Config::new(broker.url(), "bench")).await?;
    let config = Config::new(beside.url(), "bench").traced_to(Some(collector.said.clone()));
    let exporting_bus = Bus::connect(config).await?;
    let trace = Some(telemetry::new_root(true));
    let kinds = [
        Ctx::detached(&bus, "bench"),
        Ctx::traced(&bus, "bench", trace),
        Ctx::traced(&exporting_bus, "bench", trace),
    ];
    for ctx in &kinds {
        sdk(ctx, IN_FLIGHT, time / SHORT).await?;
    }
    let mut rounds = [const { Vec::new() }; 3];
    for round in 0..ROUNDS * SHORT as usize {
        for turn in 0..kinds.len() {
            let kind = if round % 2 == 0 { turn } else { kinds.len() - 1 - turn };
            rounds[kind].push(sdk(&kinds[kind], IN_FLIGHT, time / SHORT).await?);
        }
    }
    let [without, silent, exported] = rounds;
    load::compare("trace, no exporter", &silent, &without);
    load::compare("trace, OTLP export", &exported, &without);
    exporting_bus.close().await;
    bus.close().await;
    beside.stop().await?;
    broker.stop().await?;
    Ok(())
}

/// A crowd of requests that take long: what is too much is turned away at once, and memory stays where it was.
async fn crowd() -> Result<(), Error> {
    println!("\nsdk: {CROWD} requests at once of 20 ms each, 64 hands, 1,024 places in the queue");
    let broker = server(false).await?;
    let service = Peer::start("slow", broker.url())?;
    let bus = Bus::connect(Config::new(broker.url(), "bench")).await?;
    let before = service.resident("VmRSS")?;
    let ctx = Ctx::detached(&bus, "bench");
    let mut calls = JoinSet::new();
    for _ in 0..CROWD {
        let ctx = ctx.clone();
        calls.spawn(async move { ctx.call(Slow { text: "x".repeat(200) }).no_retry().await });
    }
    let (mut done, mut shed, mut other) = (0, 0, 0);
    while let Some(outcome) = calls.join_next().await {
        match outcome? {
            Ok(_) => done += 1,
            Err(CallError::Refused(problem)) if problem.status == 503 => shed += 1,
            Err(_) => other += 1,
        }
    }
    let peak = service.resident("VmHWM")?;
    println!("{:>24}  {done} answered, {shed} turned away, {other} otherwise", "outcome");
    println!("{:>24}  {before:.1} MB resident before, {peak:.1} MB at most", "service");
    bus.close().await;
    broker.stop().await?;
    Ok(())
}
