//! What a request is made of: the schema of an operation's request, taken apart, and the bodies a client may send.

use serde_json::{Map, Value, json};

use super::schemas::Schemas;
use crate::{
    config::below,
    mapping::Mapping,
    operation::Operation,
    served::{Served, Target},
};

/// What marks the schema of a stored file.
const FILE: &str = "x-sinew-object";

/// The schema of a request, taken apart.
pub(super) struct Request {
    reference: Value,
    /// With references that hold in the document.
    source: Value,
    /// Fields that hold a stored file.
    files: Vec<String>,
}

impl Request {
    pub(super) fn of(operation: &Operation, schemas: &mut Schemas) -> Self {
        let name = format!("{}.request", operation.name.replace('/', "."));
        let original = operation.request.source();
        let reference = schemas.add(&name, original);
        Self { source: schemas.get(&name), reference, files: files(original) }
    }

    pub(super) fn property(&self, name: &str) -> Value {
        self.source.pointer(&below("/properties", name)).cloned().unwrap_or(Value::Bool(true))
    }

    pub(super) fn requires(&self, name: &str) -> bool {
        let required = self.source.get("required").and_then(Value::as_array);
        required.is_some_and(|names| names.iter().any(|own| own == name))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let properties = self.source.get("properties").and_then(Value::as_object);
        properties.into_iter().flatten().map(|(name, _)| name.as_str())
    }

    /// Returns the schema of the body: without what comes from elsewhere.
    fn body(&self, mapping: &Mapping) -> Value {
        if let Some(field) = &mapping.body {
            return self.property(field);
        }
        if mapping.is_plain() {
            return self.reference.clone();
        }
        self.without(|name| mapping.sets(name))
    }

    /// Returns the schema of the body as a form, where only a form can hold all of it: files.
    fn form(&self, mapping: &Mapping) -> Option<Value> {
        if mapping.body.is_some() || self.files.is_empty() {
            return None;
        }
        let mut schema = self.without(|name| mapping.sets(name));
        for (name, property) in schema.get_mut("properties")?.as_object_mut()? {
            if self.files.contains(name) {
                *property = json!({ "type": "string", "format": "binary" });
            }
        }
        // A form has texts, of which the operation reads those it names.
        schema.as_object_mut()?.entry("additionalProperties").or_insert(Value::Bool(false));
        Some(schema)
    }

    /// Says whether a request without a body lacks something.
    fn needs_body(&self, mapping: &Mapping) -> bool {
        match &mapping.body {
            Some(field) => self.requires(field),
            // What is put together of alternatives may need anything.
            None if self.source.get("properties").is_none() => self.source.is_object() && !self.is_empty(),
            None => self.names().any(|name| self.requires(name) && !mapping.sets(name)),
        }
    }

    fn is_empty(&self) -> bool {
        ["$ref", "oneOf", "anyOf", "allOf", "enum", "const"].iter().all(|key| self.source.get(key).is_none())
    }

    fn without(&self, elsewhere: impl Fn(&str) -> bool) -> Value {
        let mut schema = self.source.clone();
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.retain(|name, _| !elsewhere(name));
        }
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| !name.as_str().is_some_and(&elsewhere));
        }
        schema
    }
}

/// Describes the body of a route's requests.
pub(super) fn body(served: &Served, request: Option<&Request>) -> Value {
    if matches!(served.target, Target::Object(_)) {
        return json!({ "required": true, "content": { "*/*": {} } });
    }
    let known = request.zip(served.target.mapping());
    let schema = match (known, served.target.mapping()) {
        (Some((request, mapping)), _) => request.body(mapping),
        // Members of the body stand beside what the path says.
        (None, Some(mapping)) if !mapping.is_plain() && mapping.body.is_none() => object(mapping),
        (None, _) => Value::Bool(true),
    };
    let mut content = Map::new();
    for media_type in ["application/json", "application/msgpack"] {
        content.insert(media_type.to_owned(), json!({ "schema": schema }));
    }
    if let Some(form) = known.and_then(|(request, mapping)| request.form(mapping)) {
        content.insert("multipart/form-data".to_owned(), json!({ "schema": form }));
    }
    let required = known.is_some_and(|(request, mapping)| request.needs_body(mapping));
    json!({ "required": required, "content": content })
}

/// Describes an event's data but for what comes from elsewhere.
fn object(mapping: &Mapping) -> Value {
    let elsewhere = mapping.fields.iter().map(|(field, _)| field);
    let elsewhere = elsewhere.chain(mapping.path.iter().map(|(_, field)| field));
    let properties: Map<String, Value> = elsewhere.map(|field| (field.clone(), Value::Bool(false))).collect();
    json!({ "type": "object", "properties": properties })
}

/// Names the fields whose schema, here or where it refers to, is that of a stored file.
fn files(schema: &Value) -> Vec<String> {
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let is_file = |property: &Value| {
        let target = property.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
        let told = target.and_then(|pointer| schema.pointer(pointer)).unwrap_or(property);
        told.get(FILE).is_some_and(|mark| *mark == true)
    };
    properties.filter(|(_, property)| is_file(property)).map(|(name, _)| name.clone()).collect()
}
