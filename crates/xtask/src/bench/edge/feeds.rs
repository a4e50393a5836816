//! What following events costs: processor time for each event that reaches a client, and memory for each client that
//! waits.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use serde_json::json;
use sinew::broker::Broker;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Edge, Error, post_to};

/// Clients that follow while events come.
const FOLLOWERS: usize = 100;
/// Clients that wait; as many as file handles allow, at most.
const IDLE: usize = 10_000;
/// How long events come.
const TIME: Duration = Duration::from_secs(2);
/// How long the last ones may take.
const SETTLING: Duration = Duration::from_secs(1);

pub(super) async fn run(broker: &Broker) -> Result<(), Error> {
    println!("\nedge: clients that follow events by SSE");
    let feed = json!({ "max_clients": 20_000, "max_clients_per_ip": 20_000 });
    let config = json!({ "open_feeds": feed, "max_connections": 20_000 });
    deliver(broker, &config).await?;
    wait(broker, &config).await
}

/// Publishes through one edge, and measures another one that delivers.
async fn deliver(broker: &Broker, config: &serde_json::Value) -> Result<(), Error> {
    let (source, edge) = (Edge::start(broker, &json!({}))?, Edge::start(broker, config)?);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..FOLLOWERS {
        clients.spawn(count(follow(edge.address).await?));
    }
    let body = Bytes::from(serde_json::to_vec(&super::sample())?);
    let before = edge.peer.processor()?;
    // A few publishers: clients that fall behind would be measured as something else.
    let sent = post_to(source.address, "/events/bench/feed", body, 2, TIME).await?;
    let mut got = 0;
    // What is still on its way.
    tokio::time::sleep(SETTLING).await;
    let spent = edge.peer.processor()? - before;
    drop(edge);
    while let Some(count) = clients.join_next().await {
        got += count?;
    }
    let cost = spent.as_secs_f64() * 1e6 / got.max(1) as f64;
    println!("{:>24}  {cost:.1} µs (asked 12), {got} of {}", "per event delivered", sent.count * FOLLOWERS);
    Ok(())
}

async fn wait(broker: &Broker, config: &serde_json::Value) -> Result<(), Error> {
    let edge = Edge::start(broker, config)?;
    drop(follow(edge.address).await?);
    let before = edge.peer.resident("VmRSS")?;
    let mut clients = Vec::with_capacity(IDLE);
    while clients.len() < IDLE {
        match follow(edge.address).await {
            Ok(client) => clients.push(client),
            // Out of file handles on one of the sides: what there is, is told.
            Err(_) => break,
        }
    }
    let kilobytes = (edge.peer.resident("VmRSS")? - before) * 1024.0 / clients.len().max(1) as f64;
    println!("{:>24}  {kilobytes:.1} KB (asked 20), {} of them", "per idle client", clients.len());
    Ok(())
}

/// Follows an event, and returns once the edge has answered.
async fn follow(edge: SocketAddr) -> Result<TcpStream, Error> {
    let mut stream = TcpStream::connect(edge).await?;
    stream
        .write_all(b"GET /events/bench/feed HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n\r\n")
        .await?;
    let mut head = [0; 16];
    stream.read_exact(&mut head).await?;
    if head.starts_with(b"HTTP/1.1 200") { Ok(stream) } else { Err("the edge refused a follower".into()) }
}

/// Counts events until the edge is gone.
async fn count(mut stream: TcpStream) -> usize {
    let (mut events, mut buffer) = (0, vec![0; 64 << 10]);
    let mut last = [0; 5];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        for byte in &buffer[..length] {
            last.rotate_left(1);
            last[4] = *byte;
            events += usize::from(last == *b"data:");
        }
    }
    events
}
