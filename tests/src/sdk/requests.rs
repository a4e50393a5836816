//! Requests: what comes back, in which shape, when it works and when it does not.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use futures::StreamExt as _;
use serde_json::Value;
use sinew::{Kind, Service};

use super::*;

#[tokio::test]
async fn a_call_brings_the_typed_reply() {
    let stage = Stage::start().await;
    let _desk = stage.serve(repeat).await;
    assert_eq!(stage.call("grüße").await.unwrap(), "grüße");
}

#[tokio::test]
async fn a_declared_error_comes_back_typed() {
    let stage = Stage::start().await;
    let refuse = |request: Echo| async move { Err::<String, _>(DeskError::OutOfStock { sku: request.text }) };
    let _desk = stage.serve(refuse).await;
    let error = stage.call("tea").await.unwrap_err();
    assert!(matches!(&error, CallError::Refused(DeskError::OutOfStock { sku }) if sku == "tea"), "{error:?}");
    assert!(!error.is_retryable() && !error.is_unknown());
}

#[tokio::test]
async fn a_call_that_nobody_serves_fails_at_once() {
    let stage = Stage::start().await;
    let began = Instant::now();
    let error = stage.call("anybody?").await.unwrap_err();
    assert!(matches!(error, CallError::NoResponders), "{error:?}");
    assert!(began.elapsed() < PATIENCE / 3, "the server says so by itself");
}

#[tokio::test]
async fn a_malformed_payload_is_a_400_that_names_the_place() {
    let stage = Stage::start().await;
    let _desk = stage.serve(repeat).await;
    let wrong_type = stage.request(&[], r#"{"text": 7}"#).await;
    let told = problem(&wrong_type);
    assert_eq!((told.status, told.code.as_str(), told.retry), (400, "malformed-request", false));
    assert!(told.detail.unwrap().contains("line 1"));
    let garbage = stage.request(&[("content-type", "application/msgpack")], vec![0xc1]).await;
    assert_eq!(problem(&garbage).code, "malformed-request");
    assert_eq!(garbage.header("content-type"), Some("application/msgpack"), "answered as it was asked");
}

#[tokio::test]
async fn a_bare_nats_client_is_answered_in_json() {
    let stage = Stage::start().await;
    let _desk = stage.serve(repeat).await;
    let client = async_nats::connect(stage.harness.url()).await.unwrap();
    let reply = ask(&client, HeaderMap::new(), r#"{"text":"hello"}"#).await;
    assert_eq!(&reply.payload[..], br#""hello""#);
    assert_eq!(reply.headers.unwrap().get("content-type").unwrap().as_str(), "application/json");
}

#[tokio::test]
async fn a_bare_nats_client_sees_failures_as_adr_32_has_them() {
    let stage = Stage::start().await;
    let _desk = stage.serve(async |_: Echo| Err::<String, _>(DeskError::Busy)).await;
    let client = async_nats::connect(stage.harness.url()).await.unwrap();
    let reply = ask(&client, HeaderMap::new(), r#"{"text":""}"#).await;
    let headers = reply.headers.unwrap();
    assert_eq!(headers.get("Nats-Service-Error-Code").unwrap().as_str(), "503");
    assert!(!headers.get("Nats-Service-Error").unwrap().as_str().is_empty());
    let body: Value = serde_json::from_slice(&reply.payload).unwrap();
    assert_eq!((&body["code"], &body["status"], &body["retry"]), (&"busy".into(), &503.into(), &true.into()));
}

#[tokio::test]
async fn header_names_are_read_in_any_case() {
    let stage = Stage::start().await;
    let _desk = stage.serve(repeat).await;
    let client = async_nats::connect(stage.harness.url()).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.append("CONTENT-TYPE", "Application/MsgPack");
    headers.append("ACCEPT", "application/json; charset=utf-8");
    let reply = ask(&client, headers, pack(&echo("tea"))).await;
    assert_eq!(&reply.payload[..], br#""tea""#);
}

#[tokio::test]
async fn an_unknown_media_type_is_a_415() {
    let stage = Stage::start().await;
    let _desk = stage.serve(repeat).await;
    let reply = stage.request(&[("content-type", "text/csv")], "text\nhello").await;
    let told = problem(&reply);
    assert_eq!((told.status, told.code.as_str()), (415, "unsupported-media-type"));
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_request_too_large_for_the_bus_is_not_sent() {
    let stage = Stage::start().await;
    let _desk = stage.serve(repeat).await;
    // With its headers it is just too large; without them it would fit.
    let text = "x".repeat(stage.caller.bus().max_payload() - 20);
    let error = stage.call(&text).await.map(|reply| reply.len()).unwrap_err();
    assert!(matches!(&error, CallError::NotSent(inner) if inner.kind() == Kind::TooLarge), "{error:?}");
    assert_eq!(error.to_problem().status, 413);
    assert_eq!(stage.call("small").await.unwrap(), "small", "the connection is none the worse");
}

#[tokio::test]
async fn a_reply_too_large_for_the_bus_is_a_502() {
    let stage = Stage::start().await;
    let limit = stage.bus.max_payload();
    // The reply alone would fit, the headers make it too large: nobody may find out by losing the connection.
    let answer = move |request: Echo| async move {
        Ok(if request.text == "large" { "x".repeat(limit - 20) } else { request.text })
    };
    let _desk = stage.serve(answer).await;
    let error = stage.call("large").await.map(|reply| reply.len()).unwrap_err();
    let told = error.to_problem();
    assert_eq!((told.status, told.code.as_str()), (502, "reply-too-large"));
    assert_eq!(stage.call("small").await.unwrap(), "small");
}

#[tokio::test]
async fn a_panicking_handler_is_a_500_and_the_service_lives_on() {
    let stage = Stage::start().await;
    let answer = async |request: Echo| {
        assert_ne!(request.text, "boom", "this test asks for the panic");
        Ok(request.text)
    };
    let _desk = stage.serve(answer).await;
    let told = stage.call("boom").await.unwrap_err().to_problem();
    assert_eq!((told.status, told.code.as_str()), (500, "internal"));
    assert_eq!(told.detail, None, "the panic's text is nobody's business");
    assert_eq!(stage.call("calm").await.unwrap(), "calm");
}

#[tokio::test]
async fn an_operation_left_out_on_purpose_is_a_501() {
    let stage = Stage::start().await;
    let service = Service::new("desk", ()).serve(Desk, |desk| desk.unimplemented());
    let _desk = stage.start_service(service).await;
    let told = stage.call("anybody?").await.unwrap_err().to_problem();
    assert_eq!((told.status, told.code.as_str()), (501, "not-implemented"));
}

#[tokio::test]
async fn a_service_is_ready_for_the_first_request_when_start_returns() {
    let stage = Stage::start().await;
    for _ in 0..30 {
        let desk = stage.serve(repeat).await;
        assert_eq!(stage.call("first").await.unwrap(), "first");
        desk.drain().await;
    }
}

#[tokio::test]
async fn a_service_that_stands_twice_is_refused() {
    let stage = Stage::start().await;
    let twice = desk((), repeat).serve(Desk, |desk| desk.echo(repeat));
    assert_eq!(twice.start(&stage.bus).await.err().unwrap().kind(), Kind::Config);
    let note = async |_: Noted| Ok::<_, Problem>(());
    let twice = Service::new("desk", ()).on("mailer", note, |g| g).on("mailer", note, |g| g);
    assert_eq!(twice.start(&stage.bus).await.err().unwrap().kind(), Kind::Config);
}

#[tokio::test]
async fn one_of_several_addresses_is_enough() {
    let harness = Harness::start().await;
    let urls = format!("nats://127.0.0.1:1, {}", harness.url());
    Bus::connect(Config::new(urls, "picky")).await.expect("the second address answers");
    let error = Bus::connect(Config::new("nats://127.0.0.1:1", "lost")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Disconnected);
    let error = Bus::connect(Config::new("http://:::", "confused")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
}

#[tokio::test]
async fn a_dropped_bus_takes_its_connection_along() {
    let harness = Harness::start().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let bus = connect(&harness, "forgetful").await;
    assert!(tasks() > before);
    drop(bus);
    crate::harness::eventually(crate::harness::SOON, || std::future::ready(tasks() == before)).await;
}

/// Sends a request the way a client does that has never heard of Sinew.
async fn ask(
    client: &async_nats::Client,
    headers: HeaderMap,
    payload: impl Into<Bytes>,
) -> async_nats::Message {
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.unwrap();
    let payload = payload.into();
    if headers.is_empty() {
        client.publish_with_reply(Echo::SUBJECT, inbox, payload).await.unwrap();
    } else {
        client.publish_with_reply_and_headers(Echo::SUBJECT, inbox, headers, payload).await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(20), replies.next()).await.expect("an answer in time").unwrap()
}
