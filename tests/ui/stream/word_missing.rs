//! A request for a stream, listed without the word.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Request, contract};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "reports.rows", stream = Row)]
struct Rows {
    table: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Row {
    number: u32,
}

contract! { Reports = "reports" @ "1.0.0" { rows: Rows } }

fn main() {}
