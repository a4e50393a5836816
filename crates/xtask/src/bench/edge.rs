//! The edge: against a hand-written bridge that does the same transcoding, and what it costs by the kernel's account.

mod cost;
mod feeds;
mod reload;

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sinew::broker::Broker;

use super::{
    Error,
    load::{self, Figures},
    messages::Echo,
    peer::Peer,
    sample, server,
};

/// What can be measured by itself.
pub(super) const PARTS: [&str; 5] = ["ratio", "cost", "idle", "reload", "feeds"];

const ROUNDS: usize = 3;
const CONNECTIONS: usize = 32;

/// An edge of some configuration, in a process of its own.
struct Edge {
    peer: Peer,
    address: SocketAddr,
}

/// Measures the parts that are `wanted`.
pub(super) async fn run(time: Duration, wanted: impl Fn(&str) -> bool) -> Result<(), Error> {
    let broker = server(false).await?;
    let service = Peer::start("service", broker.url())?;
    if wanted("ratio") {
        ratios(&broker, time).await?;
    }
    if wanted("cost") {
        cost::run(&broker, time).await?;
    }
    if wanted("idle") {
        cost::idle(&broker).await?;
    }
    if wanted("reload") {
        reload::run(&broker, time).await?;
    }
    if wanted("feeds") {
        feeds::run(&broker).await?;
    }
    drop(service);
    broker.stop().await?;
    Ok(())
}

/// Everything a route may be watched and limited by, without ever being refused.
fn watched(log: &std::path::Path) -> Value {
    let mut config = limited();
    config["metrics"] = json!({ "listen": "127.0.0.1:0" });
    config["access_log"] = json!({ "to": log });
    config
}

fn limited() -> Value {
    let limit = json!({ "name": "each", "requests": 1_000_000_000, "per": "1s", "key": ["ip"] });
    json!({ "policies": { "rate_limit": [limit] } })
}

async fn ratios(broker: &Broker, time: Duration) -> Result<(), Error> {
    println!("\nedge: JSON POST of 300 bytes to an operation, against an axum + async-nats bridge");
    let bridge = Peer::start("bridge", broker.url())?;
    let address: SocketAddr = bridge.said.parse()?;
    let log = std::env::temp_dir().join(format!("sinew-bench-{}.log", std::process::id()));
    let plain = Edge::start(broker, &json!({}))?;
    let full = Edge::start(broker, &watched(&log))?;
    for (what, edge, connections) in [
        ("1 connection", &plain, 1),
        ("32, asked 0.90", &plain, CONNECTIONS),
        ("all on, asked 0.80", &full, CONNECTIONS),
    ] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            theirs.push(post(address, connections, time).await?);
            ours.push(post(edge.address, connections, time).await?);
        }
        load::compare(what, &ours, &theirs);
    }
    // Somebody else's disk: the log is nobody's business afterwards.
    let _ = std::fs::remove_file(log);
    Ok(())
}

impl Edge {
    fn start(broker: &Broker, config: &Value) -> Result<Self, Error> {
        Self::start_as("configured-edge", broker, config)
    }

    /// Starts one that does something beside.
    fn start_as(part: &str, broker: &Broker, config: &Value) -> Result<Self, Error> {
        let peer = Peer::start_with(part, broker.url(), &config.to_string())?;
        let address = peer.said.parse()?;
        Ok(Self { peer, address })
    }
}

async fn post(to: SocketAddr, connections: usize, time: Duration) -> Result<Figures, Error> {
    let body = Bytes::from(serde_json::to_vec(&Echo { sample: sample() })?);
    post_to(to, "/echo", body, connections, time).await
}

async fn post_to(
    to: SocketAddr,
    path: &'static str,
    body: Bytes,
    connections: usize,
    time: Duration,
) -> Result<Figures, Error> {
    let make = async || Ok((connect(to).await?, body.clone()));
    load::run(connections, time, make, move |(mut connection, body)| async move {
        let request =
            Request::post(path).header("host", to.to_string()).header("content-type", "application/json");
        let reply = connection.send_request(request.body(Full::new(body.clone()))?).await?;
        let status = reply.status();
        reply.into_body().collect().await?;
        if status.is_success() { Ok((connection, body)) } else { Err(format!("answered {status}").into()) }
    })
    .await
}

async fn connect(to: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Error> {
    let stream = tokio::net::TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with its sender.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}
