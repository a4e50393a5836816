//! `sinew call --upload`: JSON lines follow the request, as fast as they are taken.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Bus, Config, Problem, Request, Service, Upload, contract};
use tempfile::TempDir;

use super::program::sinew;
use crate::harness::Harness;

/// Takes rows into a table.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.import", upload = Row, reply = Imported)]
struct ImportRows {
    table: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Row {
    quantity: u64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Imported {
    table: String,
    rows: u64,
    quantity: u64,
}

contract! { Orders = "orders" @ "1.0.0" { import: upload ImportRows } }

async fn import(request: ImportRows, mut rows: Upload<Row>) -> Result<Imported, Problem> {
    let mut imported = Imported { table: request.table, rows: 0, quantity: 0 };
    while let Some(row) = rows.next().await {
        imported.quantity += row?.quantity;
        imported.rows += 1;
    }
    Ok(imported)
}

#[tokio::test]
async fn lines_of_a_file_follow_the_request() {
    let harness = Harness::start().await;
    let bus = Bus::connect(Config::new(harness.url(), "orders")).await.unwrap();
    let orders = Service::new("orders", ()).serve(Orders, |routes| routes.import(import));
    let running = orders.start(&bus).await.unwrap();
    let dir = TempDir::with_prefix("sinew-test-").unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let rows: String = (1..=2_000).map(|quantity| format!("{{\"quantity\":{quantity}}}\n")).collect();
    let call = async |file: &str| {
        let url = harness.url();
        let arguments = ["--json", "--nats-url", url, "call", "orders.import", r#"{"table":"sales"}"#];
        sinew(&[&arguments[..], &["--upload", file]].concat()).await
    };
    let reply = call(&write("rows.jsonl", rows)).await.succeeded().json();
    assert_eq!(reply, serde_json::json!({ "table": "sales", "rows": 2_000, "quantity": 2_001_000 }));

    let wrong = call(&write("wrong.jsonl", "{\"quantity\":1}\n{\"quantity\":\n".to_owned())).await;
    assert_ne!(wrong.code, 0, "{wrong:?}");
    assert!(format!("{wrong:?}").contains("line 2 is not JSON"), "{wrong:?}");
    let odd = call(&write("odd.jsonl", "{\"quantity\":\"many\"}\n".to_owned())).await;
    assert!(format!("{odd:?}").contains("malformed-item"), "{odd:?}");
    let absent = call("/no/such/rows.jsonl").await;
    assert!(format!("{absent:?}").contains("cannot read /no/such/rows.jsonl"), "{absent:?}");

    let url = harness.url();
    let both = sinew(&["--json", "--nats-url", url, "call", "orders.import", "-", "--upload", "-"]).await;
    assert_eq!(both.code, 2, "{both:?}");
    let without =
        sinew(&["--json", "--nats-url", url, "call", "orders.import", r#"{"table":"sales"}"#]).await;
    assert!(format!("{without:?}").contains("upload-missing"), "{without:?}");
    running.drain().await;
    bus.close().await;
}
