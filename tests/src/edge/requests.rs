//! What works: bodies in and out, fields from path and query, what travels along with a request.

use serde_json::{Value, json};
use sinew::wire::{ContentType, decode, encode};

use super::{System, client::Client};
use crate::harness::{SOON, eventually};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const MSGPACK: &str = "application/msgpack";

#[tokio::test]
async fn json_goes_in_and_comes_out_with_the_status_and_location_the_service_chose() {
    let system = System::start().await;
    let reply = system.client.post("/things", &json!({ "sku": "tea", "quantity": 2 })).await;
    assert_eq!((reply.status, reply.header("location")), (201, Some("/things/tea")));
    assert_eq!(reply.header("content-length").unwrap(), reply.body.len().to_string());
    let body = reply.json();
    assert_eq!((&body["sku"], &body["quantity"]), (&json!("tea"), &json!(2)));
    assert_eq!(body["seen"]["content-type"], MSGPACK);
}

#[tokio::test]
async fn messagepack_goes_in_and_comes_out() {
    let system = System::start().await;
    let body = encode(ContentType::MessagePack, &json!({ "sku": "tea", "quantity": 2 })).unwrap();
    let headers = [("content-type", MSGPACK), ("accept", MSGPACK)];
    let reply = system.client.send("POST", "/things", &headers, body).await;
    assert_eq!((reply.status, reply.header("content-type")), (201, Some(MSGPACK)));
    let value: Value = decode(ContentType::MessagePack, &reply.body).unwrap();
    assert_eq!(value["sku"], "tea");
}

#[tokio::test]
async fn path_and_query_become_fields_of_their_types() {
    let system = System::start().await;
    let reply = system.client.get("/things/a%2Fb?limit=7&tags=x&tags=y+z").await;
    let body = reply.json();
    assert_eq!(body["id"], "a/b");
    assert_eq!((&body["limit"], &body["tags"]), (&json!(7), &json!(["x", "y z"])));
}

#[tokio::test]
async fn a_status_without_content_and_a_head_have_no_body() {
    let system = System::start().await;
    let gone = system.client.send("DELETE", "/things", &[], "").await;
    assert_eq!((gone.status, gone.body.len(), gone.header("content-type")), (204, 0, None));
    let (get, head) = (system.client.get("/").await, system.client.send("HEAD", "/", &[], "").await);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length").unwrap(), get.body.len().to_string());
}

#[tokio::test]
async fn the_clients_trace_goes_on_to_the_service() {
    let system = System::start().await;
    let headers = [("traceparent", TRACEPARENT), ("tracestate", "a=1"), ("baggage", "k=v")];
    let reply = system.client.send("GET", "/things/1", &headers, "").await;
    let seen = &reply.json()["seen"];
    assert_eq!(seen["trace"]["trace"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!((&seen["tracestate"], &seen["baggage"]), (&json!("a=1"), &json!("k=v")));
    assert_eq!(reply.header("x-trace-id"), Some("0af7651916cd43dd8448eb211c80319c"));
}

#[tokio::test]
async fn a_request_without_a_trace_begins_one_the_client_can_ask_for() {
    let system = System::start().await;
    let headers = [("traceparent", "not-a-trace"), ("tracestate", "a=1")];
    let reply = system.client.send("GET", "/things/1", &headers, "").await;
    let seen = &reply.json()["seen"];
    assert_eq!(seen["trace"]["trace"].as_str(), reply.header("x-trace-id"));
    assert_eq!(seen["tracestate"], Value::Null);
}

#[tokio::test]
async fn key_preference_and_what_is_left_of_the_time_travel_along() {
    let system = System::start().await;
    let headers = [("idempotency-key", "k-1"), ("prefer", "respond-async"), ("request-timeout", "2.5")];
    let seen = system.client.send("GET", "/things/1", &headers, "").await.json()["seen"].take();
    assert_eq!((&seen["key"], &seen["prefer"]), (&json!("k-1"), &json!("respond-async")));
    let timeout: u64 = seen["timeout"].as_str().unwrap().parse().unwrap();
    assert!((1..=2500).contains(&timeout), "{timeout}");
}

#[tokio::test]
async fn many_requests_share_one_http2_connection() {
    let system = System::start().await;
    let client = Client::http2(system.address());
    let paths: Vec<String> = (0..50).map(|id| format!("/things/{id}")).collect();
    let replies = futures::future::join_all(paths.iter().map(|path| client.get(path))).await;
    for (id, reply) in replies.iter().enumerate() {
        assert_eq!(reply.json()["id"], id.to_string());
    }
}

#[tokio::test]
async fn a_service_that_comes_later_is_served_and_the_edges_paths_stay_its_own() {
    let system = System::start().await;
    system.client.post("/raw/late", &json!({})).await.problem(404, "not-found");
    system.shop.announce_raw(&["late"]).await;
    system.shop.answer_raw("late", &[], b"\"here\"").await;
    eventually(SOON, || async { system.client.post("/raw/late", &json!({})).await.status == 200 }).await;
    assert_eq!(system.client.post("/raw/late", &json!({})).await.json(), "here");
    let index = system.client.get("/").await.json();
    assert_eq!((&index["name"], &index["links"]["ready"]), (&json!("edge"), &json!("/healthz/ready")));
}

#[tokio::test]
async fn a_path_tells_its_methods() {
    let system = System::start().await;
    let refused = system.client.send("PATCH", "/things", &[], "").await;
    refused.problem(405, "method-not-allowed");
    assert_eq!(refused.header("allow"), Some("DELETE, OPTIONS, POST"));
    let asked = system.client.send("OPTIONS", "/things/1", &[], "").await;
    assert_eq!((asked.status, asked.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
}
