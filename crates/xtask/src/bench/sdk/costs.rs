//! What tracing costs, and what a crowd of slow requests does to memory.

use std::time::Duration;

use sinew::{Bus, CallError, Config, Ctx, telemetry};
use tokio::task::JoinSet;

use super::{ROUNDS, requests::sdk};
use crate::bench::{
    Error, load,
    peer::{Peer, Slow},
    server,
};

const IN_FLIGHT: usize = 64;
const CROWD: usize = 10_000;

pub(super) async fn run(time: Duration) -> Result<(), Error> {
    tracing_cost(time).await?;
    crowd().await
}

/// The same calls without a trace, in one that nobody records, and in one that is exported. Rounds take turns; for the
/// last kind both sides are started anew, because who serves decides whether it records. The collector is a process that
/// reads and throws away, so what it takes of the machine is the network's part, as with one elsewhere.
async fn tracing_cost(time: Duration) -> Result<(), Error> {
    println!("\nsdk: what tracing costs, 64 in flight, both sides");
    let broker = server(false).await?;
    let collector = Peer::start("collector", broker.url())?;
    let bus = Bus::connect(Config::new(broker.url(), "bench")).await?;
    let exporting = Config::new(broker.url(), "bench").traced_to(Some(collector.said.clone()));
    let traced_bus = Bus::connect(exporting).await?;
    let (mut without, mut silent, mut exported) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let off = Peer::start("service", broker.url())?;
        without.push(sdk(&Ctx::detached(&bus, "bench"), IN_FLIGHT, time).await?);
        let context = Some(telemetry::new_root(true));
        silent.push(sdk(&Ctx::traced(&bus, "bench", context), IN_FLIGHT, time).await?);
        drop(off);
        let on = Peer::start_traced("service", broker.url(), &collector.said)?;
        exported.push(sdk(&Ctx::traced(&traced_bus, "bench", context), IN_FLIGHT, time).await?);
        drop(on);
    }
    let without = load::median(without);
    load::compare("trace, no exporter", load::median(silent), without);
    load::compare("trace, OTLP export", load::median(exported), without);
    traced_bus.close().await;
    bus.close().await;
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
