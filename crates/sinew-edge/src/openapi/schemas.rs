//! The schemas of a document: each schema of the catalogue stands alone, here they share one place.

use serde_json::{Map, Value, json};

/// Schemas by the name they have in the document.
#[derive(Debug, Default)]
pub(super) struct Schemas(Map<String, Value>);

impl Schemas {
    /// Puts a schema in, unless it stands there, and returns a reference to it.
    pub(super) fn add(&mut self, name: &str, schema: &Value) -> Value {
        let name = word(name);
        if !self.0.contains_key(&name) {
            let mut own = schema.clone();
            let parts = own.as_object_mut().and_then(|own| {
                own.shift_remove("$schema");
                own.shift_remove("$defs")
            });
            rewrite(&mut own, &name);
            self.0.insert(name.clone(), own);
            for (part, mut schema) in parts.and_then(|parts| parts.as_object().cloned()).into_iter().flatten()
            {
                rewrite(&mut schema, &name);
                self.0.insert(format!("{name}.{}", word(&part)), schema);
            }
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    /// Returns a schema as it stands in the document.
    pub(super) fn get(&self, name: &str) -> Value {
        self.0.get(&word(name)).cloned().unwrap_or(Value::Bool(true))
    }

    /// Names the members that a value of a schema always has.
    pub(super) fn members(&self, schema: &Value) -> Vec<String> {
        let named = schema.get("$ref").and_then(Value::as_str);
        let target = named.and_then(|text| text.strip_prefix("#/components/schemas/"));
        let schema = target.and_then(|name| self.0.get(name)).unwrap_or(schema);
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        required.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    pub(super) fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

/// Makes a name of the letters that names in a document may have.
pub(super) fn word(text: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    text.trim_matches('/').chars().map(allowed).collect()
}

/// Turns references within a schema into references within the document.
fn rewrite(schema: &mut Value, name: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| rewrite(item, name)),
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(reference) if key == "$ref" => {
                        if let Some(pointer) = reference.strip_prefix('#') {
                            *reference = target(pointer, name);
                        }
                    }
                    other => rewrite(other, name),
                }
            }
        }
        _ => {}
    }
}

fn target(pointer: &str, name: &str) -> String {
    match pointer.strip_prefix("/$defs/").map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
        None => format!("#/components/schemas/{name}{pointer}"),
        Some((part, "")) => format!("#/components/schemas/{name}.{}", word(part)),
        Some((part, rest)) => format!("#/components/schemas/{name}.{}/{rest}", word(part)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_still_lead_where_they_led() {
        let mut schemas = Schemas::default();
        let schema = json!({
            "$schema": "x", "$defs": { "Line<a>": { "$ref": "#/$defs/Line<a>/properties/b" } },
            "properties": { "lines": { "items": { "$ref": "#/$defs/Line<a>" } }, "next": { "$ref": "#" } },
        });
        assert_eq!(
            schemas.add("orders.place/request", &schema),
            json!({ "$ref": "#/components/schemas/orders.place_request" })
        );
        let own = "#/components/schemas/orders.place_request";
        assert_eq!(
            schemas.into_value(),
            json!({
                "orders.place_request": { "properties": {
                    "lines": { "items": { "$ref": format!("{own}.Line_a_") } }, "next": { "$ref": own },
                } },
                "orders.place_request.Line_a_": { "$ref": format!("{own}.Line_a_/properties/b") },
            })
        );
    }
}
