//! A handler that takes extractors only.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Ctx, Problem, Request, Service, contract};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = u32)]
struct PlaceOrder {
    sku: String,
}

contract! { Orders = "orders" @ "1.0.0" { place: PlaceOrder } }

async fn place(_ctx: Ctx) -> Result<u32, Problem> {
    Ok(1)
}

fn main() {
    let _ = Service::new("orders", ()).serve(Orders, |orders| orders.place(place));
}
