//! `/openapi.json`: the live routes as OpenAPI 3.1, with the schemas their operations have in the catalogue.
//!
//! A document has one operation for a method and a path. Of routes that are told apart by further conditions it shows the one
//! with the fewest.

mod asked;
mod links;
mod parameters;
mod replies;
mod schemas;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value, json};

use self::{asked::Request, links::Way, replies::PROBLEM, schemas::Schemas};
use crate::{
    Edge, Response, reply,
    served::{Callee, Own, Served, Target},
    table::Table,
};

/// One operation of the document.
struct Entry<'t> {
    path: String,
    method: &'static str,
    id: String,
    served: &'t Served,
}

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
    let entries = entries(table);
    let ways: Vec<Way<'_>> = entries.iter().map(|entry| Way { id: &entry.id, path: &entry.path }).collect();
    let mut paths = Map::new();
    for entry in &entries {
        let methods = paths.entry(entry.path.clone()).or_insert_with(|| json!({}));
        methods[entry.method] = operation(entry, &ways, &mut schemas);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": title, "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": schemas.into_value() },
    })
}

/// Lists the operations of the document: of several routes for one method and path the first.
fn entries(table: &Table) -> Vec<Entry<'_>> {
    let mut paths: BTreeMap<String, (String, Vec<Entry<'_>>)> = BTreeMap::new();
    for served in ordered(table) {
        let Some(method) = method(&served.method) else { continue };
        // Two templates that differ in the names of their fields only are one path: the first names it.
        let (path, entries) =
            paths.entry(shape(&served.path)).or_insert_with(|| (served.path.clone(), Vec::new()));
        if !entries.iter().any(|entry| entry.method == method) {
            let id = format!("{method}_{}", schemas::word(path));
            entries.push(Entry { path: path.clone(), method, id, served });
        }
    }
    paths.into_values().flat_map(|(_, entries)| entries).collect()
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

fn operation(entry: &Entry<'_>, ways: &[Way<'_>], schemas: &mut Schemas) -> Value {
    let Entry { path, id, served, .. } = entry;
    let callee = served.target.callees().into_iter().find_map(|callee| match callee {
        Callee::Known(operation) => Some(operation.as_ref()),
        Callee::Absent(_) => None,
    });
    // What is handed on as it is has no form of its own.
    let described = callee.filter(|_| !matches!(served.target, Target::Forward(_)));
    let request = described.map(|callee| Request::of(callee, schemas));
    let mut told = json!({
        "operationId": id,
        "summary": served.name,
        "parameters": parameters::parameters(served, path, request.as_ref()),
        "responses": replies::responses(entry, callee, ways, schemas),
    });
    if let Some(callee) = callee {
        told["tags"] = json!([callee.service]);
        if !callee.description.is_empty() {
            told["description"] = callee.description.as_str().into();
        }
    }
    if served.takes_body() {
        told["requestBody"] = asked::body(served, request.as_ref());
    }
    told
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
