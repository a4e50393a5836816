//! A stream that cannot move between threads.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::rc::Rc;

use futures::{Stream, StreamExt, stream};
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

fn rows(request: Rows) -> impl Stream<Item = Result<Row, Problem>> {
    let table = Rc::new(request.table);
    stream::iter(1..9).map(move |number| Ok(Row { number: number + table.len() as u32 }))
}

fn main() {
    let _ = Service::new("reports", ()).serve(Reports, |reports| reports.rows(rows));
}
