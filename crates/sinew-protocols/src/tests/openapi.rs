//! `call: openapi`.

use serde_json::{Value, json};
use sinew_workflow::Protocol;

use super::server::{Answer, Seen, Server};
use super::{done, not_sent, outcome, protocols, refused};

/// Serves a document at `/api/openapi`, and answers everything else with 200.
async fn serving(document: impl Into<String>) -> Server {
    let document = document.into();
    Server::start(move |seen| match seen.path() {
        "/api/openapi" => Answer::with(200, &[("etag", "\"1\"")], document.clone()),
        _ => Answer::json(200, &json!({ "ok": true })),
    })
    .await
}

fn arguments(server: &Server, operation: &str, parameters: Value) -> Value {
    let document = json!({ "endpoint": server.url("/api/openapi") });
    json!({ "document": document, "operationId": operation, "parameters": parameters })
}

/// Calls an operation of a document, and returns what the server was asked.
async fn asked(document: &Value, operation: &str, parameters: Value) -> Seen {
    let server = serving(document.to_string()).await;
    done(outcome(&protocols(), Protocol::OpenApi, &arguments(&server, operation, parameters)).await);
    server.seen().pop().unwrap()
}

fn version_3() -> Value {
    json!({
        "openapi": "3.1.0",
        "servers": [{ "url": "/v1" }],
        "paths": { "/orders/{id}": {
            "parameters": [{ "name": "id", "in": "path", "required": true, "schema": {} }],
            "get": { "operationId": "get", "parameters": [
                { "name": "tag", "in": "query", "schema": {} },
                { "name": "flat", "in": "query", "explode": false, "schema": {} },
                { "name": "filter", "in": "query", "style": "deepObject", "schema": {} },
                { "$ref": "#/components/parameters/Trace" },
                { "name": "session", "in": "cookie", "schema": {} },
            ] },
            "put": { "operationId": "put", "requestBody": { "$ref": "#/components/requestBodies/Order" } },
        } },
        "components": {
            "parameters": { "Trace": { "name": "X-Trace", "in": "header", "schema": {} } },
            "requestBodies": { "Order": { "required": true, "content": {
                "application/xml": {}, "application/vnd.order+json": { "schema": { "properties": { "sku": {} } } },
            } } },
        },
    })
}

#[tokio::test]
async fn every_parameter_goes_where_the_document_says() {
    let parameters = json!({
        "id": "a/b?", "tag": ["x", "y"], "flat": [1, 2], "filter": { "size": 9 }, "X-Trace": "t", "session": "s",
    });
    let seen = asked(&version_3(), "get", parameters).await;
    assert_eq!(seen.target, "/v1/orders/a%2Fb%3F?tag=x&tag=y&flat=1%2C2&filter%5Bsize%5D=9");
    assert_eq!((seen.header("x-trace"), seen.header("cookie")), (Some("t"), Some("session=s")));
}

#[tokio::test]
async fn what_is_left_over_is_the_body_and_so_is_what_is_called_body() {
    let seen = asked(&version_3(), "put", json!({ "id": 7, "sku": "shoe", "n": 2 })).await;
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("PUT", "/v1/orders/7"));
    assert_eq!(seen.json(), json!({ "sku": "shoe", "n": 2 }));
    assert_eq!(seen.header("content-type"), Some("application/vnd.order+json"));
    assert_eq!(seen.header("idempotency-key"), Some("order-7/charge"));
    let seen = asked(&version_3(), "put", json!({ "id": 7, "body": ["a"] })).await;
    assert_eq!(seen.json(), json!(["a"]));
    let seen = asked(&version_3(), "put", json!({ "id": 7, "body": "text" })).await;
    assert_eq!(seen.json(), json!("text"));
}

#[tokio::test]
async fn swagger_2_in_yaml_is_understood() {
    let yaml = "
swagger: '2.0'
basePath: /v2
paths:
  /pet/findByStatus:
    get:
      operationId: findPetsByStatus
      parameters:
        - { name: status, in: query, required: true, type: array, collectionFormat: multi }
        - { name: sizes, in: query, type: array }
  /pet:
    post:
      operationId: addPet
      parameters:
        - { name: pet, in: body, schema: { $ref: '#/definitions/Pet' } }
  /pet/{petId}:
    post:
      operationId: updatePet
      parameters:
        - { name: petId, in: path, required: true, type: integer }
        - { name: name, in: formData, type: string }
definitions: { Pet: { properties: { name: {} } } }
";
    let server = serving(yaml).await;
    let protocols = protocols();
    for (operation, parameters) in [
        ("findPetsByStatus", json!({ "status": ["sold", "pending"], "sizes": [1, 2] })),
        ("addPet", json!({ "pet": { "name": "Milou" } })),
        ("addPet", json!({ "name": "Milou" })),
        ("updatePet", json!({ "petId": 3, "name": "Mi lou" })),
    ] {
        done(outcome(&protocols, Protocol::OpenApi, &arguments(&server, operation, parameters)).await);
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 5, "the document is fetched once: {seen:#?}");
    assert_eq!(seen[1].target, "/v2/pet/findByStatus?status=sold&status=pending&sizes=1%2C2");
    assert_eq!((seen[2].json(), seen[3].json()), (json!({ "name": "Milou" }), json!({ "name": "Milou" })));
    assert_eq!((seen[4].target.as_str(), seen[4].text()), ("/v2/pet/3", "name=Mi+lou"));
}

#[tokio::test]
async fn mistakes_say_what_the_document_knows() {
    let server = serving(version_3().to_string()).await;
    for (operation, parameters, hint) in [
        ("gett", json!({}), "did you mean `get`?"),
        ("get", json!({}), "`id`"),
        ("get", json!({ "id": 1, "tags": [] }), "no parameter `tags`"),
        ("put", json!({ "id": 1 }), "`body`"),
    ] {
        let fault = refused(
            outcome(&protocols(), Protocol::OpenApi, &arguments(&server, operation, parameters)).await,
        );
        assert_eq!(fault.kind(), "configuration");
        assert!(fault.detail.as_ref().unwrap().contains(hint), "{fault}");
    }
    assert!(server.seen().iter().all(|seen| seen.path() == "/api/openapi"));
}

#[tokio::test]
async fn a_document_that_cannot_be_had_means_nothing_was_sent() {
    let server = Server::start(|_| Answer::with(500, &[], "")).await;
    let fault =
        not_sent(outcome(&protocols(), Protocol::OpenApi, &arguments(&server, "get", json!({}))).await);
    assert!(fault.detail.unwrap().contains("/api/openapi"));
    let server = serving(": : :").await;
    refused(outcome(&protocols(), Protocol::OpenApi, &arguments(&server, "get", json!({}))).await);
}
