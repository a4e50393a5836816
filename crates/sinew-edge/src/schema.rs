//! What a request has to be like. A quick look answers for nearly every request that is right; the full validator is asked
//! only when the quick look is not sure, and then says everything that is wrong.

mod fields;
mod quick;
mod whole;

use std::sync::OnceLock;

use jsonschema::{Validator, error::ValidationErrorKind};
use serde_json::Value;
use sinew::wire::ContentType;

pub(crate) use fields::Fields;
use quick::Node;

/// Most violations that are told: a client mends what it reads.
const MOST: usize = 50;

/// The schema of a request.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    source: Value,
    fields: Fields,
    quick: Node,
    /// Compiled when it is needed for the first time; `None` inside for a schema that is none.
    full: OnceLock<Option<Validator>>,
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// JSON pointer into the request of the operation.
    pub(crate) pointer: String,
    pub(crate) detail: String,
}

impl Schema {
    /// Reads a JSON Schema (2020-12). What the formats of integers say is written out as bounds.
    pub(crate) fn new(source: &Value) -> Self {
        let mut source = source.clone();
        whole::bound(&mut source);
        let (fields, quick) = (Fields::of(&source), Node::of(&source));
        Self { source, fields, quick, full: OnceLock::new() }
    }

    /// Takes anything.
    pub(crate) fn open() -> Self {
        Self::new(&Value::Bool(true))
    }

    /// Returns the schema itself.
    pub(crate) fn source(&self) -> &Value {
        &self.source
    }

    /// Returns the fields, for what comes as text.
    pub(crate) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Says whether these bytes certainly fit. No means that it takes a closer look to tell.
    pub(crate) fn surely_fits(&self, codec: ContentType, bytes: &[u8]) -> bool {
        match codec {
            ContentType::Json => self.quick.fits_json(bytes),
            ContentType::MessagePack => self.quick.takes_anything(),
        }
    }

    /// Writes numbers without a fraction as integers where only those fit; says whether there were any.
    pub(crate) fn settle(&self, request: &mut Value) -> bool {
        whole::settle(&self.source, &self.source, request, 0)
    }

    /// Lists everything that is wrong with a request.
    pub(crate) fn violations(&self, request: &Value) -> Vec<Violation> {
        if self.quick.fits(request) {
            return Vec::new();
        }
        let full = self.full.get_or_init(|| {
            let compiled = jsonschema::validator_for(&self.source);
            compiled
                .inspect_err(
                    |error| tracing::warn!(%error, "a schema cannot be used: its service checks alone"),
                )
                .ok()
        });
        full.iter().flat_map(|full| full.iter_errors(request)).take(MOST).flat_map(violation).collect()
    }
}

fn violation(error: jsonschema::ValidationError<'_>) -> Vec<Violation> {
    let at = error.instance_path().as_str();
    let one = |pointer: String, detail: String| Violation { pointer, detail };
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            vec![one(crate::config::below(at, name), "is missing".to_owned())]
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|name| one(crate::config::below(at, name), "is not known".to_owned()))
            .collect(),
        // The message would repeat the whole value.
        ValidationErrorKind::AnyOf { .. } | ValidationErrorKind::OneOfNotValid { .. } => {
            vec![one(at.to_owned(), "fits none of the forms it may have".to_owned())]
        }
        _ => vec![one(at.to_owned(), error.masked().to_string())],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_violation_is_told_by_its_pointer_and_without_the_value() {
        let schema = Schema::new(&json!({
            "type": "object", "required": ["sku", "quantity"], "additionalProperties": false,
            "properties": {
                "sku": { "type": "string" }, "quantity": { "type": "integer", "minimum": 1 },
                "lines": { "type": "array", "items": { "type": "object", "required": ["a/b"] } },
            },
        }));
        let told: Vec<(String, String)> = schema
            .violations(&json!({ "quantity": 0, "lines": [{}, { "a/b": 1 }], "colour": "hunter2" }))
            .into_iter()
            .map(|one| (one.pointer, one.detail))
            .collect();
        let mut pointers: Vec<&str> = told.iter().map(|(pointer, _)| pointer.as_str()).collect();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/colour", "/lines/0/a~1b", "/quantity", "/sku"]);
        assert!(!told.iter().any(|(_, detail)| detail.contains("hunter2")), "{told:?}");
        assert!(schema.violations(&json!({ "sku": "tea", "quantity": 1 })).is_empty());
    }

    #[test]
    fn a_schema_that_is_none_leaves_the_judgement_to_the_service() {
        assert!(Schema::new(&json!({ "type": 7 })).violations(&json!(1)).is_empty());
        assert!(Schema::new(&json!(true)).violations(&json!(1)).is_empty());
    }
}
