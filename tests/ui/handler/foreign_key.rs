//! The key of an ordered group is read from another event than its handler takes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Event, Problem, Service};

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.placed", version = 1)]
struct OrderPlaced {
    order: String,
}

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.paid", version = 1)]
struct OrderPaid {
    order: String,
}

async fn confirm(_event: OrderPlaced) -> Result<(), Problem> {
    Ok(())
}

fn main() {
    let _ = Service::new("mail", ()).on("mailer", confirm, |group| {
        group.ordered_by(|event: &OrderPaid| event.order.clone()).concurrency(32)
    });
}
