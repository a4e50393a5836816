//! Starting, being ready, and going away without losing anybody's request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use sinew_edge::{self as edge, Kind, ReadyCheck};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{System, client::Client, connect, local, shop::Shop};
use crate::harness::{Harness, SOON, eventually};

#[tokio::test]
async fn p5_a_request_in_flight_outlives_the_drain_and_new_ones_are_turned_away() {
    let system = System::start().await;
    let (client, gate, address) = (system.client.clone(), system.shop.gate.clone(), system.address());
    let waiting = tokio::spawn(async move { client.post("/wait", &json!({})).await });
    gate.entered.acquire().await.unwrap().forget();
    let draining = tokio::spawn(system.edge.drain());
    eventually(SOON, || async { TcpStream::connect(address).await.is_err() }).await;
    assert!(!waiting.is_finished() && !draining.is_finished(), "both wait for the service");
    gate.open.add_permits(1);
    assert_eq!(waiting.await.unwrap().json(), "waited");
    timeout(SOON, draining).await.expect("the drain ends").unwrap();
}

#[tokio::test]
async fn p5_a_drain_ends_although_a_request_does_not() {
    let system = System::start_with(edge::Config { drain_timeout_ms: 100, ..edge::Config::default() }).await;
    let stuck = TcpStream::connect(system.address()).await.unwrap();
    let request = b"POST /wait HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    stuck.writable().await.unwrap();
    assert_eq!(stuck.try_write(request).unwrap(), request.len());
    system.shop.gate.entered.acquire().await.unwrap().forget();
    timeout(SOON, system.edge.drain()).await.expect("the drain ends");
}

#[tokio::test]
async fn readiness_follows_the_bus_and_liveness_does_not() {
    let mut system = System::start().await;
    let ready = system.client.get("/healthz/ready").await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &json!("ready")));
    assert!(system.edge.is_ready());
    system.harness.kill().await;
    eventually(SOON, || async { system.client.get("/healthz/ready").await.status == 503 }).await;
    let not_ready = system.client.get("/healthz/ready").await.json();
    assert_eq!((check(&not_ready, "bus"), check(&not_ready, "serving")), (false, true));
    assert_eq!(system.client.get("/healthz/live").await.status, 200);
    system.harness.revive().await;
    eventually(SOON, || async { system.client.get("/healthz/ready").await.status == 200 }).await;
    eventually(SOON, || async { system.client.get("/things/1").await.status == 200 }).await;
}

#[tokio::test]
async fn readiness_asks_the_checks_of_others_too() {
    let harness = Harness::start().await;
    let led = Arc::new(AtomicBool::new(false));
    let asked = led.clone();
    let check = ReadyCheck::new("orchestrator", move || asked.load(Ordering::Relaxed));
    let bus = connect(&harness, "edge").await;
    let edge = edge::start_with(local(edge::Config::default()), bus, vec![check]).await.unwrap();
    let client = Client::new(edge.local_addr());
    assert_eq!((client.get("/healthz/ready").await.status, edge.is_ready()), (503, false));
    led.store(true, Ordering::Relaxed);
    assert_eq!((client.get("/healthz/ready").await.status, edge.is_ready()), (200, true));
    edge.drain().await;
}

#[tokio::test]
async fn the_routes_that_stand_are_served_from_the_first_request_on() {
    let harness = Harness::start().await;
    let shop = Shop::start(connect(&harness, "shop").await).await;
    let names: Vec<String> = (0..20).map(|number| format!("op-{number}")).collect();
    shop.announce_raw(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let edge = edge::start(local(edge::Config::default()), connect(&harness, "edge").await).await.unwrap();
    let client = Client::new(edge.local_addr());
    assert_eq!(client.get("/things/1").await.status, 200);
    client.post("/raw/op-19", &json!({})).await.problem(503, "no-responders");
    edge.drain().await;
}

#[tokio::test]
async fn a_connection_too_many_waits_for_room() {
    let system = System::start_with(edge::Config { max_connections: 1, ..edge::Config::default() }).await;
    let mut holder = TcpStream::connect(system.address()).await.unwrap();
    holder.write_all(b"GET /healthz/live HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert_ne!(holder.read(&mut [0; 512]).await.unwrap(), 0, "the first connection is served");
    let early = timeout(Duration::from_millis(300), system.client.get("/healthz/live")).await;
    assert!(early.is_err(), "the second connection was served beside the first");
    drop(holder);
    assert_eq!(system.client.get("/healthz/live").await.status, 200);
}

#[tokio::test]
async fn an_edge_that_cannot_start_says_why() {
    let harness = Harness::start().await;
    let bus = connect(&harness, "edge").await;
    let wrong = edge::Config { max_headers: 0, ..edge::Config::default() };
    assert_eq!(edge::start(wrong, bus.clone()).await.unwrap_err().kind(), Kind::Config);
    let first = edge::start(local(edge::Config::default()), bus.clone()).await.unwrap();
    let taken = edge::Config { listen: first.local_addr(), ..edge::Config::default() };
    let error = edge::start(taken, bus).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Listen, "SNW-4002"));
    first.drain().await;
}

fn check(body: &Value, name: &str) -> bool {
    let mut checks = body["checks"].as_array().unwrap().iter();
    checks.find(|check| check["name"] == name).unwrap()["ready"].as_bool().unwrap()
}
