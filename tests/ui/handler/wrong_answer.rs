//! Handlers that answer something else than the request declares.

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

async fn place(request: PlaceOrder) -> Result<u32, std::io::Error> {
    Ok(request.sku.len() as u32)
}

async fn get(request: GetOrder) -> Result<u32, sinew::Problem> {
    Ok(request.id)
}

fn main() {
    let _ = Service::new("orders", ()).serve(Orders, |orders| orders.place(place).unimplemented());
    let _ = Service::new("orders", ()).serve(Orders, |orders| orders.get(get).unimplemented());
}
