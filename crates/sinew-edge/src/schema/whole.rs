//! Whole numbers. JSON Schema takes `7.0` for an integer and most languages do not; schemas name the width of an integer and
//! leave its bounds open.

use serde_json::{Value, json};

use super::fields::{MAX_DEPTH, parts, resolve};

/// From here on floating point numbers are too coarse to tell whole ones apart.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Writes out the bounds of integers whose format says how wide they are.
pub(super) fn bound(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(bound),
        Value::Object(members) => {
            let format = members.get("format").and_then(Value::as_str).unwrap_or_default();
            if let Some((least, most)) = bounds(format).filter(|_| members.contains_key("type")) {
                members.entry("minimum").or_insert(least);
                members.entry("maximum").or_insert(most);
            }
            members.values_mut().for_each(bound);
        }
        _ => {}
    }
}

/// Rewrites numbers without a fraction where only integers fit; says whether there were any.
pub(super) fn settle(schema: &Value, root: &Value, value: &mut Value, depth: usize) -> bool {
    let schema = resolve(schema, root).and_then(Value::as_object).filter(|_| depth < MAX_DEPTH);
    let Some(schema) = schema else { return false };
    let below = |name: &str| schema.get(name).filter(|schema| schema.is_object());
    let mut changed = match value {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < EXACT);
            match whole.filter(|_| number.is_f64() && takes(schema.get("type"), "integer")) {
                Some(whole) => {
                    *value = json!(whole as i64);
                    true
                }
                None => false,
            }
        }
        Value::Array(items) => match below("items") {
            Some(schema) => {
                items.iter_mut().fold(false, |changed, item| settle(schema, root, item, depth + 1) | changed)
            }
            None => false,
        },
        Value::Object(members) => {
            let named = below("properties");
            members.iter_mut().fold(false, |changed, (name, member)| {
                let schema =
                    named.and_then(|named| named.get(name)).or_else(|| below("additionalProperties"));
                schema.is_some_and(|schema| settle(schema, root, member, depth + 1)) | changed
            })
        }
        _ => false,
    };
    for part in parts(schema) {
        changed |= settle(part, root, value, depth + 1);
    }
    changed
}

fn takes(types: Option<&Value>, kind: &str) -> bool {
    match types {
        Some(Value::String(own)) => own == kind,
        Some(Value::Array(own)) => own.iter().any(|own| own == kind),
        _ => false,
    }
}

fn bounds(format: &str) -> Option<(Value, Value)> {
    Some(match format {
        "int32" => (json!(i32::MIN), json!(i32::MAX)),
        "uint32" => (json!(0), json!(u32::MAX)),
        "int64" => (json!(i64::MIN), json!(i64::MAX)),
        "uint64" => (json!(0), json!(u64::MAX)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_become_integers_where_only_those_fit() {
        let schema = json!({
            "$defs": { "Line": { "type": "object", "properties": { "n": { "type": ["integer", "null"] } } } },
            "type": "object",
            "properties": {
                "count": { "type": "integer" }, "share": { "type": "number" }, "any": true,
                "lines": { "type": "array", "items": { "$ref": "#/$defs/Line" } },
                "kind": { "oneOf": [{ "type": "object", "properties": { "of": { "type": "integer" } } }] },
            },
            "additionalProperties": { "type": "integer" },
        });
        let mut value = json!({
            "count": 7.0, "share": 1.0, "any": 2.0, "lines": [{ "n": -3.0 }, { "n": null }], "kind": { "of": 4.0 },
            "other": 5.0, "half": 0.5,
        });
        assert!(settle(&schema, &schema, &mut value, 0));
        let settled = json!({
            "count": 7, "share": 1.0, "any": 2.0, "lines": [{ "n": -3 }, { "n": null }], "kind": { "of": 4 },
            "other": 5, "half": 0.5,
        });
        assert_eq!(value.to_string(), settled.to_string());
        assert!(!settle(&schema, &schema, &mut value, 0));
    }

    #[test]
    fn widths_become_bounds_and_bounds_stay() {
        let mut schema = json!({ "properties": {
            "a": { "type": ["integer", "null"], "format": "uint32", "minimum": 3 }, "b": { "type": "integer" },
            "c": { "type": "integer", "format": "int64" },
        } });
        bound(&mut schema);
        let of = |name: &str| {
            let own = &schema["properties"][name];
            (own["minimum"].clone(), own["maximum"].clone())
        };
        assert_eq!(of("a"), (json!(3), json!(u32::MAX)));
        assert_eq!(of("b"), (Value::Null, Value::Null));
        assert_eq!(of("c"), (json!(i64::MIN), json!(i64::MAX)));
    }
}
