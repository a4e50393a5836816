//! Our own features, in the style of the specification's: `features/*.feature`, beside this crate's sources.
//!
//! Every scenario runs three times: as it is, with a crash after every input, and with every input given twice. Each run
//! checks the invariants of sagas after every input, and at its end that replaying the stored log gives the live state.
//! The vocabulary is the table in `features/steps.rs`.

pub(super) mod gherkin;
mod scene;
mod steps;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use gherkin::Scenario;
use serde_json::Value;

use crate::Entry;
use scene::{Mode, Scene};

/// Makes one test per feature file, and one that finds files nobody listed.
macro_rules! features {
    ($($name:ident),* $(,)?) => {
        const LISTED: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*
    };
}

features! {
    calls, checks, children, control, data, emit, expressions, extensions, flow, r#for, fork, functions, human, listen, race,
    restart, retry, sagas, secrets, timeout, r#try, wait,
}

#[test]
fn every_feature_file_is_run() {
    let mut found = Vec::new();
    for file in fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "feature") {
            found.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    found.sort();
    let mut listed: Vec<_> = LISTED.iter().map(|name| file_name(name)).collect();
    listed.sort();
    assert_eq!(listed, found);
}

/// Runs all scenarios of a feature in all modes, and fails with everything that does not hold.
fn check(name: &str) {
    let file = format!("{}.feature", file_name(name));
    let text = fs::read_to_string(folder().join(&file)).unwrap();
    let scenarios = gherkin::read(&text).unwrap_or_else(|problem| panic!("{file}: {problem}"));
    assert!(!scenarios.is_empty(), "{file} has no scenario");
    let mut failed = Vec::new();
    for scenario in &scenarios {
        for mode in [Mode::Plain, Mode::Crashing, Mode::Repeating] {
            let outcome = catch_unwind(AssertUnwindSafe(|| run(scenario, mode)));
            let problem = match outcome {
                Ok(Ok(())) => continue,
                Ok(Err(problem)) => problem,
                Err(_) => "an invariant was violated; the panic is above".to_owned(),
            };
            failed.push(format!("{file}: {} ({mode:?}): {problem}", scenario.name));
            break;
        }
    }
    assert!(failed.is_empty(), "\n{}", failed.join("\n\n"));
}

/// Returns the name, definition and input of every workflow of the features, wrong ones included.
pub(super) fn workflows() -> Vec<(String, String, Value)> {
    let mut workflows = Vec::new();
    each(|name, scenario| {
        let mut scene = Scene::new(Mode::Plain);
        let given = scenario.steps.iter().take_while(|step| step.block.is_some());
        given.for_each(|step| steps::perform(&mut scene, step).unwrap());
        workflows.push((name, scene.source, scene.input));
    });
    workflows
}

/// Returns the name, definition and log of every scenario whose workflow starts.
pub(super) fn histories() -> Vec<(String, String, Vec<Entry>)> {
    let mut histories = Vec::new();
    each(|name, scenario| {
        let mut scene = Scene::new(Mode::Plain);
        scenario.steps.iter().for_each(|step| steps::perform(&mut scene, step).unwrap());
        if let Ok(world) = scene.world() {
            histories.push((name, scene.source.clone(), world.log.clone()));
        }
    });
    histories
}

fn each(mut visit: impl FnMut(String, &Scenario<'_>)) {
    let mut names: Vec<String> = LISTED.iter().map(|name| file_name(name)).collect();
    names.sort();
    for name in names {
        let text = fs::read_to_string(folder().join(format!("{name}.feature"))).unwrap();
        for scenario in &gherkin::read(&text).unwrap() {
            visit(format!("{name}: {}", scenario.name), scenario);
        }
    }
}

fn run(scenario: &Scenario<'_>, mode: Mode) -> Result<(), String> {
    let mut scene = Scene::new(mode);
    for step in &scenario.steps {
        steps::perform(&mut scene, step).map_err(|problem| {
            format!("line {}: {}\n  {problem}\n  happened: {}", step.line, step.text, scene.story())
        })?;
    }
    scene.close()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("features")
}

/// A feature named like a keyword is listed as a raw identifier.
fn file_name(name: &str) -> String {
    name.trim_start_matches("r#").replace('_', "-")
}
