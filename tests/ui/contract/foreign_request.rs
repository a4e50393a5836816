//! A contract that lists another service's request, and one that lists a subject twice.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Request, contract};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = u32)]
struct PlaceOrder {
    sku: String,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "stock.reserve", reply = ())]
struct ReserveStock {
    sku: String,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = ())]
struct PlaceAgain {
    sku: String,
}

contract! { Orders = "orders" @ "1.0.0" { place: PlaceOrder, reserve: ReserveStock } }

contract! { Twice = "orders" @ "1.0.0" { place: PlaceOrder, again: PlaceAgain } }

fn main() {}
