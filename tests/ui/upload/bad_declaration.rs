//! What an upload cannot be: answered with a stream, published over HTTP, without a reply, or with a word alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Request, contract};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.convert", upload = u32, stream = u32)]
struct Convert {}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.import", upload = u32, reply = u32, http = "POST /orders")]
struct ImportRows {}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.import", upload = u32)]
struct Swallow {}

contract! { Orders = "orders" @ "1.0.0" { import: upload } }

fn main() {}
