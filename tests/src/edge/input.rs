//! Bad input: whatever a client sends, it gets a problem document and the edge goes on.

use std::time::Duration;

use serde_json::json;
use sinew_edge as edge;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    System,
    client::{problem_in, raw, rest},
};

const CLOSE: &str = "connection: close\r\n";

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused() {
    let system = System::start().await;
    let json = [("content-type", "application/json")];
    for body in ["{", "{} {}", "\u{0}", "nonsense"] {
        system.client.send("POST", "/things", &json, body).await.problem(400, "malformed-request");
    }
    let packed = [("content-type", "application/msgpack")];
    let deep = vec![0x91; 100_000];
    for body in [&b"\xc1"[..], b"\x81", &deep] {
        let reply = system.client.send("POST", "/things", &packed, body.to_vec()).await;
        reply.problem(400, "malformed-request");
    }
}

#[tokio::test]
async fn a_body_that_does_not_fit_the_operation_is_told_every_violation() {
    let system = System::start().await;
    for (body, pointers) in [
        (json!({ "sku": "tea" }), &["/quantity"][..]),
        (json!([1]), &[""]),
        (json!({ "sku": 1, "quantity": -1 }), &["/quantity", "/sku"]),
        (json!({}), &["/quantity", "/sku"]),
    ] {
        let problem = system.client.post("/things", &body).await.problem(422, "invalid-request");
        let errors = problem["errors"].as_array().unwrap();
        let mut told: Vec<&str> = errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
        told.sort_unstable();
        assert_eq!(told, pointers, "{problem}");
        assert!(errors.iter().all(|error| error["in"] == "body" && error["detail"].is_string()), "{problem}");
    }
}

#[tokio::test]
async fn fields_that_do_not_fit_are_told_by_name() {
    let system = System::start().await;
    for (query, name) in
        [("limit=x", "limit"), ("limit=1&limit=2", "limit"), ("colour=red", "colour"), ("id=2", "id")]
    {
        let problem = system.client.get(&format!("/things/1?{query}")).await.problem(422, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], format!("/{name}"), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(name), "{problem}");
    }
    let with_body = [("content-type", "application/json")];
    system.client.send("GET", "/things/1", &with_body, "{}").await.problem(400, "malformed-request");
}

#[tokio::test]
async fn media_types_are_negotiated_before_anything_is_done() {
    let system = System::start().await;
    for bad in [("content-type", "text/plain"), ("content-encoding", "deflate")] {
        system.client.send("POST", "/things", &[bad], "{}").await.problem(415, "unsupported-media-type");
    }
    let reply = system.client.send("POST", "/wait", &[("accept", "text/html")], "").await;
    reply.problem(406, "not-acceptable");
    assert_eq!(system.shop.gate.entered.available_permits(), 0, "the service was not asked");
}

#[tokio::test]
async fn paths_and_headers_that_mean_nothing_are_refused() {
    let system = System::start().await;
    system.client.get("/nothing").await.problem(404, "not-found");
    system.client.get("/things/%ff").await.problem(400, "malformed-request");
    for bad in [("request-timeout", "soon"), ("idempotency-key", "")] {
        system.client.send("GET", "/things/1", &[bad], "").await.problem(400, "malformed-request");
    }
    system
        .client
        .send("POST", "/things", &[("expect", "magic")], "{}")
        .await
        .problem(417, "expectation-failed");
}

#[tokio::test]
async fn the_host_is_named_once_and_without_contradiction() {
    let system = System::start().await;
    for head in [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n",
        "GET / HTTP/1.1\r\nhost: a b\r\n",
        "GET http://a/ HTTP/1.1\r\nhost: b\r\n",
    ] {
        let answer = raw(system.address(), format!("{head}{CLOSE}\r\n")).await;
        assert_eq!(problem_in(&answer), (400, "malformed-request".to_owned()), "{head}");
    }
    let answer = raw(system.address(), format!("GET http://a/ HTTP/1.1\r\nhost: a\r\n{CLOSE}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_with_and_without_a_length() {
    let system = System::start_with(edge::Config { max_body_bytes: 1000, ..edge::Config::default() }).await;
    let large = "x".repeat(1001);
    system.client.send("POST", "/things", &[], large.clone()).await.problem(413, "too-large");
    let chunked = format!(
        "POST /things HTTP/1.1\r\nhost: a\r\n{CLOSE}transfer-encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    assert_eq!(problem_in(&raw(system.address(), chunked).await), (413, "too-large".to_owned()));
    let asks_first = format!(
        "POST /things HTTP/1.1\r\nhost: a\r\n{CLOSE}expect: 100-continue\r\ncontent-length: 1001\r\n\r\n"
    );
    assert_eq!(problem_in(&raw(system.address(), asks_first).await), (413, "too-large".to_owned()));
}

#[tokio::test]
async fn a_body_that_breaks_off_or_does_not_come_is_refused() {
    let system =
        System::start_with(edge::Config { request_timeout_ms: 300, ..edge::Config::default() }).await;
    let chunked =
        format!("POST /things HTTP/1.1\r\nhost: a\r\n{CLOSE}transfer-encoding: chunked\r\n\r\nzz\r\n");
    assert_eq!(problem_in(&raw(system.address(), chunked).await), (400, "malformed-request".to_owned()));
    let slow = "POST /things HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{";
    let answer = raw(system.address(), slow).await;
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(problem_in(&answer), (408, "request-timeout".to_owned()));
}

#[tokio::test]
async fn two_lengths_end_the_connection_so_that_nothing_can_hide_behind_the_body() {
    let system = System::start().await;
    let smuggled = "GET /healthz/live HTTP/1.1\r\nhost: a\r\n\r\n";
    for lengths in
        ["content-length: 6\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 6"]
    {
        let request = format!("POST /things HTTP/1.1\r\nhost: a\r\n{lengths}\r\n\r\n0\r\n\r\n{smuggled}");
        let answer = raw(system.address(), request).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
}

#[tokio::test]
async fn heads_that_are_no_http_end_the_connection() {
    let system = System::start_with(edge::Config { max_headers: 10, ..edge::Config::default() }).await;
    let many: String = (0..11).map(|n| format!("x-{n}: 1\r\n")).collect();
    for (head, status) in [
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), 505),
        ("\u{1}\u{2}\u{3}\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(64 * 1024)), 431),
    ] {
        let answer = raw(system.address(), &head).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{:?}: {answer}",
            &head[..20.min(head.len())]
        );
    }
    assert_eq!(system.client.get("/healthz/live").await.status, 200);
}

#[tokio::test]
async fn half_a_head_is_told_that_it_is_late_and_nothing_at_all_ends_the_connection() {
    let system = System::start_with(edge::Config { header_timeout_ms: 200, ..edge::Config::default() }).await;
    assert_eq!(raw(system.address(), "").await, "");
    // The beginning of HTTP/1, and what may still become HTTP/2.
    for beginning in ["G", "GET / HTTP/1.1\r\nho", "PRI * HT"] {
        let answer = raw(system.address(), beginning).await;
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert_eq!(problem_in(&answer), (408, "request-timeout".to_owned()), "{beginning:?}");
    }
    // In its turn behind the request before it.
    let behind = "GET /healthz/live HTTP/1.1\r\nhost: a\r\n\r\nGET / HT";
    let answers = raw(system.address(), behind).await;
    let (first, second) = answers.split_once("HTTP/1.1 408 ").expect("two answers");
    assert!(first.starts_with("HTTP/1.1 200 "), "{answers}");
    assert_eq!(problem_in(&format!("HTTP/1.1 408 {second}")), (408, "request-timeout".to_owned()));
}

#[tokio::test]
async fn an_idle_connection_may_be_used_again_within_the_limit() {
    let system =
        System::start_with(edge::Config { header_timeout_ms: 5_000, ..edge::Config::default() }).await;
    let mut stream = TcpStream::connect(system.address()).await.unwrap();
    let request = "GET /healthz/live HTTP/1.1\r\nhost: a\r\n\r\n";
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 512];
        let length = stream.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200 "));
    }
    stream.shutdown().await.unwrap();
    assert_eq!(tokio::time::timeout(Duration::from_secs(4), rest(&mut stream)).await.unwrap(), "");
}
