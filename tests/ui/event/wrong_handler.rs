//! Reactions to something that is no event, with an answer, with an undeclared error, or not async.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Event, Problem, Request, Service};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = u32)]
struct PlaceOrder {
    sku: String,
}

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.placed")]
struct OrderPlaced {
    id: u32,
}

async fn no_event(_: PlaceOrder) -> Result<(), Problem> {
    Ok(())
}

async fn answers(event: OrderPlaced) -> Result<u32, Problem> {
    Ok(event.id)
}

async fn fails(_: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

fn blocks(_: OrderPlaced) -> Result<(), Problem> {
    Ok(())
}

fn main() {
    let _ = Service::new("mailer", ()).on("no-event", no_event, |group| group);
    let _ = Service::new("mailer", ()).on("answers", answers, |group| group);
    let _ = Service::new("mailer", ()).on("fails", fails, |group| group);
    let _ = Service::new("mailer", ()).on("blocks", blocks, |group| group);
}
