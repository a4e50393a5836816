//! Messages that cannot describe themselves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Event, Request};

#[derive(Request, Serialize, Deserialize)]
#[sinew(subject = "orders.place", reply = ())]
struct PlaceOrder {
    sku: String,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.get", reply = Order)]
struct GetOrder {
    id: u32,
}

#[derive(Serialize, Deserialize)]
struct Order {
    id: u32,
}

#[derive(Event, Serialize, Deserialize)]
#[sinew(subject = "orders.placed")]
struct OrderPlaced {
    id: u32,
}

fn main() {}
