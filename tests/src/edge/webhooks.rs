//! Webhooks out: signed, repeated as the other side asks, shared by replicas, kept as dead letters, and never lost.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sinew::dead_letters::{By, DeadLetters, Filter, Letter};
use sinew_edge as edge;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{System, local, observing::scrape};
use crate::{
    cli::program,
    harness::{SOON, eventually},
};

/// Status and `Retry-After` of the answers to come.
type Answers = Arc<Mutex<VecDeque<(u16, Option<&'static str>)>>>;

/// Somebody outside who takes webhooks.
struct Receiver {
    url: String,
    got: mpsc::UnboundedReceiver<Got>,
    /// What the next requests are answered; 200 when there is nothing more.
    // A lock: the server's tasks take from the front while the test adds to the end.
    answers: Answers,
    _server: AbortOnDropHandle<()>,
}

/// One request.
#[derive(Debug)]
struct Got {
    headers: HeaderMap,
    body: Bytes,
    at: std::time::Instant,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (tell, got) = mpsc::unbounded_channel();
        let answers: Answers = Arc::default();
        let answering = answers.clone();
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tell, answering) = (tell.clone(), answering.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (tell, answering) = (tell.clone(), answering.clone());
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let at = std::time::Instant::now();
                        let _ = tell.send(Got { headers: head.headers, body, at });
                        let (status, pause) = answering.lock().unwrap().pop_front().unwrap_or((200, None));
                        let mut response = Response::builder().status(status);
                        if let Some(pause) = pause {
                            response = response.header("retry-after", pause);
                        }
                        Ok::<_, Infallible>(response.body(Full::new(Bytes::from_static(b"ok"))).unwrap())
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, got, answers, _server: AbortOnDropHandle::new(server) }
    }

    fn answer(&self, status: u16, pause: Option<&'static str>) {
        self.answers.lock().unwrap().push_back((status, pause));
    }

    async fn next(&mut self) -> Got {
        timeout(SOON, self.got.recv()).await.expect("a request in time").unwrap()
    }
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What is the same for all: quick, and to this machine.
fn webhook(url: &str, more: Value) -> Value {
    let mut webhook = json!({ "name": "crm", "events": ["orders.*"], "url": url, "allow_private": true,
        "retry": { "first_ms": 10, "longest_ms": 20, "attempts": 3 } });
    webhook.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    webhook
}

fn config(webhook: Value) -> edge::Config {
    let metrics = json!({ "listen": "127.0.0.1:0" });
    let mut config = edge::Config::read(&json!({ "webhooks": [webhook], "metrics": metrics })).unwrap();
    config
        .resolve_secrets(|name| Some(format!("secret of {name}")), |_| Ok("whsec_c2VjcmV0\n".to_owned()))
        .unwrap();
    config
}

async fn system(url: &str, more: Value) -> System {
    System::start_with(config(webhook(url, more))).await
}

async fn publish(system: &System, id: &str, data: &Value) {
    let headers = [("content-type", "application/json"), ("ce-id", id)];
    let reply = system.client.send("POST", "/events/orders/placed", &headers, data.to_string()).await;
    assert_eq!(reply.status, 202);
}

async fn letters(system: &System) -> Vec<Letter> {
    DeadLetters::new(&system.bus).page(&Filter::default().group("edge", "crm"), 0, 10).await.unwrap().letters
}

#[tokio::test]
async fn an_event_is_sent_with_its_attributes_and_signed_by_every_secret() {
    let mut receiver = Receiver::start().await;
    let secrets =
        json!({ "secrets": [{ "file": "/secret" }, { "env": "OLD" }], "headers": { "x-shop": "1" } });
    let system = system(&receiver.url, secrets).await;
    publish(&system, "o 1".replace(' ', "%20").as_str(), &json!({ "n": 1 })).await;
    let got = receiver.next().await;
    assert_eq!((got.header("content-type"), got.header("x-shop")), ("application/json", "1"));
    assert_eq!((got.header("ce-id"), got.header("ce-type")), ("o%201", "orders.placed.v1"));
    assert_eq!((got.header("webhook-id"), got.json()), ("o%201", json!({ "n": 1 })));
    assert!(got.header("webhook-timestamp").parse::<i64>().is_ok() && got.header("traceparent").len() == 55);
    let signatures: Vec<&str> = got.header("webhook-signature").split(' ').collect();
    assert!(signatures.len() == 2 && signatures.iter().all(|one| one.starts_with("v1,")), "{signatures:?}");
    assert_ne!(signatures[0], signatures[1]);
}

#[tokio::test]
async fn an_event_may_be_sent_whole_and_only_where_it_fits() {
    let mut receiver = Receiver::start().await;
    let more = json!({ "mode": "structured", "filter": { "/kind": "business" } });
    let system = system(&receiver.url, more).await;
    publish(&system, "1", &json!({ "kind": "private" })).await;
    publish(&system, "2", &json!({ "kind": "business" })).await;
    let got = receiver.next().await;
    assert_eq!(got.header("content-type"), "application/cloudevents+json");
    let event = got.json();
    assert_eq!((&event["id"], &event["data"]), (&json!("2"), &json!({ "kind": "business" })));
    assert_eq!(got.header("webhook-signature"), "", "nothing is signed without a secret");
}

#[tokio::test]
async fn a_failed_request_is_repeated_with_the_same_id_and_not_before_the_other_side_says() {
    let mut receiver = Receiver::start().await;
    receiver.answer(500, None);
    receiver.answer(429, Some("1"));
    let system = system(&receiver.url, json!({})).await;
    publish(&system, "1", &json!({})).await;
    let all = [receiver.next().await, receiver.next().await, receiver.next().await];
    assert!(all.iter().all(|got| got.header("webhook-id") == "1"));
    let pause = all[2].at - all[1].at;
    assert!(pause >= Duration::from_millis(950), "{pause:?}");
    assert!(letters(&system).await.is_empty());
}

#[tokio::test]
async fn what_nobody_takes_becomes_a_dead_letter_that_can_be_sent_again() {
    let mut receiver = Receiver::start().await;
    (0..3).for_each(|_| receiver.answer(503, None));
    let system = system(&receiver.url, json!({})).await;
    publish(&system, "1", &json!({ "n": 1 })).await;
    for _ in 0..3 {
        receiver.next().await;
    }
    let letter = eventually(SOON, async || letters(&system).await.pop()).await;
    assert_eq!((letter.id.as_deref(), letter.code.as_str(), letter.attempts), (Some("1"), "refused", 3));
    assert!(DeadLetters::new(&system.bus).retry(letter.sequence, &By::new("test")).await.unwrap());
    let got = receiver.next().await;
    assert_eq!((got.header("webhook-id"), got.json()), ("1", json!({ "n": 1 })));
    assert!(letters(&system).await.is_empty());
    for (outcome, count) in [("retried", 2), ("dead", 1), ("delivered", 1)] {
        let line =
            format!("sinew_edge_webhook_attempts_total{{webhook=\"crm\",outcome=\"{outcome}\"}} {count}");
        // The answer is on its way back when the receiver has the event.
        eventually(SOON, async || scrape(&system).await.contains(&line)).await;
    }
}

#[tokio::test]
async fn a_refusal_for_good_is_not_repeated_and_one_who_is_gone_is_sent_nothing_more() {
    let mut receiver = Receiver::start().await;
    receiver.answer(422, None);
    receiver.answer(410, None);
    let system = system(&receiver.url, json!({ "concurrency": 1 })).await;
    for id in ["1", "2", "3"] {
        publish(&system, id, &json!({})).await;
        let count: usize = id.parse().unwrap();
        eventually(SOON, async || letters(&system).await.len() == count).await;
    }
    let codes: Vec<String> = letters(&system).await.into_iter().map(|letter| letter.code).collect();
    assert_eq!(codes, ["refused", "gone", "gone"]);
    receiver.next().await;
    receiver.next().await;
    assert!(receiver.got.try_recv().is_err(), "nothing is sent to one who is gone");
    let again = letters(&system).await.pop().unwrap();
    DeadLetters::new(&system.bus).retry(again.sequence, &By::new("test")).await.unwrap();
    assert_eq!(receiver.next().await.header("webhook-id"), "3", "but when somebody says so");
}

#[tokio::test]
async fn a_private_address_is_refused_unless_it_is_meant() {
    let mut receiver = Receiver::start().await;
    let more = json!({ "allow_private": false, "retry": { "attempts": 1 } });
    let named = receiver.url.replace("127.0.0.1", "localhost");
    let system = system(&named, more).await;
    publish(&system, "1", &json!({})).await;
    let letter = eventually(SOON, async || letters(&system).await.pop()).await;
    assert_eq!(letter.code, "private-address");
    assert!(receiver.got.try_recv().is_err());
}

#[tokio::test]
async fn replicas_share_the_work() {
    let mut receiver = Receiver::start().await;
    let system = system(&receiver.url, json!({})).await;
    let config = local(config(webhook(&receiver.url, json!({}))));
    let other = edge::start(config, super::connect(&system.harness, "edge").await).await.unwrap();
    for n in 0..40 {
        publish(&system, &n.to_string(), &json!({})).await;
    }
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(receiver.next().await.header("webhook-id").parse::<u32>().unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..40).collect::<Vec<_>>());
    other.drain().await;
}

#[tokio::test]
async fn events_of_one_key_are_sent_in_their_order_though_one_of_them_fails() {
    let mut receiver = Receiver::start().await;
    receiver.answer(500, None);
    let system = system(&receiver.url, json!({ "order_by": "/order" })).await;
    for n in 0..10 {
        publish(&system, &n.to_string(), &json!({ "order": "o-1" })).await;
    }
    let mut ids = Vec::new();
    for _ in 0..11 {
        ids.push(receiver.next().await.header("webhook-id").to_owned());
    }
    assert_eq!(ids, ["0", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
}

#[tokio::test]
async fn p1_a_killed_edge_loses_no_event() {
    let mut receiver = Receiver::start().await;
    let harness = crate::harness::Harness::start().await;
    let files = tempfile::TempDir::new().unwrap();
    let file = files.path().join("edge.yaml");
    std::fs::write(&file, json!({ "webhooks": [webhook(&receiver.url, json!({}))] }).to_string()).unwrap();
    let file = file.to_str().unwrap();
    let arguments = ["--nats-url", harness.url(), "edge", "--listen", "127.0.0.1:0", "--config", file];
    let mut killed = program::start(&arguments);
    let bus = super::connect(&harness, "shop").await;
    let stands = async || bus.consumer(sinew::EVENTS, "edge+crm").await.unwrap().is_some();
    eventually(SOON, stands).await;
    let ctx = sinew::Ctx::detached(&bus, "shop");
    let publish = async |n: u32| {
        let (mut headers, id) = (sinew::wire::Headers::new(), n.to_string());
        headers.set("content-type", "application/json").unwrap();
        headers.set("ce-id", &id).unwrap();
        sinew::publish_raw(&ctx, "evt.orders.placed", "orders.placed", &id, headers, "{}".into())
            .await
            .unwrap();
    };
    for n in 0..100 {
        publish(n).await;
        if n == 50 {
            receiver.next().await;
            program::signal(&killed, "-KILL");
        }
    }
    program::ended(&mut killed).await;
    let mut other = program::start(&arguments);
    // What was under way at the first one comes again once its time is over; a request lost with it may have been taken.
    let mut ids = std::collections::BTreeSet::new();
    let all = async {
        while ids.len() < 99 {
            let got = receiver.got.recv().await.unwrap();
            ids.insert(got.header("webhook-id").parse::<u32>().unwrap());
        }
    };
    timeout(3 * SOON, all).await.expect("every event");
    program::terminate(&other);
    assert_eq!(program::ended(&mut other).await, Some(0));
}

#[tokio::test]
async fn mistakes_of_webhooks_are_told_with_their_places() {
    let wrong = json!({ "webhooks": [{ "name": "A b", "events": ["orders"], "url": "ftp://x", "order_by": "x", "from": "yesterday",
        "secrets": [{}], "retry": { "attempts": 0 } }] });
    let pointers: Vec<String> =
        edge::Config::read(&wrong).unwrap_err().into_iter().map(|mistake| mistake.pointer).collect();
    let at = |key: &str| format!("/webhooks/0/{key}");
    assert_eq!(pointers, ["name", "url", "from", "order_by", "retry", "secrets", "events/0"].map(at));
    let mut unread = edge::Config::read(&json!({ "webhooks": [
        { "name": "a", "events": ["a.b"], "url": "https://x", "secrets": [{ "env": "NONE" }] }] }))
    .unwrap();
    let mistakes = unread.resolve_secrets(|_| None, |_| Ok(String::new())).unwrap_err();
    assert_eq!(mistakes[0].pointer, "/webhooks/0/secrets/0");
    let shown = edge::overview(&unread, &edge::Services::default()).webhooks;
    assert_eq!((shown[0].name.as_str(), shown[0].signed), ("a", true));
}

#[tokio::test]
async fn webhooks_begin_end_and_go_on_with_a_reload() {
    let (mut stays, mut comes) = (Receiver::start().await, Receiver::start().await);
    let named = |receiver: &Receiver, name: &str| webhook(&receiver.url, json!({ "name": name }));
    let of = |webhooks: Vec<Value>| edge::Config::read(&json!({ "webhooks": webhooks })).unwrap();
    let both = vec![named(&stays, "stays"), named(&comes, "comes")];
    let system = System::start_with(of(vec![named(&stays, "stays")])).await;
    publish(&system, "first", &json!({})).await;
    assert_eq!(stays.next().await.header("webhook-id"), "first");

    system.edge.reloader().reload(of(both.clone())).await.unwrap();
    let names: Vec<String> = system.edge.overview().webhooks.into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["stays", "comes"]);
    publish(&system, "second", &json!({})).await;
    assert_eq!(stays.next().await.header("webhook-id"), "second");
    assert_eq!(comes.next().await.header("webhook-id"), "second", "a new one begins from now");

    let mut broken = both;
    broken[1]["url"] = "http://127.0.0.1:1/elsewhere".into();
    broken[0]["secrets"] = json!([{ "env": "NOWHERE" }]);
    // A secret nobody has read: neither of the two changes.
    system.edge.reloader().reload(of(broken)).await.unwrap_err();
    publish(&system, "third", &json!({})).await;
    assert_eq!(stays.next().await.header("webhook-id"), "third");
    assert_eq!(comes.next().await.header("webhook-id"), "third");

    let url = comes.url.clone();
    let from = |name: &str, from: Value| webhook(&url, json!({ "name": name, "from": from }));
    let all = &["first", "second", "third"][..];
    for (name, start, expected) in [
        ("all", json!("first"), all),
        ("late", json!(2), &all[1..]),
        ("old", json!("2020-01-01T00:00:00Z"), all),
    ] {
        system.edge.reloader().reload(of(vec![named(&stays, "stays"), from(name, start)])).await.unwrap();
        let mut ids = Vec::new();
        for _ in expected {
            ids.push(comes.next().await.header("webhook-id").to_owned());
        }
        ids.sort_unstable();
        assert_eq!(ids, expected, "{name}");
    }

    system.edge.reloader().reload(of(vec![named(&comes, "comes")])).await.unwrap();
    publish(&system, "fourth", &json!({})).await;
    assert_eq!(comes.next().await.header("webhook-id"), "fourth");
    timeout(SOON, system.edge.drain()).await.expect("the drain ends");
    assert!(stays.got.try_recv().is_err(), "what was taken away is sent nothing more");
}
