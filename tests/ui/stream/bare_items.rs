//! Items that are no results.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use futures::{Stream, stream};
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

async fn rows(_: Rows) -> Result<impl Stream<Item = Row>, Problem> {
    Ok(stream::iter([Row { number: 1 }]))
}

fn main() {
    let _ = Service::new("reports", ()).serve(Reports, |reports| reports.rows(rows));
}
