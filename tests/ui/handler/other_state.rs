//! A part of the state that nobody declared to be one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Problem, Request, Service, State, contract};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = u32)]
struct PlaceOrder {
    sku: String,
}

contract! { Orders = "orders" @ "1.0.0" { place: PlaceOrder } }

#[derive(Clone)]
struct App;

#[derive(Clone)]
struct Pool;

async fn place(_: PlaceOrder, State(_pool): State<Pool>) -> Result<u32, Problem> {
    Ok(1)
}

fn main() {
    let _ = Service::new("orders", App).serve(Orders, |orders| orders.place(place));
}
