//! Events over HTTP: stored before they are acknowledged, with attributes that consumers can read.

use serde_json::{Value, json};
use sinew::{
    EVENTS,
    bus::Stored,
    wire::{CloudEvent, ContentType, decode},
};

use super::System;

#[tokio::test]
async fn p1_an_accepted_event_is_in_the_stream() {
    let system = System::start().await;
    let reply = system.client.post("/events/orders/placed", &json!({ "id": 7 })).await;
    let answer = reply.json();
    assert_eq!((reply.status, &answer["stream"]), (202, &json!(EVENTS)));
    let stored = last(&system, "evt.orders.placed").await;
    assert_eq!(answer["sequence"], stored.sequence);
    assert_eq!(decode::<Value>(ContentType::MessagePack, &stored.payload).unwrap(), json!({ "id": 7 }));
    let event = CloudEvent::read(&stored.headers).unwrap();
    assert_eq!(answer["id"], event.id);
    assert_eq!((event.kind.as_str(), event.source.as_str()), ("orders.placed.v1", "/edge"));
    let trace = stored.headers.get("traceparent").unwrap();
    assert_eq!(trace.split('-').nth(1), reply.header("x-trace-id"));
}

#[tokio::test]
async fn attributes_of_the_client_are_kept_and_its_id_makes_a_repetition_harmless() {
    let system = System::start().await;
    let headers =
        [("ce-specversion", "1.0"), ("ce-id", "o-1"), ("ce-type", "shop.order"), ("ce-tenant", "a%20b")];
    let first = system.client.send("POST", "/events/orders/placed", &headers, "1").await.json();
    let again = system.client.send("POST", "/events/orders/placed", &headers, "1").await.json();
    assert_eq!((&first["id"], &first["sequence"]), (&json!("o-1"), &again["sequence"]));
    assert_eq!((first.get("duplicate"), &again["duplicate"]), (None, &json!(true)));
    let stored = last(&system, "evt.orders.placed").await;
    let event = CloudEvent::read(&stored.headers).unwrap();
    assert_eq!((event.id.as_str(), event.kind.as_str()), ("o-1", "shop.order"));
    assert_eq!(stored.headers.get("ce-tenant"), Some("a%20b"));
}

#[tokio::test]
async fn events_that_cannot_be_published_are_refused() {
    let system = System::start().await;
    for path in
        ["/events/Orders/placed", "/events/orders/%3E", "/events/orders.x/placed", "/events/orders/a%20b"]
    {
        system.client.post(path, &json!({})).await.problem(400, "malformed-request");
    }
    system.client.get("/events/orders/placed").await.problem(405, "method-not-allowed");
    system.client.post("/events/orders", &json!({})).await.problem(404, "not-found");
    let old = [("ce-specversion", "0.3")];
    system.client.send("POST", "/events/orders/placed", &old, "{}").await.problem(400, "malformed-request");
    let text = [("content-type", "text/plain")];
    system
        .client
        .send("POST", "/events/orders/placed", &text, "x")
        .await
        .problem(415, "unsupported-media-type");
    assert!(system.bus.last_message(EVENTS, "evt.>").await.unwrap().is_none(), "nothing was stored");
}

async fn last(system: &System, subject: &str) -> Stored {
    system.bus.last_message(EVENTS, subject).await.unwrap().expect("a stored event")
}
