//! Metrics and the access log: what others see of the edge.

use futures::future::join_all;
use serde_json::{Value, json};
use sinew_edge::{self as edge, AccessLog, LogFormat, Metrics};

use super::{System, client::Client, client::raw};
use crate::{
    cli::program,
    harness::{Harness, SOON, eventually},
};

pub(super) fn watched() -> edge::Config {
    edge::Config { metrics: Some(Metrics { listen: ([127, 0, 0, 1], 0).into() }), ..edge::Config::default() }
}

pub(super) async fn scrape(system: &System) -> String {
    let reply = Client::new(system.edge.metrics_addr().unwrap()).get("/metrics").await;
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    String::from_utf8(reply.body.to_vec()).unwrap()
}

#[track_caller]
pub(super) fn holds(text: &str, line: &str) {
    assert!(text.lines().any(|one| one == line), "no line {line} in\n{text}");
}

/// Reads a log that was written to its end.
fn lines(file: &std::path::Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn requests_are_counted_by_route_and_never_by_path() {
    let system = System::start_with(watched()).await;
    for id in 0..3 {
        assert_eq!(system.client.get(&format!("/things/{id}?tags=secret")).await.status, 200);
    }
    system.client.get("/nothing").await.problem(404, "not-found");
    let answer = raw(system.address(), "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let text = scrape(&system).await;
    let route = "method=\"GET\",route=\"/things/{id}\",name=\"shop.read\"";
    holds(&text, &format!("sinew_edge_requests_total{{{route},status=\"200\"}} 3"));
    holds(&text, &format!("sinew_edge_request_duration_seconds_bucket{{{route},le=\"+Inf\"}} 3"));
    holds(&text, &format!("sinew_edge_request_duration_seconds_count{{{route}}} 3"));
    holds(&text, &format!("sinew_edge_requests_in_flight{{{route}}} 0"));
    holds(&text, "sinew_edge_requests_total{method=\"-\",route=\"-\",name=\"-\",status=\"404\"} 1");
    holds(&text, "sinew_edge_requests_total{method=\"-\",route=\"-\",name=\"-\",status=\"400\"} 1");
    holds(&text, "sinew_edge_refusals_total{code=\"not-found\"} 1");
    holds(&text, "sinew_edge_bus_connected 1");
    assert!(!text.contains("secret") && !text.contains("/things/1"), "{text}");
    system.client.get("/metrics").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_request_without_an_answer_is_in_flight_until_its_client_leaves() {
    let system = System::start_with(watched()).await;
    let client = system.client.clone();
    let waiting = tokio::spawn(async move { client.post("/wait", &json!({})).await });
    system.shop.gate.entered.acquire().await.unwrap().forget();
    let gauge = "sinew_edge_requests_in_flight{method=\"POST\",route=\"/wait\",name=\"shop.wait\"}";
    holds(&scrape(&system).await, &format!("{gauge} 1"));
    waiting.abort();
    let gone = async || scrape(&system).await.contains(&format!("{gauge} 0"));
    eventually(SOON, gone).await;
}

#[tokio::test]
async fn what_a_rate_limit_refused_is_counted_by_limit_and_by_code() {
    let limit = json!({ "rate_limit": [{ "name": "each", "requests": 2, "per": "1h" }] });
    let policies = serde_json::from_value(limit).unwrap();
    let system = System::start_with(edge::Config { policies, ..watched() }).await;
    for expected in [200, 200, 429] {
        assert_eq!(system.client.get("/things/1").await.status, expected);
    }
    let text = scrape(&system).await;
    holds(&text, "sinew_edge_refusals_total{code=\"rate-limited\"} 1");
    let of = |outcome: &str, count: u32| {
        let end = format!("outcome=\"{outcome}\"}} {count}");
        let limit = "sinew_edge_rate_limit_total{limit=\"shop.read · each";
        assert!(text.lines().any(|line| line.starts_with(limit) && line.ends_with(&end)), "{text}");
    };
    of("passed", 2);
    of("refused", 1);
}

#[tokio::test]
async fn counts_outlive_a_reload() {
    let system = System::start_with(watched()).await;
    assert_eq!(system.client.get("/things/1").await.status, 200);
    system.edge.reloader().reload(watched()).await.unwrap();
    assert_eq!(system.client.get("/things/2").await.status, 200);
    let name = "name=\"shop.read\",status=\"200\"} 2";
    assert!(scrape(&system).await.lines().any(|line| line.ends_with(name)));
}

#[tokio::test]
async fn the_access_log_has_a_line_for_each_request_and_none_of_its_secrets() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("access.log");
    let log = AccessLog { to: file.to_str().unwrap().to_owned(), ..AccessLog::default() };
    let system = System::start_with(edge::Config { access_log: Some(log), ..edge::Config::default() }).await;
    let secrets =
        [("authorization", "Bearer hunter2"), ("cookie", "id=hunter2"), ("user-agent", "a \"b\" \\c")];
    let reply = system.client.send("GET", "/things/7?tags=hunter2", &secrets, "").await;
    assert_eq!(reply.status, 200);
    system.client.get("/nothing").await.problem(404, "not-found");
    system.edge.drain().await;
    let lines = lines(&file);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(!lines.concat().contains("hunter2"), "{lines:?}");
    let [first, second] = [0, 1].map(|at| serde_json::from_str::<Value>(&lines[at]).unwrap());
    let told = ["method", "path", "route", "client", "user_agent"].map(|name| first[name].as_str().unwrap());
    assert_eq!(told, ["GET", "/things/7", "/things/{id}", "127.0.0.1", "a \"b\" \\c"]);
    assert_eq!((&first["status"], &first["bytes"]), (&json!(200), &json!(reply.body.len())));
    assert_eq!(first["trace"].as_str(), reply.header("x-trace-id"));
    assert!(first["duration_ms"].as_f64().unwrap() > 0.0 && first.get("code").is_none());
    assert_eq!((&second["status"], &second["code"]), (&json!(404), &json!("not-found")));
}

#[tokio::test]
async fn only_errors_are_logged_where_only_they_are_asked_for() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("access.log");
    let log = AccessLog {
        to: file.to_str().unwrap().to_owned(),
        format: LogFormat::Combined,
        only: edge::LogOnly::Errors,
        ..AccessLog::default()
    };
    let system = System::start_with(edge::Config { access_log: Some(log), ..edge::Config::default() }).await;
    assert_eq!(system.client.get("/things/7").await.status, 200);
    system.client.get("/nothing").await.problem(404, "not-found");
    system.edge.drain().await;
    let lines = lines(&file);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("127.0.0.1 - - [") && lines[0].contains("\"GET /nothing HTTP/1.1\" 404 "));
}

#[tokio::test]
async fn the_time_of_operations_is_told_apart_and_what_was_no_request_has_a_line_in_every_format() {
    for format in [LogFormat::Json, LogFormat::Logfmt, LogFormat::Combined] {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("access.log");
        let log = AccessLog { to: file.to_str().unwrap().to_owned(), format, ..AccessLog::default() };
        let system =
            System::start_with(edge::Config { access_log: Some(log), ..edge::Config::default() }).await;
        let agent = [("user-agent", "a \"b\"")];
        assert_eq!(system.client.send("GET", "/things/7", &agent, "").await.status, 200);
        assert_eq!(system.client.get("/healthz/live").await.status, 200);
        raw(system.address(), "GET /secret HTTP/1.1\r\nhost : a\r\n\r\n").await;
        system.edge.drain().await;
        let lines = lines(&file);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(!lines[2].contains("secret"), "{lines:?}");
        match format {
            LogFormat::Json => {
                let read = |at: usize| serde_json::from_str::<Value>(&lines[at]).unwrap();
                let (asked, own, refused) = (read(0), read(1), read(2));
                let of = |name: &str| asked[name].as_f64().unwrap();
                assert!(0.0 < of("upstream_ms") && of("upstream_ms") <= of("duration_ms"), "{asked}");
                assert!(own.get("upstream_ms").is_none() && own["duration_ms"].is_number(), "{own}");
                let told = ["status", "code", "client", "route"].map(|name| refused[name].to_string());
                assert_eq!(told, ["400", "\"malformed-request\"", "\"127.0.0.1\"", "\"-\""]);
                assert!(["method", "path", "duration_ms"].iter().all(|name| refused.get(name).is_none()));
            }
            LogFormat::Logfmt => {
                let fields = [" method=GET path=/things/7 route=/things/{id} status=200 ", " upstream_ms="];
                assert!(fields.iter().all(|field| lines[0].contains(field)), "{lines:?}");
                assert!(
                    lines[0].starts_with("time=20") && lines[0].ends_with("user_agent=\"a \\\"b\\\"\""),
                    "{lines:?}"
                );
                assert!(
                    lines[2].contains(" client=127.0.0.1 route=- status=400 code=malformed-request "),
                    "{lines:?}"
                );
            }
            LogFormat::Combined => {
                assert!(lines[0].contains("] \"GET /things/7 HTTP/1.1\" 200 "), "{lines:?}");
                assert!(
                    lines[2].starts_with("127.0.0.1 - - [") && lines[2].contains("] \"-\" 400 "),
                    "{lines:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn p5_a_log_that_is_moved_away_and_an_edge_that_ends_lose_no_line() {
    let harness = Harness::start().await;
    let directory = tempfile::TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (config, log, old) = (path("edge.yaml"), path("access.log"), path("access.log.1"));
    std::fs::write(&config, format!("access_log: {{ to: {log:?} }}\n")).unwrap();
    let arguments = ["--json", "--nats-url", harness.url(), "edge", "--listen", "127.0.0.1:0", "--config"];
    let mut edge = program::start(&[&arguments[..], &[config.to_str().unwrap()]].concat());
    let client = Client::new(program::listens(&mut edge).await);
    let ask = async |count: usize| {
        let all = (0..count).map(|_| client.get("/healthz/live"));
        assert!(join_all(all).await.iter().all(|reply| reply.status == 200));
    };
    ask(300).await;
    std::fs::rename(&log, &old).unwrap();
    program::signal(&edge, "-HUP");
    eventually(SOON, || async { log.exists() }).await;
    ask(300).await;
    program::terminate(&edge);
    assert_eq!(program::ended(&mut edge).await, Some(0));
    let (before, after) = (lines(&old), lines(&log));
    assert_eq!(before.len() + after.len(), 600);
    assert!(after.len() >= 300, "what comes later stands in the new file");
    assert!(before.iter().chain(&after).all(|line| serde_json::from_str::<Value>(line).is_ok()));
}

#[test]
fn mistakes_of_log_and_metrics_are_all_told() {
    let value = json!({ "listen": "127.0.0.1:8080", "metrics": { "listen": "127.0.0.1:8080" }, "access_log": {
        "format": "combined", "to": "", "sample_percent": 101, "fields": ["status"],
    } });
    let mistakes = edge::Config::read(&value).unwrap_err();
    let pointers: Vec<&str> = mistakes.iter().map(|one| one.pointer.as_str()).collect();
    let expected = ["/access_log/to", "/access_log/sample_percent", "/access_log/fields", "/metrics/listen"];
    assert_eq!(pointers, expected);
}
