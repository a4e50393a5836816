//! A service that leaves an operation out: the text names it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Request, Service, contract};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = u32)]
struct PlaceOrder {
    sku: String,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.get", reply = String)]
struct GetOrder {
    id: u32,
}

contract! { Orders = "orders" @ "1.0.0" { place: PlaceOrder, get: GetOrder } }

async fn place(request: PlaceOrder) -> Result<u32, sinew::Problem> {
    Ok(request.sku.len() as u32)
}

fn main() {
    let _ = Service::new("orders", ()).serve(Orders, |orders| orders.place(place));
}
