//! What one input costs by kind of task: deciding on a copy, running in place, and applying what was decided.

use serde_json::{Value, json};
use sinew_workflow::{Definition, Effect, Entry, Fault, Input, Outcome, State, apply, decide, run as drive};

use super::{AT, Error, HEAD, Meter, define, started};

/// A kind of task: what is named is what happens between a reply and the next call.
struct Case {
    name: &'static str,
    tasks: &'static str,
    /// How many replies come before the one that is measured.
    before: usize,
    fails: bool,
}

const CASES: &[Case] = &[
    Case::new("set", "  - a: { set: { total: '${ .n + 1 }', who: '${ .who }' } }\n"),
    Case::new("set + switch", SET_AND_SWITCH),
    Case::new(
        "switch",
        "  - a: { switch: [ { large: { when: '.n > 1', then: continue } }, { other: { then: continue } } ] }\n",
    ),
    Case::new("reply, then call", ""),
    Case::new("wait", "  - a: { wait: PT1S }\n"),
    Case::new("emit", "  - a: { emit: { event: { with: { type: happened, data: { n: '${ .n }' } } } } }\n"),
    Case {
        before: 2,
        ..Case::new(
            "for, one iteration",
            "  - a: { for: { in: '[1, 2, 3, 4]' }, do: [ { b: { call: some.thing } } ] }\n",
        )
    },
    Case::new(
        "fork of 3",
        "  - a: { fork: { branches: [ { b: { call: some.thing } }, { c: { call: some.thing } }, { d: { call: some.thing } } ] } }\n",
    ),
    Case { before: 1, fails: true, ..Case::new("try, caught, retry", RETRY) },
    Case { before: 1, fails: true, ..Case::new("undo begins", UNDO) },
];

const SET_AND_SWITCH: &str = "
  - a: { set: { total: '${ .n + 1 }', who: '${ .who }' } }
  - b: { switch: [ { large: { when: '.total > 1', then: continue } }, { other: { then: continue } } ] }
";
const RETRY: &str = "  - a: { try: [ { b: { call: some.thing } } ], catch: { retry: { delay: PT1S, limit: { attempt: { count: 3 } } } } }\n";
const UNDO: &str = "
  - a: { set: { n: 1 }, compensate: { call: some.undo } }
  - b: { call: some.thing }
";

pub(super) fn run(meter: &mut Meter) -> Result<(), Error> {
    println!("\n  from a reply to the next wait, by what happens between");
    for case in CASES {
        let Case { name, tasks, before, fails } = case;
        let source = format!(
            "{HEAD}do:\n  - first: {{ call: some.first, compensate: {{ call: some.undo }} }}\n{}  - last: {{ call: some.last }}\n",
            tasks.trim_start_matches('\n')
        );
        let definition = define(&source)?;
        let (state, input) = waiting(&definition, *before, *fails)?;
        let entries = decide(&definition, &state, &input)?;
        if entries.is_empty() {
            return Err(format!("nothing follows in `{name}`").into());
        }
        let decided = meter.cost(|| drop(std::hint::black_box(decide(&definition, &state, &input))));
        let ran = meter.cost_of(
            || (state.clone(), input.clone()),
            |(mut state, input)| (drive(&definition, &mut state, input).is_ok(), state),
        );
        let applied = meter.cost_of(|| state.clone(), |mut state| fold(&mut state, &entries).map(|()| state));
        meter.print(&format!("{name}: decide"), &decided);
        meter.print("run", &ran);
        meter.print(&format!("apply, each of {}", entries.len()), &applied.of(entries.len()));
    }
    Ok(())
}

/// Runs until so many calls were answered and returns the state with the next answer.
fn waiting(definition: &Definition, before: usize, fails: bool) -> Result<(State, Input), Error> {
    let mut state = started(definition, json!({ "n": 1, "who": "Ann" }))?;
    for number in 0..=before {
        let (task, attempt) = call(&state).ok_or("nothing is called")?;
        let outcome = if fails && number == before {
            Outcome::Refused(Fault::communication("no").with_status(409))
        } else {
            Outcome::Completed(reply())
        };
        let input = Input::Reply { task, attempt, outcome, at: AT };
        if number == before {
            return Ok((state, input));
        }
        drive(definition, &mut state, input)?;
    }
    Err("nothing is measured".into())
}

fn call(state: &State) -> Option<(sinew_workflow::TaskId, u32)> {
    state.due().into_iter().find_map(|effect| match effect {
        Effect::Call { task, attempt, .. } => Some((task, attempt)),
        _ => None,
    })
}

fn reply() -> Value {
    json!({ "n": 2, "who": "Ann", "lines": [{ "sku": "shoe", "price": 12.5 }] })
}

fn fold(state: &mut State, entries: &[Entry]) -> Result<(), sinew_workflow::Error> {
    entries.iter().try_for_each(|entry| apply(state, entry))
}

impl Case {
    const fn new(name: &'static str, tasks: &'static str) -> Self {
        Self { name, tasks, before: 0, fails: false }
    }
}
