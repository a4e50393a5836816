//! Instances that wait, by the million: what each takes, how sagas run beside them, how long a restart and a fail-over
//! take.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use sinew::{
    Bus, Config, Ctx,
    workflow::{ApplyWorkflow, StartWorkflow},
};

use super::{Error, load, peer::Peer, saga, server};

/// Instances that wait where nobody says how many.
pub(super) const COUNT: usize = 1_000_000;
/// Starts under way at once.
const AT_ONCE: usize = 512;
/// How long the orchestrator must be at rest to count as done with parking.
const REST: Duration = Duration::from_secs(3);

const TIMER: &str = "\
document: { dsl: '1.0.3', namespace: bench, name: waits-for-time, version: '1.0.0' }
do: [ { nap: { wait: P30D } } ]
";
const EVENT: &str = "\
document: { dsl: '1.0.3', namespace: bench, name: waits-for-event, version: '1.0.0' }
do:
  - paid:
      listen:
        to:
          one:
            with: { type: bench.paid.v1 }
            correlate: { order: { from: .data.order, expect: '${ .order }' } }
";

pub(super) async fn run(time: Duration, count: usize) -> Result<(), Error> {
    for (what, name, source) in
        [("a timer", "waits-for-time", TIMER), ("an event with one key", "waits-for-event", EVENT)]
    {
        println!("\nparked: {count} instances that wait for {what}, fsync on every commit");
        waiting(time, count, (name, source)).await?;
    }
    Ok(())
}

async fn waiting(time: Duration, count: usize, (name, source): (&str, &str)) -> Result<(), Error> {
    let broker = server(true).await?;
    let _service = Peer::start("service", broker.url())?;
    let orchestrator = Peer::start("orchestrator", broker.url())?;
    let bus = Bus::connect(Config::new(broker.url(), "bench")).await?;
    let ctx = Ctx::detached(&bus, "bench");
    for source in [source, saga::DEFINITION] {
        let apply = ApplyWorkflow { source: source.to_owned(), file: "bench.yaml".to_owned() };
        ctx.call(apply).await.map_err(|error| error.to_string())?;
    }
    println!("  3-step sagas before, 64 in flight: {}", beside(&ctx, time).await?);
    let before = orchestrator.resident("VmRSS")?;
    let began = Instant::now();
    begin(&ctx, name, count).await?;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    rests(&orchestrator).await?;
    let after = orchestrator.resident("VmRSS")?;
    let each = |megabytes: f64| megabytes * 1_048_576.0 / count as f64;
    println!(
        "  {rate:.0} starts/s; resident memory {before:.1} MB before, {after:.1} MB after: {:.0} bytes each",
        each(after - before)
    );
    println!("  3-step sagas beside, 64 in flight: {}", beside(&ctx, time).await?);
    drop(orchestrator);
    let began = Instant::now();
    let heir = Peer::start("orchestrator", broker.url())?;
    answered(&ctx).await?;
    let again = began.elapsed();
    rests(&heir).await?;
    println!(
        "  first saga {:.1} s after a kill and a new start, the lease of {} s included; resident memory {:.1} MB, peak {:.1} MB",
        again.as_secs_f64(),
        sinew_orchestrator::Config::default().lease_seconds,
        heir.resident("VmRSS")?,
        heir.resident("VmHWM")?
    );
    println!("  3-step sagas after that, 64 in flight: {}", beside(&ctx, time).await?);
    let replica = Peer::start("orchestrator", broker.url())?;
    rests(&replica).await?;
    drop(heir);
    let began = Instant::now();
    answered(&ctx).await?;
    let over = began.elapsed().as_secs_f64();
    println!("  first saga {over:.1} s after the owner was killed beside another replica");
    bus.close().await;
    broker.stop().await?;
    Ok(())
}

async fn begin(ctx: &Ctx, name: &str, count: usize) -> Result<(), Error> {
    let start = |number: usize| async move {
        let input = serde_json::json!({ "order": format!("o-{number}"), "payload": "x".repeat(200) });
        loop {
            let start = StartWorkflow::new(name, input.clone()).without_waiting();
            match ctx.call(start).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    let mut starts = stream::iter(0..count).map(start).buffer_unordered(AT_ONCE);
    while let Some(started) = starts.next().await {
        started?;
    }
    Ok(())
}

/// Returns when a saga has run to its end: whoever owns its shard has read the whole log by then.
async fn answered(ctx: &Ctx) -> Result<(), Error> {
    loop {
        let input = serde_json::json!({ "payload": "x" });
        match ctx.call(StartWorkflow::new("three-calls", input)).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => return Err(error.to_string().into()),
        }
    }
}

/// Waits until the orchestrator has had nothing to do for a while.
async fn rests(orchestrator: &Peer) -> Result<(), Error> {
    // Parking begins some seconds after the last start.
    tokio::time::sleep(REST * 2).await;
    loop {
        let before = orchestrator.processor()?;
        tokio::time::sleep(REST).await;
        if orchestrator.processor()? - before < REST / 20 {
            return Ok(());
        }
    }
}

async fn beside(ctx: &Ctx, time: Duration) -> Result<load::Figures, Error> {
    let saga = |ctx: Ctx| async move {
        let input = serde_json::json!({ "payload": "x".repeat(200) });
        let done =
            ctx.call(StartWorkflow::new("three-calls", input)).await.map_err(|error| error.to_string())?;
        if done.status == "completed" { Ok(ctx) } else { Err(format!("ended {}", done.status).into()) }
    };
    load::run(64, time, async || Ok(ctx.clone()), saga).await
}
