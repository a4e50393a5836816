//! An extractor before the payload.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Ctx, Problem, Request, Service, contract};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = u32)]
struct PlaceOrder {
    sku: String,
}

contract! { Orders = "orders" @ "1.0.0" { place: PlaceOrder } }

async fn place(_ctx: Ctx, request: PlaceOrder) -> Result<u32, Problem> {
    Ok(request.sku.len() as u32)
}

fn main() {
    let _ = Service::new("orders", ()).serve(Orders, |orders| orders.place(place));
}
