//! A saga of three calls with fsync on every commit, against the sketch that marks the ceiling.

mod more;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use sinew::{Bus, Config, Ctx};

use super::{
    Error,
    load::{self, Figures},
    peer::{self, Peer},
    server,
};
use more::Standing;

const LOADS: [usize; 3] = [1, 64, 512];
pub(super) const DEFINITION: &str = "\
document: { dsl: '1.0.3', namespace: bench, name: three-calls, version: '1.0.0' }
do:
  - first: { call: bench.step, with: { payload: '${ .payload }' } }
  - second: { call: bench.step, with: { payload: '${ .payload }' } }
  - third: { call: bench.step, with: { payload: '${ .payload }' } }
";

/// Compares sagas with the sketch; `long` adds what takes minutes: memory after 100,000 of them, and replicas.
pub(super) async fn run(root: &Path, time: Duration, long: bool) -> Result<(), Error> {
    println!("\nsaga: three calls to another process, 200-byte payload, fsync on every commit");
    let ours = ours(time, long).await?;
    let sketch = match build_sketch(root) {
        Ok(program) => Some(sketch(&program).await?),
        Err(reason) => {
            println!("  no baseline: {reason}");
            None
        }
    };
    for (at, concurrency) in LOADS.into_iter().enumerate() {
        let name = format!("{concurrency} in flight");
        match &sketch {
            Some(sketch) => load::compare(&name, &ours[at..=at], &sketch[at..=at]),
            None => println!("{name:>24}  ours     {}", ours[at]),
        }
    }
    if long {
        more::replicas(2, time * 2).await?;
        more::replicas(3, time * 2).await?;
    }
    Ok(())
}

async fn ours(time: Duration, long: bool) -> Result<Vec<Figures>, Error> {
    let broker = server(true).await?;
    let service = Peer::start("service", broker.url())?;
    let orchestrator = Peer::start("orchestrator", broker.url())?;
    let server = broker.pid().ok_or("the server is not ours")?;
    let bus = Bus::connect(Config::new(broker.url(), "bench")).await?;
    let ctx = Ctx::detached(&bus, "bench");
    let store = broker.data_dir();
    println!("  resident memory of the orchestrator, idle: {:.1} MB", orchestrator.resident("VmRSS")?);
    more::apply_all(&ctx).await?;
    let mut all = Vec::new();
    for concurrency in LOADS {
        let used = || -> Result<[Duration; 4], Error> {
            let (server, own) = (peer::processor(server)?, peer::processor(std::process::id())?);
            Ok([orchestrator.processor()?, server, service.processor()?, own])
        };
        let (before, standing) = (used()?, Standing::look(&bus, store).await?);
        let figures = more::plain(&ctx, concurrency, time * 2).await?;
        print_costs(concurrency, &before, &used()?, figures.count);
        Standing::look(&bus, store).await?.print_since(&standing, figures.count);
        all.push(figures);
    }
    println!("  resident memory of the orchestrator after that: {:.1} MB", orchestrator.resident("VmRSS")?);
    for concurrency in [64, 512] {
        more::compensated(&ctx, concurrency, time * 2).await?;
    }
    if long {
        more::many(&ctx, &orchestrator).await?;
    }
    orchestrator.stop()?;
    drop(more::first(&ctx, broker.url()).await?);
    bus.close().await;
    broker.stop().await?;
    Ok(all)
}

/// Prints the processor time each side spent: unlike throughput it does not depend on what else the machine does.
fn print_costs(concurrency: usize, before: &[Duration; 4], after: &[Duration; 4], sagas: usize) {
    let cost = |at: usize| (after[at] - before[at]).as_secs_f64() * 1e4 / sagas.max(1) as f64;
    let [orchestrator, server, service, load] = [0, 1, 2, 3].map(cost);
    println!(
        "  {concurrency} in flight: processor seconds per 10,000 sagas: orchestrator {orchestrator:.2}, \
         nats-server {server:.2}, service {service:.2}, load {load:.2}"
    );
}

/// Builds the sketch from a copy, as it stands in a place that is only read.
fn build_sketch(root: &Path) -> Result<PathBuf, Error> {
    let shared = std::env::var("SINEW_SHARED").map(PathBuf::from).unwrap_or_else(|_| root.join("../shared"));
    let source = shared.join("baselines");
    if !source.join("Cargo.toml").exists() {
        return Err("the baselines are not here; name their folder's parent in SINEW_SHARED".into());
    }
    let copy = root.join("target/baselines");
    std::fs::create_dir_all(copy.join("src/bin"))?;
    std::fs::write(copy.join("Cargo.toml"), std::fs::read(source.join("Cargo.toml"))?)?;
    for name in ["bus.rs", "shard.rs"] {
        std::fs::write(copy.join("src/bin").join(name), std::fs::read(source.join("src/bin").join(name))?)?;
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--quiet", "--bin", "shard"]).current_dir(&copy);
    build.env("CARGO_TARGET_DIR", copy.join("target"));
    if !build.status()?.success() {
        return Err("the baselines do not build".into());
    }
    Ok(copy.join("target/release/shard"))
}

async fn sketch(program: &Path) -> Result<Vec<Figures>, Error> {
    let broker = server(true).await?;
    let address = broker.url().trim_start_matches("nats://").to_owned();
    let start = |arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).env("NATS", &address).env("HISTORY", "1").stderr(Stdio::null());
        command
    };
    let mut services = start(&["svc"]).stdout(Stdio::null()).spawn()?;
    let orchestrator = Peer::spawn(start(&["orch", "1"]))?;
    let output = tokio::task::spawn_blocking({
        let mut load = start(&["load"]);
        move || load.output()
    })
    .await??;
    drop(orchestrator);
    services.kill()?;
    services.wait()?;
    broker.stop().await?;
    String::from_utf8(output.stdout)?.lines().map(read).collect()
}

/// Reads a line such as `3-step saga conc=  64 8700/s p50=7.10ms p99=12.00ms`.
fn read(line: &str) -> Result<Figures, Error> {
    let after = |mark: &str| {
        line.split(mark).nth(1).and_then(|rest| rest.split("ms").next()).and_then(|n| n.parse().ok())
    };
    let rate =
        line.split("/s").next().and_then(|head| head.split_whitespace().last()).and_then(|n| n.parse().ok());
    let (Some(per_second), Some(p50), Some(p99)) = (rate, after("p50="), after("p99=")) else {
        return Err(format!("the sketch printed something unknown: {line}").into());
    };
    let time = |milliseconds: f64| Duration::from_secs_f64(milliseconds / 1e3);
    Ok(Figures { per_second, p50: time(p50), p99: time(p99), count: 0 })
}
