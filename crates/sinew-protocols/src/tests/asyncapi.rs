//! `call: asyncapi`. A real NATS server is spoken to in the integration tests.

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use sinew_workflow::{Outcome, Protocol};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tokio_websockets::{Message, ServerBuilder};

use super::server::{Answer, Server};
use super::{LIMIT, done, not_sent, outcome, protocols, refused, unknown};

/// Describes a channel `orders/new` on a server.
fn document(protocol: &str, host: &str) -> Value {
    json!({
        "asyncapi": "3.0.0",
        "servers": { "main": { "host": host, "protocol": protocol } },
        "channels": { "orders": { "address": if protocol == "nats" { "orders.new" } else { "/orders/new" }, "messages": {
            "order": { "correlationId": { "location": "$message.payload#/id" } },
        } } },
        "operations": { "order": { "channel": { "$ref": "#/channels/orders" } } },
    })
}

/// Serves a description.
async fn described(document: Value) -> Server {
    Server::start(move |_| Answer::json(200, &document)).await
}

fn publishing(described: &Server, message: Value) -> Value {
    json!({ "document": { "endpoint": described.url("/") }, "operation": "order", "message": message })
}

async fn published(described: &Server, message: Value) -> Outcome {
    outcome(&protocols(), Protocol::AsyncApi, &publishing(described, message)).await
}

#[tokio::test]
async fn a_message_is_posted_to_a_channel_of_http() {
    let server =
        Server::start(|seen| Answer::with(if seen.path() == "/orders/new" { 202 } else { 404 }, &[], ""))
            .await;
    let described = described(document("http", &format!("127.0.0.1:{}", server.port))).await;
    let output =
        published(&described, json!({ "payload": { "id": 7 }, "headers": { "X-Shop": "north" } })).await;
    assert_eq!(done(output), Value::Null);
    let seen = server.only();
    assert_eq!(
        (seen.method.as_str(), seen.json(), seen.header("x-shop")),
        ("POST", json!({ "id": 7 }), Some("north"))
    );
    assert_eq!(seen.header("idempotency-key"), Some("order-7/charge"));
}

#[tokio::test]
async fn events_of_http_are_messages() {
    let server = Server::start(|_| Answer::events(&[json!({ "id": 1 }), json!({ "id": 2 })])).await;
    let described = described(document("http", &format!("127.0.0.1:{}", server.port))).await;
    let arguments =
        json!({ "document": { "endpoint": described.url("/") }, "operation": "order", "subscription": {} });
    let messages = protocols().subscribe(Protocol::AsyncApi, &arguments, LIMIT).await.unwrap();
    let messages: Vec<_> = messages.take(2).map(|heard| heard.unwrap().message).collect().await;
    assert_eq!(messages[1], json!({ "payload": { "id": 2 }, "headers": {}, "correlationId": "2" }));
    assert_eq!(
        (server.only().path(), server.only().header("accept")),
        ("/orders/new", Some("text/event-stream"))
    );
}

fn listening(described: &Server) -> Value {
    json!({ "document": { "endpoint": described.url("/") }, "operation": "order", "subscription": {} })
}

#[tokio::test]
async fn events_go_on_behind_the_last_one_when_their_connection_is_lost() {
    let server = Server::start(|seen| {
        let event = |id: u32| format!("retry: 1\nid: {id}\ndata: {{\"id\": {id}}}\n\n");
        match seen.header("last-event-id") {
            None => Answer::typed(200, "text/event-stream", event(1) + &event(2)),
            Some("2") => Answer::typed(200, "text/event-stream", event(2) + &event(3)),
            _ => Answer::with(204, &[], ""),
        }
    });
    let server = server.await;
    let described = described(document("http", &format!("127.0.0.1:{}", server.port))).await;
    let messages = protocols().subscribe(Protocol::AsyncApi, &listening(&described), LIMIT).await.unwrap();
    let heard: Vec<_> = messages.map(Result::unwrap).collect().await;
    // The second one is told twice, and recognised.
    let identities: Vec<_> = heard.iter().map(|heard| heard.identity.as_deref().unwrap()).collect();
    assert_eq!(identities, ["1", "2", "2", "3"]);
    assert_eq!(heard[3].message["payload"], json!({ "id": 3 }));
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for_and_one_that_says_no_is_believed() {
    let answers = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |_| match answers.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => Answer::typed(200, "text/event-stream", "retry: 1\ndata: 1\n\n"),
        1 => Answer::HangUp,
        2 => Answer::with(503, &[("retry-after", "1")], ""),
        3 => Answer::typed(200, "text/event-stream", "data: 2\n\n"),
        _ => Answer::with(410, &[], ""),
    });
    let server = server.await;
    let described = described(document("http", &format!("127.0.0.1:{}", server.port))).await;
    let messages = protocols().subscribe(Protocol::AsyncApi, &listening(&described), LIMIT).await.unwrap();
    let heard: Vec<_> = messages.collect().await;
    assert_eq!(heard.len(), 3);
    assert_eq!(heard[1].as_ref().unwrap().message["payload"], 2);
    assert_eq!(heard[2].as_ref().unwrap_err().status, 410);
}

#[tokio::test]
async fn a_web_socket_is_opened_again_until_it_is_closed_for_good() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let server = AbortOnDropHandle::new(tokio::spawn(async move {
        for n in 1..=2 {
            let (stream, _) = listener.accept().await.unwrap();
            let (_, mut socket) = ServerBuilder::new().accept(stream).await.unwrap();
            socket.send(Message::text(n.to_string())).await.unwrap();
            if n == 2 {
                socket.close().await.unwrap();
            }
        }
    }));
    let described = described(document("ws", &host)).await;
    let messages = protocols().subscribe(Protocol::AsyncApi, &listening(&described), LIMIT).await.unwrap();
    let heard: Vec<_> = messages.map(|heard| heard.unwrap().message["payload"].clone()).collect().await;
    assert_eq!(heard, [json!(1), json!(2)]);
    server.await.unwrap();
}

/// Greets whoever connects with `hello`, and returns the first text that comes.
async fn web_socket() -> (String, AbortOnDropHandle<Option<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (request, mut socket) = ServerBuilder::new().accept(stream).await.unwrap();
        assert_eq!(request.uri().path(), "/orders/new");
        socket.send(Message::text("{\"id\":\"hello\"}")).await.unwrap();
        let message = socket.next().await?.ok()?;
        message.as_text().map(str::to_owned)
    });
    (host, AbortOnDropHandle::new(server))
}

#[tokio::test]
async fn a_web_socket_is_written_to_and_read_from() {
    let (host, server) = web_socket().await;
    let described = described(document("ws", &host)).await;
    done(published(&described, json!({ "payload": { "id": 7 } })).await);
    assert_eq!(server.await.unwrap().as_deref(), Some("{\"id\":7}"));
    refused(published(&described, json!({ "payload": {}, "headers": { "a": "b" } })).await);
    not_sent(published(&described, json!({ "payload": {} })).await);

    let (host, _server) = web_socket().await;
    let described = self::described(document("ws", &host)).await;
    let arguments =
        json!({ "document": { "endpoint": described.url("/") }, "operation": "order", "subscription": {} });
    let mut messages = protocols().subscribe(Protocol::AsyncApi, &arguments, LIMIT).await.unwrap();
    let first = messages.next().await.unwrap().unwrap();
    assert_eq!(
        first.message,
        json!({ "payload": { "id": "hello" }, "headers": {}, "correlationId": "hello" })
    );
}

/// Greets as a NATS server does, answers the first ping, and says something to what comes then.
async fn nats(said: &'static str) -> (String, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (read, mut write) = stream.split();
        write.write_all(b"INFO {\"headers\":true}\r\n").await.unwrap();
        let mut lines = BufReader::new(read).lines();
        let mut greeted = false;
        while let Ok(Some(line)) = lines.next_line().await {
            if line == "PING" && !greeted {
                greeted = true;
                write.write_all(b"PONG\r\n").await.unwrap();
            } else if line == "PING" {
                write.write_all(said.as_bytes()).await.unwrap();
                return;
            }
        }
    });
    (host, AbortOnDropHandle::new(server))
}

#[tokio::test]
async fn a_nats_server_that_refuses_did_nothing_and_one_that_goes_may_have() {
    let (host, _server) = nats("-ERR 'Permissions Violation for Publish to \"orders.new\"'\r\n").await;
    let described = described(document("nats", &host)).await;
    assert_eq!(refused(published(&described, json!({ "payload": {} })).await).kind(), "authorization");
    let (host, _server) = nats("").await;
    let described = self::described(document("nats", &host)).await;
    assert_eq!(unknown(published(&described, json!({ "payload": {} })).await).kind(), "communication");
    // The stub is gone now.
    not_sent(published(&described, json!({ "payload": {} })).await);
    refused(published(&described, json!({ "payload": {}, "headers": { "a": "b\r\nSUB > 1" } })).await);
}

#[tokio::test]
async fn other_protocols_are_refused_by_name() {
    let described = described(document("kafka", "queue:9092")).await;
    let fault = refused(published(&described, json!({ "payload": {} })).await);
    assert!(fault.detail.unwrap().contains("`kafka`"));
    let arguments = json!({ "document": { "endpoint": described.url("/") }, "operation": "order" });
    assert!(
        refused(outcome(&protocols(), Protocol::AsyncApi, &arguments).await)
            .detail
            .unwrap()
            .contains("`message`")
    );
    let nothing = protocols().subscribe(Protocol::Http, &json!({}), LIMIT).await.err().unwrap();
    assert_eq!(nothing.kind(), "configuration");
}
