//! Idempotency keys: what is repeated with one is done once, and only for whom asked.

use serde_json::{Value, json};
use sinew_edge as edge;

use super::{
    System,
    client::{Client, Reply},
    connect, local,
};
use crate::harness::{SOON, eventually};

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
