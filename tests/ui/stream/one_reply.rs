//! A handler that answers one item where the operation streams them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Problem, Request, Service, contract};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "reports.rows", stream = Row)]
struct Rows {
    table: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Row {
    number: u32,
}

contract! { Reports = "reports" @ "1.0.0" { rows: stream Rows } }

async fn rows(request: Rows) -> Result<Row, Problem> {
    Ok(Row { number: request.table.len() as u32 })
}

fn main() {
    let _ = Service::new("reports", ()).serve(Reports, |reports| reports.rows(rows));
}
