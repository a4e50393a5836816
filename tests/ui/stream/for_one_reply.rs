//! A handler that streams where the operation has one reply.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use futures::{Stream, stream};
use sinew::{Problem, Request, Service, contract};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = u32)]
struct PlaceOrder {
    sku: String,
}

contract! { Orders = "orders" @ "1.0.0" { place: PlaceOrder } }

async fn place(_: PlaceOrder) -> Result<impl Stream<Item = Result<u32, Problem>>, Problem> {
    Ok(stream::iter([Ok(1), Ok(2)]))
}

fn main() {
    let _ = Service::new("orders", ()).serve(Orders, |orders| orders.place(place));
}
