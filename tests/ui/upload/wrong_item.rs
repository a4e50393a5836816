//! A handler that takes other items than the request declares, and one that takes none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Problem, Request, Service, Upload, contract};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.import", upload = Row, reply = u32)]
struct ImportRows {
    table: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Row {
    number: u32,
}

contract! { Orders = "orders" @ "1.0.0" { import: upload ImportRows } }

async fn numbers(_: ImportRows, _: Upload<u32>) -> Result<u32, Problem> {
    Ok(0)
}

async fn nothing(_: ImportRows) -> Result<u32, Problem> {
    Ok(0)
}

fn main() {
    let _ = Service::new("orders", ()).serve(Orders, |orders| orders.import(numbers));
    let _ = Service::new("orders", ()).serve(Orders, |orders| orders.import(nothing));
}
