//! What expressions cost by kind: a `set` with the expression many times, less one with a constant as often.

use serde_json::{Value, json};
use sinew_workflow::decide;

use super::measure::Cost;
use super::{Error, HEAD, Meter, define, start};

/// How many evaluations are measured together.
const TIMES: usize = 20;

const KINDS: [(&str, &str); 10] = [
    ("path", ".customer.name"),
    ("variable", "$context.customer.id"),
    ("object", "{ sku: .sku, to: .customer.name }"),
    ("arithmetic", ".price * .quantity + 4"),
    ("condition", ".quantity > 1 and .customer.id != null"),
    ("text", "\"order of \\(.quantity) for \\(.customer.name)\""),
    ("task descriptor", "$task.startedAt.epoch.milliseconds"),
    ("jq over 10 items", "[.items[] | select(.price > 5) | .name]"),
    ("jq sum of 10 items", ".items | map(.price) | add"),
    ("jq function", ".sku | ascii_upcase"),
];

pub(super) fn run(meter: &mut Meter) -> Result<(), Error> {
    println!("\n  expressions, on an input of 1 KB");
    let constant = cost(meter, "1")?;
    for (name, expression) in KINDS {
        let each = cost(meter, &format!("${{ {expression} }}"))?.each(constant, TIMES as f64);
        meter.print(name, &each);
    }
    Ok(())
}

/// Measures a task that computes a value so many times, beside one expression, so that a constant is copied as well.
fn cost(meter: &mut Meter, value: &str) -> Result<Cost, Error> {
    let value = value.replace('\'', "''");
    let values: String = (0..TIMES).map(|number| format!(", x{number}: '{value}'")).collect();
    let source = format!("{HEAD}do:\n  - t: {{ set: {{ y: '${{ true }}'{values} }} }}\n");
    let definition = define(&source)?;
    let (state, input) = (sinew_workflow::State::default(), start(input()));
    decide(&definition, &state, &input)?;
    Ok(meter.cost(|| drop(std::hint::black_box(decide(&definition, &state, &input)))))
}

fn input() -> Value {
    let items: Vec<Value> = (0..10)
        .map(|number| json!({ "name": format!("item {number}"), "price": f64::from(number) * 1.5, "sku": "a-sku-of-some-length" }))
        .collect();
    json!({ "sku": "shoe-42", "quantity": 2, "price": 89.5, "customer": { "id": "c-7", "name": "Ann" }, "items": items })
}
