//! The deepest documents that are allowed: parsed, planned, run and dropped on a stack as small as those of worker threads.

use std::fmt::Write;
use std::thread;

use serde_json::{Value, json};

use super::documents::HEAD;
use crate::{Definition, Diagnostics, Effect, Fault, Input, Outcome, State, Timestamp, apply, run};

/// The stack of worker threads.
const STACK: usize = 2 << 20;
/// The levels of a document.
const LEVELS: usize = 100;

/// Does something on a small stack.
fn small<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    thread::Builder::new().stack_size(STACK).spawn(work).unwrap().join().unwrap()
}

fn nested(open: &str, middle: &str, close: &str, times: usize) -> String {
    format!("{}{middle}{}", open.repeat(times), close.repeat(times))
}

/// Finds the deepest document of a shape that parses.
fn deepest(shape: impl Fn(usize) -> String) -> Definition {
    let parse = |times: usize| Definition::parse(&format!("{HEAD}{}", shape(times)), "deep.yaml");
    let (mut fits, mut over) = (1_usize, LEVELS + 10);
    if let Err(problem) = parse(fits) {
        panic!("{problem}\n{}", shape(fits));
    }
    while over - fits > 1 {
        let times = fits.midpoint(over);
        if parse(times).is_ok() { fits = times } else { over = times }
    }
    // A stack that overflows leaves no other message.
    println!("{fits} levels of {}", shape(1));
    parse(fits).unwrap()
}

/// Runs an instance to its end: what is called answers, or refuses where it is called `refuse`.
fn play(definition: &Definition, input: Value) -> State {
    let (mut state, mut log, mut at) = (State::default(), Vec::new(), Timestamp::from_millis(0));
    let mut give = |state: &mut State, input: Input| {
        log.extend(run(definition, state, input).unwrap());
    };
    give(&mut state, Input::Start { id: "i".to_owned(), input, at, trace: None });
    for _ in 0..5_000 {
        let mut due = state.due();
        due.sort_by_key(|effect| matches!(effect, Effect::Timer { .. }));
        let Some(effect) = due.into_iter().next() else { break };
        match effect {
            Effect::Call { task, attempt, name, .. } => {
                let outcome = match &*name {
                    "refuse" => Outcome::Refused(Fault::communication("no")),
                    _ => Outcome::Completed(json!({})),
                };
                give(&mut state, Input::Reply { task, attempt, outcome, at });
            }
            Effect::Emit { task, attempt, .. } => {
                give(&mut state, Input::Reply { task, attempt, outcome: Outcome::Completed(json!({})), at });
            }
            Effect::Timer { task, timer, at: due } => {
                at = due;
                give(&mut state, Input::Timer { task, timer, at });
            }
            Effect::Listen { task, attempt, .. } => {
                let event = std::sync::Arc::new(json!({ "type": "a", "data": {} }));
                give(&mut state, Input::Event { task, attempt, event, origin: None, at });
            }
            Effect::Stop { .. } | Effect::Recall { .. } => {}
        }
    }
    assert!(state.is_closed(), "{:?}", state.due());
    let packed = rmp_serde::to_vec_named(&state).unwrap();
    assert_eq!(rmp_serde::from_slice::<State>(&packed).unwrap(), state);
    let mut replayed = State::default();
    log.iter().for_each(|entry| apply(&mut replayed, entry).unwrap());
    assert_eq!(replayed, state);
    state
}

const TASKS: &[(&str, &str)] = &[
    ("[ { t: { do: ", " } } ]"),
    ("[ { t: { for: { in: '[1]' }, do: ", " } } ]"),
    ("[ { t: { for: { in: '[1]' }, while: 'true', do: ", " } } ]"),
    ("[ { t: { try: ", ", catch: { errors: { with: { status: 1 } } } } } ]"),
    (
        "[ { t: { try: [ { r: { raise: { error: { type: 'urn:x', status: 400 } } } } ], catch: { do: ",
        " } } } ]",
    ),
    ("[ { t: { fork: { branches: ", " } } } ]"),
    ("[ { t: { fork: { compete: true, branches: ", " } } } ]"),
    ("[ { t: { listen: { to: { one: { with: { type: a } } } }, foreach: { do: ", " } } } ]"),
    ("[ { t: { timeout: { after: PT1H }, compensate: { call: a.b }, do: ", " } } ]"),
    ("[ { t: { input: { from: '.' }, output: { as: '.' }, export: { as: '.' }, do: ", " } } ]"),
];

#[test]
fn tasks_nest_as_deep_as_documents() {
    for (open, close) in TASKS {
        for (name, status) in [("x", "completed"), ("refuse", "faulted")] {
            small(move || {
                let leaf = format!("[ {{ {name}: {{ call: a.b, compensate: {{ call: a.undo }} }} }} ]");
                let definition = deepest(|times| format!("do: {}", nested(open, &leaf, close, times)));
                assert_eq!(play(&definition, json!({})).status().to_string(), status, "{open}");
            });
        }
    }
}

#[test]
fn functions_call_each_other_as_deep_as_they_may() {
    for (open, close) in [TASKS[3], TASKS[9]] {
        for (name, status) in [("x", "completed"), ("refuse", "faulted")] {
            small(move || {
                assert_eq!(
                    play(&calling(open, close, name, 6).unwrap(), json!({})).status().to_string(),
                    status
                );
            });
        }
        let problem = small(move || calling(open, close, "x", 32).unwrap_err().to_string());
        assert!(problem.contains("more than 200 levels inside each other"), "{problem}");
    }
}

/// Makes a workflow of so many functions, each of which calls the next one thirty levels deep.
fn calling(open: &str, close: &str, name: &str, functions: usize) -> Result<Definition, Diagnostics> {
    let mut source = format!("{HEAD}use:\n  functions:\n");
    for level in 1..=functions {
        let leaf = match level == functions {
            true => format!("[ {{ {name}: {{ call: a.b, compensate: {{ call: a.undo }} }} }} ]"),
            false => format!("[ {{ g: {{ call: f{} }} }} ]", level + 1),
        };
        writeln!(source, "    f{level}: {{ do: {} }}", nested(open, &leaf, close, 30)).unwrap();
    }
    source.push_str("do: [ { t: { call: f1 } } ]");
    Definition::parse(&source, "deep.yaml")
}

#[test]
fn values_nest_as_deep_as_documents() {
    for (open, middle, close) in
        [("{ a: ", "1", " }"), ("[ ", "1", " ]"), ("{ a: ", "'${ . }'", " }"), ("[ ", "'x ${ . } y'", " ]")]
    {
        for (before, after) in [
            ("do: [ { t: { set: { v: ", " } } } ]"),
            ("do: [ { t: { call: a.b, with: { v: ", " } } } ]"),
            ("do: [ { t: { emit: { event: { with: { type: a, data: ", " } } } } } ]"),
            ("do: [ { t: { set: { v: '${ $task.definition }' }, metadata: { v: ", " } } } ]"),
            ("do: [ { t: { set: {}, input: { from: { v: ", " } }, output: { as: '${ $input }' } } } ]"),
            ("do: [ { t: { set: {}, export: { as: { v: ", " } } } } ]\noutput: { as: '${ $context }' }"),
            ("do: [ { t: { set: {} } } ]\noutput: { as: { v: ", " } }"),
            ("do: [ { t: { set: { v: '${ $workflow.definition }' } } } ]\nmetadata: { v: ", " }"),
            ("do: [ { t: { for: { in: [ ", " ] }, do: [ { u: { set: { v: '${ $item }' } } } ] } } ]"),
        ] {
            small(move || {
                let definition =
                    deepest(|times| format!("{before}{}{after}", nested(open, middle, close, times)));
                let input = (0..20).fold(json!(1), |inner, _| json!([inner]));
                assert!(play(&definition, input).is_closed(), "{before}");
            });
        }
    }
}

#[test]
fn schemas_nest_as_deep_as_documents() {
    for (open, close, wrap) in [
        ("{ properties: { a: ", " } }", "a"),
        ("{ type: object, required: [ a ], additionalProperties: false, properties: { a: ", " } }", "a"),
        ("{ additionalProperties: ", " }", "a"),
        ("{ patternProperties: { a: ", " } }", "a"),
        ("{ items: ", " }", ""),
        ("{ prefixItems: [ ", " ] }", ""),
        ("{ contains: ", " }", ""),
        ("{ allOf: [ ", " ] }", "a"),
        ("{ anyOf: [ ", ", { type: string } ] }", "a"),
        ("{ oneOf: [ ", ", { type: string } ] }", "a"),
        ("{ not: { not: ", " } }", "a"),
        ("{ if: ", ", then: true }", "a"),
        ("{ unevaluatedProperties: ", " }", "a"),
        ("{ dependentSchemas: { a: ", " } }", "a"),
    ] {
        small(move || {
            let definition = deepest(|times| {
                let schema = nested(open, "{ type: [ integer, object, array ] }", close, times);
                format!("input: {{ schema: {{ document: {schema} }} }}\ndo: [ {{ t: {{ set: {{}} }} }} ]")
            });
            let data = (0..100).fold(json!(1), |inner, _| match wrap {
                "" => json!([inner]),
                name => json!({ name: inner }),
            });
            for input in [data, json!(1), json!("x")] {
                assert!(play(&definition, input).is_closed(), "{open}");
            }
        });
    }
}

#[test]
fn schemas_refer_to_each_other_as_often_as_they_may() {
    for definitions in [
        (0..2_000).map(|n| format!("d{n}: {{ $ref: '#/$defs/d{}' }}", n + 1)).collect::<Vec<_>>(),
        (0..2_000)
            .map(|n| format!("d{n}: {{ properties: {{ a: {{ $ref: '#/$defs/d{}' }} }} }}", n + 1))
            .collect(),
        vec!["d0: { $ref: '#/$defs/d0' }".to_owned()],
        vec![
            "d0: { allOf: [ { $ref: '#/$defs/d1' } ] }, d1: { allOf: [ { $ref: '#/$defs/d0' } ] }".to_owned(),
        ],
        vec!["d0: { properties: { a: { $ref: '#/$defs/d0' } } }".to_owned()],
        vec!["d0: { items: { $ref: '#' } }".to_owned()],
        vec!["d0: { $dynamicRef: '#x', $dynamicAnchor: x }".to_owned()],
        vec!["d0: { not: { $ref: '#/$defs/d0' } }".to_owned()],
    ] {
        small(move || {
            let source = format!(
                "{HEAD}input: {{ schema: {{ document: {{ $ref: '#/$defs/d0', $defs: {{ {}, d2000: true }} }} }} }}\ndo: [ {{ t: {{ set: {{}} }} }} ]",
                definitions.join(", ")
            );
            let Ok(definition) = Definition::parse(&source, "deep.yaml") else { return };
            // As deep as data gets into a process, and deeper than a schema looks.
            for levels in [60, 80] {
                let data = (0..levels).fold(json!(1), |inner, _| json!({ "a": [inner] }));
                assert!(play(&definition, data).is_closed());
            }
        });
    }
}

#[test]
fn aliases_expand_as_deep_as_documents() {
    small(|| {
        let anchored = |times: usize| {
            let mut lines = "metadata:\n  v0: &v0 1\n".to_owned();
            (1..=times).for_each(|n| writeln!(lines, "  v{n}: &v{n} [ *v{} ]", n - 1).unwrap());
            format!("{lines}do: [ {{ t: {{ set: {{ v: *v{times} }} }} }} ]")
        };
        assert!(play(&deepest(anchored), json!({})).is_closed());
    });
}
