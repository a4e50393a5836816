//! An event that does not own its data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::Event;

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.placed")]
enum OrderPlaced<'a> {
    Known { sku: &'a str },
}

fn main() {}
