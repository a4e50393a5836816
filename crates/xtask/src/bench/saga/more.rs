//! What a saga costs besides time, and how it fares when it is undone, at the start, after many others and among replicas.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use sinew::{
    Bus, CallError, Config, Ctx,
    workflow::{ApplyWorkflow, FAULTED, StartWorkflow},
};

use super::super::{
    Error,
    load::{self, Figures},
    peer::Peer,
    server,
};
use super::DEFINITION;

/// Sagas after which memory must be what it was.
const MANY: usize = 100_000;
/// How long a replica may take to have its shards.
const SETTLE: Duration = Duration::from_secs(3);
/// The third step is refused, and both others are undone.
const UNDONE: &str = "\
document: { dsl: '1.0.3', namespace: bench, name: undone-calls, version: '1.0.0' }
do:
  - first:
      call: bench.step
      with: { payload: '${ .payload }' }
      compensate: { call: bench.step, with: { payload: '${ .payload }' } }
  - second:
      call: bench.step
      with: { payload: '${ .payload }' }
      compensate: { call: bench.step, with: { payload: '${ .payload }' } }
  - third: { call: bench.step, with: { payload: refuse }, compensate: false }
";

/// What stands on the server: to be compared with what stands later.
pub(super) struct Standing {
    /// Records ever appended to the log of the shards.
    appends: u64,
    /// Bytes of the server's directory.
    disk: u64,
}

impl Standing {
    pub(super) async fn look(bus: &Bus, store: Option<&Path>) -> Result<Self, Error> {
        let appends = bus.stream_state("WORKFLOW_LOG").await?.last_sequence;
        let disk = store.map_or(Ok(0), bytes_below)?;
        Ok(Self { appends, disk })
    }

    /// Prints what so many sagas added.
    pub(super) fn print_since(&self, before: &Self, sagas: usize) {
        let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / sagas.max(1) as f64;
        let (appends, disk) = (each(self.appends, before.appends), each(self.disk, before.disk));
        println!("    appends per saga {appends:.2}, bytes on disk per saga {disk:.0}");
    }
}

pub(super) async fn apply(ctx: &Ctx, source: &str) -> Result<(), Error> {
    let apply = ApplyWorkflow { source: source.to_owned(), file: "bench.yaml".to_owned() };
    ctx.call(apply).await.map(drop).map_err(|error| error.to_string().into())
}

/// Runs sagas of three calls.
pub(super) async fn plain(ctx: &Ctx, concurrency: usize, time: Duration) -> Result<Figures, Error> {
    let step = |ctx: Ctx| async move {
        let done = ctx.call(start("three-calls")).await.map_err(|error| error.to_string())?;
        if done.status == "completed" { Ok(ctx) } else { Err(format!("ended {}", done.status).into()) }
    };
    load::run(concurrency, time, async || Ok(ctx.clone()), step).await
}

/// Prints how many sagas end undone, against as many that complete right before.
pub(super) async fn compensated(ctx: &Ctx, concurrency: usize, time: Duration) -> Result<(), Error> {
    let step = |ctx: Ctx| async move {
        match ctx.call(start("undone-calls")).await {
            Err(error) if error.to_problem().code == FAULTED => Ok(ctx),
            Ok(done) => Err(Error::from(format!("ended {}", done.status))),
            Err(error) => Err(error.to_string().into()),
        }
    };
    let before = plain(ctx, concurrency, time).await?;
    let undone = load::run(concurrency, time, async || Ok(ctx.clone()), step).await?;
    println!("  compensated, {concurrency} in flight: {undone}");
    println!("    {:.3} of the throughput of those that complete", undone.per_second / before.per_second);
    Ok(())
}

/// Prints how long it takes from the start of a process to the end of its first saga.
pub(super) async fn first(ctx: &Ctx, url: &str) -> Result<Peer, Error> {
    let began = Instant::now();
    let peer = Peer::start("orchestrator", url)?;
    let ready = began.elapsed();
    loop {
        match ctx.call(start("three-calls")).await {
            Ok(_) => break,
            Err(CallError::NoResponders) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => return Err(error.to_string().into()),
        }
    }
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "  first saga {:.0} ms after the start of the orchestrator (ready after {:.0} ms)",
        ms(began.elapsed()),
        ms(ready)
    );
    Ok(peer)
}

/// Prints the memory of an orchestrator before and after many sagas.
pub(super) async fn many(ctx: &Ctx, orchestrator: &Peer) -> Result<(), Error> {
    let (before, mut done) = (orchestrator.resident("VmRSS")?, 0);
    while done < MANY {
        done += plain(ctx, 256, Duration::from_secs(2)).await?.count;
    }
    let after = orchestrator.resident("VmRSS")?;
    println!("  resident memory of the orchestrator: {before:.1} MB, after {done} more sagas {after:.1} MB");
    Ok(())
}

/// Prints the throughput of several orchestrators with a shard each, on a server of their own.
pub(super) async fn replicas(count: usize, time: Duration) -> Result<(), Error> {
    let broker = server(true).await?;
    let _service = Peer::start("service", broker.url())?;
    let shards = count.to_string();
    let start = |_| Peer::start_with("orchestrator", broker.url(), &shards);
    let replicas: Vec<Peer> = (0..count).map(start).collect::<Result<_, _>>()?;
    let bus = Bus::connect(Config::new(broker.url(), "bench")).await?;
    let ctx = Ctx::detached(&bus, "bench");
    apply(&ctx, DEFINITION).await?;
    // The first one had all shards: it hands over what is the share of the others.
    tokio::time::sleep(SETTLE).await;
    for concurrency in [64, 512] {
        println!("  {count} replicas, {concurrency} in flight: {}", plain(&ctx, concurrency, time).await?);
    }
    drop(replicas);
    bus.close().await;
    broker.stop().await?;
    Ok(())
}

pub(super) async fn apply_all(ctx: &Ctx) -> Result<(), Error> {
    apply(ctx, DEFINITION).await?;
    apply(ctx, UNDONE).await
}

fn start(name: &str) -> StartWorkflow {
    StartWorkflow::new(name, serde_json::json!({ "payload": "x".repeat(200) }))
}

/// Adds up the files below a folder. What goes away meanwhile counts nothing.
fn bytes_below(folder: &Path) -> Result<u64, Error> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let Ok(entry) = entry else { continue };
        let Ok(about) = entry.metadata() else { continue };
        sum += if about.is_dir() { bytes_below(&entry.path()).unwrap_or(0) } else { about.len() };
    }
    Ok(sum)
}
