//! A call without the items, and items of another type.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use futures::stream;
use sinew::{Ctx, Request};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.import", upload = Row, reply = u32)]
struct ImportRows {
    table: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Row {
    number: u32,
}

async fn send(ctx: Ctx) {
    let request = || ImportRows { table: "sales".into() };
    let _ = ctx.call(request());
    let _ = ctx.upload(request(), stream::iter(["one", "two"]));
}

fn main() {
    let _ = send;
}
