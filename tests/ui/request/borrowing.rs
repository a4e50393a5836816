//! A request that does not own its data, and one with as many shapes as there are types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::Request;

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = ())]
struct PlaceOrder<'a> {
    sku: &'a str,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.change", reply = ())]
struct ChangeOrder<T> {
    change: T,
}

fn main() {}
