//! Streaming replies: every form, whole or broken off, slow clients, and the end of the edge.

use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use sinew_edge as edge;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_websockets::ClientBuilder;

use super::{System, client::rest};
use crate::harness::SOON;

const EVENTS: (&str, &str) = ("accept", "text/event-stream");

fn numbers(items: &[Value]) -> Vec<u64> {
    items.iter().map(|item| item["n"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn the_items_come_as_lines_as_an_array_or_as_events() {
    let system = System::start().await;
    let lines = system.client.get("/count/3").await;
    assert_eq!((lines.status, lines.header("content-type")), (200, Some("application/jsonl")));
    let text = String::from_utf8(lines.body.to_vec()).unwrap();
    let items: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(numbers(&items), [1, 2, 3]);
    let array = system.client.send("GET", "/count/3", &[("accept", "application/json")], "").await.json();
    assert_eq!(numbers(array.as_array().unwrap()), [1, 2, 3]);
    let events = system.client.send("GET", "/count/2", &[EVENTS], "").await;
    assert_eq!(events.header("cache-control"), Some("no-store"));
    let text = String::from_utf8(events.body.to_vec()).unwrap();
    let expected = "id: 1\ndata: {\"n\":1,\"filler\":\"\"}\n\nid: 2\ndata: {\"n\":2,\"filler\":\"\"}\n\nevent: end\ndata: {\"items\":2}\n\n";
    assert_eq!(text, expected);
}

#[tokio::test]
async fn a_stream_that_does_not_open_is_an_ordinary_problem() {
    let system = System::start().await;
    system.client.get("/count/0").await.problem(409, "out-of-stock");
    system.client.get("/count/none").await.problem(422, "invalid-request");
    system
        .client
        .send("GET", "/count/1", &[("accept", "text/html")], "")
        .await
        .problem(406, "not-acceptable");
}

#[tokio::test]
async fn a_stream_that_breaks_off_says_why_and_is_not_taken_for_whole() {
    let system = System::start().await;
    let events = system.client.send("GET", "/count/9?fail=1", &[EVENTS], "").await;
    let text = String::from_utf8(events.body.to_vec()).unwrap();
    let (_, error) = text.split_once("event: error\ndata: ").expect("an error event");
    let problem: Value = serde_json::from_str(error.trim()).unwrap();
    assert_eq!((&problem["code"], &problem["status"]), (&json!("busy"), &json!(503)));
    let request = "GET /count/9?fail=1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = super::client::raw(system.address(), request).await;
    assert!(answer.contains(r#"{"problem":{"#) && !answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_stream_of_the_service() {
    let system = System::start().await;
    let mut stream = ask(&system, "/count/9?pause=1", "text/event-stream").await;
    until(&mut stream, "id: 1").await;
    system.shop.gate.entered.acquire().await.unwrap().forget();
    drop(stream);
    let gone = timeout(SOON, system.shop.gate.gone.acquire()).await;
    gone.expect("the handler's stream is dropped").unwrap().forget();
    assert_eq!(system.client.get("/count/1").await.status, 200);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_closed() {
    let system = System::start_with(edge::Config { slow_client_ms: 200, ..edge::Config::default() }).await;
    let mut stream = ask(&system, "/count/1000000", "text/event-stream").await;
    until(&mut stream, "id: 1").await;
    // More was asked for than all buffers hold.
    // why: reading would be taking, so there is nothing to wait for but time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut all = Vec::new();
    let ended = timeout(SOON, stream.read_to_end(&mut all)).await.expect("the connection was closed");
    assert!(ended.is_err() || !all.ends_with(b"0\r\n\r\n"), "{} bytes", all.len());
    assert!(all.len() < 100_000_000, "{} bytes", all.len());
}

#[tokio::test]
async fn p5_streams_end_with_the_edge() {
    let system = System::start().await;
    let mut stream = ask(&system, "/count/9?pause=1", "text/event-stream").await;
    until(&mut stream, "id: 1").await;
    timeout(SOON, system.edge.drain()).await.expect("the drain does not wait for streams");
    let ended = rest(&mut stream).await;
    assert!(ended.contains("event: error") && ended.contains("shutting-down"), "{ended}");
}

#[tokio::test]
async fn a_stream_goes_over_a_websocket_and_its_close_says_how_it_ended() {
    let system = System::start().await;
    let (items, code) = socket(&system, "/count/3").await;
    assert_eq!((numbers(&items), code), (vec![1, 2, 3], 1000));
    let (items, code) = socket(&system, "/count/3?fail=1").await;
    assert_eq!((items[1]["problem"]["code"].as_str(), code), (Some("busy"), 1011));
}

#[tokio::test]
async fn p5_websockets_are_told_that_the_edge_ends() {
    let system = System::start().await;
    let mut socket = connect(&system, "/count/9?pause=1").await;
    socket.next().await.unwrap().unwrap();
    let drained = timeout(SOON, async { tokio::join!(system.edge.drain(), last(&mut socket)) }).await;
    assert_eq!(drained.expect("the drain does not wait for streams").1, 1001);
}

type Socket = tokio_websockets::WebSocketStream<tokio_websockets::MaybeTlsStream<TcpStream>>;

async fn connect(system: &System, path: &str) -> Socket {
    let uri = format!("ws://{}{path}", system.address()).parse().unwrap();
    timeout(SOON, ClientBuilder::from_uri(uri).connect()).await.expect("an answer in time").unwrap().0
}

/// Returns what comes, and the code of the close.
async fn socket(system: &System, path: &str) -> (Vec<Value>, u16) {
    let mut socket = connect(system, path).await;
    let mut items = Vec::new();
    loop {
        let message = timeout(SOON, socket.next()).await.expect("a message in time").unwrap().unwrap();
        if let Some((code, _)) = message.as_close() {
            return (items, code.into());
        }
        items.push(serde_json::from_str(message.as_text().unwrap()).unwrap());
    }
}

async fn last(socket: &mut Socket) -> u16 {
    loop {
        let message = socket.next().await.unwrap().unwrap();
        if let Some((code, _)) = message.as_close() {
            return code.into();
        }
    }
}

async fn ask(system: &System, path: &str, accept: &str) -> TcpStream {
    let mut stream = TcpStream::connect(system.address()).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Reads until `wanted` has come.
async fn until(stream: &mut TcpStream, wanted: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let mut piece = [0; 256];
        let read = timeout(SOON, stream.read(&mut piece)).await.expect("an item in time").unwrap();
        assert!(read > 0, "the stream ended early");
        seen.extend_from_slice(&piece[..read]);
    }
}
