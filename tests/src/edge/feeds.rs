//! Feeds of events: from now on or from where a client was, in order and none twice, filtered, limited, and ended with a
//! word. As server-sent events and over WebSockets.

mod ends;
mod reload;

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{SinkExt, StreamExt, future::join_all};
use serde_json::{Value, json};
use sinew::{
    Ctx, EVENTS,
    wire::{ContentType, Headers, encode, header},
};
use sinew_edge as edge;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};
use tokio_websockets::{ClientBuilder, MaybeTlsStream, Message, WebSocketStream};

use super::{System, local, observing::scrape};
use crate::harness::{SOON, eventually};

/// A client of a feed.
struct Feed {
    status: u16,
    lines: BufReader<TcpStream>,
    /// What came in front of the first event.
    opened_at: String,
}

/// One event as a browser would see it.
#[derive(Debug, Default, PartialEq)]
struct Event {
    id: String,
    name: String,
    data: Value,
}

impl Feed {
    /// Asks, and reads up to where the events begin.
    async fn open(system: &System, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut stream = TcpStream::connect(system.address()).await.unwrap();
        let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        // Without chunks, a body is what follows.
        let head = format!("GET {path} HTTP/1.0\r\nhost: a\r\n{fields}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut feed = Self { status: 0, lines: BufReader::new(stream), opened_at: String::new() };
        let status = feed.line().await.unwrap();
        feed.status = status.split(' ').nth(1).unwrap().parse().unwrap();
        while feed.line().await.is_some_and(|line| !line.is_empty()) {}
        if feed.status == 200 {
            assert_eq!(feed.line().await.as_deref(), Some("retry: 2000"));
            feed.opened_at = feed.line().await.unwrap().strip_prefix("id: ").unwrap().to_owned();
        }
        feed
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(SOON, self.lines.read_line(&mut line)).await.expect("a line in time").unwrap_or(0);
        (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Reads the next event; signs of life are passed over.
    async fn next(&mut self) -> Option<Event> {
        timeout(SOON, self.read()).await.expect("an event in time")
    }

    async fn read(&mut self) -> Option<Event> {
        let (mut event, mut data) = (Event::default(), String::new());
        loop {
            let line = self.line().await?;
            match line.split_once(": ") {
                Some(("id", id)) => event.id = id.to_owned(),
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("data", text)) => data = text.to_owned(),
                None if line.is_empty() && !data.is_empty() => {
                    event.data = serde_json::from_str(&data).unwrap();
                    return Some(event);
                }
                _ => {}
            }
        }
    }

    async fn numbers(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            numbers.push(self.next().await.expect("another event").data["n"].as_u64().unwrap());
        }
        numbers
    }
}

async fn system(to: Value) -> System {
    let route = json!({ "match": { "method": "GET", "path": "/feed" }, "to": to });
    let metrics = json!({ "listen": "127.0.0.1:0" });
    System::start_with(edge::Config::read(&json!({ "routes": [route], "metrics": metrics })).unwrap()).await
}

async fn orders() -> System {
    system(json!({ "events": ["orders.*"] })).await
}

/// Returns what a metric of the one feed says.
async fn counted(system: &System, metric: &str) -> u64 {
    let text = scrape(system).await;
    let line = text.lines().find(|line| line.starts_with(&format!("{metric}{{"))).unwrap_or("none 0");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Stores an event, and returns its sequence.
async fn publish(system: &System, event: &str, data: Value) -> u64 {
    let ctx = Ctx::detached(&system.shop.bus, "shop");
    let mut headers = Headers::new();
    headers.set(header::CONTENT_TYPE, ContentType::MessagePack.as_str()).unwrap();
    headers.set("ce-tenant", data["tenant"].as_str().unwrap_or("none")).unwrap();
    let payload = encode(ContentType::MessagePack, &data).unwrap();
    let subject = format!("evt.{event}");
    sinew::publish_raw(&ctx, &subject, event, &sinew::new_id(), headers, payload).await.unwrap().sequence
}

async fn number(system: &System, n: u64) -> u64 {
    publish(system, "orders.placed", json!({ "n": n })).await
}

#[tokio::test]
async fn a_client_gets_what_comes_from_now_on() {
    let system = orders().await;
    number(&system, 1).await;
    let mut feed = Feed::open(&system, "/feed", &[("accept", "text/event-stream")]).await;
    publish(&system, "stock.low", json!({ "n": 2 })).await;
    let sequence = publish(&system, "orders.paid", json!({ "n": 3 })).await;
    let expected = Event { id: sequence.to_string(), name: "orders.paid".into(), data: json!({ "n": 3 }) };
    assert_eq!(feed.next().await, Some(expected));
    eventually(SOON, async || counted(&system, "sinew_edge_feed_events_total").await == 1).await;
    assert_eq!(counted(&system, "sinew_edge_feed_clients").await, 1);
    drop(feed);
    eventually(SOON, async || counted(&system, "sinew_edge_feed_clients").await == 0).await;
    assert_eq!(counted(&system, "sinew_edge_feed_cut_off_total").await, 0);
}

#[tokio::test]
async fn a_client_that_comes_again_gets_exactly_what_followed() {
    let system = orders().await;
    let mut feed = Feed::open(&system, "/feed", &[]).await;
    for n in 1..=3 {
        number(&system, n).await;
    }
    let first = feed.next().await.unwrap();
    drop(feed);
    for n in 4..=5 {
        number(&system, n).await;
    }
    let mut again = Feed::open(&system, "/feed", &[("last-event-id", &first.id)]).await;
    number(&system, 6).await;
    assert_eq!(again.numbers(5).await, [2, 3, 4, 5, 6]);
    let mut query = Feed::open(&system, &format!("/feed?last_event_id={}", first.id), &[]).await;
    assert_eq!(query.numbers(5).await, [2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_client_that_heard_nothing_yet_misses_nothing_either() {
    let system = orders().await;
    let feed = Feed::open(&system, "/feed", &[]).await;
    let opened_at = feed.opened_at.clone();
    drop(feed);
    number(&system, 1).await;
    let mut again = Feed::open(&system, "/feed", &[("last-event-id", &opened_at)]).await;
    assert_eq!(again.numbers(1).await, [1]);
}

#[tokio::test]
async fn who_catches_up_reads_the_past_and_meets_the_present_without_a_seam() {
    let system = orders().await;
    for n in 0..1_500_u64 {
        let event = if n % 3 == 0 { "orders.placed" } else { "stock.low" };
        publish(&system, event, json!({ "n": n })).await;
    }
    let clients = (0..5).map(|_| Feed::open(&system, "/feed", &[("last-event-id", "0")]));
    let mut feeds = join_all(clients).await;
    let expected: Vec<u64> = (0..2_100).filter(|n| n % 3 == 0).collect();
    let read = join_all(feeds.iter_mut().map(|feed| feed.numbers(expected.len())));
    let write = async {
        for n in 1_500..2_100_u64 {
            let event = if n % 3 == 0 { "orders.paid" } else { "stock.low" };
            publish(&system, event, json!({ "n": n })).await;
        }
    };
    let (read, ()) = tokio::join!(read, write);
    assert!(read.into_iter().all(|numbers| numbers == expected));
    eventually(SOON, async || system.bus.consumers(EVENTS).await.unwrap().len() == 1).await;
}

#[tokio::test]
async fn a_feed_survives_the_broker() {
    let mut system = orders().await;
    let mut feed = Feed::open(&system, "/feed", &[]).await;
    number(&system, 1).await;
    assert_eq!(feed.numbers(1).await, [1]);
    system.harness.kill().await;
    system.harness.revive().await;
    system.shop.bus.connected(SOON).await.unwrap();
    for n in 2..=4 {
        number(&system, n).await;
    }
    assert_eq!(feed.numbers(3).await, [2, 3, 4]);
}

#[tokio::test]
async fn the_past_is_read_where_the_route_allows_it() {
    let closed = orders().await;
    closed.client.get("/feed?from=1").await.problem(403, "not-permitted");
    let system = system(json!({ "events": ["orders.*"], "feed": { "replay": true } })).await;
    number(&system, 1).await;
    let second = number(&system, 2).await;
    let mut feed = Feed::open(&system, &format!("/feed?from={second}"), &[]).await;
    assert_eq!(feed.numbers(1).await, [2]);
    let mut all = Feed::open(&system, "/feed?from=2020-01-01T00:00:00Z", &[]).await;
    assert_eq!(all.numbers(2).await, [1, 2]);
    let mut later = Feed::open(&system, "/feed?from=2190-01-01T00:00:00Z", &[]).await;
    number(&system, 3).await;
    assert_eq!(later.numbers(1).await, [3]);
}

#[tokio::test]
async fn what_is_not_kept_any_more_is_told() {
    let system = orders().await;
    for n in 1..=6 {
        number(&system, n).await;
    }
    system.bus.purge_stream(EVENTS, "evt.>", 5).await.unwrap();
    let mut feed = Feed::open(&system, "/feed", &[("last-event-id", "1")]).await;
    let gap = feed.next().await.unwrap();
    assert_eq!(
        (gap.name.as_str(), &gap.data["missing_at_most"], &gap.data["next"]),
        ("gap", &json!(3), &json!("5"))
    );
    assert_eq!(feed.numbers(2).await, [5, 6]);
    let mut ahead = Feed::open(&system, "/feed", &[("last-event-id", "900")]).await;
    assert_eq!(ahead.next().await.unwrap().data["after"], "900");
    number(&system, 7).await;
    assert_eq!(ahead.numbers(1).await, [7]);
}

#[tokio::test]
async fn a_client_gets_only_what_the_route_lets_through() {
    let filter =
        json!({ "/n": { "query": "n" }, "/open": { "value": true }, "ce-tenant": { "header": "x-tenant" } });
    let system = system(json!({ "events": ["orders.placed"], "feed": { "filter": filter } })).await;
    system.client.get("/feed").await.problem(400, "malformed-request");
    let of = async |path: &str| Feed::open(&system, path, &[("x-tenant", "acme")]).await;
    let (mut all, mut one) = (of("/feed").await, of("/feed?n=3").await);
    for (n, open, tenant) in
        [(1, true, "acme"), (2, false, "acme"), (3, true, "other"), (3, true, "acme"), (4, true, "acme")]
    {
        publish(&system, "orders.placed", json!({ "n": n, "open": open, "tenant": tenant })).await;
    }
    assert_eq!(all.numbers(3).await, [1, 3, 4]);
    assert_eq!(one.numbers(1).await, [3]);
    let unknown = system.client.send("GET", "/feed?m=3", &[("x-tenant", "acme")], "").await;
    let detail = unknown.problem(400, "malformed-request")["detail"].to_string();
    assert!(detail.contains("`m`") && detail.contains("last_event_id, n"), "{detail}");
}

#[tokio::test]
async fn an_event_comes_as_a_cloud_event_where_the_client_asks_for_it() {
    let system = orders().await;
    let mut feed = Feed::open(&system, "/feed?format=cloudevents", &[]).await;
    let headers = [
        ("content-type", "application/json"),
        ("ce-id", "o-1"),
        ("ce-source", "/till"),
        ("ce-subject", "a%20b"),
    ];
    system.client.send("POST", "/events/orders/placed", &headers, r#"{"n":1}"#).await;
    let event = feed.next().await.unwrap().data;
    assert_eq!(
        (&event["specversion"], &event["id"], &event["source"]),
        (&json!("1.0"), &json!("o-1"), &json!("/till"))
    );
    assert_eq!((&event["subject"], &event["data"]), (&json!("a b"), &json!({ "n": 1 })));
    system.client.get("/feed?format=xml").await.problem(400, "malformed-request");
    system.client.send("GET", "/feed", &[("accept", "text/html")], "").await.problem(406, "not-acceptable");
}

#[tokio::test]
async fn any_event_is_followed_only_where_the_setting_says_so() {
    let closed = orders().await;
    closed.client.get("/events/orders/placed").await.problem(405, "method-not-allowed");
    let config = json!({ "open_feeds": { "retry_ms": 2000 }, "open_events": false });
    let open = System::start_with(edge::Config::read(&config).unwrap()).await;
    let mut feed = Feed::open(&open, "/events/orders/placed", &[]).await;
    number(&open, 1).await;
    assert_eq!(feed.numbers(1).await, [1]);
    open.client.get("/events/orders/%3E").await.problem(400, "malformed-request");
    open.client.post("/events/orders/placed", &json!({})).await.problem(405, "method-not-allowed");
}

#[tokio::test]
async fn clients_are_limited_by_route_and_by_address_and_a_place_is_free_when_one_leaves() {
    let by_address = system(json!({ "events": ["orders.*"], "feed": { "max_clients_per_ip": 1 } })).await;
    let first = Feed::open(&by_address, "/feed", &[]).await;
    by_address.client.get("/feed").await.problem(429, "too-many-clients");
    drop(first);
    eventually(SOON, async || Feed::open(&by_address, "/feed", &[]).await.status == 200).await;
    let by_route = system(json!({ "events": ["orders.*"], "feed": { "max_clients": 1 } })).await;
    let _first = Feed::open(&by_route, "/feed", &[]).await;
    let refused = by_route.client.get("/feed").await;
    assert!(refused.header("retry-after").is_some());
    refused.problem(503, "too-many-clients");
}

#[tokio::test]
async fn a_client_gets_no_more_events_a_second_than_it_may() {
    let system = system(json!({ "events": ["orders.*"], "feed": { "max_rate": 10 } })).await;
    for n in 0..20 {
        number(&system, n).await;
    }
    // Ten come at once, the others a tenth of a second apart.
    let mut late = Feed::open(&system, "/feed", &[("last-event-id", "0")]).await;
    let began = Instant::now();
    assert_eq!(late.numbers(20).await, (0..20).collect::<Vec<_>>());
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn silence_is_broken_by_signs_of_life_that_say_how_far_the_feed_is() {
    let system = system(json!({ "events": ["orders.*"], "feed": {
        "heartbeat_ms": 50, "filter": { "/n": { "value": 7 } } } }))
    .await;
    let mut feed = Feed::open(&system, "/feed", &[]).await;
    let sequence = number(&system, 1).await;
    loop {
        let line = feed.line().await.expect("a sign of life");
        if line == format!("id: {sequence}") {
            break;
        }
        assert!(matches!(line.as_str(), "" | ":"), "{line}");
    }
}

#[tokio::test]
async fn mistakes_of_feeds_are_told_with_their_places() {
    let route = |to: Value| json!({ "match": { "method": "POST", "path": "/a" }, "to": to });
    let config = json!({ "open_feeds": { "max_clients": 0 }, "routes": [
        route(json!({ "events": ["orders", "a.*", "*.b"], "fields": { "x": { "value": 1 } },
            "feed": { "heartbeat_ms": 0, "filter": { "/x": { "path": "none" } } } })),
        json!({ "match": { "method": "GET", "path": "/b" }, "to": { "operation": "a.b", "feed": {} } }),
    ] });
    let mistakes = edge::Config::read(&config).unwrap_err();
    let pointers: Vec<&str> = mistakes.iter().map(|one| one.pointer.as_str()).collect();
    let expected = [
        "/open_feeds/max_clients",
        "/routes/0/to/fields",
        "/routes/0/to/events/0",
        "/routes/0/to/events",
        "/routes/0/to/feed/heartbeat_ms",
        "/routes/0/to/feed/filter/~1x",
        "/routes/0/match/method",
        "/routes/1/to/feed",
    ];
    assert_eq!(pointers, expected);
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn socket(system: &System, path: &str) -> Socket {
    let uri = format!("ws://{}{path}", system.address()).parse().unwrap();
    let name = http::HeaderName::from_static("sec-websocket-protocol");
    let builder = ClientBuilder::from_uri(uri).add_header(name, "sinew.events.v1".parse().unwrap()).unwrap();
    let (socket, answer) = timeout(SOON, builder.connect()).await.expect("an answer in time").unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "sinew.events.v1");
    socket
}

async fn say(socket: &mut Socket, word: &str) {
    socket.send(Message::text(word.to_owned())).await.unwrap();
}

/// Returns the next message, or the code of the close.
async fn hear(socket: &mut Socket) -> Result<Value, u16> {
    loop {
        let message = timeout(SOON, socket.next()).await.expect("a message in time").unwrap().unwrap();
        if let Some((code, _)) = message.as_close() {
            return Err(code.into());
        }
        if let Some(text) = message.as_text() {
            return Ok(serde_json::from_str(text).unwrap());
        }
    }
}

#[tokio::test]
async fn a_websocket_goes_on_where_its_client_says() {
    let system = orders().await;
    let first = number(&system, 1).await;
    let second = number(&system, 2).await;
    let mut resumed = socket(&system, "/feed").await;
    say(&mut resumed, &json!({ "resume": first.to_string() }).to_string()).await;
    let expected = json!({ "id": second.to_string(), "type": "orders.placed", "data": { "n": 2 } });
    assert_eq!(hear(&mut resumed).await, Ok(expected));
    let mut placed = socket(&system, &format!("/feed?last_event_id={first}")).await;
    assert_eq!(hear(&mut placed).await.unwrap()["data"]["n"], 2);
    let mut fresh = socket(&system, "/feed").await;
    say(&mut fresh, "{}").await;
    number(&system, 3).await;
    for socket in [&mut resumed, &mut placed, &mut fresh] {
        assert_eq!(hear(socket).await.unwrap()["data"]["n"], 3);
    }
}

#[tokio::test]
async fn a_websocket_client_that_breaks_the_rules_is_closed() {
    let system = orders().await;
    let mut wrong = socket(&system, "/feed").await;
    say(&mut wrong, r#"{"subscribe":"$SYS.>"}"#).await;
    assert_eq!(hear(&mut wrong).await, Err(1008));
    let mut late = socket(&system, "/feed?last_event_id=0").await;
    number(&system, 1).await;
    hear(&mut late).await.unwrap();
    say(&mut late, r#"{"resume":"0"}"#).await;
    assert_eq!(hear(&mut late).await, Err(1008));
    let mut loud = socket(&system, "/feed?last_event_id=1").await;
    for _ in 0..200 {
        if loud.send(Message::ping(Bytes::new())).await.is_err() {
            break;
        }
    }
    assert_eq!(hear(&mut loud).await, Err(1008));
}

#[tokio::test]
async fn a_second_edge_serves_a_client_that_comes_over_from_the_first() {
    let system = orders().await;
    let mut feed = Feed::open(&system, "/feed", &[]).await;
    number(&system, 1).await;
    let first = feed.next().await.unwrap();
    number(&system, 2).await;
    let route = json!({ "match": { "method": "GET", "path": "/feed" }, "to": { "events": ["orders.*"] } });
    let config = edge::Config::read(&json!({ "routes": [route] })).unwrap();
    let other = edge::start(local(config), super::connect(&system.harness, "edge").await).await.unwrap();
    let System { harness, shop, bus, edge: old, .. } = system;
    old.drain().await;
    let client = super::Client::new(other.local_addr());
    let system = System { harness, shop, bus, edge: other, client };
    let mut again = Feed::open(&system, "/feed", &[("last-event-id", &first.id)]).await;
    assert_eq!(again.numbers(1).await, [2]);
}
