//! A slip of the pen, a key that does not exist, and keys used in the wrong way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::Request;

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", replay = ())]
struct Misspelled;

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = (), cached)]
struct Unknown;

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = (), idempotent = true)]
struct FlagWithValue;

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = (), subject = "orders.put")]
struct Twice;

fn main() {}
