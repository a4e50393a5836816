//! Damaged documents: refused at their places, or run up to the first thing they wait for.

use std::fs;

use serde_json::json;

use super::{Traits, class, corpus, fuzz, outline};
use crate::tests::{features, shared};
use crate::{Definition, Input, State, Timestamp, run};

/// What is put in: words of the languages and what is likely to hurt.
const TOKENS: &[&str] = &[
    "${ ",
    " }",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    ": ",
    "- ",
    "\n",
    "&a ",
    "*a ",
    "!!str ",
    "|\n",
    ">\n",
    "? ",
    "\0",
    "\t",
    "\u{feff}",
    "é",
    "do:",
    "try:",
    "catch:",
    "for:",
    "fork:",
    "then: ",
    "compensate: ",
    "pivot: true",
    "switch:",
    "wait: PT1S",
    "call: a.b",
    "run:",
    "listen:",
    "99999999999999999999",
    "-1",
    "1e999",
    ".5",
    "true",
    "null",
    "~",
    "$context",
    "$input",
    "reduce .[] as $x (0; ",
    "def f: f; f",
    "range(1e9)",
    "..",
    ".[]",
    " | ",
    " as $x | ",
    "\"\\(",
    "\\u0000",
    "((((((((",
    "[[[[[[[[[[",
    "P1Y",
    "PT",
    "end",
    "exit",
    "continue",
    "\"$ref\": \"#\"",
];

#[test]
fn damaged_documents_are_refused_or_run() {
    let mut seeds: Vec<String> = features::workflows().into_iter().map(|(_, source, _)| source).collect();
    seeds.extend(corpus("documents"));
    if let Some(folder) = shared("open-workflow/examples") {
        seeds.extend(
            fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap()),
        );
    }
    seeds.sort();
    fuzz(seeds, TOKENS, attempt);
}

fn attempt(source: &str) -> Traits {
    let definition = match Definition::parse(source, "fuzz.yaml") {
        Ok(definition) => definition,
        Err(found) => {
            let found = found.as_slice();
            assert!(
                found.iter().all(|found| found.line > 0 && found.column > 0),
                "every finding has a place"
            );
            return found.iter().map(|found| format!("{} {}", found.code, outline(&found.message))).collect();
        }
    };
    let tasks = &definition.plan.tasks;
    let mut traits: Traits = definition.warnings().iter().map(|found| found.code.to_owned()).collect();
    traits.extend(tasks.iter().map(|task| {
        let more =
            [task.compensate.is_some(), task.timeout.is_some(), task.condition.is_some(), task.key.is_some()];
        format!("{} {} {more:?}", task.keyword, class(task.pointer.matches('/').count()))
    }));
    traits.push(format!("{} tasks", class(tasks.len())));
    let start =
        Input::Start { id: "i".to_owned(), input: json!({}), at: Timestamp::from_millis(0), trace: None };
    let mut state = State::default();
    match run(&definition, &mut state, start) {
        Ok(entries) => {
            traits.extend(entries.iter().map(|entry| entry.name().to_owned()));
            traits.push(format!("{} {} due", state.status(), class(state.due().len())));
            let fault = state.fault().and_then(|fault| Some(outline(fault.detail.as_deref()?)));
            traits.extend(fault);
        }
        Err(error) => traits.push(outline(&error.to_string())),
    }
    traits
}
