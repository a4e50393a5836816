//! Quotas: requests per day and month, which outlive edges and are counted by all of them together.

use serde_json::json;
use sinew_edge as edge;

use super::{
    System,
    client::{Client, Reply},
    connect, local,
};
use crate::harness::{SOON, eventually};

fn config(requests: u64) -> edge::Config {
    let quota = json!({
        "name": "plan", "requests": requests, "per": "month", "zone": "Europe/Berlin", "key": [{ "header": "x-key" }],
    });
    let config = json!({ "quota_write_ms": 20, "routes": [{
        "match": { "method": "GET", "path": "/counted" },
        "to": { "operation": "shop.read", "fields": { "id": { "value": "x" } } },
        "policies": { "quota": [quota] },
    }] });
    edge::Config::read(&config).unwrap()
}

async fn ask(client: &Client, key: &str) -> Reply {
    client.send("GET", "/counted", &[("x-key", key)], "").await
}

#[tokio::test]
async fn a_quota_that_is_used_up_says_when_it_starts_anew() {
    let system = System::start_with(config(2)).await;
    let first = ask(&system.client, "a").await;
    let policy = first.header("ratelimit-policy").unwrap();
    let days: u64 = policy.strip_prefix(r#""plan";q=2;w="#).unwrap().parse::<u64>().unwrap() / 86_400;
    assert!((27..=31).contains(&days), "{policy}");
    assert!(first.header("ratelimit").unwrap().starts_with(r#""plan";r=1;t="#), "{first:?}");
    assert_eq!(ask(&system.client, "a").await.status, 200);
    let refused = ask(&system.client, "a").await;
    let problem = refused.problem(429, "quota-exceeded");
    assert_eq!(problem["policy"], "plan");
    let resets = problem["resets"].as_str().unwrap();
    assert!(resets.ends_with("T23:00:00Z") || resets.ends_with("T22:00:00Z"), "midnight in Berlin: {resets}");
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(ask(&system.client, "b").await.status, 200, "another key has its own quota");
}

#[tokio::test]
async fn what_was_counted_outlives_the_edge() {
    let system = System::start_with(config(3)).await;
    for _ in 0..2 {
        assert_eq!(ask(&system.client, "a").await.status, 200);
    }
    system.edge.drain().await;
    let edge = edge::start(local(config(3)), connect(&system.harness, "later").await).await.unwrap();
    let client = Client::new(edge.local_addr());
    let last = ask(&client, "a").await;
    assert!(last.header("ratelimit").unwrap().starts_with(r#""plan";r=0;t="#), "{last:?}");
    ask(&client, "a").await.problem(429, "quota-exceeded");
    edge.drain().await;
    let raised = edge::start(local(config(4)), connect(&system.harness, "raised").await).await.unwrap();
    let client = Client::new(raised.local_addr());
    assert_eq!(ask(&client, "a").await.status, 200, "a raised quota leaves what is left");
    ask(&client, "a").await.problem(429, "quota-exceeded");
    raised.drain().await;
}

#[tokio::test]
async fn replicas_count_together() {
    let system = System::start_with(config(10)).await;
    let other = edge::start(local(config(10)), connect(&system.harness, "edge-b").await).await.unwrap();
    let second = Client::new(other.local_addr());
    assert_eq!(ask(&second, "a").await.status, 200);
    for _ in 0..9 {
        assert_eq!(ask(&system.client, "a").await.status, 200);
    }
    // Each learns of the other when it writes what it counted itself.
    eventually(SOON, || async { ask(&second, "a").await.status == 429 }).await;
    eventually(SOON, || async { ask(&system.client, "a").await.status == 429 }).await;
    let bucket = system.bus.kv("EDGE_QUOTAS").await.unwrap();
    eventually(SOON, || async {
        let entries = bucket.entries(">").await.unwrap();
        let [(key, count)] = entries.as_slice() else { panic!("one key was counted: {entries:?}") };
        assert!(key.starts_with("plan."), "{key}");
        std::str::from_utf8(count).unwrap().parse::<u64>().unwrap() >= 10
    })
    .await;
    other.drain().await;
}

#[tokio::test]
async fn a_cut_bus_stops_no_counting() {
    let mut system = System::start_with(config(3)).await;
    assert_eq!(ask(&system.client, "a").await.status, 200);
    system.harness.kill().await;
    eventually(SOON, || async { system.client.get("/healthz/ready").await.status == 503 }).await;
    for _ in 0..2 {
        ask(&system.client, "a").await.problem(503, "bus-down");
    }
    ask(&system.client, "a").await.problem(429, "quota-exceeded");
}

#[test]
fn what_cannot_be_counted_is_told_with_its_place() {
    let value = json!({ "policies": { "quota": [
        { "name": "a", "requests": 0, "per": "day", "zone": "Europe/Berlim" },
        { "name": "a", "requests": 1, "per": "day", "key": [{ "claim": "sub" }] },
    ] } });
    let mistakes = edge::Config::read(&value).unwrap_err();
    let pointers: Vec<&str> = mistakes.iter().map(|mistake| mistake.pointer.as_str()).collect();
    let at = |rest: &str| format!("/policies/quota/{rest}");
    assert_eq!(pointers, ["0/requests", "0/zone", "1/name", "1/key/0"].map(at));
}
