//! `cargo xtask schemas`: what the types say, written down and checked in, so that a change of the wire is a diff.

use std::path::Path;

use serde_json::Value;
use sinew::{Contract, workflow::Workflows};

use crate::Outcome;

/// Writes each schema, or with `check` says which file differs from the code.
pub(crate) fn run(root: &Path, check: bool) -> Outcome {
    let mut stale = Vec::new();
    for (name, value) in all() {
        let path = root.join("schemas").join(name);
        let text = serde_json::to_string_pretty(&value).map_err(|error| error.to_string())? + "\n";
        if std::fs::read_to_string(&path).is_ok_and(|stands| stands == text) {
            continue;
        }
        if check {
            stale.push(name);
        } else {
            std::fs::write(&path, text)
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(format!("schemas/{} differs from the code: run `cargo xtask schemas`", stale.join(", schemas/")))
}

fn all() -> Vec<(&'static str, Value)> {
    let schema = |schema: schemars::Schema| schema.to_value();
    vec![
        ("problem.json", schema(schemars::schema_for!(sinew::Problem))),
        ("service-descriptor.json", schema(schemars::schema_for!(sinew::wire::ServiceDescriptor))),
        ("bus-config.json", schema(schemars::schema_for!(sinew::Config))),
        ("edge-config.json", schema(schemars::schema_for!(sinew_edge::Config))),
        ("orchestrator-config.json", schema(schemars::schema_for!(sinew_orchestrator::Config))),
        ("workflow-service.json", serde_json::to_value(Workflows::descriptor()).unwrap_or_default()),
    ]
}
