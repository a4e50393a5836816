//! Idempotency keys: what is repeated with one is done once, and only for whom asked.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinew::{Barrier, Ctx, Problem, Request, Service, State, contract};
use sinew_edge as edge;

use super::{
    System,
    client::{Client, Reply},
    connect, local,
    shop::Gate,
};
use crate::{
    cli::program,
    harness::{SOON, eventually},
};

const CHARGE: &str = r#"{"amount":7}"#;
const PLACE: &str = r#"{"sku":"tea","quantity":1}"#;

fn config() -> edge::Config {
    let config = json!({
        "policies": { "idempotency": {} },
        "routes": [
            { "match": { "method": "POST", "path": "/required" }, "to": { "operation": "shop.place" },
              "policies": { "idempotency": { "required": true, "docs": "/docs/keys" } } },
            { "match": { "method": "POST", "path": "/small" }, "to": { "operation": "shop.place" },
              "policies": { "idempotency": { "max_reply_bytes": 10 } } },
        ],
    });
    edge::Config::read(&config).unwrap()
}

async fn place(client: &Client, path: &str, headers: &[(&str, &str)], body: &'static str) -> Reply {
    client.send("POST", path, headers, body).await
}

/// The request's span, which no two askings share.
fn asking(reply: &Reply) -> Value {
    reply.json()["seen"]["trace"]["span"].clone()
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_reply_and_nothing_is_done_again() {
    let system = System::start_with(config()).await;
    let first = place(&system.client, "/things", &[("idempotency-key", "\"k-1\"")], PLACE).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, None));
    assert_eq!(first.json()["seen"]["key"], "k-1");
    let again = place(&system.client, "/things", &[("idempotency-key", "k-1")], PLACE).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, Some("true")));
    assert_eq!((again.header("location"), &again.body), (Some("/things/tea"), &first.body));
    let other = place(&system.client, "/things", &[("idempotency-key", "k-2")], PLACE).await;
    assert_ne!(asking(&other), asking(&first));
    let without = place(&system.client, "/things", &[], PLACE).await;
    assert_eq!((without.status, without.header("idempotency-replayed")), (201, None));
}

#[tokio::test]
async fn a_key_of_another_request_is_refused_and_one_of_another_caller_is_another_key() {
    let system = System::start_with(config()).await;
    let key = ("idempotency-key", "k");
    let first = place(&system.client, "/things", &[key, ("authorization", "Bearer a")], PLACE).await;
    let stranger = place(&system.client, "/things", &[key, ("authorization", "Bearer b")], PLACE).await;
    assert_eq!((stranger.status, stranger.header("idempotency-replayed")), (201, None));
    assert_ne!(asking(&stranger), asking(&first));
    let more = r#"{"sku":"tea","quantity":2}"#;
    let changed = place(&system.client, "/things", &[key, ("authorization", "Bearer a")], more).await;
    changed.problem(422, "idempotency-key-reused");
    let elsewhere = place(&system.client, "/required", &[key, ("authorization", "Bearer a")], PLACE).await;
    elsewhere.problem(422, "idempotency-key-reused");
}

#[tokio::test]
async fn a_route_may_require_a_key_and_says_where_to_read_about_it() {
    let system = System::start_with(config()).await;
    let missing = place(&system.client, "/required", &[], PLACE).await;
    missing.problem(400, "idempotency-key-missing");
    assert_eq!(missing.header("link"), Some("</docs/keys>; rel=\"help\""));
    let broken = place(&system.client, "/required", &[("idempotency-key", "\"open")], PLACE).await;
    broken.problem(400, "malformed-request");
}

#[tokio::test]
async fn of_two_edges_one_asks_and_both_repeat_its_reply_even_when_the_first_client_is_gone() {
    let system = System::start_with(config()).await;
    let other = edge::start(local(config()), connect(&system.harness, "other").await).await.unwrap();
    let second = Client::new(other.local_addr());
    // Clients know both by one name.
    let key = [("idempotency-key", "w"), ("host", "shop.example")];
    let first = tokio::spawn({
        let client = system.client.clone();
        async move { client.try_send("POST", "/wait", &key, "").await.map(|_| ()).is_ok() }
    });
    system.shop.gate.entered.acquire().await.unwrap().forget();
    let meanwhile = place(&second, "/wait", &key, "").await;
    meanwhile.problem(409, "request-under-way");
    assert_eq!(meanwhile.header("retry-after"), Some("1"));
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    system.shop.gate.open.add_permits(1);
    let reply = eventually(SOON, || async {
        let reply = place(&second, "/wait", &key, "").await;
        (reply.status != 409).then_some(reply)
    })
    .await;
    assert_eq!((reply.status, reply.header("idempotency-replayed")), (200, Some("true")));
    assert_eq!(reply.json(), json!("waited"));
    assert_eq!(system.shop.gate.entered.available_permits(), 0, "nobody asked a second time");
    other.drain().await;
}

/// A cash desk that charges once per key, and then holds its reply back at a gate.
#[derive(Clone)]
struct Desk {
    barrier: Barrier,
    gate: Gate,
    charged: Arc<AtomicU64>,
}

contract! {
    DeskContract = "desk" @ "1.0.0" { charge: Charge }
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "desk.charge", reply = u64, error = DeskError, http = "POST /charges")]
struct Charge {
    amount: u64,
}

#[derive(Debug, Problem)]
enum DeskError {
    /// something else went wrong
    #[problem(transparent)]
    Other(Problem),
}

async fn charge(request: Charge, State(desk): State<Desk>, ctx: Ctx) -> Result<u64, DeskError> {
    let work = async { Ok::<_, DeskError>(desk.charged.fetch_add(request.amount, SeqCst) + request.amount) };
    let total = desk.barrier.forward(&ctx, work).await?;
    desk.gate.entered.add_permits(1);
    desk.gate.open.acquire().await.unwrap().forget();
    Ok(total)
}

#[tokio::test]
async fn a_key_outlives_the_edge_that_was_killed_with_it_and_its_charge_is_made_once() {
    let system = System::start_with(config()).await;
    let bus = connect(&system.harness, "desk").await;
    let barrier = Barrier::open(&bus, "desk").await.unwrap();
    let desk = Desk { barrier, gate: Gate::new(), charged: Arc::default() };
    let service = Service::new("desk", desk.clone()).serve(DeskContract, |own| own.charge(charge));
    let service = service.start(&bus).await.unwrap();
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("edge.yaml");
    std::fs::write(&file, "request_timeout_ms: 5000\npolicies: { idempotency: {} }\n").unwrap();
    let file = file.to_str().unwrap();
    let url = system.harness.url();
    let mut victim =
        program::start(&["--json", "--nats-url", url, "edge", "--config", file, "--listen", "127.0.0.1:0"]);
    let killed = Client::new(program::listens(&mut victim).await);
    let key = [("idempotency-key", "c"), ("host", "shop.example")];
    for client in [&killed, &system.client] {
        eventually(SOON, || async { client.get("/charges").await.status == 405 }).await;
    }

    let first = tokio::spawn(async move { killed.try_send("POST", "/charges", &key, CHARGE).await.is_ok() });
    desk.gate.entered.acquire().await.unwrap().forget();
    victim.kill().await.unwrap();
    assert!(!first.await.unwrap(), "the client got no answer");
    let meanwhile = place(&system.client, "/charges", &key, CHARGE).await;
    meanwhile.problem(409, "request-under-way");
    assert_eq!(meanwhile.header("retry-after"), Some("1"));
    place(&system.client, "/charges", &key, r#"{"amount":8}"#).await.problem(422, "idempotency-key-reused");

    // One permit for either asking: the first one may have been given up by now, or not.
    desk.gate.open.add_permits(2);
    let reply = eventually(SOON, || async {
        let reply = place(&system.client, "/charges", &key, CHARGE).await;
        (reply.status != 409).then_some(reply)
    })
    .await;
    assert_eq!((reply.status, reply.header("idempotency-replayed")), (200, None), "it was asked again");
    assert_eq!((reply.json(), desk.charged.load(SeqCst)), (json!(7), 7), "and charged once");
    let again = place(&system.client, "/charges", &key, CHARGE).await;
    assert_eq!((again.header("idempotency-replayed"), again.json()), (Some("true"), json!(7)));
    service.drain().await;
}

#[tokio::test]
async fn failures_free_the_key_and_refusals_and_large_replies_do_not() {
    let system = System::start_with(config()).await;
    let ask =
        async |path: &str, key: &str| place(&system.client, path, &[("idempotency-key", key)], "").await;
    for _ in 0..2 {
        let busy = ask("/fail/busy", "b").await;
        busy.problem(503, "busy");
        assert_eq!(busy.header("idempotency-replayed"), None);
    }
    ask("/fail/stock", "s").await.problem(409, "out-of-stock");
    let again = ask("/fail/stock", "s").await;
    again.problem(409, "out-of-stock");
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let key = [("idempotency-key", "large")];
    assert_eq!(place(&system.client, "/small", &key, PLACE).await.status, 201);
    assert_eq!(
        place(&system.client, "/small", &key, PLACE).await.problem(409, "reply-not-kept")["answered"],
        201
    );
}

#[tokio::test]
async fn without_the_bus_nothing_is_asked() {
    let mut system = System::start_with(config()).await;
    let key = [("idempotency-key", "k")];
    assert_eq!(place(&system.client, "/things", &key, PLACE).await.status, 201);
    system.harness.kill().await;
    eventually(SOON, || async { system.client.get("/healthz/ready").await.status == 503 }).await;
    let refused = place(&system.client, "/things", &key, PLACE).await;
    refused.problem(503, "bus-down");
}

#[test]
fn what_cannot_be_kept_is_told_with_its_place() {
    let value = json!({ "policies": { "idempotency": {
        "keep": "721h", "max_reply_bytes": 1_000_000, "docs": "a b",
    } } });
    let mistakes = edge::Config::read(&value).unwrap_err();
    let pointers: Vec<&str> = mistakes.iter().map(|mistake| mistake.pointer.as_str()).collect();
    assert_eq!(
        pointers,
        ["keep", "max_reply_bytes", "docs"].map(|name| format!("/policies/idempotency/{name}"))
    );
}
