//! Routes of one's own: what `edge.yaml` says, as clients see it, and what happens when it changes.

use serde_json::{Value, json};
use sinew::{
    EVENTS,
    wire::{ContentType, Headers, decode},
};
use sinew_edge as edge;

use super::System;
use crate::harness::{SOON, eventually};

async fn start(config: Value) -> System {
    System::start_with(read(config)).await
}

fn read(config: Value) -> edge::Config {
    edge::Config::read(&config).unwrap()
}

/// A route for `GET path`.
fn get(path: &str, to: Value) -> Value {
    json!({ "match": { "method": "GET", "path": path }, "to": to })
}

#[tokio::test]
async fn fields_come_from_path_query_header_cookie_and_route() {
    let route = get(
        "/shops/{shop}/things",
        json!({ "operation": "shop.read", "fields": {
            "id": { "cookie": "thing" }, "limit": { "header": "x-limit" }, "tags": { "path": "shop" },
        } }),
    );
    let constant = get("/best", json!({ "operation": "shop.read", "fields": { "id": { "value": "best" } } }));
    let system = start(json!({ "routes": [route, constant] })).await;
    let headers = [("cookie", "a=b; thing=7"), ("x-limit", "3")];
    let reply = system.client.send("GET", "/shops/north/things", &headers, "").await.json();
    assert_eq!((&reply["id"], &reply["limit"], &reply["tags"]), (&json!("7"), &json!(3), &json!(["north"])));
    assert_eq!(system.client.get("/best?limit=2").await.json()["id"], "best");
    let told = system.client.get("/best?id=worse").await.problem(422, "invalid-request");
    assert_eq!(told["errors"][0]["pointer"], "/id", "a constant is nobody's to choose");
    let wrong = [("x-limit", "many")];
    let told =
        system.client.send("GET", "/shops/north/things", &wrong, "").await.problem(422, "invalid-request");
    let errors: Vec<(&Value, &Value)> =
        told["errors"].as_array().unwrap().iter().map(|error| (&error["pointer"], &error["in"])).collect();
    let (limit, id) = ((&json!("/limit"), &json!("header x-limit")), (&json!("/id"), &json!("cookie thing")));
    assert_eq!(errors, [limit, id]);
}

#[tokio::test]
async fn requests_are_told_apart_by_host_header_query_version_and_media_type() {
    let route = |name: &str, condition: Value| {
        let mut matches = json!({ "method": "POST", "path": "/pick" });
        matches.as_object_mut().unwrap().extend(condition.as_object().unwrap().clone());
        json!({ "match": matches, "to": { "operation": "shop.read", "fields": { "id": { "value": name } } } })
    };
    let system = start(json!({
        "versions": { "header": "api-version", "media_type": "version" },
        "routes": [
            route("host", json!({ "host": "*.example.org" })),
            route("header", json!({ "headers": { "x-tenant": "acme" } })),
            route("query", json!({ "query": { "preview": "*" } })),
            route("version", json!({ "version": "2" })),
            route("media", json!({ "content_type": "application/vnd.pick+json" })),
        ],
    }))
    .await;
    let client = &system.client;
    for (path, header, expected) in [
        ("/pick", ("x-tenant", "acme"), "header"),
        ("/pick?preview", ("a", "b"), "query"),
        ("/pick", ("api-version", "2"), "version"),
        ("/pick", ("accept", "application/json;version=2"), "version"),
        ("/pick", ("content-type", "application/vnd.pick+json"), "media"),
    ] {
        let reply = client.send("POST", path, &[header], "{}").await;
        assert_eq!(reply.json()["id"], expected, "{header:?}");
    }
    let request =
        "POST /pick HTTP/1.1\r\nhost: a.example.org\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let answer = super::client::raw(system.address(), request).await;
    assert!(answer.contains(r#""id":"host""#), "{answer}");
    client
        .send("POST", "/pick", &[("content-type", "text/plain")], "x")
        .await
        .problem(415, "unsupported-media-type");
    client.get("/pick").await.problem(405, "method-not-allowed");
}

#[tokio::test]
async fn an_event_is_published_with_fields_of_the_path_and_callers_choose_no_subject() {
    let system = start(json!({
        "open_events": false,
        "routes": [{ "match": { "method": "PUT", "path": "/orders/{id}/approval" }, "to": { "event": "orders.approved" } }],
    }))
    .await;
    let json_body = [("content-type", "application/json")];
    let reply = system.client.send("PUT", "/orders/7/approval", &json_body, r#"{"by":"ada"}"#).await;
    assert_eq!((reply.status, reply.json()["stream"].as_str()), (202, Some(EVENTS)));
    let stored = system.bus.last_message(EVENTS, "evt.orders.approved").await.unwrap().unwrap();
    let data: Value = decode(ContentType::MessagePack, &stored.payload).unwrap();
    assert_eq!(data, json!({ "id": "7", "by": "ada" }));
    system.client.post("/events/orders/approved", &json!({})).await.problem(404, "not-found");
}

#[tokio::test]
async fn several_operations_make_one_response_and_only_what_may_be_missing_is_missing() {
    let part = |operation: &str, optional: bool| json!({ "operation": operation, "fields": { "id": { "path": "id" } }, "optional": optional });
    let system = start(json!({ "routes": [
        get("/both/{id}", json!({ "aggregate": { "first": part("shop.read", false), "second": part("shop.guarded", true) } })),
        get("/strict/{id}", json!({ "aggregate": { "first": part("shop.read", false), "second": part("shop.guarded", false) } })),
    ] }))
    .await;
    let both = system.client.get("/both/7").await.json();
    assert_eq!((&both["first"]["id"], &both["second"]), (&json!("7"), &Value::Null));
    let told = system.client.get("/strict/7").await.problem(502, "undeclared-error");
    assert_eq!(told["member"], "second");
}

#[tokio::test]
async fn a_reply_becomes_status_headers_and_a_part_of_itself() {
    let system = start(json!({ "routes": [{
        "match": { "method": "POST", "path": "/shaped" }, "to": { "operation": "shop.place" },
        "reply": { "status": 202, "headers": { "location": "/shaped/{/sku}", "x-count": "{/quantity}" }, "body": "/seen" },
    }] }))
    .await;
    let reply = system.client.post("/shaped", &json!({ "sku": "tea", "quantity": 2 })).await;
    assert_eq!(
        (reply.status, reply.header("location"), reply.header("x-count")),
        (202, Some("/shaped/tea"), Some("2"))
    );
    assert!(reply.json()["timeout"].is_string(), "{reply:?}");
}

#[tokio::test]
async fn weights_and_copies_reach_other_operations() {
    let system = start(json!({ "routes": [
        { "match": { "method": "GET", "path": "/canary/{id}" },
          "to": { "split": [{ "operation": "raw.old", "weight": 0 }, { "operation": "shop.read", "weight": 5 }] } },
        { "match": { "method": "GET", "path": "/copied/{id}" },
          "to": { "operation": "shop.read" }, "mirror": { "operation": "raw.copy" } },
    ] }))
    .await;
    let mut copies = system.shop.bus.subscribe("svc.raw.copy", None).await.unwrap();
    system.shop.announce_raw(&["old", "copy"]).await;
    eventually(SOON, || async { system.client.send("OPTIONS", "/raw/copy", &[], "").await.status == 204 })
        .await;
    for id in 0..10 {
        assert_eq!(system.client.get(&format!("/canary/{id}")).await.json()["id"], id.to_string());
    }
    assert_eq!(system.client.get("/copied/7").await.json()["id"], "7");
    let copy = tokio::time::timeout(SOON, copies.next()).await.expect("a copy in time").unwrap();
    let request: Value = decode(ContentType::MessagePack, copy.payload()).unwrap();
    assert_eq!(request, json!({ "id": "7" }));
}

#[tokio::test]
async fn an_operation_nobody_serves_yet_is_unavailable_until_somebody_does() {
    let system = start(json!({ "routes": [get("/later", json!({ "operation": "raw.later" }))] })).await;
    let reply = system.client.get("/later").await;
    let told = reply.problem(503, "no-responders");
    assert!(told["detail"].as_str().unwrap().contains("raw.later"), "{told}");
    system.shop.answer_raw("later", &[("content-type", "application/json")], b"1").await;
    system.shop.announce_raw(&["later"]).await;
    eventually(SOON, || async { system.client.get("/later").await.status == 200 }).await;
}

#[tokio::test]
async fn other_routes_are_taken_over_without_dropping_a_request() {
    let system = start(json!({ "routes": [get("/old", json!({ "operation": "shop.read", "fields": { "id": { "value": "1" } } }))] })).await;
    let (client, gate) = (system.client.clone(), system.shop.gate.clone());
    let waiting = tokio::spawn(async move { client.post("/wait", &json!({})).await });
    gate.entered.acquire().await.unwrap().forget();
    let new = read(
        json!({ "routes": [get("/new", json!({ "operation": "shop.read", "fields": { "id": { "value": "2" } } }))] }),
    );
    let changes = system.edge.reloader().reload(new).await.unwrap();
    assert_eq!((changes.added.len(), changes.removed.len(), changes.changed.len()), (1, 1, 0), "{changes}");
    assert_eq!(system.client.get("/new").await.json()["id"], "2");
    system.client.get("/old").await.problem(404, "not-found");
    gate.open.add_permits(1);
    assert_eq!(waiting.await.unwrap().json(), "waited");
}

#[tokio::test]
async fn a_configuration_with_mistakes_leaves_the_last_good_one_in_force() {
    let system = start(json!({ "routes": [get("/mine/{id}", json!({ "operation": "shop.read" }))] })).await;
    let mut broken = read(json!({}));
    broken.routes = vec![edge::Route::default()];
    let refused = system.edge.reloader().reload(broken).await.unwrap_err();
    assert_eq!(refused.kind(), edge::Kind::Config);
    assert_eq!(system.client.get("/mine/7").await.json()["id"], "7");
}

#[tokio::test]
async fn a_service_in_another_language_asks_for_its_route_by_metadata() {
    let system = System::start_with(edge::Config { discovery_ms: 100, ..edge::Config::default() }).await;
    let bus = system.shop.bus.clone();
    let mut asked = bus.subscribe("$SRV.INFO", None).await.unwrap();
    let mut requests = bus.subscribe("math.add", None).await.unwrap();
    bus.barrier().await.unwrap();
    let info = json!({ "name": "tally", "id": "x", "version": "0.1.0", "endpoints": [
        { "name": "add", "subject": "math.add", "metadata": { "http": "POST /tally/{name}" } } ] });
    let answering = tokio::spawn(async move {
        loop {
            let (to, payload) = tokio::select! {
                Some(question) = asked.next() => (question.reply_to().unwrap().to_owned(), info.to_string()),
                Some(request) = requests.next() => {
                    let text = String::from_utf8(request.payload().to_vec()).unwrap();
                    (request.reply_to().unwrap().to_owned(), format!("{{\"got\":{text}}}"))
                }
                else => return,
            };
            bus.publish(&to, &Headers::new(), payload.into()).await.unwrap();
        }
    });
    eventually(SOON, || async { system.client.send("OPTIONS", "/tally/a", &[], "").await.status == 204 })
        .await;
    let reply = system.client.post("/tally/a", &json!({ "by": 2 })).await;
    assert_eq!(reply.json(), json!({ "got": { "name": "a", "by": 2 } }));
    answering.abort();
}

#[tokio::test]
async fn the_document_of_the_live_routes_is_openapi_and_follows_them() {
    let system = start(json!({ "routes": [get("/mine/{id}", json!({ "operation": "shop.read" }))] })).await;
    let document = system.client.get("/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mine = &document["paths"]["/mine/{id}"]["get"];
    let parameters: Vec<(&str, &str, bool)> = mine["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), one["in"].as_str().unwrap(), one["required"] == true))
        .collect();
    assert_eq!(parameters, [("id", "path", true), ("limit", "query", false), ("tags", "query", false)]);
    let place = &document["paths"]["/things"]["post"];
    let reference = place["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
    let schema = document.pointer(reference.strip_prefix('#').unwrap()).unwrap();
    assert_eq!(schema["required"], json!(["sku", "quantity"]));
    assert!(place["responses"]["409"].is_object() && place["responses"]["default"].is_object(), "{place}");
    system.edge.reloader().reload(edge::Config::default()).await.unwrap();
    assert!(system.client.get("/openapi.json").await.json()["paths"].get("/mine/{id}").is_none());
}
