//! A handler that cannot fail.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Request, Service, contract};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = u32)]
struct PlaceOrder {
    sku: String,
}

contract! { Orders = "orders" @ "1.0.0" { place: PlaceOrder } }

async fn place(request: PlaceOrder) -> u32 {
    request.sku.len() as u32
}

fn main() {
    let _ = Service::new("orders", ()).serve(Orders, |orders| orders.place(place));
}
