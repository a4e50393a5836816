//! A stream that is called, and a call that is streamed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Ctx, Request};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = u32)]
struct PlaceOrder {
    sku: String,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "reports.rows", stream = Row)]
struct Rows {
    table: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Row {
    number: u32,
}

async fn ask(ctx: Ctx) {
    let _ = ctx.call(Rows { table: "sales".into() }).await;
    let _ = ctx.stream(PlaceOrder { sku: "tea".into() }).await;
}

fn main() {
    let _ = ask;
}
