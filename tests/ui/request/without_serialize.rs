//! Messages that cannot be written or read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Event, Request};

#[derive(Request, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = ())]
struct PlaceOrder {
    sku: String,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.rows", stream = Row)]
struct Rows {
    id: u32,
}

#[derive(Serialize, JsonSchema)]
struct Row {
    id: u32,
}

#[derive(Event, Serialize, JsonSchema)]
#[sinew(subject = "orders.placed")]
struct OrderPlaced {
    id: u32,
}

fn main() {}
