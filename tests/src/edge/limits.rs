//! Rate limits: who is counted with whom, what clients are told, and what replicas tell each other.

use std::net::SocketAddr;

use serde_json::{Value, json};
use sinew_edge as edge;

use super::{
    System,
    client::{Client, Reply},
    connect, local,
};
use crate::harness::{SOON, eventually};

/// A route to an operation that needs nothing.
fn route(path: &str, policies: Value) -> Value {
    json!({
        "match": { "method": "GET", "path": path },
        "to": { "operation": "shop.read", "fields": { "id": { "value": "x" } } },
        "policies": policies,
    })
}

fn read(config: Value) -> edge::Config {
    edge::Config::read(&config).unwrap()
}

async fn start(config: Value) -> System {
    System::start_with(read(config)).await
}

async fn with(client: &Client, path: &str, name: &str, value: &str) -> Reply {
    client.send("GET", path, &[(name, value)], "").await
}

#[tokio::test]
async fn a_client_above_its_limit_is_told_which_one_and_when_to_come_back() {
    let limits = json!({ "rate_limit": [
        { "name": "hourly", "requests": 2, "per": "1h" },
        { "name": "daily", "requests": 9, "per": "24h", "algorithm": "sliding_window" },
    ] });
    let system = start(json!({ "routes": [route("/few", limits)] })).await;
    let first = system.client.get("/few").await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("ratelimit-policy"), Some(r#""hourly";q=2;w=3600, "daily";q=9;w=86400"#));
    let told = first.header("ratelimit").unwrap();
    assert!(told.starts_with(r#""hourly";r=1;t="#), "the tightest is told: {told}");
    assert_eq!(system.client.get("/few").await.status, 200);
    let refused = system.client.get("/few").await;
    let problem = refused.problem(429, "rate-limited");
    assert_eq!((&problem["policy"], &problem["violated-policies"]), (&json!("hourly"), &json!(["hourly"])));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1_700..=1_800).contains(&wait), "one of two an hour comes back every half: {wait}");
    assert_eq!(refused.header("ratelimit"), Some(format!(r#""hourly";r=0;t={wait}"#).as_str()));
    assert_eq!(system.client.get("/things/1").await.header("ratelimit"), None);
}

#[tokio::test]
async fn requests_are_counted_apart_by_header_cookie_and_version() {
    let limit =
        |key: Value| json!({ "rate_limit": [{ "name": "each", "requests": 1, "per": "1h", "key": key }] });
    let system = start(json!({
        "versions": { "header": "api-version" },
        "routes": [
            route("/header", limit(json!([{ "header": "x-key" }]))),
            route("/cookie", limit(json!([{ "cookie": "sid" }]))),
            route("/version", limit(json!(["version"]))),
            route("/both", limit(json!([{ "header": "x-key" }, { "cookie": "sid" }]))),
        ],
    }))
    .await;
    for (path, name, first, second) in [
        ("/header", "x-key", "a", "b"),
        ("/cookie", "cookie", "sid=a", "sid=b"),
        ("/version", "api-version", "1", "2"),
        ("/both", "x-key", "a", "b"),
        ("/both", "cookie", "sid=a", "sid=b"),
    ] {
        for value in [first, second] {
            assert_eq!(with(&system.client, path, name, value).await.status, 200, "{path} {value}");
            with(&system.client, path, name, value).await.problem(429, "rate-limited");
        }
    }
    assert_eq!(system.client.get("/header").await.status, 200);
    system.client.get("/header").await.problem(429, "rate-limited");
}

#[tokio::test]
async fn a_client_behind_a_trusted_proxy_is_counted_and_a_stranger_cannot_pose_as_one() {
    let limit = json!({ "rate_limit": [{ "name": "each", "requests": 1, "per": "1h", "key": ["ip"] }] });
    let behind =
        start(json!({ "trusted_proxies": ["127.0.0.0/8"], "routes": [route("/few", limit.clone())] })).await;
    for address in ["1.2.3.4", "1.2.3.5"] {
        assert_eq!(with(&behind.client, "/few", "x-forwarded-for", address).await.status, 200);
        let posed = format!("9.9.9.9, {address}");
        with(&behind.client, "/few", "x-forwarded-for", &posed).await.problem(429, "rate-limited");
    }
    let open = start(json!({ "routes": [route("/few", limit)] })).await;
    assert_eq!(with(&open.client, "/few", "x-forwarded-for", "1.2.3.4").await.status, 200);
    with(&open.client, "/few", "x-forwarded-for", "1.2.3.5").await.problem(429, "rate-limited");
}

#[tokio::test]
async fn a_general_limit_is_for_every_route_and_a_routes_own_replaces_it() {
    let system = start(json!({
        "policies": { "rate_limit": [{ "name": "all", "requests": 2, "per": "1h", "scope": "edge" }] },
        "routes": [route("/mine", json!({})), route("/free", json!({ "rate_limit": [] }))],
    }))
    .await;
    assert_eq!(system.client.get("/things/1").await.status, 200, "a contract's route has it, too");
    assert_eq!(system.client.get("/mine").await.status, 200);
    system.client.get("/mine").await.problem(429, "rate-limited");
    system.client.post("/events/orders/seen", &json!({})).await.problem(429, "rate-limited");
    for path in ["/free", "/healthz/live", "/healthz/ready"] {
        assert_eq!(system.client.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn what_was_counted_outlives_a_reload() {
    let limit = json!({ "rate_limit": [{ "name": "one", "requests": 1, "per": "1h" }] });
    let config =
        |path: &str| read(json!({ "routes": [route("/few", limit.clone()), route(path, json!({}))] }));
    let system = System::start_with(config("/a")).await;
    assert_eq!(system.client.get("/few").await.status, 200);
    system.edge.reloader().reload(config("/b")).await.unwrap();
    assert_eq!(system.client.get("/b").await.status, 200);
    system.client.get("/few").await.problem(429, "rate-limited");
}

/// Three edges that share one limit for each key.
async fn replicas(system: &System, config: &edge::Config) -> Vec<edge::Running> {
    let mut edges = Vec::new();
    for name in ["edge-b", "edge-c"] {
        let bus = connect(&system.harness, name).await;
        edges.push(edge::start(local(config.clone()), bus).await.unwrap());
    }
    edges
}

fn shared(requests: u32) -> edge::Config {
    let limit = json!({ "name": "each", "requests": requests, "per": "1h", "key": [{ "header": "x-key" }], "shared": true });
    read(json!({ "exchange_ms": 20, "routes": [route("/few", json!({ "rate_limit": [limit] }))] }))
}

#[tokio::test]
async fn what_passed_one_replica_counts_on_all() {
    let config = shared(5);
    let system = System::start_with(config.clone()).await;
    let others = replicas(&system, &config).await;
    let clients: Vec<Client> = others.iter().map(|edge| Client::new(edge.local_addr())).collect();
    for key in ["a", "marker"] {
        for _ in 0..5 {
            assert_eq!(with(&system.client, "/few", "x-key", key).await.status, 200);
        }
    }
    for client in &clients {
        // What passed first was told first: once the later key is known, so is the earlier one.
        eventually(SOON, || async { with(client, "/few", "x-key", "marker").await.status == 429 }).await;
        with(client, "/few", "x-key", "a").await.problem(429, "rate-limited");
        assert_eq!(with(client, "/few", "x-key", "b").await.status, 200, "another key has its own limit");
    }
}

#[tokio::test]
async fn three_replicas_together_let_no_more_pass_than_is_stated() {
    let config = shared(20);
    let system = System::start_with(config.clone()).await;
    let others = replicas(&system, &config).await;
    let addresses = [&system.edge, &others[0], &others[1]].map(edge::Running::local_addr);
    let passed = futures::future::join_all(addresses.map(hammer)).await;
    let total: usize = passed.iter().sum();
    // At most what one replica may let pass for each, when none hears of the others in time; never less than the limit.
    assert!((20..=60).contains(&total), "{passed:?}");
    for address in addresses {
        let client = Client::new(address);
        eventually(SOON, || async { with(&client, "/few", "x-key", "a").await.status == 429 }).await;
    }
}

/// Asks until it is refused, and returns how often it was not.
async fn hammer(address: SocketAddr) -> usize {
    let client = Client::new(address);
    let mut passed = 0;
    while with(&client, "/few", "x-key", "a").await.status == 200 {
        passed += 1;
    }
    passed
}

#[tokio::test]
async fn a_replica_that_is_cut_off_holds_the_limit_alone() {
    let mut system = System::start_with(shared(3)).await;
    assert_eq!(with(&system.client, "/few", "x-key", "a").await.status, 200);
    system.harness.kill().await;
    eventually(SOON, || async { system.client.get("/healthz/ready").await.status == 503 }).await;
    for _ in 0..2 {
        assert_eq!(with(&system.client, "/few", "x-key", "a").await.status, 503);
    }
    with(&system.client, "/few", "x-key", "a").await.problem(429, "rate-limited");
}
