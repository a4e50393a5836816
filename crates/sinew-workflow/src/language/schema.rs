//! JSON schemas of data, compiled once.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::Fault;

/// How many violations one fault names.
const SHOWN: usize = 3;

/// The deepest data a schema is held against: it may go as deep as the data, and so would the stack.
const MAX_DEPTH: usize = 128;

/// A compiled JSON schema.
#[derive(Clone)]
pub(crate) struct Schema {
    validator: Arc<jsonschema::Validator>,
}

impl Schema {
    pub(crate) fn compile(document: &Value) -> Result<Self, String> {
        let validator = jsonschema::options().build(document).map_err(|error| error.to_string())?;
        Ok(Self { validator: Arc::new(validator) })
    }

    /// Checks a value; `what` names it in the fault.
    pub(crate) fn check(&self, what: &str, value: &Value) -> Result<(), Box<Fault>> {
        if is_deeper(value, MAX_DEPTH) {
            let message = format!("the {what} nests deeper than {MAX_DEPTH} levels");
            return Err(Fault::validation(message).into());
        }
        let mut violations = self.validator.iter_errors(value).peekable();
        if violations.peek().is_none() {
            return Ok(());
        }
        let shown: Vec<String> = violations.take(SHOWN).map(|error| violation(&error)).collect();
        Err(Fault::validation(format!("the {what} does not match its schema: {}", shown.join("; "))).into())
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else { return true };
    match value {
        Value::Array(items) => items.iter().any(|item| is_deeper(item, below)),
        Value::Object(entries) => entries.values().any(|value| is_deeper(value, below)),
        _ => false,
    }
}

fn violation(error: &jsonschema::ValidationError<'_>) -> String {
    let place = error.instance_path().to_string();
    if place.is_empty() { error.to_string() } else { format!("{error} at {place}") }
}
