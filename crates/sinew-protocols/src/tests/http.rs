//! `call: http`.

use std::io::Write as _;
use std::time::Duration;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sinew_workflow::{Outcome, Protocol};
use tokio::net::TcpListener;

use super::server::{Answer, Server};
use super::{done, not_sent, outcome, outcome_within, protocols, refused, unknown};
use crate::{Protocols, Settings};

async fn http(arguments: Value) -> Outcome {
    outcome(&protocols(), Protocol::Http, &arguments).await
}

/// Returns an address nobody listens on.
async fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_request_carries_what_the_task_says_and_what_makes_it_repeatable() {
    let server = Server::start(|_| Answer::json(201, &json!({ "id": 7 }))).await;
    let output = http(json!({
        "method": "post",
        "endpoint": { "uri": server.url("/orders?fast=yes") },
        "query": { "tag": ["a", "b c"], "none": null, "n": 3 },
        "headers": { "X-Shop": "north" },
        "body": { "sku": "shoe" },
    }));
    assert_eq!(done(output.await), json!({ "id": 7 }));
    let seen = server.only();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/orders?fast=yes&tag=a&tag=b+c&n=3"));
    assert_eq!(seen.json(), json!({ "sku": "shoe" }));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("x-shop"), Some("north"));
    assert_eq!(seen.header("idempotency-key"), Some("order-7/charge"));
    assert!(seen.header("traceparent").unwrap().starts_with("00-0af7651916cd43dd"));
}

#[tokio::test]
async fn the_authors_own_key_stays_and_reading_needs_none() {
    let server = Server::start(|_| Answer::json(200, &json!(null))).await;
    let own = json!({ "Idempotency-Key": "mine" });
    done(http(json!({ "method": "PUT", "endpoint": server.url("/"), "headers": own })).await);
    done(http(json!({ "method": "get", "endpoint": server.url("/") })).await);
    let keys: Vec<_> =
        server.seen().iter().map(|seen| seen.header("idempotency-key").map(str::to_owned)).collect();
    assert_eq!(keys, [Some("mine".to_owned()), None]);
}

#[tokio::test]
async fn the_output_is_the_content_its_bytes_or_the_whole_response() {
    let server = Server::start(|_| {
        Answer::with(200, &[("content-type", "application/json"), ("X-A", "1"), ("x-a", "2")], "[1]")
    })
    .await;
    let get = |output| json!({ "method": "get", "endpoint": server.url("/x"), "query": { "a": 1 }, "headers": { "X-B": "b" }, "output": output });
    assert_eq!(done(http(get(json!("content"))).await), json!([1]));
    assert_eq!(done(http(get(json!("raw"))).await), json!("WzFd"));
    let response = done(http(get(json!("response"))).await);
    assert_eq!(response["statusCode"], 200);
    assert_eq!(response["content"], json!([1]));
    assert_eq!(response["headers"]["x-a"], "1, 2");
    let request = json!({ "method": "GET", "uri": server.url("/x?a=1"), "headers": { "x-b": "b" } });
    assert_eq!(response["request"], request);
    assert_eq!(refused(http(get(json!("everything"))).await).kind(), "configuration");
}

#[tokio::test]
async fn content_is_read_by_its_media_type() {
    for (kind, body, content) in [
        ("application/problem+json; charset=utf-8", "{\"a\":1}", json!({ "a": 1 })),
        ("text/plain", "{\"a\":1}", json!("{\"a\":1}")),
        ("application/xml", "<a/>", json!("<a/>")),
        ("image/png", "png", json!("cG5n")),
        ("application/json", "", json!(null)),
    ] {
        let server = Server::start(move |_| Answer::typed(200, kind, body)).await;
        let output = http(json!({ "method": "get", "endpoint": server.url("/") })).await;
        assert_eq!(done(output), content, "{kind}");
    }
    let server = Server::start(|_| Answer::with(200, &[], "plain")).await;
    assert_eq!(done(http(json!({ "method": "get", "endpoint": server.url("/") })).await), json!("plain"));
}

#[tokio::test]
async fn a_reply_that_is_not_what_it_claims_leaves_a_change_in_doubt() {
    let server = Server::start(|_| Answer::typed(200, "application/json", "{")).await;
    let fault = unknown(http(json!({ "method": "post", "endpoint": server.url("/") })).await);
    assert_eq!(fault.kind(), "communication");
    not_sent(http(json!({ "method": "get", "endpoint": server.url("/") })).await);
}

#[tokio::test]
async fn gzip_is_understood_and_a_bomb_is_not_unpacked() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![b'7'; 100_000]).unwrap();
    let packed = encoder.finish().unwrap();
    let headers = [("content-encoding", "gzip"), ("content-type", "text/plain")];
    let server = Server::start(move |_| Answer::with(200, &headers, packed.clone())).await;
    let arguments = json!({ "method": "get", "endpoint": server.url("/") });
    assert_eq!(done(http(arguments.clone()).await).as_str().map(str::len), Some(100_000));
    assert_eq!(server.only().header("accept-encoding"), Some("gzip"));

    let small = Protocols::new(Settings { max_body: 50_000, ..Settings::default() }).unwrap();
    let fault = not_sent(outcome(&small, Protocol::Http, &arguments).await);
    assert!(fault.detail.unwrap().contains("50000"));
}

#[tokio::test]
async fn a_reply_that_is_too_large_is_not_read_to_its_end() {
    let server = Server::start(|_| Answer::typed(200, "text/plain", vec![b'7'; 1_001])).await;
    let small = Protocols::new(Settings { max_body: 1_000, ..Settings::default() }).unwrap();
    let arguments = json!({ "method": "post", "endpoint": server.url("/") });
    assert!(unknown(outcome(&small, Protocol::Http, &arguments).await).detail.unwrap().contains("max_body"));
}

#[tokio::test]
async fn who_cannot_be_reached_was_sent_nothing() {
    let fault = not_sent(http(json!({ "method": "post", "endpoint": nowhere().await })).await);
    assert_eq!((fault.kind(), fault.status), ("communication", 500));
    let fault =
        not_sent(http(json!({ "method": "post", "endpoint": "http://does-not-exist.invalid/" })).await);
    assert!(fault.detail.unwrap().contains("does-not-exist.invalid"));
}

#[tokio::test]
async fn a_lost_reply_leaves_a_change_in_doubt_and_a_question_unasked() {
    let server = Server::start(|_| Answer::HangUp).await;
    let fault = unknown(http(json!({ "method": "post", "endpoint": server.url("/"), "body": 1 })).await);
    assert_eq!(fault.kind(), "communication");
    not_sent(http(json!({ "method": "get", "endpoint": server.url("/") })).await);
}

#[tokio::test]
async fn a_late_reply_leaves_a_change_in_doubt() {
    let server = Server::start(|_| Answer::Silence).await;
    let limit = Duration::from_millis(200);
    let call = |method| json!({ "method": method, "endpoint": server.url("/") });
    let fault = unknown(outcome_within(&protocols(), Protocol::Http, &call("post"), limit).await);
    assert_eq!((fault.kind(), fault.status), ("timeout", 408));
    not_sent(outcome_within(&protocols(), Protocol::Http, &call("get"), limit).await);
}

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_was_sent_nothing() {
    // Accepts nobody: whoever connects waits for the handshake of TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}/", listener.local_addr().unwrap());
    let arguments = json!({ "method": "post", "endpoint": endpoint });
    let limit = Duration::from_millis(200);
    let fault = not_sent(outcome_within(&protocols(), Protocol::Http, &arguments, limit).await);
    assert_eq!(fault.kind(), "timeout");
}

#[tokio::test]
async fn what_the_other_side_says_decides() {
    let problem = json!({ "title": "Sold out", "detail": "no shoes", "code": "out-of-stock" });
    let server = Server::start(move |seen| match seen.path() {
        "/refused" => Answer::json(409, &problem),
        "/broken" => Answer::json(500, &json!({})),
        "/who" => Answer::with(401, &[], ""),
        _ => Answer::with(302, &[("location", "/there")], ""),
    })
    .await;
    let post = |path: &str| json!({ "method": "post", "endpoint": server.url(path) });
    let fault = refused(http(post("/refused")).await);
    assert_eq!(
        (fault.kind(), fault.status, fault.code.as_deref()),
        ("communication", 409, Some("out-of-stock"))
    );
    assert_eq!(fault.detail.as_deref(), Some("no shoes"));
    assert_eq!(unknown(http(post("/broken")).await).status, 500);
    assert_eq!(refused(http(post("/who")).await).kind(), "authentication");
    unknown(http(post("/moved")).await);
    let taken =
        json!({ "method": "get", "endpoint": server.url("/moved"), "redirect": true, "output": "response" });
    let taken = done(http(taken).await);
    assert_eq!((&taken["statusCode"], &taken["headers"]["location"]), (&json!(302), &json!("/there")));
}

#[tokio::test]
async fn secrets_reach_the_server_and_nothing_else() {
    let server = Server::start(|seen| match seen.path() {
        "/no" => {
            Answer::json(400, &json!({ "detail": format!("bad key {}", seen.header("x-key").unwrap()) }))
        }
        _ => Answer::json(200, &json!({})),
    })
    .await;
    let secrets = [("api".to_owned(), json!({ "key": "s3cr3t" }))].into();
    let protocols = Protocols::new(Settings { secrets, ..Settings::default() }).unwrap();
    let secret = "\u{E000}secret:api.key\u{E001}";
    let call = |path: &str| {
        json!({
            "method": "post", "endpoint": format!("{}/{secret}?k={secret}", server.url(path)), "output": "response",
            "headers": { "X-Key": secret }, "body": { "key": secret },
        })
    };
    let output = done(outcome(&protocols, Protocol::Http, &call("/yes")).await);
    assert!(!output.to_string().contains("s3cr3t"), "{output}");
    assert_eq!(output["request"]["headers"]["x-key"], "***");
    let seen = server.seen().remove(0);
    assert_eq!(seen.target, "/yes/s3cr3t?k=s3cr3t");
    assert_eq!((seen.header("x-key"), seen.json()), (Some("s3cr3t"), json!({ "key": "s3cr3t" })));

    let refusing = json!({ "method": "post", "endpoint": server.url("/no"), "headers": { "X-Key": secret } });
    let fault = refused(outcome(&protocols, Protocol::Http, &refusing).await);
    assert_eq!(fault.detail.as_deref(), Some("bad key ***"));
    assert!(!format!("{protocols:?}").contains("s3cr3t"));

    let missing =
        json!({ "method": "get", "endpoint": server.url("/"), "body": "\u{E000}secret:tokn\u{E001}" });
    assert_eq!(refused(outcome(&protocols, Protocol::Http, &missing).await).kind(), "authorization");
}
