//! The workflow engine alone, on one core: no bus, no log, no clock. What it costs to read a document, to decide, to apply,
//! and to run a whole saga whose services answer at once.

mod expressions;
mod measure;
mod saga;
mod steps;

use std::time::Duration;

use sinew_workflow::{Definition, Input, State, Timestamp, run as drive};

use super::Error;
use measure::Meter;

/// The moment at which everything happens.
const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const HEAD: &str = "document: { dsl: '1.0.3', namespace: bench, name: bench, version: '1.0.0' }\n";

pub(super) fn run(time: Duration) -> Result<(), Error> {
    let mut meter = Meter::new(time);
    println!("\nworkflow-engine: one core, the fastest of {} rounds", measure::ROUNDS);
    if !meter.counts_instructions() {
        println!("  instructions per operation: not available here, the kernel offers no counter");
    }
    parse(&mut meter)?;
    saga::run(&mut meter)?;
    steps::run(&mut meter)?;
    expressions::run(&mut meter)
}

/// Reads and plans a document of 100 tasks, most of them with expressions.
fn parse(meter: &mut Meter) -> Result<(), Error> {
    println!("\n  parse and plan");
    let document = hundred_tasks();
    define(&document)?;
    let cost = meter.cost(|| drop(Definition::parse(&document, "bench.yaml")));
    meter.print("100 tasks", &cost);
    Ok(())
}

fn hundred_tasks() -> String {
    let mut document = format!("{HEAD}do:\n");
    for number in 0..25 {
        document.push_str(&format!(
            "  - set{number}: {{ set: {{ total: '${{ .price * .quantity + {number} }}', sku: '${{ .sku }}' }} }}
  - choose{number}:
      switch:
        - large: {{ when: '.total > 100 and .sku != null', then: continue }}
        - other: {{ then: continue }}
  - call{number}:
      call: inventory.reserve
      with: {{ sku: '${{ .sku }}', total: '${{ .total // 0 }}' }}
      output: {{ as: '${{ $input + {{ id{number}: .id }} }}' }}
      compensate: {{ call: inventory.release, with: {{ id: '${{ .id{number} }}' }} }}
  - each{number}:
      for: {{ each: item, in: '${{ .items // [] }}' }}
      do:
        - note{number}: {{ set: {{ names: '${{ [.items[]? | .name] | join(\", {number} \") }}' }} }}
"
        ));
    }
    document
}

fn define(source: &str) -> Result<Definition, Error> {
    Definition::parse(source, "bench.yaml").map_err(|found| found.to_string().into())
}

/// Starts an instance and returns where it stands.
fn started(definition: &Definition, input: serde_json::Value) -> Result<State, Error> {
    let mut state = State::default();
    drive(definition, &mut state, start(input))?;
    Ok(state)
}

fn start(input: serde_json::Value) -> Input {
    Input::Start { id: "order-7".to_owned(), input, at: AT, trace: None }
}
