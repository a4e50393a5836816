//! What becomes of replies on their way out: tags and conditions, codings, the life of a route.

use std::io::Read;

use serde_json::json;
use sinew_edge as edge;

use super::{System, client::Client};
use crate::harness::{SOON, eventually};

/// A shop whose things are tagged, compressed and on their way out.
async fn system() -> System {
    let config = json!({
        "policies": { "conditional": {}, "compression": { "min_bytes": 200 } },
        "routes": [
            { "match": { "method": "GET", "path": "/old/{id}" }, "to": { "operation": "shop.read" },
              "policies": { "compression": { "encodings": [] }, "lifecycle": {
                "deprecated": "2026-07-01T00:00:00Z", "sunset": "2027-01-01T00:00:00Z",
                "links": [{ "rel": "successor-version", "href": "/things/{id}" }] } } },
            { "match": { "method": "GET", "path": "/bare/{id}" }, "to": { "operation": "shop.read" },
              "reply": { "body": "/id" }, "policies": { "compression": { "encodings": [] } } },
            { "match": { "method": "GET", "path": "/revised/{id}" }, "to": { "operation": "shop.read" },
              "reply": { "body": "/id", "headers": { "etag": "\"{/id}\"", "last-modified": "Sun, 06 Nov 1994 08:49:37 GMT" } } },
            { "match": { "method": "GET", "path": "/long/{id}" }, "to": { "operation": "shop.read" },
              "reply": { "body": "/tags" } },
        ],
    });
    System::start_with(edge::Config::read(&config).unwrap()).await
}

/// Much of the same, which is worth compressing.
fn long() -> String {
    format!("/long/1?tags={}", "tea+".repeat(500))
}

#[tokio::test]
async fn a_reply_that_a_client_has_is_not_sent_again() {
    let system = system().await;
    for client in [Client::new(system.address()), Client::http2(system.address())] {
        let first = client.get("/bare/7").await;
        let tag = first.header("etag").unwrap();
        assert_eq!((first.status, first.header("vary")), (200, Some("accept")));
        let again = client.send("GET", "/bare/7", &[("if-none-match", tag)], "").await;
        assert_eq!((again.status, again.header("etag"), again.body.len()), (304, Some(tag), 0));
        assert_eq!((again.header("content-type"), again.header("vary")), (None, Some("accept")));
        let head = client.send("HEAD", "/bare/7", &[("if-none-match", tag)], "").await;
        assert_eq!(head.status, 304);
        let other = client.send("GET", "/bare/8", &[("if-none-match", tag)], "").await;
        assert_eq!((other.status, other.json()), (200, json!("8")));
    }
}

#[tokio::test]
async fn a_request_that_wants_another_state_is_refused() {
    let system = system().await;
    let wrong = system.client.send("GET", "/bare/7", &[("if-match", "\"x\"")], "").await;
    wrong.problem(412, "precondition-failed");
    let tag = system.client.get("/bare/7").await.header("etag").unwrap().to_owned();
    assert_eq!(system.client.send("GET", "/bare/7", &[("if-match", &tag)], "").await.status, 200);
}

#[tokio::test]
async fn the_tag_and_date_of_a_service_count() {
    let system = system().await;
    let reply = system.client.get("/revised/r5").await;
    assert_eq!(reply.header("etag"), Some("\"r5\""));
    for (name, value, status) in [
        ("if-none-match", "W/\"r5\"", 304),
        ("if-none-match", "\"r4\"", 200),
        ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT", 304),
        ("if-modified-since", "Sat, 05 Nov 1994 08:49:37 GMT", 200),
        ("if-unmodified-since", "Sat, 05 Nov 1994 08:49:37 GMT", 412),
    ] {
        let reply = system.client.send("GET", "/revised/r5", &[(name, value)], "").await;
        assert_eq!(reply.status, status, "{name}: {value}");
    }
}

#[tokio::test]
async fn conditions_of_changes_are_handed_on_and_the_tag_a_handler_gives_comes_back() {
    let system = system().await;
    let headers = [("if-match", "\"r4+gzip\", \"r5\"")];
    let reply = system.client.send("GET", "/things/tagged", &headers, "").await;
    // The handler tags it so; the strong comparison with what it tags fails.
    reply.problem(412, "precondition-failed");
    let reply = system.client.send("GET", "/things/tagged", &[("if-match", "*")], "").await;
    assert_eq!((reply.status, reply.header("etag")), (200, Some("\"tagged\"")));
    let body = json!({ "sku": "tea", "quantity": 1 }).to_string();
    let placed = system.client.send("POST", "/things", &headers, body).await;
    assert_eq!(placed.json()["seen"]["if-match"], "\"r4\", \"r5\"");
}

#[tokio::test]
async fn a_large_reply_is_compressed_as_the_client_likes_it() {
    let system = system().await;
    for client in [Client::new(system.address()), Client::http2(system.address())] {
        let plain = client.get(&long()).await;
        let tag = plain.header("etag").unwrap().to_owned();
        assert_eq!(
            (plain.header("content-encoding"), plain.header("vary")),
            (None, Some("accept, accept-encoding"))
        );
        for coding in ["gzip", "br", "zstd"] {
            let reply = client.send("GET", &long(), &[("accept-encoding", coding)], "").await;
            assert_eq!((reply.status, reply.header("content-encoding")), (200, Some(coding)));
            assert!(reply.body.len() < plain.body.len() / 4, "{coding}: {}", reply.body.len());
            assert_eq!(unpacked(coding, &reply.body), plain.body, "{coding}");
            let own = reply.header("etag").unwrap().to_owned();
            assert_ne!(own, tag, "another representation has another tag");
            let asked = [("accept-encoding", coding), ("if-none-match", own.as_str())];
            assert_eq!(client.send("GET", &long(), &asked, "").await.status, 304);
            let head = client.send("HEAD", &long(), &[("accept-encoding", coding)], "").await;
            assert_eq!(
                (head.header("content-encoding"), head.header("etag")),
                (Some(coding), Some(own.as_str()))
            );
        }
        let small = client.send("GET", "/revised/1", &[("accept-encoding", "gzip")], "").await;
        assert_eq!((small.header("content-encoding"), small.json()), (None, json!("1")));
    }
}

#[tokio::test]
async fn a_stream_is_not_compressed() {
    let system = system().await;
    let headers = [("accept-encoding", "gzip"), ("accept", "text/event-stream")];
    let reply = system.client.send("GET", "/count/100", &headers, "").await;
    assert_eq!((reply.status, reply.header("content-encoding"), reply.header("etag")), (200, None, None));
    assert!(reply.body.ends_with(b"event: end\ndata: {\"items\":100}\n\n"));
}

#[tokio::test]
async fn bodies_come_compressed_up_to_the_limit_of_what_they_become() {
    let system = System::start_with(edge::Config { max_body_bytes: 5_000, ..edge::Config::default() }).await;
    let thing = json!({ "sku": "tea".repeat(1_000), "quantity": 2 }).to_string();
    for coding in ["gzip", "br", "zstd"] {
        let headers = [("content-encoding", coding)];
        let reply = system.client.send("POST", "/things", &headers, packed(coding, thing.as_bytes())).await;
        assert_eq!((reply.status, &reply.json()["quantity"]), (201, &json!(2)), "{coding}");
        let bomb = packed(coding, &[b' '; 1_000_000]);
        assert!(bomb.len() < 5_000, "small on the wire");
        system.client.send("POST", "/things", &headers, bomb).await.problem(413, "too-large");
        system.client.send("POST", "/things", &headers, "{}").await.problem(400, "malformed-request");
    }
    let unknown = system.client.send("POST", "/things", &[("content-encoding", "compress")], "{}").await;
    unknown.problem(415, "unsupported-media-type");
    assert_eq!(unknown.header("accept-encoding"), Some("gzip, br, zstd"));
}

#[tokio::test]
async fn a_route_tells_of_its_end_with_every_answer() {
    let system = system().await;
    for (path, status) in [("/old/1", 200), ("/old/1?limit=x", 422)] {
        let reply = system.client.get(path).await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.header("deprecation"), Some("@1782864000"));
        assert_eq!(reply.header("sunset"), Some("Fri, 01 Jan 2027 00:00:00 GMT"));
    }
    assert_eq!(system.client.get("/bare/1").await.header("sunset"), None);
}

#[tokio::test]
async fn programs_find_where_the_interface_is_described() {
    let system = System::start().await;
    let reply = system.client.get("/.well-known/api-catalog").await;
    assert!(reply.header("content-type").unwrap().starts_with("application/linkset+json"));
    let links: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let described = links["linkset"][0]["service-desc"][0]["href"].as_str().unwrap();
    assert_eq!(system.client.get(described).await.json()["openapi"], "3.1.0");
    let head = system.client.send("HEAD", "/.well-known/api-catalog", &[], "").await;
    assert!(head.header("link").unwrap().contains("rel=\"api-catalog\""));
}

#[tokio::test]
async fn work_that_was_taken_on_is_answered_with_the_preference_that_was_met() {
    let system = System::start().await;
    system.shop.announce_raw(&["later"]).await;
    let hints =
        [("Sinew-Status", "202"), ("Sinew-Location", "/jobs/7"), ("content-type", "application/json")];
    system.shop.answer_raw("later", &hints, b"{}").await;
    let asked = [("prefer", "respond-async, wait=10")];
    let served = || async { system.client.send("POST", "/raw/later", &asked, "{}").await.status == 202 };
    eventually(SOON, served).await;
    let later = system.client.send("POST", "/raw/later", &asked, "{}").await;
    assert_eq!(
        (later.header("location"), later.header("preference-applied")),
        (Some("/jobs/7"), Some("respond-async"))
    );
    let plain = system.client.send("POST", "/raw/later", &[], "{}").await;
    assert_eq!((plain.status, plain.header("preference-applied")), (202, None));
    let waited = system.client.send("GET", "/things/1", &asked, "").await;
    assert_eq!((waited.status, waited.header("preference-applied")), (200, None));
}

#[tokio::test]
async fn a_policy_that_cannot_work_is_told_where_it_stands() {
    let wrong = json!({ "policies": {
        "compression": { "types": ["text", "*/*", "text/*"] },
        "lifecycle": { "sunset": "tomorrow", "links": [{ "rel": "a\"b", "href": "<x>" }] },
    } });
    let mistakes = edge::Config::read(&wrong).unwrap_err();
    let pointers: Vec<&str> = mistakes.iter().map(|mistake| mistake.pointer.as_str()).collect();
    assert_eq!(
        pointers,
        [
            "/policies/compression/types/0",
            "/policies/compression/types/1",
            "/policies/lifecycle/sunset",
            "/policies/lifecycle/links/0/rel",
            "/policies/lifecycle/links/0/href",
        ]
    );
    let unknown = json!({ "policies": { "compression": { "encodings": ["deflate"] } } });
    assert_eq!(edge::Config::read(&unknown).unwrap_err()[0].pointer, "/policies/compression");
}

#[tokio::test]
async fn every_path_knows_its_methods_its_head_and_its_media_types() {
    let system = System::start().await;
    for client in [Client::new(system.address()), Client::http2(system.address())] {
        for route in system.edge.overview().routes {
            let path = route.path.replace(['{', '}'], "");
            let asked = client.send("OPTIONS", &path, &[], "").await;
            let allow = asked.header("allow").unwrap_or_default().to_owned();
            assert_eq!(asked.status, 204, "{path}");
            assert!(allow.split(", ").any(|method| method == route.method), "{path}: {allow}");
            let brewed = client.send("BREW", &path, &[], "").await;
            brewed.problem(405, "method-not-allowed");
            assert_eq!(brewed.header("allow"), Some(allow.as_str()), "{path}");
            if route.method == "GET" {
                let (get, head) = (client.get(&path).await, client.send("HEAD", &path, &[], "").await);
                assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
                assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
            }
        }
        let refused = client.send("POST", "/things", &[("content-type", "text/plain")], "x").await;
        refused.problem(415, "unsupported-media-type");
        assert!(refused.header("accept").unwrap().contains("application/json"));
        client.send("GET", "/things/1", &[("accept", "image/png")], "").await.problem(406, "not-acceptable");
        let large = "x".repeat(40_000);
        client.send("GET", "/", &[("x-large", &large)], "").await.problem(431, "header-fields-too-large");
    }
}

fn packed(coding: &str, bytes: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut packed = Vec::new();
            flate2::read::GzEncoder::new(bytes, flate2::Compression::best())
                .read_to_end(&mut packed)
                .unwrap();
            packed
        }
        "br" => {
            let mut packed = Vec::new();
            brotli::CompressorReader::new(bytes, 4096, 5, 22).read_to_end(&mut packed).unwrap();
            packed
        }
        _ => zstd::encode_all(bytes, 3).unwrap(),
    }
}

fn unpacked(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut all).unwrap(),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut all).unwrap(),
        _ => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut all).unwrap(),
    };
    all
}
