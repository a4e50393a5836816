//! An upload in forty lines: a service that takes any number of rows behind one request, as fast as it can store them.
//!
//! ```sh
//! sinew dev                               # first terminal: a broker and every role of Sinew
//! cargo run -p importer                   # second terminal: this service
//! cargo run -p importer -- send 100000    # third: so many rows, of which a few hundred are under way at a time
//! printf '{"sku":"tea","quantity":2}\\n' | sinew call stock.import '{"table":"sales"}' --upload -
//! ```

use futures::stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Bus, Config, Ctx, Problem, Request, Service, Upload, contract};

/// Takes rows into a table.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "stock.import", upload = Row, reply = Imported)]
struct ImportRows {
    table: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Row {
    sku: String,
    quantity: u64,
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
struct Imported {
    rows: u64,
    quantity: u64,
}

contract! {
    /// Knows what is in stock.
    Stock = "stock" @ "1.0.0" { import: upload ImportRows }
}

async fn import(request: ImportRows, mut rows: Upload<Row>) -> Result<Imported, Problem> {
    if request.table.is_empty() {
        return Err(Problem::new(400, "no-table", "say which table the rows belong to"));
    }
    let mut imported = Imported::default();
    while let Some(row) = rows.next().await {
        // An error is the last item: the sender failed in the middle, or is gone. What was stored before stays.
        imported.quantity += row?.quantity;
        imported.rows += 1;
    }
    Ok(imported)
}

#[expect(clippy::print_stdout, reason = "what was imported is the output of this program")]
async fn send(config: Config, count: u64) -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::connect(config).await?;
    let stock = Stock::client(&Ctx::detached(&bus, "sender"));
    let rows = stream::iter((0..count).map(|number| Row { sku: format!("sku-{number}"), quantity: 2 }));
    let imported = stock.import(ImportRows { table: "sales".to_owned() }, rows).await?;
    println!("{} rows, {} pieces", imported.rows, imported.quantity);
    bus.close().await;
    Ok(())
}

#[tokio::main]
#[expect(clippy::print_stderr, reason = "says to whoever started it what to do next")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let config = Config::new(url, "importer");
    match std::env::args().nth(1).as_deref() {
        Some("send") => {
            let count = std::env::args().nth(2).map_or(Ok(1_000), |count| count.parse())?;
            send(config, count).await
        }
        _ => {
            eprintln!("connecting to {}; then try: cargo run -p importer -- send 100000", config.url);
            Ok(Service::new("stock", ()).serve(Stock, |routes| routes.import(import)).run(config).await?)
        }
    }
}
