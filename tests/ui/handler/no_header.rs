//! A header whose type does not say its name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Header, Problem, Request, Service, contract};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = u32)]
struct PlaceOrder {
    sku: String,
}

contract! { Orders = "orders" @ "1.0.0" { place: PlaceOrder } }

struct Tenant(String);

async fn place(_: PlaceOrder, Header(tenant): Header<Tenant>) -> Result<u32, Problem> {
    Ok(tenant.0.len() as u32)
}

fn main() {
    let _ = Service::new("orders", ()).serve(Orders, |orders| orders.place(place));
}
