//! What policies, streams, webhooks and reloads count, as whoever reads metrics sees it.

use serde_json::{Value, json};
use sinew_edge as edge;

use super::{
    System,
    client::{Client, raw},
    observing::{holds, scrape, watched},
};
use crate::harness::{SOON, eventually};

async fn start(routes: Value) -> System {
    let config = edge::Config::read(&json!({ "routes": routes })).unwrap();
    System::start_with(edge::Config { routes: config.routes, ..watched() }).await
}

fn route(method: &str, path: &str, to: &str, policies: Value) -> Value {
    json!({ "name": "own", "match": { "method": method, "path": path }, "to": { "operation": to }, "policies": policies })
}

/// Finds the sample of a metric whose labels end so; the beginning of a label may name settings.
#[track_caller]
fn sample(text: &str, name: &str, labels: &str) -> String {
    let fits = |line: &&str| line.starts_with(&format!("{name}{{")) && line.contains(labels);
    let line = text.lines().find(fits).unwrap_or_else(|| panic!("no {name} with {labels} in\n{text}"));
    line.rsplit(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn quotas_count_what_they_let_pass_and_what_they_refuse() {
    let quota = json!({ "quota": [{ "name": "plan", "requests": 2, "per": "month" }] });
    let system = start(json!([route("GET", "/own/{id}", "shop.read", quota)])).await;
    for expected in [200, 200, 429] {
        assert_eq!(system.client.get("/own/1").await.status, expected);
    }
    let text = scrape(&system).await;
    assert_eq!(sample(&text, "sinew_edge_quota_total", "outcome=\"passed\""), "2");
    assert_eq!(sample(&text, "sinew_edge_quota_total", "outcome=\"refused\""), "1");
}

#[tokio::test]
async fn who_is_under_way_waits_or_is_refused_is_counted_by_limit() {
    let few = json!({ "concurrency": [{ "name": "few", "requests": 1, "waiting": 1, "wait_ms": 60_000 }] });
    let system = start(json!([route("POST", "/own", "shop.wait", few)])).await;
    let ask = || {
        let client = system.client.clone();
        tokio::spawn(async move { client.post("/own", &json!({})).await.status })
    };
    let first = ask();
    system.shop.gate.entered.acquire().await.unwrap().forget();
    let second = ask();
    let waiting = async || sample(&scrape(&system).await, "sinew_edge_concurrency_waiting", "few") == "1";
    eventually(SOON, waiting).await;
    system.client.post("/own", &json!({})).await.problem(429, "too-many-at-once");
    let text = scrape(&system).await;
    assert_eq!(sample(&text, "sinew_edge_concurrency_under_way", "few"), "1");
    system.shop.gate.open.add_permits(2);
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (200, 200));
    let text = scrape(&system).await;
    for outcome in ["passed", "waited", "refused"] {
        let labels = format!("outcome=\"{outcome}\"");
        assert_eq!(sample(&text, "sinew_edge_concurrency_total", &labels), "1", "{outcome}");
    }
}

#[tokio::test]
async fn a_cache_says_how_often_it_helped() {
    let cache = json!({ "cache": { "fresh_ms": 600_000 } });
    let system = start(json!([route("GET", "/own/{id}", "shop.read", cache)])).await;
    for fields in [&[][..], &[], &[], &[("cache-control", "no-cache")]] {
        assert_eq!(system.client.send("GET", "/own/1", fields, "").await.status, 200);
    }
    let text = scrape(&system).await;
    for (outcome, count) in [("miss", 1), ("hit", 2), ("bypass", 1), ("stale", 0), ("expired", 0)] {
        holds(&text, &format!("sinew_edge_cache_total{{name=\"own\",outcome=\"{outcome}\"}} {count}"));
    }
}

#[tokio::test]
async fn who_got_the_answer_of_another_is_counted_apart() {
    let system = start(json!([route("GET", "/own", "shop.wait", json!({ "coalesce": {} }))])).await;
    let client = Client::http2(system.address());
    let ask = || {
        let client = client.clone();
        tokio::spawn(async move { client.get("/own").await.status })
    };
    let first = ask();
    system.shop.gate.entered.acquire().await.unwrap().forget();
    let second = ask();
    // One connection, taken in order by the one thread of this test: who came before this one waits already.
    tokio::task::yield_now().await;
    assert_eq!(client.get("/healthz/live").await.status, 200);
    system.shop.gate.open.add_permits(1);
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (200, 200));
    let text = scrape(&system).await;
    holds(&text, "sinew_edge_coalesced_total{name=\"own\",outcome=\"asked\"} 1");
    holds(&text, "sinew_edge_coalesced_total{name=\"own\",outcome=\"shared\"} 1");
}

#[tokio::test]
async fn attempts_beyond_the_first_and_replies_made_smaller_are_counted() {
    let retry =
        json!({ "retry": { "attempts": 3, "pause_ms": 1, "longest_pause_ms": 1, "budget_per_second": 10 } });
    let small = json!({ "compression": { "min_bytes": 1 } });
    let routes =
        [route("POST", "/own/{how}", "shop.fail", retry), route("GET", "/own/{id}", "shop.read", small)];
    let system = start(json!(routes)).await;
    let asked = system.client.send("POST", "/own/busy", &[("idempotency-key", "k")], "").await;
    asked.problem(503, "busy");
    let tags = "tags=".to_owned() + &["a"; 500].join("&tags=");
    let reply =
        system.client.send("GET", &format!("/own/1?{tags}"), &[("accept-encoding", "gzip")], "").await;
    assert_eq!((reply.status, reply.header("content-encoding")), (200, Some("gzip")));
    let text = scrape(&system).await;
    holds(&text, "sinew_edge_retries_total{name=\"own\"} 2");
    holds(&text, "sinew_edge_compressed_total{name=\"own\",coding=\"gzip\"} 1");
    let saved: u64 = sample(&text, "sinew_edge_compression_saved_bytes_total", "own").parse().unwrap();
    assert!(saved > 500, "{saved}");
}

#[tokio::test]
async fn a_connection_that_is_closed_on_its_client_is_counted_with_the_reason() {
    let system = System::start_with(watched()).await;
    let head = "POST /things HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    raw(system.address(), format!("{head}zz\r\n")).await;
    let counted = async || scrape(&system).await.contains("connections_cut_total{reason=\"framing\"} 1");
    eventually(SOON, counted).await;
    holds(&scrape(&system).await, "sinew_edge_connections_cut_total{reason=\"flood\"} 0");
}

#[tokio::test]
async fn the_configuration_in_force_and_those_that_were_refused_are_told() {
    let system = System::start_with(watched()).await;
    let version = |text: &str| {
        text.lines().find(|line| line.starts_with("sinew_edge_config_info{")).unwrap().to_owned()
    };
    let first = scrape(&system).await;
    holds(&first, "sinew_edge_config_last_reload_successful 1");
    let other = edge::Config { open_events: false, ..watched() };
    system.edge.reloader().reload(other.clone()).await.unwrap();
    let second = scrape(&system).await;
    assert_ne!(version(&first), version(&second));
    holds(&second, "sinew_edge_config_reloads_total{outcome=\"taken\"} 1");
    let wrong = edge::Config { max_headers: 0, ..other.clone() };
    system.edge.reloader().reload(wrong).await.unwrap_err();
    let third = scrape(&system).await;
    holds(&third, "sinew_edge_config_reloads_total{outcome=\"refused\"} 1");
    holds(&third, "sinew_edge_config_last_reload_successful 0");
    assert_eq!(version(&third), version(&second), "what was refused is not in force");
    system.edge.reloader().unreadable();
    holds(&scrape(&system).await, "sinew_edge_config_reloads_total{outcome=\"refused\"} 2");
    system.edge.reloader().reload(other).await.unwrap();
    holds(&scrape(&system).await, "sinew_edge_config_last_reload_successful 1");
}
