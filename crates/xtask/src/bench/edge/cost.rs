//! What one request costs inside the edge: processor time of its process over a counted number of requests, which what
//! else the machine does moves least. And what an edge costs that has nothing to do.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sinew::broker::Broker;

use super::{CONNECTIONS, Edge, Error, ROUNDS, connect, limited, post, post_to, sample, watched};
use crate::bench::messages::Echo;

/// Routes that a table has in the two sizes that are compared.
const FEW: usize = 10;
pub(super) const MANY: usize = 1_000;

pub(super) async fn run(broker: &Broker, time: Duration) -> Result<(), Error> {
    println!("\nedge: processor time per request, by the kernel's account, {CONNECTIONS} connections");
    let log = std::env::temp_dir().join(format!("sinew-bench-cost-{}.log", std::process::id()));
    told("plain", &Edge::start(broker, &json!({}))?, "/echo", time, Some(22.0)).await?;
    told("rate limit", &Edge::start(broker, &limited())?, "/echo", time, Some(26.0)).await?;
    told("limit, metrics, log", &Edge::start(broker, &watched(&log))?, "/echo", time, None).await?;
    let _ = std::fs::remove_file(log);
    told("publish to JetStream", &Edge::start(broker, &json!({}))?, "/events/bench/sent", time, Some(26.0))
        .await?;
    let few = per_request(&Edge::start(broker, &routes(FEW))?, "/r/7/echo", time).await?;
    let many = per_request(&Edge::start(broker, &routes(MANY))?, "/r/7/echo", time).await?;
    println!("{:>24}  {few:.1} µs, {MANY}: {many:.1} µs, ratio {:.3} (asked 1.0)", "10 routes", many / few);
    Ok(())
}

async fn told(
    what: &str,
    edge: &Edge,
    path: &'static str,
    time: Duration,
    asked: Option<f64>,
) -> Result<(), Error> {
    let cost = per_request(edge, path, time).await?;
    let asked = asked.map(|asked| format!(" (asked {asked:.0})")).unwrap_or_default();
    println!("{what:>24}  {cost:.1} µs{asked}");
    Ok(())
}

/// Returns the median over the rounds, in microseconds, after one round to warm up.
async fn per_request(edge: &Edge, path: &'static str, time: Duration) -> Result<f64, Error> {
    let body = Bytes::from(serde_json::to_vec(&Echo { sample: sample() })?);
    post_to(edge.address, path, body.clone(), CONNECTIONS, time / 3).await?;
    let mut costs = Vec::new();
    for _ in 0..ROUNDS {
        let before = edge.peer.processor()?;
        let figures = post_to(edge.address, path, body.clone(), CONNECTIONS, time).await?;
        costs.push((edge.peer.processor()? - before).as_secs_f64() * 1e6 / figures.count.max(1) as f64);
    }
    costs.sort_by(f64::total_cmp);
    Ok(costs[costs.len() / 2])
}

pub(super) fn routes(count: usize) -> Value {
    let route = |number: usize| {
        let path = format!("/r/{number}/echo");
        json!({ "match": { "method": "POST", "path": path }, "to": { "operation": "bench.echo" } })
    };
    json!({ "routes": (0..count).map(route).collect::<Vec<_>>() })
}

/// Measures the way to the first answer, and the memory of an edge that was asked once.
pub(super) async fn idle(broker: &Broker) -> Result<(), Error> {
    println!("\nedge: with nothing to do");
    let mut starts = Vec::new();
    let mut resident = 0.0;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let edge = Edge::start(broker, &json!({}))?;
        let mut connection = connect(edge.address).await?;
        let request = hyper::Request::get("/healthz/live").header("host", "a").body(Bytes::new().into())?;
        connection.send_request(request).await?.into_body().collect().await?;
        starts.push(began.elapsed());
        resident = edge.peer.resident("VmRSS")?;
    }
    starts.sort();
    println!("{:>24}  {:.1} ms (asked 50)", "start to first answer", starts[ROUNDS / 2].as_secs_f64() * 1e3);
    println!("{:>24}  {resident:.1} MB (asked 15)", "resident, idle");
    // Once more under load, so that a cold table counts, too.
    let edge = Edge::start(broker, &json!({}))?;
    post(edge.address, CONNECTIONS, Duration::from_millis(500)).await?;
    println!("{:>24}  {:.1} MB", "resident, after load", edge.peer.resident("VmRSS")?);
    Ok(())
}
