//! A handler of another request, one with an argument nobody can extract, one that is not async.

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

struct Tenant;

async fn get(request: GetOrder) -> Result<String, sinew::Problem> {
    Ok(request.id.to_string())
}

async fn with_tenant(request: PlaceOrder, _tenant: Tenant) -> Result<u32, sinew::Problem> {
    Ok(request.sku.len() as u32)
}

fn blocking(request: PlaceOrder) -> Result<u32, sinew::Problem> {
    Ok(request.sku.len() as u32)
}

fn main() {
    let _ = Service::new("orders", ()).serve(Orders, |orders| orders.place(get).get(get));
    let _ = Service::new("orders", ()).serve(Orders, |orders| orders.place(with_tenant).get(get));
    let _ = Service::new("orders", ()).serve(Orders, |orders| orders.place(blocking).get(get));
}
