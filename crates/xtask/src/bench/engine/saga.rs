//! A saga of three calls whose services answer at once, against the same saga written by hand for nothing else.

use serde_json::{Value, json};
use sinew_workflow::{Definition, Effect, Entry, Fault, Input, Outcome, Saga, State, Status, run as drive};

use super::{AT, Error, HEAD, Meter, define, start};

const DOCUMENT: &str = "
do:
  - reserve:
      call: inventory.reserve
      with: { sku: '${ .sku }', quantity: '${ .quantity }' }
      output: { as: '${ $input + { reservation: .id } }' }
      compensate: { call: inventory.release, with: { reservation: '${ .reservation }' } }
  - charge:
      call: payments.charge
      with: { order: '${ $workflow.id }', amount: '${ .price * .quantity }' }
      output: { as: '${ $input + { payment: .id } }' }
      compensate: { call: payments.refund, with: { payment: '${ .payment }' } }
  - ship:
      call: shipping.create
      with: { sku: '${ .sku }', reservation: '${ .reservation }', payment: '${ .payment }' }
      output: { as: '${ { shipment: .id, payment: $input.payment } }' }
      compensate: { call: shipping.cancel, with: { shipment: '${ .shipment }' } }
";

pub(super) fn run(meter: &mut Meter) -> Result<(), Error> {
    println!("\n  a saga of three calls, services answer at once");
    let definition = define(&format!("{HEAD}{DOCUMENT}"))?;
    let done = play(&definition, None)?;
    if (done.status(), done.saga()) != (Status::Completed, Saga::Committed) {
        return Err(format!("the saga ended {}, {}", done.status(), done.saga()).into());
    }
    if play(&definition, Some("shipping.create"))?.saga() != Saga::Compensated {
        return Err("the refused saga was not undone".into());
    }
    let ours = meter.cost_of(order, |input| play_with(&definition, input, None));
    let undone = meter.cost_of(order, |input| play_with(&definition, input, Some("shipping.create")));
    let hand = meter.cost_of(order, by_hand::play);
    meter.print("completed", &ours);
    meter.print("third call refused, two undone", &undone);
    meter.print("completed, written by hand", &hand);
    println!(
        "{:>34}  {:.0} sagas/s, {:.2} x the time of the one by hand",
        "one core",
        1e9 / ours.nanoseconds,
        ours.nanoseconds / hand.nanoseconds
    );
    Ok(())
}

fn order() -> Value {
    json!({ "sku": "shoe-42", "quantity": 2, "price": 89.5, "customer": { "id": "c-7", "name": "Ann" } })
}

fn play(definition: &Definition, refused: Option<&str>) -> Result<State, Error> {
    play_with(definition, order(), refused)
}

/// Runs a saga to its end and keeps all its entries, as a log would.
fn play_with(definition: &Definition, input: Value, refused: Option<&str>) -> Result<State, Error> {
    let mut state = State::default();
    let mut log: Vec<Entry> = Vec::new();
    let mut entries = drive(definition, &mut state, start(input))?;
    while let Some(Effect::Call { task, attempt, target, .. }) = state.effects(&entries).pop() {
        let refuses = refused.is_some_and(|refused| target.to_string() == refused);
        let outcome = if refuses {
            Outcome::Refused(Fault::communication("no").with_status(409))
        } else {
            Outcome::Completed(json!({ "id": "r-1" }))
        };
        log.append(&mut entries);
        entries = drive(definition, &mut state, Input::Reply { task, attempt, outcome, at: AT })?;
    }
    Ok(state)
}

/// What somebody would write who has one saga and no engine: a state per wait, a log of what happened, a key per call.
mod by_hand {
    use serde_json::{Value, json};

    #[derive(Default)]
    struct Order {
        waits_for: Wait,
        data: Value,
    }

    #[derive(Clone, Copy, Default, PartialEq)]
    enum Wait {
        #[default]
        Start,
        Reserve,
        Charge,
        Ship,
        Nothing,
    }

    enum Event {
        Started(Value),
        Called { key: String },
        Answered(Value),
        Ended,
    }

    struct Call {
        operation: &'static str,
        key: String,
        body: Value,
    }

    pub(super) fn play(input: Value) -> Value {
        let (mut order, mut log) = (Order::default(), Vec::new());
        let mut call = order.take(input, &mut log);
        while let Some(asked) = call {
            std::hint::black_box((&asked.operation, &asked.key, &asked.body));
            call = order.take(json!({ "id": "r-1" }), &mut log);
        }
        for event in &log {
            match event {
                Event::Started(value) | Event::Answered(value) => drop(std::hint::black_box(value)),
                Event::Called { key } => drop(std::hint::black_box(key)),
                Event::Ended => {}
            }
        }
        order.data
    }

    impl Order {
        fn take(&mut self, value: Value, log: &mut Vec<Event>) -> Option<Call> {
            let key = |step: &str| format!("order-7/do/{step}");
            let id = value["id"].clone();
            log.push(if self.waits_for == Wait::Start {
                self.data = value.clone();
                Event::Started(value)
            } else {
                Event::Answered(value)
            });
            let data = &mut self.data;
            let (next, operation, key, body) = match self.waits_for {
                Wait::Start => {
                    let body = json!({ "sku": data["sku"], "quantity": data["quantity"] });
                    (Wait::Reserve, "inventory.reserve", key("0/reserve"), body)
                }
                Wait::Reserve => {
                    data["reservation"] = id;
                    let amount = data["price"].as_f64()? * data["quantity"].as_f64()?;
                    let body = json!({ "order": "order-7", "amount": amount });
                    (Wait::Charge, "payments.charge", key("1/charge"), body)
                }
                Wait::Charge => {
                    data["payment"] = id;
                    let body = json!({ "sku": data["sku"], "reservation": data["reservation"], "payment": data["payment"] });
                    (Wait::Ship, "shipping.create", key("2/ship"), body)
                }
                Wait::Ship | Wait::Nothing => {
                    self.data = json!({ "shipment": id, "payment": data["payment"] });
                    self.waits_for = Wait::Nothing;
                    log.push(Event::Ended);
                    return None;
                }
            };
            self.waits_for = next;
            log.push(Event::Called { key: key.clone() });
            Some(Call { operation, key, body })
        }
    }
}
