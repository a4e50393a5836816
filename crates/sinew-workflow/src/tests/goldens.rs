//! Histories of earlier releases, replayed for ever: `goldens/<release>/<workflow>.json`.
//!
//! A history is written once, by `SINEW_GOLDENS=<release> cargo test -p sinew-workflow goldens`, into a folder that must
//! not exist yet: what a release wrote is never written again.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::features;
use crate::{Entry, State, apply};

/// The longest history that is kept, in entries.
const MAX_ENTRIES: usize = 100;

#[test]
fn histories_of_every_release_replay() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("goldens");
    if let Some(release) = std::env::var_os("SINEW_GOLDENS") {
        write(&folder.join(release));
    }
    let mut replayed = 0;
    for release in fs::read_dir(&folder).unwrap() {
        for file in fs::read_dir(release.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let golden: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            let entries: Vec<Entry> = serde_json::from_value(golden["entries"].clone()).unwrap();
            let mut state = State::default();
            entries.iter().for_each(|entry| apply(&mut state, entry).unwrap());
            assert_eq!(summary(&state), golden["summary"], "{}", path.display());
            replayed += 1;
        }
    }
    assert!(replayed >= 20, "only {replayed} histories");
}

/// Writes the histories of the scenarios of our features, except very long ones.
fn write(folder: &Path) {
    assert!(!folder.exists(), "{} was written by a release: name a new one", folder.display());
    fs::create_dir_all(folder).unwrap();
    let kept = features::histories().into_iter().filter(|(_, _, log)| log.len() <= MAX_ENTRIES);
    for (at, (name, source, log)) in kept.enumerate() {
        let mut state = State::default();
        log.iter().for_each(|entry| apply(&mut state, entry).unwrap());
        let golden =
            json!({ "scenario": name, "definition": source, "entries": log, "summary": summary(&state) });
        fs::write(folder.join(format!("{at:03}.json")), format!("{golden}\n")).unwrap();
    }
}

/// What a reader of a history can rely on.
fn summary(state: &State) -> Value {
    let steps = state.steps().iter().map(|step| {
        let undo = step.undo.as_ref().map(|undo| undo.status);
        json!({ "name": step.name, "pointer": step.pointer, "key": step.key, "status": step.status,
                "attempts": step.attempts.len(), "undo": undo })
    });
    json!({ "id": state.id(), "workflow": state.workflow().to_string(), "status": state.status(), "saga": state.saga(),
            "output": state.output(), "fault": state.fault(), "closed": state.is_closed(), "steps": steps.collect::<Vec<_>>() })
}
