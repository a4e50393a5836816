//! How operations are asked: circuits, bulkheads, retries within a budget, times, sizes, and identical requests at once.

use bytes::Bytes;
use futures::future::join_all;
use serde_json::{Value, json};
use sinew::{
    bus::{Message, Subscription},
    wire::Headers,
};
use sinew_edge as edge;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::{
    System,
    client::{Client, Reply, problem_in, rest},
};
use crate::harness::{SOON, eventually};

fn route(method: &str, path: &str, operation: &str, policies: Value) -> Value {
    json!({ "match": { "method": method, "path": path }, "to": { "operation": operation }, "policies": policies })
}

async fn start(routes: Value) -> System {
    System::start_with(edge::Config::read(&json!({ "routes": routes })).unwrap()).await
}

async fn entered(system: &System) {
    timeout(SOON, system.shop.gate.entered.acquire())
        .await
        .expect("the handler is reached")
        .unwrap()
        .forget();
}

/// Announces an operation and returns what it is asked.
async fn raw(system: &System, name: &str) -> Subscription {
    system.shop.announce_raw(&[name]).await;
    let requests = system.shop.bus.subscribe(&format!("svc.raw.{name}"), None).await.unwrap();
    system.shop.bus.barrier().await.unwrap();
    let path = format!("/raw/{name}");
    eventually(SOON, || async { system.client.send("OPTIONS", &path, &[], "").await.status == 204 }).await;
    requests
}

async fn answer(system: &System, request: &Message, problem: bool) {
    let mut headers = Headers::new();
    headers.set("content-type", "application/json").unwrap();
    let mut body = json!(1);
    if problem {
        headers.set("Nats-Service-Error", "busy").unwrap();
        headers.set("Nats-Service-Error-Code", "503").unwrap();
        body =
            json!({ "type": "about:blank", "title": "busy", "status": 503, "code": "busy", "retry": true });
    }
    let payload = Bytes::from(body.to_string());
    system.shop.bus.publish(request.reply_to().unwrap(), &headers, payload).await.unwrap();
}

async fn asked(requests: &mut Subscription) -> Message {
    timeout(SOON, requests.next()).await.expect("a request in time").unwrap()
}

#[tokio::test]
async fn an_operation_that_keeps_failing_is_not_asked_until_it_answers_again() {
    let breaker =
        json!({ "breaker": { "failures": 2, "pause_ms": 50, "longest_pause_ms": 50, "probes": 1 } });
    let system = start(json!([route("POST", "/guarded-raw", "raw.away", breaker)])).await;
    drop(raw(&system, "away").await);
    system.shop.bus.barrier().await.unwrap();
    for _ in 0..2 {
        system.client.post("/guarded-raw", &json!({})).await.problem(503, "no-responders");
    }
    let open = async || {
        let reply = system.client.post("/guarded-raw", &json!({})).await;
        let problem: Value = serde_json::from_slice(&reply.body).unwrap();
        problem["code"] == "circuit-open" && reply.header("retry-after").is_some()
    };
    // The pause may be over at once on a slow machine; then a probe fails, and it opens again.
    eventually(SOON, open).await;
    let notes = system.edge.overview().notes.join("\n");
    assert!(notes.contains("raw/away"), "the state is told: {notes}");
    system.shop.answer_raw("away", &[("content-type", "application/json")], b"1").await;
    eventually(SOON, || async { system.client.post("/guarded-raw", &json!({})).await.status == 200 }).await;
}

#[tokio::test]
async fn a_bulkhead_refuses_what_comes_on_top() {
    let system = start(json!([route("POST", "/slow", "shop.wait", json!({ "bulkhead": 1 }))])).await;
    let client = system.client.clone();
    let first = tokio::spawn(async move { client.post("/slow", &json!({})).await });
    entered(&system).await;
    system.client.post("/slow", &json!({})).await.problem(503, "bulkhead-full");
    system.shop.gate.open.add_permits(1);
    assert_eq!(first.await.unwrap().status, 200);
}

#[tokio::test]
async fn only_what_may_be_repeated_is_asked_again_and_only_as_often_as_said() {
    let retry = json!({ "retry": { "attempts": 2, "pause_ms": 1, "longest_pause_ms": 1 } });
    let system = start(json!([route("POST", "/again", "raw.flaky", retry)])).await;
    let mut requests = raw(&system, "flaky").await;
    let ask = |key: bool| {
        let client = system.client.clone();
        let headers = if key { vec![("idempotency-key", "k")] } else { Vec::new() };
        tokio::spawn(async move { client.send("POST", "/again", &headers, "{}").await })
    };
    let keyed = ask(true);
    for problem in [true, false] {
        answer(&system, &asked(&mut requests).await, problem).await;
    }
    assert_eq!(keyed.await.unwrap().status, 200, "the second attempt was answered");
    let twice = ask(true);
    for _ in 0..2 {
        answer(&system, &asked(&mut requests).await, true).await;
    }
    assert!(twice.await.unwrap().status >= 500, "two attempts are all there are");
    let plain = ask(false);
    answer(&system, &asked(&mut requests).await, true).await;
    assert!(plain.await.unwrap().status >= 500, "what may not be repeated is asked once");
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_makes_room_for_another_within_the_deadline() {
    let retry =
        json!({ "retry": { "attempts": 2, "pause_ms": 1, "longest_pause_ms": 1, "attempt_ms": 100 } });
    let system = start(json!([route("POST", "/again", "raw.hanging", retry)])).await;
    let mut requests = raw(&system, "hanging").await;
    let client = system.client.clone();
    let reply =
        tokio::spawn(async move { client.send("POST", "/again", &[("idempotency-key", "k")], "{}").await });
    let first = asked(&mut requests).await;
    let second = asked(&mut requests).await;
    assert!(first.header("sinew-timeout").unwrap().parse::<u64>().unwrap() <= 100);
    answer(&system, &second, false).await;
    let status = reply.await.unwrap().status;
    assert!(status == 200 || status == 504, "the second attempt has its own time: {status}");
}

#[tokio::test]
async fn every_kind_of_time_has_its_end() {
    let times = |times: Value| json!({ "timeouts": times });
    let system = start(json!([
        route("POST", "/whole", "shop.wait", times(json!({ "request_ms": 50 }))),
        route("POST", "/first", "shop.wait", times(json!({ "first_byte_ms": 50 }))),
        route("POST", "/body", "shop.wait", times(json!({ "body_ms": 50 }))),
        route("GET", "/idle/{to}", "shop.count", times(json!({ "idle_ms": 50 }))),
    ]))
    .await;
    for path in ["/whole", "/first"] {
        system.client.post(path, &json!({})).await.problem(504, "deadline-exceeded");
    }
    let head = "POST /body HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 9\r\n\r\n{";
    assert_eq!(problem_in(&unfinished(&system, head).await), (408, "request-timeout".to_owned()));
    let events = [("accept", "text/event-stream")];
    let stream = system.client.send("GET", "/idle/9?pause=2", &events, "").await;
    let text = String::from_utf8(stream.body.to_vec()).unwrap();
    assert!(text.contains("event: error") && text.contains("stream-idle"), "{text}");
}

#[tokio::test]
async fn a_route_has_its_own_sizes_and_a_body_has_to_come_at_a_pace() {
    let limits = |limits: Value| json!({ "limits": limits });
    let system = start(json!([
        route("POST", "/small", "shop.place", limits(json!({ "max_body_bytes": 40 }))),
        route("POST", "/few", "shop.place", limits(json!({ "max_headers": 6 }))),
        route("POST", "/short", "shop.place", limits(json!({ "max_header_bytes": 300 }))),
        route("POST", "/paced", "shop.place", limits(json!({ "min_body_bytes_per_s": 1_000 }))),
    ]))
    .await;
    let small = json!({ "sku": "tea", "quantity": 1 });
    for path in ["/small", "/few", "/short", "/paced"] {
        assert_eq!(system.client.post(path, &small).await.status, 201, "{path}");
    }
    system
        .client
        .post("/small", &json!({ "sku": "t".repeat(40), "quantity": 1 }))
        .await
        .problem(413, "too-large");
    let many: Vec<(String, String)> = (0..6).map(|n| (format!("x-{n}"), "y".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let reply = system.client.send("POST", "/few", &many, small.to_string()).await;
    reply.problem(431, "header-fields-too-large");
    let long = "y".repeat(400);
    let reply = system.client.send("POST", "/short", &[("x-long", &long)], small.to_string()).await;
    reply.problem(431, "header-fields-too-large");
    let head = "POST /paced HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 9000\r\n\r\n{";
    assert_eq!(problem_in(&unfinished(&system, head).await), (408, "request-timeout".to_owned()));
}

/// Sends the beginning of a request, and returns the answer.
async fn unfinished(system: &System, bytes: &str) -> String {
    let mut stream = TcpStream::connect(system.address()).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    rest(&mut stream).await
}

#[tokio::test]
async fn identical_requests_at_one_time_ask_once_and_those_of_others_never_mix() {
    let system = start(json!([route("GET", "/same", "shop.wait", json!({ "coalesce": {} }))])).await;
    let client = Client::http2(system.address());
    let ask = |path: &'static str, name: &'static str, value: &'static str| {
        let client = client.clone();
        tokio::spawn(async move { client.send("GET", path, &[(name, value)], "").await })
    };
    let first = ask("/same", "x-other", "1");
    entered(&system).await;
    let same = [ask("/same", "x-other", "2"), ask("/same", "x-other", "3")];
    let apart =
        [ask("/same", "authorization", "a"), ask("/same", "cookie", "a=b"), ask("/same?x=1", "x-other", "1")];
    // One connection, taken in order by the one thread of this test: who came before this one waits already.
    assert_eq!(client.get("/healthz/live").await.status, 200);
    for _ in &apart {
        entered(&system).await;
    }
    system.shop.gate.open.add_permits(4);
    let whole: Vec<Reply> =
        join_all(same.into_iter().chain([first])).await.into_iter().map(Result::unwrap).collect();
    assert!(whole.iter().all(|reply| reply.json() == "waited"), "{whole:?}");
    for other in apart {
        assert_eq!(other.await.unwrap().status, 200);
    }
    assert_eq!(system.shop.gate.entered.available_permits(), 0, "four of six were asked");
}

#[tokio::test]
async fn when_the_one_that_asks_goes_away_the_next_one_asks() {
    let system = start(json!([route("GET", "/same", "shop.wait", json!({ "coalesce": {} }))])).await;
    let mut first = TcpStream::connect(system.address()).await.unwrap();
    first.write_all(b"GET /same HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    entered(&system).await;
    let client = system.client.clone();
    let second = tokio::spawn(async move { client.send("GET", "/same", &[("host", "a")], "").await });
    assert_eq!(system.client.get("/healthz/live").await.status, 200);
    drop(first);
    system.shop.gate.open.add_permits(2);
    assert_eq!(timeout(SOON, second).await.expect("an answer").unwrap().status, 200);
}

#[test]
fn every_mistake_about_how_operations_are_asked_is_told() {
    let value = json!({ "policies": {
        "bulkhead": 0, "retry": { "attempts": 11, "budget_percent": 101 }, "timeouts": { "idle_ms": 0 },
        "breaker": { "percent": 0, "probes": 0 }, "limits": { "max_body_bytes": 0 }, "coalesce": { "vary": ["a b"] },
    } });
    let mistakes = edge::Config::read(&value).unwrap_err();
    let mut pointers: Vec<&str> =
        mistakes.iter().filter_map(|mistake| mistake.pointer.strip_prefix("/policies/")).collect();
    pointers.sort_unstable();
    let expected = [
        "breaker/percent",
        "breaker/probes",
        "bulkhead",
        "coalesce/vary/0",
        "limits/max_body_bytes",
        "retry/attempts",
        "retry/budget_percent",
        "timeouts/idle_ms",
    ];
    assert_eq!(pointers, expected);
}
