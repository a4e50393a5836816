//! A request with one reply, listed with the word.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Request, contract};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = u32)]
struct PlaceOrder {
    sku: String,
}

contract! { Orders = "orders" @ "1.0.0" { place: stream PlaceOrder } }

fn main() {}
