//! Objects over HTTP: whole, in parts, under conditions, and as other clients of the bus wrote them.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::json;
use sinew::wire::Headers;
use sinew_edge as edge;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{System, client::Reply};
use crate::harness::SOON;

const MIB: usize = 1024 * 1024;

fn config() -> edge::Config {
    let route = |method: &str| {
        let object = json!({ "bucket": "DOCS", "name": "{year}/{file}", "disposition": "inline",
            "max_bytes": 40 * MIB });
        json!({ "match": { "method": method, "path": "/docs/{year}/{file}" }, "to": { "object": object } })
    };
    edge::Config::read(&json!({ "routes": [route("GET"), route("PUT"), route("DELETE")] })).unwrap()
}

/// Bytes that tell where they stand.
fn bytes(count: usize) -> Bytes {
    let mut text = String::with_capacity(count + 8);
    while text.len() < count {
        let at = text.len();
        writeln!(text, "{at:07x}").unwrap();
    }
    text.truncate(count);
    text.into()
}

impl System {
    async fn part(&self, path: &str, range: &str) -> Reply {
        self.client.send("GET", path, &[("range", range)], "").await
    }

    async fn pieces(&self) -> u64 {
        let counts = self.bus.subject_counts("OBJ_DOCS", "$O.DOCS.C.>").await.unwrap();
        counts.into_iter().map(|(_, count)| count).sum()
    }
}

#[tokio::test]
async fn an_object_is_written_read_confirmed_replaced_and_forgotten() {
    let system = System::start_with(config()).await;
    let (client, path) = (&system.client, "/docs/2026/a%20b.txt");
    client.get(path).await.problem(404, "not-found");
    let typed = [("content-type", "text/plain"), ("if-none-match", "*")];
    let made = client.send("PUT", path, &typed, "hello").await;
    assert_eq!((made.status, made.header("location")), (201, Some(path)), "{made:?}");
    let tag = made.header("etag").unwrap().to_owned();
    let read = client.get(path).await;
    assert_eq!((read.status, &read.body[..]), (200, &b"hello"[..]));
    for (name, value) in [
        ("etag", tag.as_str()),
        ("content-type", "text/plain"),
        ("content-length", "5"),
        ("accept-ranges", "bytes"),
        ("content-disposition", "inline; filename=\"a b.txt\""),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(read.header(name), Some(value), "{name}");
    }
    let modified = read.header("last-modified").unwrap().to_owned();
    let head = client.send("HEAD", path, &[], "").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("5"), 0));
    for condition in [("if-none-match", tag.as_str()), ("if-modified-since", modified.as_str())] {
        let confirmed = client.send("GET", path, &[condition], "").await;
        assert_eq!((confirmed.status, confirmed.header("etag")), (304, Some(tag.as_str())));
    }
    client.send("GET", path, &[("if-match", "\"other\"")], "").await.problem(412, "precondition-failed");
    client.send("PUT", path, &typed, "second").await.problem(412, "precondition-failed");
    client.send("PUT", path, &[("if-match", "\"x\"")], "second").await.problem(412, "precondition-failed");
    let replaced = client.send("PUT", path, &[("if-match", &tag)], "second").await;
    assert_eq!((replaced.status, replaced.header("location")), (204, None));
    assert_eq!(client.get(path).await.body, "second");
    assert_eq!(system.pieces().await, 1, "what was replaced is forgotten");
    client.send("DELETE", path, &[("if-match", &tag)], "").await.problem(412, "precondition-failed");
    assert_eq!(client.send("DELETE", path, &[], "").await.status, 204);
    client.get(path).await.problem(404, "not-found");
    client.send("DELETE", path, &[], "").await.problem(404, "not-found");
    assert_eq!(system.pieces().await, 0);
    assert_eq!(client.send("PUT", path, &typed, "again").await.status, 201, "the name is free again");
    client.send("PATCH", path, &[], "x").await.problem(405, "method-not-allowed");
}

#[tokio::test]
async fn of_many_who_write_one_name_at_once_under_a_condition_one_does() {
    let system = System::start_with(config()).await;
    let path = "/docs/2026/raced";
    let race = async |texts: [&'static str; 5], condition: (&str, &str), won: u16| {
        let typed = [("content-type", "text/plain"), condition];
        let puts = texts.iter().map(|text| system.client.send("PUT", path, &typed, *text));
        let replies = futures::future::join_all(puts).await;
        let mut winners = texts.iter().zip(&replies).filter(|(_, reply)| reply.status == won);
        let (winner, reply) = winners.next().expect("one who wrote it");
        assert!(winners.next().is_none(), "{replies:?}");
        assert_eq!(
            replies.iter().filter(|reply| reply.status == 412).count(),
            texts.len() - 1,
            "{replies:?}"
        );
        assert_eq!(system.client.get(path).await.body, *winner);
        assert_eq!(system.pieces().await, 1, "those who lost leave nothing behind");
        reply.header("etag").unwrap().to_owned()
    };
    let tag = race(["a", "b", "c", "d", "e"], ("if-none-match", "*"), 201).await;
    race(["v", "w", "x", "y", "z"], ("if-match", &tag), 204).await;
}

#[tokio::test]
async fn any_part_of_a_large_object_is_read_even_where_others_are_written_meanwhile() {
    let system = System::start_with(config()).await;
    let (whole, path) = (bytes(5 * MIB + 77), "/docs/2026/large");
    let put = |path: &'static str| system.client.send("PUT", path, &[], whole.clone());
    let (one, other) = tokio::join!(put(path), put("/docs/2026/other"));
    assert_eq!((one.status, other.status), (201, 201));
    let size = whole.len();
    for (range, expected) in [
        ("bytes=0-9", 0..10),
        ("bytes=131070-131075", 131_070..131_076),
        ("bytes=3000000-3999999", 3_000_000..4_000_000),
        ("bytes=-100", size - 100..size),
        ("bytes=5242880-", 5_242_880..size),
    ] {
        let part = system.part(path, range).await;
        assert_eq!(part.status, 206, "{range}");
        let told = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
        assert_eq!(part.header("content-range"), Some(told.as_str()));
        assert_eq!(part.body, whole.slice(expected), "{range}");
    }
    let all = system.client.get(path).await;
    assert_eq!((all.status, all.header("content-length")), (200, Some(size.to_string().as_str())));
    assert_eq!(all.body, whole);
    let behind = system.part(path, "bytes=9999999-").await;
    assert_eq!(behind.header("content-range"), Some(format!("bytes */{size}").as_str()));
    behind.problem(416, "range-not-satisfiable");
}

#[tokio::test]
async fn several_parts_come_as_a_list_and_only_of_what_the_client_has_a_part_of() {
    let system = System::start_with(config()).await;
    let path = "/docs/2026/list";
    let put = system.client.send("PUT", path, &[("content-type", "text/plain")], "0123456789").await;
    let parts = system.part(path, "bytes=0-1,-2").await;
    let boundary = parts.header("content-type").unwrap().strip_prefix("multipart/byteranges; boundary=");
    let boundary = boundary.unwrap();
    let part = |told: &str, text: &str| {
        format!(
            "--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {told}/10\r\n\r\n{text}\r\n"
        )
    };
    let expected = format!("{}{}--{boundary}--\r\n", part("0-1", "01"), part("8-9", "89"));
    assert_eq!((parts.status, &parts.body[..]), (206, expected.as_bytes()));
    let modified = system.client.get(path).await.header("last-modified").unwrap().to_owned();
    let tag = put.header("etag").unwrap();
    let weak = format!("W/{tag}");
    for (condition, status) in [
        (tag, 206),
        (modified.as_str(), 206),
        (weak.as_str(), 200),
        ("\"other\"", 200),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 200),
    ] {
        let fields = [("range", "bytes=0-1"), ("if-range", condition)];
        let answer = system.client.send("GET", path, &fields, "").await;
        assert_eq!(answer.status, status, "{condition}");
    }
    let head = system.client.send("HEAD", path, &[("range", "bytes=0-1")], "").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")), "HEAD has no parts");
}

#[tokio::test]
async fn what_is_not_whole_too_large_or_badly_named_is_not_stored() {
    let system = System::start_with(config()).await;
    let put = async |path: &str, fields: &[(&str, &str)], body: Bytes| {
        system.client.send("PUT", path, fields, body).await
    };
    let digest = ("content-digest", "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:");
    assert_eq!(put("/docs/1/a", &[digest], "hello".into()).await.status, 201);
    let other = put("/docs/1/b", &[digest], "hallo".into()).await.problem(400, "malformed-request");
    assert!(other["detail"].as_str().unwrap().contains("Content-Digest"), "{other}");
    put("/docs/1/b", &[("content-encoding", "gzip")], "x".into())
        .await
        .problem(415, "unsupported-media-type");
    put("/docs/1/b", &[("content-range", "bytes 0-1/2")], "x".into()).await.problem(400, "malformed-request");
    for path in ["/docs/1/%2e%2e", "/docs/%2e/x", "/docs/1/a%5Cb", "/docs/1/%00", "/docs/1/..%2F..%2Fx"] {
        put(path, &[], "x".into()).await.problem(400, "malformed-request");
    }
    put("/docs/1/large", &[], Bytes::from(vec![b'x'; 41 * MIB])).await.problem(413, "too-large");
    // Without a length it shows only on the way.
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(MIB));
    let mut stream = TcpStream::connect(system.address()).await.unwrap();
    let head = "PUT /docs/1/c HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(format!("{head}{chunk}{chunk}").as_bytes()).await.unwrap();
    drop(stream);
    timeout(SOON, async {
        while system.pieces().await != 1 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("what breaks off leaves nothing behind");
    system.client.get("/docs/1/c").await.problem(404, "not-found");
}

#[tokio::test]
async fn an_object_that_goes_away_meanwhile_breaks_off() {
    let system = System::start_with(config()).await;
    let size = 32 * MIB;
    assert_eq!(system.client.send("PUT", "/docs/1/gone", &[], bytes(size)).await.status, 201);
    let mut stream = TcpStream::connect(system.address()).await.unwrap();
    stream.write_all(b"GET /docs/1/gone HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 1024];
    stream.read_exact(&mut first).await.unwrap();
    assert!(first.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&first));
    assert_eq!(system.client.send("DELETE", "/docs/1/gone", &[], "").await.status, 204);
    let mut rest = Vec::new();
    // A reset says the same as an end before the length.
    let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.expect("the connection ends");
    assert!(rest.len() < size, "not all of it: {}", rest.len());
}

#[tokio::test]
async fn what_another_client_wrote_in_pieces_of_its_own_is_read_from_the_middle() {
    let system = System::start_with(config()).await;
    system.bus.objects("DOCS", 1).await.unwrap();
    let text = "every piece has another length";
    for piece in ["every ", "piece has an", "", "other length"] {
        let piece = Bytes::from_static(piece.as_bytes());
        system.bus.publish_acked("$O.DOCS.C.N1", &Headers::new(), piece, SOON).await.unwrap();
    }
    let info = json!({ "name": "1/x", "nuid": "N1", "size": text.len(), "chunks": 4,
        "options": { "max_chunk_size": 12 } });
    let meta = format!("$O.DOCS.M.{}", data_encoding::BASE64URL.encode(b"1/x"));
    system.bus.publish_acked(&meta, &Headers::new(), info.to_string().into(), SOON).await.unwrap();
    assert_eq!(system.client.get("/docs/1/x").await.body, text);
    let part = system.part("/docs/1/x", "bytes=15-22").await;
    assert_eq!((part.status, &part.body[..]), (206, &text.as_bytes()[15..23]));
}
