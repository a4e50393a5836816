//! Settings as rows: name, value, source.

use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    config,
    error::Error,
    settings::{Settings, Source, without_secrets},
};

/// Variables that have no flag, and what they are for when unset.
const VARIABLES: [(&str, &str); 5] = [
    ("SINEW_NATS_SERVER", "found on PATH, in the cache, or fetched"),
    ("SINEW_OFFLINE", "fetching is allowed"),
    ("RUST_LOG", "warn"),
    ("NO_COLOR", "colours on a terminal"),
    ("XDG_CACHE_HOME", "~/.cache"),
];

/// One setting in force.
#[derive(Serialize)]
pub(super) struct Row {
    name: String,
    value: Value,
    source: String,
}

impl Row {
    pub(super) fn cells(&self) -> Vec<String> {
        let value = match &self.value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        vec![self.name.clone(), value, self.source.clone()]
    }
}

/// Lists what flags and variables decide.
pub(super) fn of_session(settings: &Settings) -> Vec<Row> {
    let row = |name: &str, value: String, source: Source| Row {
        name: name.to_owned(),
        value: value.into(),
        source: source.to_string(),
    };
    let traces = settings.otlp().unwrap_or_else(|| "off".to_owned());
    let mut rows = vec![
        row("nats-url", without_secrets(settings.url()).into_owned(), settings.nats_url.source),
        row("otlp-endpoint", without_secrets(&traces).into_owned(), settings.otlp_endpoint.source),
    ];
    rows.extend(VARIABLES.map(|(name, default)| {
        match std::env::var(name).ok().filter(|value| !value.is_empty()) {
            Some(value) => row(name, value, Source::Environment(name)),
            None => row(name, default.to_owned(), Source::Default),
        }
    }));
    rows
}

/// Lists a role's settings: those of its file, and the defaults of what the file leaves out.
pub(super) fn of_role<C>(role: &str, file: Option<&Path>) -> Result<Vec<Row>, Error>
where
    C: Serialize + DeserializeOwned + Default,
{
    let in_force = serde_json::to_value(config::read::<C>(file)?).unwrap_or_default();
    let written: Value = config::read(file)?;
    let Value::Object(members) = in_force else { return Ok(Vec::new()) };
    let source = |name: &str| match file.filter(|_| written.get(name).is_some()) {
        Some(path) => path.display().to_string(),
        None => Source::Default.to_string(),
    };
    let row =
        |(name, value): (String, Value)| Row { source: source(&name), name: format!("{role}.{name}"), value };
    Ok(members.into_iter().map(row).collect())
}
