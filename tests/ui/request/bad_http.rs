//! HTTP bindings that cannot be published.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::Request;

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = (), http = "/orders")]
struct WithoutMethod;

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = (), http = "FETCH /orders")]
struct UnknownMethod;

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = (), http = "GET /orders?id={id}")]
struct WithQuery {
    id: u32,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = (), http = "POST /orders", status = 404)]
struct FailingStatus;

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = (), status = 201)]
struct StatusAlone;

fn main() {}
