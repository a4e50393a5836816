//! Subjects that are none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::Request;

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "place", reply = ())]
struct OneName;

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.placeOrder", reply = ())]
struct UpperCase;

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "svc.orders.place", reply = ())]
struct Prefixed;

fn main() {}
