//! How much is under way at once: turns and their lines, what is turned away under pressure, connections of one client.

use futures::future::join_all;
use serde_json::{Value, json};
use sinew_edge as edge;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{System, client::Reply};
use crate::harness::{SOON, eventually};

/// A route to the handler that waits at the gate.
fn slow(path: &str, policies: Value) -> Value {
    json!({
        "match": { "method": "POST", "path": path }, "to": { "operation": "shop.wait" }, "policies": policies,
    })
}

async fn start(config: Value) -> System {
    System::start_with(edge::Config::read(&config).unwrap()).await
}

/// Asks in the background.
fn ask(system: &System, path: &str, key: &str) -> tokio::task::JoinHandle<Reply> {
    let (client, path, key) = (system.client.clone(), path.to_owned(), key.to_owned());
    tokio::spawn(async move { client.send("POST", &path, &[("x-key", &key)], "{}").await })
}

async fn entered(system: &System, count: u32) {
    let entered = timeout(SOON, system.shop.gate.entered.acquire_many(count)).await;
    entered.expect("the handlers are reached").unwrap().forget();
}

#[tokio::test]
async fn so_many_are_under_way_so_many_wait_and_the_others_are_told() {
    let limit = json!({ "name": "one", "requests": 1, "waiting": 1, "wait_ms": 60_000 });
    let system = start(json!({ "routes": [slow("/slow", json!({ "concurrency": [limit] }))] })).await;
    let first = ask(&system, "/slow", "a");
    entered(&system, 1).await;
    let (mut second, mut third) = (ask(&system, "/slow", "a"), ask(&system, "/slow", "a"));
    let refused = tokio::select! { one = &mut second => one, one = &mut third => one }.unwrap();
    assert_eq!(refused.problem(429, "too-many-at-once")["policy"], "one");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(!first.is_finished());
    system.shop.gate.open.add_permits(2);
    assert_eq!(first.await.unwrap().status, 200);
    let waited = if second.is_finished() { third } else { second };
    assert_eq!(timeout(SOON, waited).await.expect("its turn comes").unwrap().status, 200);
}

#[tokio::test]
async fn who_waits_too_long_is_told_and_other_keys_do_not_wait_at_all() {
    let limit =
        json!({ "name": "each", "requests": 1, "waiting": 5, "wait_ms": 50, "key": [{ "header": "x-key" }] });
    let system = start(json!({ "routes": [slow("/slow", json!({ "concurrency": [limit] }))] })).await;
    let first = ask(&system, "/slow", "a");
    entered(&system, 1).await;
    ask(&system, "/slow", "a").await.unwrap().problem(429, "too-many-at-once");
    let other = ask(&system, "/slow", "b");
    entered(&system, 1).await;
    system.shop.gate.open.add_permits(2);
    assert_eq!((first.await.unwrap().status, other.await.unwrap().status), (200, 200));
}

#[tokio::test]
async fn a_stream_keeps_its_turn_until_it_ends() {
    let system = start(json!({ "routes": [{
        "match": { "method": "GET", "path": "/numbers/{to}" }, "to": { "operation": "shop.count" },
        "policies": { "concurrency": [{ "name": "one", "requests": 1 }] },
    }] }))
    .await;
    let mut stream = TcpStream::connect(system.address()).await.unwrap();
    stream.write_all(b"GET /numbers/9?pause=1 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    entered(&system, 1).await;
    system.client.get("/numbers/1").await.problem(429, "too-many-at-once");
    drop(stream);
    eventually(SOON, || async { system.client.get("/numbers/1").await.status == 200 }).await;
}

#[tokio::test]
async fn under_pressure_low_priority_goes_first_and_the_edge_itself_never() {
    let system = start(json!({
        "shedding": { "max_in_flight": 10 },
        "routes": [
            slow("/low", json!({ "priority": "low" })),
            slow("/normal", json!({})),
            slow("/high", json!({ "priority": "high" })),
        ],
    }))
    .await;
    let mut held: Vec<_> = (0..7).map(|_| ask(&system, "/normal", "a")).collect();
    entered(&system, 7).await;
    let refused = ask(&system, "/low", "a").await.unwrap();
    assert_eq!(refused.problem(503, "shedding")["priority"], "low");
    assert_eq!(refused.header("retry-after"), Some("1"));
    held.extend((0..2).map(|_| ask(&system, "/normal", "a")));
    entered(&system, 2).await;
    ask(&system, "/normal", "a").await.unwrap().problem(503, "shedding");
    held.push(ask(&system, "/high", "a"));
    entered(&system, 1).await;
    ask(&system, "/high", "a").await.unwrap().problem(503, "shedding");
    assert_eq!(system.client.get("/healthz/ready").await.status, 200);
    system.shop.gate.open.add_permits(11);
    assert!(join_all(held).await.into_iter().all(|reply| reply.unwrap().status == 200));
    assert_eq!(ask(&system, "/low", "a").await.unwrap().status, 200, "the pressure is gone");
}

#[tokio::test]
async fn a_client_has_so_many_connections_and_a_trusted_proxy_any_number() {
    let system = start(json!({ "max_connections_per_client": 1 })).await;
    let mut first = TcpStream::connect(system.address()).await.unwrap();
    assert!(lives(&mut first).await);
    let mut second = TcpStream::connect(system.address()).await.unwrap();
    assert!(!lives(&mut second).await, "one connection too many is closed");
    drop(first);
    eventually(SOON, || async { lives(&mut TcpStream::connect(system.address()).await.unwrap()).await })
        .await;
    let behind = start(json!({ "max_connections_per_client": 1, "trusted_proxies": ["127.0.0.1"] })).await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut connection = TcpStream::connect(behind.address()).await.unwrap();
        assert!(lives(&mut connection).await);
        kept.push(connection);
    }
}

/// Says whether a request over this connection is answered.
async fn lives(connection: &mut TcpStream) -> bool {
    let request = b"GET /healthz/live HTTP/1.1\r\nhost: a\r\n\r\n";
    if connection.write_all(request).await.is_err() {
        return false;
    }
    let read = timeout(SOON, connection.read(&mut [0; 512])).await.expect("an answer or an end");
    read.is_ok_and(|count| count > 0)
}
