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
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "o-1"),
        ("ce-source", "/till"),
        ("ce-type", "shop.order"),
        ("ce-tenant", "a%20b"),
    ];
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

#[tokio::test]
async fn an_event_may_come_whole_and_an_id_counts_once_for_its_source() {
    let system = System::start().await;
    let kind = [("content-type", "application/cloudevents+json; charset=utf-8")];
    let event = |source: &str| {
        let event = json!({ "specversion": "1.0", "id": "7", "source": source, "type": "shop.order", "tenant": "a b",
            "subject": "o-1", "data": { "n": 1 } });
        event.to_string()
    };
    let send = async |source: &str| {
        let reply = system.client.send("POST", "/events/orders/placed", &kind, event(source)).await;
        assert_eq!(reply.status, 202);
        reply.json()
    };
    let (first, again, other) = (send("/a").await, send("/a").await, send("/b").await);
    assert_eq!((&again["sequence"], &again["duplicate"]), (&first["sequence"], &json!(true)));
    assert_ne!(other["sequence"], first["sequence"]);
    let stored = last(&system, "evt.orders.placed").await;
    let event = CloudEvent::read(&stored.headers).unwrap();
    assert_eq!(
        (event.id.as_str(), event.source.as_str(), event.subject.as_deref()),
        ("7", "/b", Some("o-1"))
    );
    assert_eq!(stored.headers.get("ce-tenant"), Some("a%20b"));
    assert_eq!(decode::<Value>(ContentType::MessagePack, &stored.payload).unwrap(), json!({ "n": 1 }));
}

#[tokio::test]
async fn a_batch_is_stored_in_its_order_or_refused_as_a_whole() {
    let system = System::start().await;
    let kind = [("content-type", "application/cloudevents-batch+json")];
    let event = |id: u64| json!({ "specversion": "1.0", "id": id.to_string(), "source": "/a", "type": "x", "data": id });
    let batch: Vec<Value> = (1..=20).map(event).collect();
    let stored =
        system.client.send("POST", "/events/orders/placed", &kind, json!(batch).to_string()).await.json();
    let sequences: Vec<u64> =
        stored.as_array().unwrap().iter().map(|one| one["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.len() == 20 && sequences.windows(2).all(|pair| pair[0] < pair[1]), "{sequences:?}");
    let again =
        system.client.send("POST", "/events/orders/placed", &kind, json!(batch).to_string()).await.json();
    assert!(again.as_array().unwrap().iter().all(|one| one["duplicate"] == true), "{again}");
    let wrong =
        json!([event(21), { "id": "22" }, { "specversion": "1.0", "id": "", "source": "/a", "type": "x" }]);
    let refused = system.client.send("POST", "/events/orders/placed", &kind, wrong.to_string()).await;
    let errors = refused.problem(422, "invalid-request")["errors"].clone();
    let pointers: Vec<&str> =
        errors.as_array().unwrap().iter().map(|one| one["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/1/specversion", "/1/source", "/1/type", "/2/id"]);
    let newest = last(&system, "evt.orders.placed").await;
    assert_eq!(newest.sequence, sequences[19], "nothing of a batch with mistakes is stored");
    system.client.send("POST", "/events/orders/placed", &kind, "{}").await.problem(400, "malformed-request");
    let xml = [("content-type", "application/cloudevents+xml")];
    system
        .client
        .send("POST", "/events/orders/placed", &xml, "<x/>")
        .await
        .problem(415, "unsupported-media-type");
}

#[tokio::test]
async fn a_route_takes_events_that_come_whole_too() {
    let route =
        json!({ "match": { "method": "POST", "path": "/orders/{id}" }, "to": { "event": "orders.placed" } });
    let config = sinew_edge::Config::read(&json!({ "routes": [route] })).unwrap();
    let system = System::start_with(config).await;
    let kind = [("content-type", "application/cloudevents+json")];
    let event = json!({ "specversion": "1.0", "id": "1", "source": "/a", "type": "x", "data": { "n": 1 } });
    system.client.send("POST", "/orders/o-1", &kind, event.to_string()).await.json();
    let stored = last(&system, "evt.orders.placed").await;
    let data: Value = decode(ContentType::MessagePack, &stored.payload).unwrap();
    assert_eq!(data, json!({ "id": "o-1", "n": 1 }));
}

#[tokio::test]
async fn a_sender_of_webhooks_is_told_whether_it_may_send() {
    let config = json!({ "webhook_origins": ["hooks.example"], "webhook_rate": 100 });
    let system = System::start_with(sinew_edge::Config::read(&config).unwrap()).await;
    let ask = async |path: &str, origin: &str| {
        let fields = [("webhook-request-origin", origin), ("webhook-request-rate", "120")];
        let reply = system.client.send("OPTIONS", path, &fields, "").await;
        let told = |name: &str| reply.header(name).map(str::to_owned);
        (told("allow"), told("webhook-allowed-origin"), told("webhook-allowed-rate"))
    };
    let (allow, origin, rate) = ask("/events/orders/placed", "hooks.example").await;
    assert_eq!(
        (allow.as_deref(), origin.as_deref(), rate.as_deref()),
        (Some("OPTIONS, POST"), Some("hooks.example"), Some("100"))
    );
    assert_eq!(ask("/events/orders/placed", "other.example").await.1, None);
    assert_eq!(ask("/healthz/live", "hooks.example").await.1, None);
}

async fn last(system: &System, subject: &str) -> Stored {
    system.bus.last_message(EVENTS, subject).await.unwrap().expect("a stored event")
}
