//! A request that does not say what is answered.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::Request;

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place")]
struct PlaceOrder {
    sku: String,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
struct GetOrder {
    id: u32,
}

fn main() {}
