//! An upload listed without its word.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Request, contract};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.import", upload = Row, reply = u32)]
struct ImportRows {
    table: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Row {
    number: u32,
}

contract! { Orders = "orders" @ "1.0.0" { import: ImportRows } }

fn main() {}
