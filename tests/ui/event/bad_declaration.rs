//! Events without a subject, with a version before the first, with a key of requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::Event;

#[derive(Event, Serialize, Deserialize, JsonSchema)]
struct OrderPlaced;

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.paid", version = 0)]
struct OrderPaid;

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.sent", reply = ())]
struct OrderSent;

fn main() {}
