//! Requests that declare both a reply and a stream, or neither rightly.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::Request;

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "reports.rows", reply = Row, stream = Row)]
struct Rows {
    table: String,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "reports.lines", stream)]
struct Lines {
    table: String,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "reports.cells", streams = Row)]
struct Cells {
    table: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Row {
    number: u32,
}

fn main() {}
