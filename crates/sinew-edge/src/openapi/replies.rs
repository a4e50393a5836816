//! What a client is answered: the success with its forms, and the problems an operation declares.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{
    Entry,
    links::{self, Way},
    schemas::Schemas,
};
use crate::{
    operation::Operation,
    served::{Callee, Member, Own, Served, Target},
};

pub(super) const PROBLEM: &str = "Problem";

/// Describes what a route answers.
pub(super) fn responses(
    entry: &Entry<'_>,
    callee: Option<&Operation>,
    ways: &[Way<'_>],
    schemas: &mut Schemas,
) -> Value {
    let served = entry.served;
    let mut told = Map::new();
    let (status, schema) = success(served, callee, schemas);
    let status = served.shape.status.unwrap_or(status);
    let mut described = json!({ "description": status.canonical_reason().unwrap_or("Success") });
    if !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) {
        described["content"] = forms(served, callee, &schema);
        // Only an operation's reply names what others are asked about.
        let members = callee.map(|_| schemas.members(&schema)).unwrap_or_default();
        let links = links::links(&entry.path, &members, ways);
        if !links.is_empty() {
            described["links"] = Value::Object(links);
        }
    }
    told.insert(status.as_str().to_owned(), described);
    for (status, description) in others(served) {
        told.insert((*status).to_owned(), json!({ "description": description }));
    }
    let mut codes: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for error in callee.into_iter().flat_map(Operation::errors).filter(|error| error.code != "*") {
        codes.entry(error.status).or_default().push(&error.code);
    }
    for (status, code) in own(served) {
        codes.entry(*status).or_default().push(code);
    }
    for (status, codes) in codes.into_iter().filter(|(status, _)| (400..600).contains(status)) {
        told.insert(status.to_string(), problem(&codes.join(", ")));
    }
    told.insert("default".to_owned(), problem("Why the request was not answered (RFC 9457)"));
    Value::Object(told)
}

/// Returns what a route refuses by itself, beside what every route may.
fn own(served: &Served) -> &'static [(u16, &'static str)] {
    match (&served.target, &served.method) {
        (Target::Object(_), &Method::GET) => {
            &[(404, "not-found"), (412, "precondition-failed"), (416, "range-not-satisfiable")]
        }
        (Target::Object(_), &Method::PUT) => &[(412, "precondition-failed"), (413, "too-large")],
        (Target::Object(_), _) => &[(404, "not-found"), (412, "precondition-failed")],
        (_, &Method::GET) => &[],
        _ if served.policies.idempotency.is_some() => {
            &[(409, "request-under-way"), (409, "reply-not-kept"), (422, "idempotency-key-reused")]
        }
        _ => &[],
    }
}

/// Returns the successes a route has beside the usual one.
fn others(served: &Served) -> &'static [(&'static str, &'static str)] {
    match (&served.target, &served.method) {
        (Target::Object(_), &Method::GET) => {
            &[("206", "The part that was asked for"), ("304", "The client has it")]
        }
        (Target::Object(_), &Method::PUT) => &[("204", "In place of what stood there")],
        _ => &[],
    }
}

/// Returns the media types of a success, each with its schema.
fn forms(served: &Served, callee: Option<&Operation>, schema: &Value) -> Value {
    if matches!(served.target, Target::Feed(_) | Target::Own(Own::Follow)) {
        let texts = json!({ "id": { "type": "string" }, "event": { "type": "string" }, "data": { "type": "string" } });
        // The body has no end, so only its events have a form that can be held against anything.
        let event = json!({ "type": "object", "properties": texts });
        return json!({ "text/event-stream": { "schema": true, "x-item-schema": event } });
    }
    if matches!(served.target, Target::Forward(_) | Target::Object(_)) {
        return json!({ "*/*": {} });
    }
    if callee.is_some_and(|callee| callee.stream) {
        let items = json!({ "schema": { "type": "string" }, "x-item-schema": schema });
        return json!({
            "application/jsonl": items, "application/x-ndjson": items, "text/event-stream": items,
            "application/json": { "schema": { "type": "array", "items": schema } },
        });
    }
    json!({ "application/json": { "schema": schema }, "application/msgpack": { "schema": schema } })
}

fn success(served: &Served, callee: Option<&Operation>, schemas: &mut Schemas) -> (StatusCode, Value) {
    match &served.target {
        // What is handed on as it is may come back as anything.
        Target::Feed(_) | Target::Own(Own::Follow) | Target::Forward(_) => {
            (StatusCode::OK, Value::Bool(true))
        }
        Target::Object(_) if served.method == Method::PUT => (StatusCode::CREATED, Value::Bool(true)),
        Target::Object(_) if served.method == Method::DELETE => (StatusCode::NO_CONTENT, Value::Bool(true)),
        Target::Object(_) => (StatusCode::OK, Value::Bool(true)),
        Target::Event(..) | Target::Own(_) => {
            let stored = json!({ "type": "object", "required": ["id", "stream", "sequence"], "properties": {
                "id": { "type": "string" }, "stream": { "type": "string" },
                "sequence": { "type": "integer", "minimum": 0 }, "duplicate": { "type": "boolean" },
            } });
            (StatusCode::ACCEPTED, stored)
        }
        Target::Aggregate(members) => (StatusCode::OK, whole(members, schemas)),
        Target::Call(..) | Target::Split(_) => {
            let Some(operation) = callee else { return (StatusCode::OK, Value::Bool(true)) };
            let reference = reply_of(operation, schemas);
            (operation.status, if served.shape.is_plain() { reference } else { Value::Bool(true) })
        }
    }
}

fn whole(members: &[Member], schemas: &mut Schemas) -> Value {
    let mut properties = Map::new();
    for member in members {
        let schema = match &member.callee {
            Callee::Known(operation) => reply_of(operation, schemas),
            Callee::Absent(_) => Value::Bool(true),
        };
        let schema = if member.optional { json!({ "anyOf": [schema, { "type": "null" }] }) } else { schema };
        properties.insert(member.name.clone(), schema);
    }
    let names: Vec<&String> = properties.keys().collect();
    json!({ "type": "object", "required": names, "properties": properties })
}

fn reply_of(operation: &Operation, schemas: &mut Schemas) -> Value {
    schemas.add(&format!("{}.reply", operation.name.replace('/', ".")), &operation.reply)
}

fn problem(description: &str) -> Value {
    let schema = json!({ "$ref": format!("#/components/schemas/{PROBLEM}") });
    json!({ "description": description, "content": { "application/problem+json": { "schema": schema } } })
}
