//! `sinew edge` and its tools: what a file of routes says, and what becomes of it while the edge runs.

use std::path::PathBuf;

use serde_json::json;
use sinew::wire::ServiceDescriptor;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::program::{listens, sinew, start_told};
use crate::{
    edge::client::Client,
    harness::{Harness, SOON, eventually},
};

const ROUTES: &str = "routes:
  - name: order
    match: { method: GET, path: '/orders/{id}', host: api.example }
    to: { operation: orders.get, fields: { tenant: { header: x-tenant } } }
";

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_file_with_mistakes_is_told_all_of_them_with_their_lines() {
    let files = Files::new();
    let text =
        "max_headers: 0\nroutes:\n  - match: { method: GET, path: orders }\n    to: { operation: orders }\n";
    let file = files.write("edge.yaml", text);
    let ran = sinew(&["edge", "check", &file]).await;
    assert_eq!(ran.code, 3, "{ran:?}");
    for place in [":1:1:", ":3:", ":4:11:"] {
        assert!(ran.stderr.contains(&format!("{file}{place}")), "{place} {ran:?}");
    }
    let told = sinew(&["--json", "edge", "check", &file]).await.error();
    let lines: Vec<u64> =
        told["mistakes"].as_array().unwrap().iter().map(|one| one["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [1, 3, 4]);
    let good = files.write("good.yaml", ROUTES);
    let ran = sinew(&["--json", "edge", "check", &good]).await.succeeded();
    assert_eq!(ran.json()["routes"], 1);
}

#[tokio::test]
async fn a_request_is_explained_and_files_are_compared_without_a_bus() {
    let files = Files::new();
    let (old, new) = (
        files.write("old.yaml", ROUTES),
        files.write("new.yaml", &ROUTES.replace("orders.get", "orders.read")),
    );
    let explain = ["--json", "edge", "explain", "http://api.example/orders/7", "--offline", "--config", &old];
    let told = sinew(&explain).await.succeeded().json();
    assert_eq!((&told["route"]["name"], &told["path"]), (&json!("order"), &json!({ "id": "7" })));
    assert_eq!(told["policies"], json!(sinew_edge::POLICIES));
    let elsewhere = sinew(&["--json", "edge", "explain", "/orders/7", "--offline", "--config", &old]).await;
    assert!(elsewhere.succeeded().json()["problem"].as_str().unwrap().starts_with("404"));
    let diff = sinew(&["edge", "diff", &old, &new]).await.succeeded();
    assert_eq!(diff.stdout.trim(), "~ GET api.example/orders/{id} → orders.read, before orders.get");
}

#[tokio::test]
async fn webhooks_of_two_files_are_compared_beside_routes() {
    let files = Files::new();
    let webhook = |name: &str, attempts: u8| {
        format!(
            "  - {{ name: {name}, events: [orders.*], url: 'https://a.example/', retry: {{ attempts: {attempts} }} }}\n"
        )
    };
    let old =
        files.write("old.yaml", &format!("{ROUTES}webhooks:\n{}{}", webhook("crm", 3), webhook("erp", 3)));
    let new =
        files.write("new.yaml", &format!("{ROUTES}webhooks:\n{}{}", webhook("crm", 5), webhook("pos", 3)));
    let told = sinew(&["edge", "diff", &old, &new]).await.succeeded().stdout;
    let lines: Vec<&str> = told.lines().collect();
    let expected = [
        "+ webhook pos [orders.*] → https://a.example/",
        "- webhook erp [orders.*] → https://a.example/",
        "~ webhook crm [orders.*] → https://a.example/, other retry",
    ];
    assert_eq!(lines, expected);
    let json = sinew(&["--json", "edge", "diff", &old, &new]).await.succeeded().json();
    assert_eq!(json["webhooks"]["changed"][0]["differs"], json!(["retry"]));
    assert_eq!(json["added"], json!([]));
}

#[tokio::test]
async fn routes_are_listed_with_who_asked_for_them_and_what_nobody_serves() {
    let harness = Harness::start().await;
    let files = Files::new();
    let file = files.write("edge.yaml", ROUTES);
    let routes = ["--json", "--nats-url", harness.url(), "edge", "routes", "--config", &file];
    let told = sinew(&routes).await.succeeded().json();
    let order = told["routes"].as_array().unwrap().iter().find(|route| route["name"] == "order").unwrap();
    assert_eq!((&order["origin"], &order["to"]), (&json!("config"), &json!("orders.get")));
    assert_eq!(told["notes"], json!(["order: nobody serves orders.get yet"]));
}

#[tokio::test]
async fn a_running_edge_tells_its_routes_with_what_they_did() {
    let harness = Harness::start().await;
    let bus = sinew::Bus::connect(sinew::Config::new(harness.url(), "front")).await.unwrap();
    let operation = json!({ "name": "get", "subject": "svc.orders.get", "request": {}, "reply": {} });
    let orders = json!({ "name": "orders", "version": "1.0.0", "operations": [operation] });
    let orders: ServiceDescriptor = serde_json::from_value(orders).unwrap();
    sinew::Catalogue::open(&bus).await.unwrap().announce(&orders).await.unwrap();
    let broken = json!({ "breaker": { "failures": 1, "pause_ms": 600_000, "longest_pause_ms": 600_000 } });
    let config = json!({ "listen": "127.0.0.1:0", "metrics": { "listen": "127.0.0.1:0" }, "routes": [
        { "name": "order", "match": { "method": "GET", "path": "/orders/{id}" }, "to": { "operation": "orders.get" },
          "policies": broken },
    ] });
    let edge = sinew_edge::start(sinew_edge::Config::read(&config).unwrap(), bus).await.unwrap();
    let client = Client::new(edge.local_addr());
    client.get("/orders/7").await.problem(503, "no-responders");
    client.get("/orders/8").await.problem(503, "circuit-open");
    assert_eq!(client.get("/healthz/live").await.status, 200);
    let metrics = format!("http://{}/metrics", edge.metrics_addr().unwrap());
    let told = sinew(&["--json", "edge", "routes", "--live", &metrics]).await.succeeded().json();
    let of = |name: &str| {
        told["routes"].as_array().unwrap().iter().find(|route| route["path"] == name).unwrap().clone()
    };
    let order = of("/orders/{id}");
    assert_eq!(
        (&order["requests"], &order["server_errors"], &order["in_flight"]),
        (&json!(2), &json!(2), &json!(0))
    );
    assert_eq!(order["circuits"], json!([{ "operation": "orders.get", "state": "open" }]));
    assert_eq!((&of("/healthz/live")["requests"], &told["ready"]), (&json!(1), &json!(true)));
    let text = sinew(&["edge", "routes", "--live", &metrics]).await.succeeded().stdout;
    let line = text.lines().find(|line| line.contains("/orders/{id}")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..7], ["GET", "/orders/{id}", "orders.get", "2", "0", "2", "0"], "{text}");
    assert!(line.ends_with("orders.get open"), "{line}");
    let wrong = sinew(&["--json", "edge", "routes", "--live", &edge.local_addr().to_string()]).await;
    assert_eq!((wrong.code, wrong.error_code()), (1, "SNW-5009".into()), "{wrong:?}");
    edge.drain().await;
}

#[tokio::test]
async fn a_saved_file_is_taken_over_and_one_with_mistakes_is_not() {
    let harness = Harness::start().await;
    let files = Files::new();
    let route = |path: &str| {
        format!("routes:\n  - match: {{ method: GET, path: {path} }}\n    to: {{ operation: a.b }}\n")
    };
    let file = files.write("edge.yaml", &route("/one"));
    let arguments =
        ["--json", "--nats-url", harness.url(), "edge", "--config", &file, "--listen", "127.0.0.1:0"];
    let mut edge = start_told(&arguments);
    let client = Client::new(listens(&mut edge).await);
    client.get("/one").await.problem(503, "no-responders");
    files.write("edge.yaml", &route("/three"));
    eventually(SOON, || async { client.get("/three").await.status == 503 }).await;
    client.get("/one").await.problem(404, "not-found");
    files.write("edge.yaml", "routes: [{}]\n# wrong\n");
    let mut said = BufReader::new(edge.stderr.take().unwrap()).lines();
    let refused = async {
        while !said.next_line().await.unwrap().expect("the edge says what it refuses").contains("SNW-5004") {}
    };
    tokio::time::timeout(SOON, refused).await.expect("the file is looked at in time");
    client.get("/three").await.problem(503, "no-responders");
}

#[tokio::test]
async fn a_purge_reaches_the_edges_that_keep_replies_and_says_when_there_is_none() {
    let harness = Harness::start().await;
    let purge = ["--json", "--nats-url", harness.url(), "edge", "purge", "--all"];
    let nobody = sinew(&purge).await.error();
    assert!(nobody.to_string().contains("no edge that caches answered"), "{nobody}");
    let bus = sinew::Bus::connect(sinew::Config::new(harness.url(), "front")).await.unwrap();
    let config = json!({ "listen": "127.0.0.1:0", "policies": { "cache": {} } });
    let edge = sinew_edge::start(sinew_edge::Config::read(&config).unwrap(), bus).await.unwrap();
    let told = sinew(&purge).await.succeeded().json();
    assert_eq!(told, json!({ "edges": [{ "edge": "front", "purged": 0 }] }));
    let wrong = ["edge", "purge", "--path", "orders?x"];
    assert_ne!(sinew(&wrong).await.code, 0);
    edge.drain().await;
}
