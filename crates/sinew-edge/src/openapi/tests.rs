//! A document has to hold together: what it refers to exists, what it names is unique, and its schemas are schemas.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sinew::{Contract, wire::ServiceDescriptor, workflow::Workflows};

use super::*;
use crate::{Config, table::Services};

fn written() -> Value {
    let tree = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": { "Leaf": { "type": "string" } },
        "type": "object", "required": ["id"],
        "properties": { "id": { "$ref": "#/$defs/Leaf" }, "next": { "$ref": "#" }, "session": { "type": "string" } },
    });
    let file = schemars::schema_for!(sinew::bus::Object).to_value();
    let operation = |name: &str, http: Value| {
        json!({ "name": name, "subject": format!("svc.trees.{name}"), "http": http, "request": tree, "reply": tree,
            "errors": [{ "status": 409, "code": "felled" }, { "status": 409, "code": "hollow" }, { "status": 500, "code": "*" }] })
    };
    let service: ServiceDescriptor =
        serde_json::from_value(json!({ "name": "trees", "version": "1.0.0", "operations": [
        operation("get", json!({ "method": "GET", "path": "/trees/{id}" })),
        operation("put", json!({ "method": "PUT", "path": "/trees/{other}" })),
        operation("plant", json!({ "method": "POST", "path": "/trees", "status": 201 })),
        operation("fell", json!({ "method": "DELETE", "path": "/trees/{id}", "status": 204 })),
        json!({ "name": "rings", "subject": "svc.trees.rings", "stream": true, "request": tree, "reply": tree,
            "http": { "method": "GET", "path": "/trees/{id}/rings" } }),
        json!({ "name": "draw", "subject": "svc.trees.draw", "http": { "method": "POST", "path": "/trees/{id}/pictures" },
            "request": { "type": "object", "required": ["id", "picture"], "$defs": { "Object": file }, "properties": {
                "id": { "type": "string" }, "picture": { "$ref": "#/$defs/Object" }, "size": { "type": ["integer", "null"] },
            } }, "reply": true }),
        json!({ "name": "count", "subject": "svc.trees.count", "http": { "method": "GET", "path": "/count" },
            "request": { "type": "object", "properties": {
                "limit": { "type": ["integer", "null"], "format": "uint32", "minimum": 0, "default": null },
                "kind": { "anyOf": [{ "type": "string" }, { "type": "null" }] },
            } }, "reply": true }),
    ] }))
        .unwrap();
    let config = Config::read(&json!({ "routes": [
        { "match": { "method": "GET", "path": "/mine", "host": "a.example" }, "to": { "operation": "trees.get",
          "fields": { "id": { "header": "x-tree" }, "session": { "cookie": "sid" } } } },
        { "match": { "method": "GET", "path": "/all/{id}" }, "to": { "aggregate": {
          "tree": { "operation": "trees.get", "fields": { "id": { "path": "id" } }, "optional": true } } } },
        { "match": { "method": "POST", "path": "/fallen/{id}" }, "to": { "event": "trees.fallen" } },
        { "match": { "method": "POST", "path": "/once" }, "to": { "operation": "trees.plant" },
          "policies": { "idempotency": { "required": true } } },
        { "match": { "method": "GET", "path": "/files/{name}" }, "to": { "object": { "bucket": "FILES", "name": "{name}" } } },
        { "match": { "method": "GET", "path": "/trees/{id}", "query": { "new": "*" } }, "to": { "operation": "none.get" } },
    ] }))
    .unwrap();
    let contracts = [service, Workflows::descriptor()].map(|service| (service.name.clone(), service)).into();
    document(&Table::build(&config, &Services { contracts, ..Services::default() }), "edge")
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(members) => {
            for (key, value) in members {
                match value.as_str().filter(|_| key == "$ref") {
                    Some(reference) => drop(found.insert(reference.to_owned())),
                    None => references(value, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_in_the_document() {
    let document = written();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn operations_are_unique_and_their_path_parameters_are_those_of_the_path() {
    let document = written();
    let mut ids = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let template = crate::matcher::Template::parse(path).unwrap();
        let fields: BTreeSet<&str> = template.fields().collect();
        for operation in methods.as_object().unwrap().values() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{operation}");
            let parameters = operation["parameters"].as_array().unwrap();
            let mut named = BTreeSet::new();
            for parameter in parameters {
                assert!(named.insert(
                    (&parameter["in"], &parameter["name"]).0.to_string() + &parameter["name"].to_string()
                ));
            }
            let in_path = parameters.iter().filter(|one| one["in"] == "path");
            let in_path: BTreeSet<&str> = in_path.map(|one| one["name"].as_str().unwrap()).collect();
            assert_eq!(in_path, fields, "{path}");
            assert!(operation["responses"]["default"].is_object());
        }
    }
}

#[test]
fn paths_that_differ_in_names_only_are_one_and_bodies_lack_what_the_path_says() {
    let document = written();
    let methods: Vec<&String> = document["paths"]["/trees/{id}"].as_object().unwrap().keys().collect();
    assert_eq!(methods, ["get", "put", "delete"]);
    assert!(document["paths"].get("/trees/{other}").is_none());
    let fallen = &document["paths"]["/fallen/{id}"]["post"];
    assert!(fallen["responses"]["202"].is_object(), "{fallen}");
    let gone = &document["paths"]["/trees/{id}"]["delete"]["responses"];
    assert!(gone["204"].get("content").is_none() && gone["409"]["description"] == "felled, hollow", "{gone}");
    let start = &document["paths"]["/workflows/{name}"]["post"]["requestBody"]["content"]["application/json"]
        ["schema"];
    assert!(start.get("$ref").is_none(), "the body is the input alone: {start}");
}

#[test]
fn schemas_stay_schemas() {
    let document = written();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{name}");
        let mut whole = schema.clone();
        if let Some(members) = whole.as_object_mut() {
            members.insert("components".to_owned(), document["components"].clone());
        }
        assert!(jsonschema::validator_for(&whole).is_ok(), "{name}");
    }
}

#[test]
fn bodies_say_whether_they_are_needed_and_files_how_they_are_sent() {
    let document = written();
    let body = |path: &str| document["paths"][path]["post"]["requestBody"].clone();
    assert_eq!(body("/trees")["required"], true);
    assert_eq!(body("/events/{domain}/{event}")["required"], false);
    let drawn = body("/trees/{id}/pictures");
    let form = &drawn["content"]["multipart/form-data"]["schema"];
    assert_eq!(
        (&form["properties"]["picture"]["format"], &form["required"]),
        (&json!("binary"), &json!(["picture"]))
    );
    assert!(drawn["content"]["application/json"]["schema"]["properties"]["picture"]["$ref"].is_string());
    assert!(body("/trees")["content"].get("multipart/form-data").is_none());
    let fallen = &body("/fallen/{id}")["content"]["application/json"]["schema"];
    assert_eq!((&fallen["type"], &fallen["properties"]["id"]), (&json!("object"), &json!(false)));
}

#[test]
fn a_stream_is_described_in_each_of_its_forms() {
    let document = written();
    let content = &document["paths"]["/trees/{id}/rings"]["get"]["responses"]["200"]["content"];
    let forms: Vec<&String> = content.as_object().unwrap().keys().collect();
    assert_eq!(forms, ["application/jsonl", "application/x-ndjson", "text/event-stream", "application/json"]);
    assert_eq!(content["application/json"]["schema"]["type"], "array");
}

#[test]
fn a_reply_leads_to_what_its_members_name() {
    let document = written();
    let links = &document["paths"]["/trees"]["post"]["responses"]["201"]["links"];
    let get = json!({ "operationId": "get_trees__id_", "parameters": { "id": "$response.body#/id" } });
    assert_eq!(links["get_trees__id_"], get);
    assert!(links["post_trees__id__pictures"].is_object(), "{links}");
    let fallen = &document["paths"]["/fallen/{id}"]["post"]["responses"]["202"];
    assert!(fallen.get("links").is_none(), "an event's id is nobody else's: {fallen}");
}

#[test]
fn parameters_are_texts_and_integers_have_bounds() {
    let document = written();
    let parameters = document["paths"]["/count"]["get"]["parameters"].as_array().unwrap();
    let schema = |name: &str| &parameters.iter().find(|one| one["name"] == name).unwrap()["schema"];
    let limit = json!({ "type": ["integer"], "format": "uint32", "minimum": 0, "maximum": u32::MAX });
    assert_eq!(*schema("limit"), limit);
    assert_eq!(*schema("kind"), json!({ "anyOf": [{ "type": "string" }] }));
}

#[test]
fn a_feed_is_described_by_its_events_and_by_where_a_client_may_begin() {
    let feed = json!({ "match": { "method": "GET", "path": "/feed" },
        "to": { "events": ["trees.felled"], "feed": { "replay": true } } });
    let config = Config::read(&json!({ "routes": [feed] })).unwrap();
    let document = document(&Table::build(&config, &Services::default()), "edge");
    let get = &document["paths"]["/feed"]["get"];
    let content = &get["responses"]["200"]["content"]["text/event-stream"];
    assert_eq!((&content["schema"], &content["x-item-schema"]["type"]), (&json!(true), &json!("object")));
    let from = get["parameters"].as_array().unwrap().iter().find(|one| one["name"] == "from").unwrap();
    assert_eq!(from["schema"]["anyOf"][1]["format"], "date-time");
}

#[test]
fn keys_of_requests_and_parts_of_objects_are_described_where_a_route_takes_them() {
    let document = written();
    let field = |operation: &Value, name: &str| {
        let mut all = operation["parameters"].as_array().unwrap().iter();
        all.find(|one| one["in"] == "header" && one["name"] == name).cloned()
    };
    let once = &document["paths"]["/once"]["post"];
    assert_eq!(field(once, "Idempotency-Key").unwrap()["required"], true);
    assert_eq!(once["responses"]["409"]["description"], "felled, hollow, request-under-way, reply-not-kept");
    assert_eq!(once["responses"]["422"]["description"], "idempotency-key-reused");
    assert_eq!(field(&document["paths"]["/trees"]["post"], "Idempotency-Key"), None);
    let file = &document["paths"]["/files/{name}"]["get"];
    assert_eq!(field(file, "Range").unwrap()["required"], false);
    let told: Vec<&String> = file["responses"].as_object().unwrap().keys().collect();
    assert_eq!(told, ["200", "206", "304", "404", "412", "416", "default"]);
}
