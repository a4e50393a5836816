//! Calls that leave the bus, against what they leave it for: TLS with a strange authority, and a real nats-server.

use futures::StreamExt as _;
use serde_json::{Value, json};
use sinew_protocols::{Call, Protocols, Settings};
use sinew_workflow::{Outcome, Protocol};

use crate::harness::{Harness, HttpsStub, SOON, json};

async fn call(protocols: &Protocols, protocol: Protocol, arguments: &Value) -> Outcome {
    protocols
        .call(Call { protocol, arguments, key: "order-7/tell", attempt: 1, limit: SOON, traceparent: None })
        .await
}

#[tokio::test]
async fn a_host_is_reached_where_the_settings_say_and_trusted_by_its_authority() {
    let stub =
        HttpsStub::start(&["petstore.swagger.io"], |seen| json(200, &json!({ "path": seen.path }))).await;
    let arguments = json!({ "method": "get", "endpoint": "https://petstore.swagger.io/v2/pet/1" });
    let extra_roots = vec![stub.authority().to_owned()];
    let settings = Settings { extra_roots, resolve: stub.resolve(), ..Settings::default() };
    let protocols = Protocols::new(settings).unwrap();
    let outcome = call(&protocols, Protocol::Http, &arguments).await;
    assert_eq!(outcome, Outcome::Completed(json!({ "path": "/v2/pet/1" })));
    assert_eq!(stub.seen()[0].host, "petstore.swagger.io");

    let strangers = Protocols::new(Settings { resolve: stub.resolve(), ..Settings::default() }).unwrap();
    let outcome = call(&strangers, Protocol::Http, &arguments).await;
    assert!(matches!(&outcome, Outcome::NotSent(fault) if fault.kind() == "communication"), "{outcome:?}");
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn what_is_published_to_a_nats_channel_is_heard_by_its_subscribers() {
    let harness = Harness::start().await;
    let host = harness.url().trim_start_matches("nats://").to_owned();
    let document = json!({
        "asyncapi": "2.6.0",
        "servers": { "bus": { "url": host, "protocol": "nats" } },
        "channels": { "orders.new": {} },
    });
    let stub = HttpsStub::start(&["docs.example"], move |_| json(200, &document)).await;
    let extra_roots = vec![stub.authority().to_owned()];
    let settings = Settings { extra_roots, resolve: stub.resolve(), ..Settings::default() };
    let protocols = Protocols::new(settings).unwrap();
    let described = json!({ "endpoint": "https://docs.example/asyncapi.json" });

    let subscription = json!({ "document": described, "channel": "orders.new", "subscription": {} });
    let mut messages = protocols.subscribe(Protocol::AsyncApi, &subscription, SOON).await.unwrap();
    let message = json!({ "payload": { "id": 7 }, "headers": { "shop": "north" } });
    let publish = json!({ "document": described, "channel": "orders.new", "message": message });
    assert_eq!(call(&protocols, Protocol::AsyncApi, &publish).await, Outcome::Completed(Value::Null));
    let heard = tokio::time::timeout(SOON, messages.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(heard.identity.as_deref(), Some("order-7/tell"));
    let heard = heard.message;
    assert_eq!((&heard["payload"], &heard["headers"]["shop"]), (&json!({ "id": 7 }), &json!("north")));
    assert_eq!(heard["headers"]["Nats-Msg-Id"], "order-7/tell");
}
