//! A path and a body that name fields the request does not have, as the message spells them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::Request;

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.change", reply = (), http = "PUT /orders/{order_id}", body = "change")]
#[serde(rename_all = "camelCase")]
struct ChangeOrder {
    order_id: u32,
    changes: Vec<String>,
}

fn main() {}
