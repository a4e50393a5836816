//! Whole systems in one process: the demo, and `sinew dev`.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

use super::program::{self, sinew};
use crate::harness::{Harness, OtlpReceiver, SOON, eventually, server};

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
    assert_eq!(program::ended(&mut dev).await, Some(0));
    let gone = sinew(&["--json", "--nats-url", &url, "services"]).await;
    assert_eq!(gone.code, 4, "the broker is stopped with it: {gone:?}");
}

#[tokio::test]
async fn dev_keeps_the_last_good_workflow_until_a_broken_one_is_mended() {
    let harness = Harness::start().await;
    let dir = tempfile::tempdir().expect("a directory for workflows");
    let file = dir.path().join("nap.yaml");
    let save = |source: &str| {
        // Moved into place, so that nobody reads half of it.
        let draft = dir.path().join("draft");
        std::fs::write(&draft, source)
            .and_then(|()| std::fs::rename(&draft, &file))
            .expect("save the workflow");
    };
    save(&nap("1.0.0", "seconds"));
    let workflows = dir.path().to_str().expect("a path in UTF-8");
    let arguments = ["--nats-url", harness.url(), "dev", "--listen", "127.0.0.1:0", "--workflows", workflows];
    let mut dev = program::start_with_server(&server().await, &arguments);
    let mut said = BufReader::new(dev.stderr.take().expect("its notes are read"));
    wait_for(&mut said, "applied nap@1.0.0").await;

    save(&nap("1.1.0", "secnods"));
    let place = format!("--> {}:3:", file.display());
    wait_for(&mut said, &place).await;
    wait_for(&mut said, "what was applied before stays").await;
    let definitions = || async {
        let arguments = ["--json", "--nats-url", harness.url(), "workflow", "definitions"];
        let listed = sinew(&arguments).await.succeeded().json();
        listed
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["version"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(definitions().await, ["1.0.0"]);

    save(&nap("1.1.0", "seconds"));
    wait_for(&mut said, "applied nap@1.1.0").await;
    assert!(definitions().await.contains(&"1.1.0".to_owned()));
    program::terminate(&dev);
    assert_eq!(program::ended(&mut dev).await, Some(0));
}

#[tokio::test]
async fn ctrl_c_in_the_middle_of_the_demo_stops_everything() {
    // Looking around ends well; whoever asked for all orders did not get them.
    for (arguments, code) in [(&["demo"][..], 0), (&["demo", "--once"], 1)] {
        let mut demo = program::start_with_server(&server().await, arguments);
        let mut told = BufReader::new(demo.stdout.take().expect("its output is read"));
        let broker = wait_for(&mut told, "broker").await;
        let url = broker.split_whitespace().nth(1).expect("the broker's address").to_owned();
        let edge = wait_for(&mut told, "edge").await;
        let address = edge.split_once("http://").expect("the edge's address").1.trim().to_owned();
        wait_for(&mut told, "reserve").await;
        program::interrupt(&demo);
        assert_eq!(program::ended(&mut demo).await, Some(code));
        let gone = sinew(&["--json", "--nats-url", &url, "services"]).await;
        assert_eq!(gone.code, 4, "the broker is stopped with it: {gone:?}");
        assert!(tokio::net::TcpStream::connect(&address).await.is_err(), "the edge is gone");
    }
}

/// Makes a workflow that sleeps a little; `unit` may be no unit at all.
fn nap(version: &str, unit: &str) -> String {
    format!(
        "document: {{ dsl: '1.0.3', namespace: test, name: nap, version: '{version}' }}\n\
         do:\n  - rest: {{ wait: {{ {unit}: 1 }} }}\n"
    )
}

/// Reads until a line contains `wanted`, and returns it.
async fn wait_for(reader: &mut BufReader<impl AsyncRead + Unpin>, wanted: &str) -> String {
    let read = async {
        let mut before = String::new();
        loop {
            let mut line = String::new();
            let length = reader.read_line(&mut line).await.expect("the program writes UTF-8");
            assert!(length > 0, "it ended before it said {wanted}:\n{before}");
            if line.contains(wanted) {
                return line;
            }
            before.push_str(&line);
        }
    };
    tokio::time::timeout(SOON, read).await.unwrap_or_else(|_| panic!("it did not say {wanted} in time"))
}
