//! Every row of the failure mapping, each as a client sees it.

use serde_json::json;
use sinew_edge as edge;

use super::System;
use crate::harness::{SOON, eventually};

#[tokio::test]
async fn a_declared_error_has_its_declared_status_and_members() {
    let system = System::start().await;
    let problem = system.client.post("/fail/stock", &json!({})).await.problem(409, "out-of-stock");
    assert_eq!((&problem["title"], &problem["sku"]), (&json!("out of stock"), &json!("tea")));
    let busy = system.client.post("/fail/busy", &json!({})).await;
    assert_eq!(busy.problem(503, "busy")["retry"], true);
    assert_eq!(busy.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn an_undeclared_error_is_a_bad_gateway_that_tells_the_code_only() {
    let system = System::start().await;
    let reply = system.client.get("/guarded").await;
    assert_eq!(reply.problem(502, "undeclared-error")["cause"], "no-badge");
    assert!(!String::from_utf8_lossy(&reply.body).contains("1234"), "{reply:?}");
}

#[tokio::test]
async fn a_panic_is_a_bad_gateway_without_its_text() {
    let system = System::start().await;
    let reply = system.client.post("/fail/panic", &json!({})).await;
    reply.problem(502, "internal");
    assert!(!String::from_utf8_lossy(&reply.body).contains("told to"), "{reply:?}");
}

#[tokio::test]
async fn a_reply_larger_than_the_bus_takes_is_a_bad_gateway() {
    let system = System::start().await;
    system.client.post("/fail/huge", &json!({})).await.problem(502, "reply-too-large");
}

#[tokio::test]
async fn a_reply_nobody_can_read_is_a_bad_gateway() {
    let system = System::start().await;
    for (name, media_type) in
        [("packed", "application/msgpack"), ("text", "application/json"), ("html", "text/html")]
    {
        system.shop.answer_raw(name, &[("content-type", media_type)], b"\xc1{").await;
    }
    serve_raw(&system, &["packed", "text", "html"]).await;
    for name in ["packed", "text", "html"] {
        system.client.post(&format!("/raw/{name}"), &json!({})).await.problem(502, "malformed-reply");
    }
}

#[tokio::test]
async fn errors_of_other_stacks_are_mapped_too() {
    let system = System::start().await;
    let bare = [("Nats-Service-Error", "boom"), ("Nats-Service-Error-Code", "418")];
    system.shop.answer_raw("bare", &bare, b"").await;
    let lying = [("Nats-Service-Error", "gone"), ("Nats-Service-Error-Code", "200")];
    system.shop.answer_raw("lying", &lying, br#"{"status":200,"code":"gone"}"#).await;
    serve_raw(&system, &["bare", "lying"]).await;
    let problem = system.client.post("/raw/bare", &json!({})).await.problem(502, "undeclared-error");
    assert_eq!(problem["cause"], "service-error");
    system.client.post("/raw/lying", &json!({})).await.problem(410, "gone");
}

#[tokio::test]
async fn an_operation_nobody_serves_is_unavailable_and_worth_a_retry() {
    let system = System::start().await;
    serve_raw(&system, &["absent"]).await;
    let reply = system.client.post("/raw/absent", &json!({})).await;
    assert_eq!(reply.problem(503, "no-responders")["retry"], true);
    assert_eq!(reply.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn p4_no_answer_in_time_is_a_timeout_and_retried_by_nobody() {
    let system =
        System::start_with(edge::Config { request_timeout_ms: 300, ..edge::Config::default() }).await;
    let mut requests = system.shop.bus.subscribe("svc.raw.silent", None).await.unwrap();
    serve_raw(&system, &["silent"]).await;
    let reply = system.client.post("/raw/silent", &json!({})).await;
    assert_eq!(reply.problem(504, "deadline-exceeded").get("retry"), None);
    requests.next().await.expect("the one request");
    requests.drain().await;
    assert!(requests.next_drained().await.is_none(), "a request was sent twice");
}

#[tokio::test]
async fn p4_a_client_may_be_less_patient_than_the_edge() {
    let system = System::start().await;
    let reply = system.client.send("POST", "/wait", &[("request-timeout", "0.2")], "").await;
    assert_eq!(reply.problem(504, "deadline-exceeded")["retry"], true, "the operation is idempotent");
}

#[tokio::test]
async fn a_bus_that_is_down_makes_everything_unavailable_at_once() {
    let mut system = System::start().await;
    system.harness.kill().await;
    eventually(SOON, || async { !system.bus.is_connected() }).await;
    let call = system.client.get("/things/1").await;
    assert_eq!(call.problem(503, "bus-down")["retry"], true);
    assert_eq!(call.header("retry-after"), Some("1"));
    system.client.post("/events/orders/placed", &json!({})).await.problem(503, "bus-down");
}

#[tokio::test]
async fn a_request_larger_than_the_bus_takes_is_never_published() {
    let config = edge::Config { max_body_bytes: 8 * 1024 * 1024, ..edge::Config::default() };
    let system = System::start_with(config).await;
    let large = json!({ "sku": "x".repeat(2 * 1024 * 1024), "quantity": 1 });
    system.client.post("/things", &large).await.problem(413, "too-large");
    system.client.post("/events/orders/placed", &large).await.problem(413, "too-large");
    assert_eq!(system.client.get("/things/1").await.status, 200, "the connection survives");
}

/// Puts raw operations into the catalogue and waits until the edge serves them.
async fn serve_raw(system: &System, names: &[&str]) {
    system.shop.announce_raw(names).await;
    let last = format!("/raw/{}", names.last().unwrap());
    let known = || async { system.client.send("OPTIONS", &last, &[], "").await.status == 204 };
    eventually(SOON, known).await;
}
