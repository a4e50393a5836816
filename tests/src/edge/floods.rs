//! Floods of HTTP/2 frames that cost a client nothing: the connection is told goodbye and ends, and the edge goes on.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::System;
use crate::harness::SOON;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `GET http://a/`, of the static table.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];
const MANY: u32 = 3_000;

#[tokio::test]
async fn a_flood_of_frames_ends_its_connection_and_no_other() {
    let system = System::start().await;
    let repeated = |one: Vec<u8>| one.repeat(MANY as usize);
    let resets = (0..MANY).flat_map(|number| {
        let stream = 2 * number + 1;
        let asked = frame(HEADERS, END_HEADERS | END_STREAM, stream, GET);
        [asked, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    let endless = frame(HEADERS, END_STREAM, 1, GET);
    for (name, flood) in [
        ("ping", repeated(frame(PING, 0, 0, &[0; 8]))),
        ("settings", repeated(frame(SETTINGS, 0, 0, &[]))),
        ("settings that are told to be known", repeated(frame(SETTINGS, ACK, 0, &[]))),
        ("rapid reset", resets.collect()),
        ("continuation", [endless, repeated(frame(CONTINUATION, 0, 1, &[]))].concat()),
        ("frames nobody knows", repeated(frame(200, 0, 0, b"x"))),
    ] {
        let answer = exchange(&system, &flood).await;
        assert!(kinds(&answer).contains(&GOAWAY), "{name}: {:?}", kinds(&answer));
        assert_eq!(system.client.get("/healthz/live").await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn pings_of_a_careful_client_are_answered() {
    let system = System::start().await;
    let mut stream = TcpStream::connect(system.address()).await.unwrap();
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(100);
    let get = frame(HEADERS, END_HEADERS | END_STREAM, 1, GET);
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &pings, &get].concat()).await.unwrap();
    let mut seen = Vec::new();
    while !kinds(&seen).contains(&HEADERS) {
        let mut piece = [0; 4096];
        let read = timeout(SOON, stream.read(&mut piece)).await.expect("an answer in time").unwrap();
        assert!(read > 0, "the connection ended: {:?}", kinds(&seen));
        seen.extend_from_slice(&piece[..read]);
    }
    assert!(kinds(&seen).contains(&PING));
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Sends a flood, and returns everything that comes back before the connection ends.
async fn exchange(system: &System, flood: &[u8]) -> Vec<u8> {
    let stream = TcpStream::connect(system.address()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[]), flood].concat();
    // Who floods does not wait for answers; the edge may close before all of it is sent.
    let sending = tokio::spawn(async move {
        let _ = writer.write_all(&bytes).await;
        writer
    });
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = timeout(SOON, reader.read(&mut piece)).await.expect("an end in time") {
        answer.extend_from_slice(&piece[..read]);
    }
    sending.await.unwrap();
    answer
}

/// Returns the kinds of the whole frames in these bytes.
fn kinds(bytes: &[u8]) -> Vec<u8> {
    let (mut kinds, mut at) = (Vec::new(), 0);
    while let Some(header) = bytes.get(at..at + 9) {
        kinds.push(header[3]);
        at += 9 + u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
    }
    kinds
}
