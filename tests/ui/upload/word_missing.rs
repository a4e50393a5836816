//! An upload listed without its word, and a plain request listed with it.

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

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = u32)]
struct PlaceOrder {}

contract! { Orders = "orders" @ "1.0.0" { import: ImportRows, place: upload PlaceOrder } }

fn main() {}
