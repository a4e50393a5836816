//! Tests of the crate as a whole. Those of the official documents need the folder `shared`: set `SINEW_SHARED` to it.

mod accepted;
mod children;
mod conformance;
mod deep;
mod documents;
mod evaluate;
mod extensions;
mod faults;
mod features;
mod flow;
mod fuzz;
mod goldens;
mod hostile;
mod library;
mod lifecycle;
mod listen;
mod outside;
mod points;
mod properties;
mod refusals;
mod saga;
mod schedule;
mod secrets;
mod world;

use std::path::PathBuf;

use crate::Definition;

/// Finds a folder of shared test data, or says that its tests are skipped.
fn shared(folder: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("SINEW_SHARED") else {
        println!("skipped: set SINEW_SHARED to the folder that holds {folder}");
        return None;
    };
    Some(PathBuf::from(root).join(folder))
}

/// Makes a definition from everything below its `document`.
fn define(rest: &str) -> Definition {
    let source =
        format!("document: {{ dsl: '1.0.3', namespace: test, name: test, version: '1.0.0' }}\n{rest}");
    Definition::parse(&source, "test.yaml").unwrap_or_else(|diagnostics| panic!("{diagnostics}\n{source}"))
}
