//! Whole systems in one process: the demo, and `sinew dev`.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::program::{self, sinew};
use crate::harness::{OtlpReceiver, SOON, eventually, server};

#[tokio::test]
async fn the_demo_ends_as_expected() {
    let (binary, collector) = (server().await, OtlpReceiver::start().await);
    let arguments = ["demo", "--once", "--json", "--otlp-endpoint", collector.endpoint()];
    let ran = program::with_server(&binary, &arguments).await.succeeded();
    let told = ran.json();
    let orders = told["orders"].as_array().expect("orders are listed");
    let of = |member: &str| orders.iter().map(|order| order[member].clone()).collect::<Vec<Value>>();
    assert_eq!(of("outcome"), ["completed", "compensated", "compensated", "completed"]);
    assert_eq!(of("status"), [201, 402, 504, 201]);
    for trace in of("trace_id") {
        let trace = trace.as_str().expect("an order has a trace");
        assert!(trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit()), "{trace}");
    }
    let steps = |order: usize| {
        let steps = orders[order]["steps"].as_array().expect("steps are listed");
        let pair = |step: &Value| {
            format!("{} {}", step["name"].as_str().unwrap(), step["outcome"].as_str().unwrap())
        };
        steps.iter().map(pair).collect::<Vec<_>>()
    };
    assert_eq!(steps(0), ["reserve completed", "charge completed", "ship completed", "confirm completed"]);
    assert_eq!(steps(1), ["reserve compensated", "charge refused"]);
    assert_eq!(steps(2), ["reserve compensated", "charge compensated", "ship unknown"]);
    assert_eq!(orders[2]["steps"][2]["compensation"], "compensated");
    assert_eq!(steps(3), steps(0));
    assert_eq!(told["broker"]["source"], "configured");
    assert!(told["first_saga_ms"].as_u64().is_some());
    // Whoever worked on an order is in its trace, under a name of its own: all spans were sent before the program ended.
    let spans = collector.spans().await;
    for (order, workers) in [
        (0, "edge inventory orchestrator orders payments shipping"),
        (1, "edge inventory orchestrator orders payments"),
    ] {
        let own = spans.iter().filter(|span| orders[order]["trace_id"] == span.trace_id.as_str());
        let names: BTreeSet<&str> = own.map(|span| span.service.as_str()).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>().join(" "), workers);
    }
}

#[tokio::test]
async fn dev_runs_everything_applies_workflows_and_stops_in_order() {
    let binary = server().await;
    let dir = tempfile::tempdir().expect("a directory for workflows");
    std::fs::write(dir.path().join("place-order.yaml"), checkout::PLACE_ORDER).expect("write the workflow");
    let workflows = dir.path().to_str().expect("a path in UTF-8");
    let arguments = ["dev", "--json", "--listen", "127.0.0.1:0", "--workflows", workflows];
    let mut dev = program::start_with_server(&binary, &arguments);
    let mut lines = BufReader::new(dev.stdout.take().expect("its output is read")).lines();
    let line = tokio::time::timeout(SOON, lines.next_line()).await.expect("it tells where it is");
    let told: Value = serde_json::from_str(&line.unwrap().expect("a line of JSON")).expect("a line of JSON");
    let url = told["broker"]["url"].as_str().expect("the broker's address").to_owned();
    let definitions = || async {
        let ran = sinew(&["--json", "--nats-url", &url, "workflow", "definitions"]).await;
        (ran.code == 0).then(|| ran.json()).filter(|listed| listed[0]["name"] == "place-order")
    };
    eventually(SOON, definitions).await;
    program::terminate(&dev);
    let ended = tokio::time::timeout(SOON, dev.wait()).await.expect("it drains in bounded time");
    assert_eq!(ended.unwrap().code(), Some(0));
    let gone = sinew(&["--json", "--nats-url", &url, "services"]).await;
    assert_eq!(gone.code, 4, "the broker is stopped with it: {gone:?}");
}
