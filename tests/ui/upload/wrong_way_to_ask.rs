//! A call without the items, items of another type, and a list in the place of a stream.

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
    let _ = ctx.call(request()).await;
    let _ = ctx.upload(request(), stream::iter(["one", "two"])).await;
    let _ = ctx.upload(request(), vec![Row { number: 1 }]).await;
}

fn main() {
    let _ = send;
}
