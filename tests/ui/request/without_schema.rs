//! A request that cannot describe itself.

use serde::{Deserialize, Serialize};
use sinew::Request;

#[derive(Request, Serialize, Deserialize)]
#[sinew(subject = "orders.place", reply = ())]
struct PlaceOrder {
    sku: String,
}

fn main() {}
