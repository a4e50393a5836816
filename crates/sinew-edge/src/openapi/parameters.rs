//! What a request says outside its body: the fields of its path, its query, header fields and cookies.

use http::Method;
use serde_json::{Value, json};

use super::asked::Request;
use crate::{
    mapping::Source,
    matcher::Template,
    request::MAX_KEY,
    served::{Own, Served, Target},
};

/// What the parts of an event's name look like.
const NAME: &str = "^[a-z][a-z0-9_-]{0,47}$";

pub(super) fn parameters(served: &Served, path: &str, request: Option<&Request>) -> Vec<Value> {
    let names = Template::parse(path).unwrap_or_default();
    let mut told = Vec::new();
    let property =
        |field: &str| request.map_or(Value::Bool(true), |request| as_text(request.property(field)));
    let requires = |field: &str| request.is_some_and(|request| request.requires(field));
    let mapping = served.target.mapping();
    for (place, name) in names.fields().enumerate() {
        let field = mapping.and_then(|mapping| {
            let by_name = mapping.path.iter().find(|(own, _)| *own == place).map(|(_, field)| field);
            let from = |(_, source): &&(String, Source)| *source == Source::Path(place);
            by_name.or_else(|| mapping.fields.iter().find(from).map(|(field, _)| field))
        });
        let schema = match &served.target {
            Target::Own(_) => json!({ "type": "string", "pattern": NAME }),
            _ => field.map_or_else(|| json!({ "type": "string" }), |field| property(field)),
        };
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
    told.extend(following(served));
    told.extend(fields(served));
    if let (Some(mapping), Some(request), false) = (mapping, request, served.takes_body()) {
        for field in request.names().filter(|field| !mapping.sets(field)) {
            let schema = property(field);
            told.push(json!({ "name": field, "in": "query", "required": requires(field), "schema": schema }));
        }
    }
    told
}

/// Takes null out of a schema: what stands in a path, a query or a head is a text, and left out where there is none.
fn as_text(mut schema: Value) -> Value {
    let null = json!("null");
    if let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|kind| *kind != null);
    }
    if let Some(forms) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        forms.retain(|form| form.get("type") != Some(&null));
    }
    if let Some(members) = schema.as_object_mut() {
        members.retain(|key, value| key != "default" || !value.is_null());
    }
    schema
}

/// Tells what clients say who follow events.
fn following(served: &Served) -> Vec<Value> {
    let text = || json!({ "type": "string" });
    let id = || json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX });
    let moment = json!({ "type": "string", "format": "date-time" });
    let mut named = vec![("last_event_id", id()), ("format", json!({ "enum": ["data", "cloudevents"] }))];
    match &served.target {
        Target::Feed(feed) => {
            named.extend(feed.takes_past().then(|| ("from", json!({ "anyOf": [id(), moment] }))));
            named.extend(feed.parameters().map(|name| (name, text())));
        }
        Target::Own(Own::Follow) => {}
        _ => return Vec::new(),
    }
    let parameter =
        |(name, schema)| json!({ "name": name, "in": "query", "required": false, "schema": schema });
    named.into_iter().map(parameter).collect()
}

/// Tells the header fields that the route itself reads.
fn fields(served: &Served) -> Vec<Value> {
    let mut told = Vec::new();
    let mut field = |name: &str, required: bool, schema: Value| {
        told.push(json!({ "name": name, "in": "header", "required": required, "schema": schema }));
    };
    if let Some(keys) = served.policies.idempotency.as_ref().filter(|_| served.method != Method::GET) {
        let schema = json!({ "type": "string", "pattern": "^[!#-~]+$", "maxLength": MAX_KEY });
        field("Idempotency-Key", keys.is_required(&served.method), schema);
    }
    if matches!(served.target, Target::Object(_)) {
        let text = || json!({ "type": "string" });
        if served.method == Method::GET {
            field("Range", false, json!({ "type": "string", "examples": ["bytes=0-1023"] }));
            field("If-None-Match", false, text());
        } else {
            field("If-Match", false, text());
        }
    }
    told
}
