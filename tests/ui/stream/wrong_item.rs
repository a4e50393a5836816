//! Items of another type than the request declares, and with another error.

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

#[derive(Debug, Problem)]
enum RowError {
    #[problem(status = 404)]
    NoTable,
}

fn numbers(request: Rows) -> impl Stream<Item = Result<usize, Problem>> {
    stream::iter([Ok(request.table.len())])
}

fn failing(_: Rows) -> impl Stream<Item = Result<Row, RowError>> {
    stream::iter([Err(RowError::NoTable)])
}

fn main() {
    let _ = Service::new("reports", ()).serve(Reports, |reports| reports.rows(numbers));
    let _ = Service::new("reports", ()).serve(Reports, |reports| reports.rows(failing));
}
