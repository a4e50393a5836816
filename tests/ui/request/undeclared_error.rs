//! An error type nobody declared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::Request;

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = (), error = OrderError)]
struct PlaceOrder {
    sku: String,
}

#[derive(Debug)]
enum OrderError {}

fn main() {}
