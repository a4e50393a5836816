//! Mistakes in a configuration, found all at once: first its shape by the schema of [`Config`], then what it means.

use std::{fmt, sync::OnceLock};

use jsonschema::{ValidationError, Validator, error::ValidationErrorKind};
use serde_json::Value;

use super::{Config, webhook};
use crate::{plan, policy};

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// JSON pointer to the value; empty for the whole document.
    pub pointer: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Mistake {
    pub(crate) fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.pointer, self.message)
    }
}

/// Reads a configuration.
///
/// # Errors
/// Every mistake in it. What the values mean is looked at once the shape is right.
pub(super) fn read(value: &Value) -> Result<Config, Vec<Mistake>> {
    let mut mistakes: Vec<Mistake> =
        validator().into_iter().flat_map(|validator| validator.iter_errors(value)).flat_map(shape).collect();
    if !mistakes.is_empty() {
        mistakes.sort_by(|a, b| a.pointer.cmp(&b.pointer));
        return Err(mistakes);
    }
    let read: Result<Config, _> = serde_json::from_value(value.clone());
    let config = read.map_err(|error| vec![Mistake::new("", error.to_string())])?;
    let mistakes = all(&config);
    if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
}

/// Lists what cannot work although its shape is right.
pub(super) fn all(config: &Config) -> Vec<Mistake> {
    let mut mistakes = config.out_of_range();
    mistakes.extend(policy::Proxies::mistakes(config));
    config.policies.check("/policies", &mut mistakes);
    mistakes.extend(plan::mistakes(config));
    mistakes.extend(webhook::mistakes(&config.webhooks));
    mistakes
}

/// The schema is that of a type of ours: a failure to compile it would fail every test.
fn validator() -> Option<&'static Validator> {
    static VALIDATOR: OnceLock<Option<Validator>> = OnceLock::new();
    let compile = || jsonschema::validator_for(&schemars::schema_for!(Config).to_value()).ok();
    VALIDATOR.get_or_init(compile).as_ref()
}

fn shape(error: ValidationError<'_>) -> Vec<Mistake> {
    let at = error.instance_path().as_str();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|key| {
                Mistake::new(
                    below(at, key),
                    format!("there is no `{key}` here: see the schema edge-config.json"),
                )
            })
            .collect(),
        ValidationErrorKind::Required { property } => {
            vec![Mistake::new(at, format!("{property} is missing").replace('"', "`"))]
        }
        _ => vec![Mistake::new(at, error.to_string())],
    }
}

/// Returns the pointer to a member.
pub(crate) fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointers(value: Value) -> Vec<String> {
        read(&value).map_or_else(|found| found.into_iter().map(|one| one.pointer).collect(), |_| Vec::new())
    }

    #[test]
    fn every_mistake_of_shape_is_told_with_its_pointer() {
        let value = json!({ "port": 1, "max_headers": "x", "routes": [
            { "match": { "method": "GET", "path": "/a", "hots": "x" }, "to": { "operation": "a.b" } },
            { "match": { "path": "/b" }, "to": {} },
        ] });
        assert_eq!(pointers(value), ["/max_headers", "/port", "/routes/0/match/hots", "/routes/1/match"]);
    }

    #[test]
    fn what_is_right_is_read() {
        let value = json!({ "routes": [{ "match": { "method": "GET", "path": "/a" }, "to": { "operation": "a.b" } }] });
        assert_eq!(read(&value).unwrap().routes.len(), 1);
        assert_eq!(read(&json!({})).unwrap(), Config::default());
    }
}
