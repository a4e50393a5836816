//! `/openapi.json`: the live routes as OpenAPI 3.1, with the schemas their operations have in the catalogue.
//!
//! A document has one operation for a method and a path. Of routes that are told apart by further conditions it shows the one
//! with the fewest.

mod schemas;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value, json};

use self::schemas::Schemas;
use crate::{
    Edge, Response,
    config::below,
    mapping::{Mapping, Source},
    operation::Operation,
    reply,
    served::{Callee, Member, Own, Served, Target},
    table::Table,
};

const PROBLEM: &str = "Problem";

/// Answers with the document of the table in force.
pub(crate) fn answer(edge: &Edge) -> Response {
    let table = edge.table.load();
    let bytes = table.openapi(|table| Bytes::from(document(table, edge.bus.name()).to_string()));
    let mut response = reply::response(StatusCode::OK, None, sinew::wire::ContentType::Json, bytes);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Describes every route of a table.
pub(crate) fn document(table: &Table, title: &str) -> Value {
    let mut schemas = Schemas::default();
    schemas.add(PROBLEM, &schemars::schema_for!(sinew::wire::Problem).to_value());
    let mut paths: BTreeMap<String, (String, Map<String, Value>)> = BTreeMap::new();
    for served in ordered(table) {
        let Some(method) = method(&served.method) else { continue };
        // Two templates that differ in the names of their fields only are one path: the first names it.
        let (path, methods) =
            paths.entry(shape(&served.path)).or_insert_with(|| (served.path.clone(), Map::new()));
        if !methods.contains_key(method) {
            methods.insert(method.to_owned(), operation(served, path, &mut schemas));
        }
    }
    let paths: Map<String, Value> =
        paths.into_values().map(|(path, methods)| (path, Value::Object(methods))).collect();
    json!({
        "openapi": "3.1.0",
        "info": { "title": title, "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": schemas.into_value() },
    })
}

/// Routes that everybody reaches come before those for few.
fn ordered(table: &Table) -> Vec<&Served> {
    let told = |served: &&Served| {
        !matches!(
            served.target,
            Target::Own(Own::Index | Own::Live | Own::Ready | Own::OpenApi | Own::Catalog)
        )
    };
    let own = table.own_routes().into_iter();
    let mut routes: Vec<&Served> = own.chain(table.routes().iter().map(AsRef::as_ref)).filter(told).collect();
    routes.sort_by_key(|served| (served.host.is_some(), served.conditions.count()));
    routes
}

fn operation(served: &Served, path: &str, schemas: &mut Schemas) -> Value {
    let callee = served.target.callees().into_iter().find_map(|callee| match callee {
        Callee::Known(operation) => Some(operation.as_ref()),
        Callee::Absent(_) => None,
    });
    let request = callee.map(|callee| Request::of(callee, schemas));
    let mut told = json!({
        "operationId": format!("{}_{}", served.method.as_str().to_lowercase(), schemas::word(path)),
        "summary": served.name,
        "parameters": parameters(served, path, request.as_ref()),
        "responses": responses(served, callee, schemas),
    });
    if let Some(callee) = callee {
        told["tags"] = json!([callee.service]);
        if !callee.description.is_empty() {
            told["description"] = callee.description.as_str().into();
        }
    }
    if served.takes_body() {
        let schema = served.target.mapping().and_then(|mapping| request.as_ref()?.body(mapping));
        let schema = schema.unwrap_or(Value::Bool(true));
        told["requestBody"] = json!({ "content": contents(&schema) });
    }
    told
}

/// The schema of a request, taken apart.
struct Request {
    reference: Value,
    /// With references that hold in the document.
    source: Value,
}

impl Request {
    fn of(operation: &Operation, schemas: &mut Schemas) -> Self {
        let name = format!("{}.request", operation.name.replace('/', "."));
        let reference = schemas.add(&name, operation.request.source());
        Self { source: schemas.get(&name), reference }
    }

    fn property(&self, name: &str) -> Value {
        self.source.pointer(&below("/properties", name)).cloned().unwrap_or(Value::Bool(true))
    }

    fn requires(&self, name: &str) -> bool {
        let required = self.source.get("required").and_then(Value::as_array);
        required.is_some_and(|names| names.iter().any(|own| own == name))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let properties = self.source.get("properties").and_then(Value::as_object);
        properties.into_iter().flatten().map(|(name, _)| name.as_str())
    }

    /// Returns the schema of the body: without what comes from elsewhere.
    fn body(&self, mapping: &Mapping) -> Option<Value> {
        if let Some(field) = &mapping.body {
            return Some(self.property(field));
        }
        if mapping.is_plain() {
            return Some(self.reference.clone());
        }
        let mut schema = self.source.clone();
        let elsewhere = |name: &str| mapping.sets(name);
        schema.get_mut("properties")?.as_object_mut()?.retain(|name, _| !elsewhere(name));
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| !name.as_str().is_some_and(elsewhere));
        }
        Some(schema)
    }
}

fn parameters(served: &Served, path: &str, request: Option<&Request>) -> Vec<Value> {
    let names = crate::matcher::Template::parse(path).unwrap_or_default();
    let mut told = Vec::new();
    let property = |field: &str| request.map_or(Value::Bool(true), |request| request.property(field));
    let requires = |field: &str| request.is_some_and(|request| request.requires(field));
    let mapping = served.target.mapping();
    for (place, name) in names.fields().enumerate() {
        let field = mapping.and_then(|mapping| {
            let by_name = mapping.path.iter().find(|(own, _)| *own == place).map(|(_, field)| field);
            let from = |(_, source): &&(String, Source)| *source == Source::Path(place);
            by_name.or_else(|| mapping.fields.iter().find(from).map(|(field, _)| field))
        });
        let schema = field.map_or_else(|| json!({ "type": "string" }), |field| property(field));
        told.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }
    for (field, source) in mapping.into_iter().flat_map(|mapping| &mapping.fields) {
        let (place, name) = match source {
            Source::Query(name) => ("query", name.as_str()),
            Source::Header(name) => ("header", name.as_str()),
            Source::Cookie(name) => ("cookie", name.as_str()),
            Source::Path(_) | Source::Constant(_) => continue,
        };
        told.push(
            json!({ "name": name, "in": place, "required": requires(field), "schema": property(field) }),
        );
    }
    if let Target::Feed(feed) = &served.target {
        let from = feed.takes_past().then_some("from");
        let names = ["last_event_id", "format"].into_iter().chain(from).chain(feed.parameters());
        told.extend(names.map(
            |name| json!({ "name": name, "in": "query", "required": false, "schema": { "type": "string" } }),
        ));
    }
    if let (Some(mapping), Some(request), false) = (mapping, request, served.takes_body()) {
        for field in request.names().filter(|field| !mapping.sets(field)) {
            let schema = property(field);
            told.push(json!({ "name": field, "in": "query", "required": requires(field), "schema": schema }));
        }
    }
    told
}

fn responses(served: &Served, callee: Option<&Operation>, schemas: &mut Schemas) -> Value {
    let mut told = Map::new();
    let (status, schema) = success(served, callee, schemas);
    let status = served.shape.status.unwrap_or(status);
    let described = json!({ "description": status.canonical_reason().unwrap_or("Success") });
    told.insert(status.as_str().to_owned(), described);
    if status != StatusCode::NO_CONTENT {
        told[status.as_str()]["content"] = match &served.target {
            Target::Feed(_) | Target::Own(Own::Follow) => {
                json!({ "text/event-stream": { "schema": { "type": "string" } } })
            }
            _ => contents(&schema),
        };
    }
    let mut codes: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for error in callee.into_iter().flat_map(Operation::errors).filter(|error| error.code != "*") {
        codes.entry(error.status).or_default().push(&error.code);
    }
    for (status, codes) in codes.into_iter().filter(|(status, _)| (400..600).contains(status)) {
        told.insert(status.to_string(), problem(&codes.join(", ")));
    }
    told.insert("default".to_owned(), problem("Why the request was not answered (RFC 9457)"));
    Value::Object(told)
}

fn success(served: &Served, callee: Option<&Operation>, schemas: &mut Schemas) -> (StatusCode, Value) {
    match &served.target {
        Target::Feed(_) | Target::Own(Own::Follow) => (StatusCode::OK, Value::Bool(true)),
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

fn contents(schema: &Value) -> Value {
    json!({ "application/json": { "schema": schema }, "application/msgpack": { "schema": schema } })
}

fn problem(description: &str) -> Value {
    let schema = json!({ "$ref": format!("#/components/schemas/{PROBLEM}") });
    json!({ "description": description, "content": { "application/problem+json": { "schema": schema } } })
}

/// Returns the key of a method; a document has no others.
fn method(method: &Method) -> Option<&'static str> {
    [
        (Method::GET, "get"),
        (Method::PUT, "put"),
        (Method::POST, "post"),
        (Method::DELETE, "delete"),
        (Method::PATCH, "patch"),
        (Method::TRACE, "trace"),
    ]
    .into_iter()
    .find_map(|(own, name)| (own == *method).then_some(name))
}

fn shape(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests;
