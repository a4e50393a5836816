//! The same over HTTP/2, whose frames carry what no head of HTTP/1 can: names in upper case, line ends in values, lengths
//! that do not match, fields that belong to connections.
//!
//! The cases are in `tests/data/smuggling-http2.json`: fields as they stand, letter by letter the byte of that number; a
//! body; trailers. `verdict` is the status of the answer, or `reset` where the stream or the connection is ended instead.

use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{super::System, counted};
use crate::harness::SOON;

const CASES: &str = include_str!("../../../data/smuggling-http2.json");
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Most bytes of a frame.
const PIECE: usize = 16_384;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    fields: Vec<(String, String)>,
    body: String,
    #[serde(default)]
    trailers: Vec<(String, String)>,
    verdict: Value,
    reached: usize,
}

#[tokio::test]
async fn every_case_over_http2_has_its_verdict_and_nothing_hidden_reaches_a_service() {
    let system = System::start().await;
    let reached = counted(&system).await;
    let cases: Vec<Case> = serde_json::from_str(CASES).unwrap();
    assert!(cases.len() >= 110, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let before = reached.load(Ordering::SeqCst);
        let verdict = timeout(SOON, case.judged(&system)).await.unwrap_or_else(|_| json!("nothing in time"));
        // An answer of the service came through it; what is hidden would have come before.
        let seen = (verdict, reached.load(Ordering::SeqCst) - before);
        if seen != (case.verdict.clone(), case.reached) {
            wrong.push(format!("{}: {seen:?}, not {:?}", case.name, (&case.verdict, case.reached)));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(system.client.get("/healthz/live").await.status, 200);
}

impl Case {
    /// Sends the request, and returns what became of it.
    async fn judged(&self, system: &System) -> Value {
        let mut stream = TcpStream::connect(system.address()).await.unwrap();
        let (body, last) = (bytes(&self.body), self.trailers.is_empty());
        let mut sent = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        sent.extend(head(&self.fields, last && body.is_empty()));
        if !body.is_empty() {
            sent.extend(frame(DATA, if last { END_STREAM } else { 0 }, 1, &body));
        }
        if !last {
            sent.extend(head(&self.trailers, true));
        }
        // A connection that is ended takes no more.
        let _ = stream.write_all(&sent).await;
        let mut seen = Vec::new();
        let mut piece = [0; 4096];
        loop {
            if let Some(verdict) = verdict(&seen) {
                return verdict;
            }
            match stream.read(&mut piece).await {
                Ok(read @ 1..) => seen.extend_from_slice(&piece[..read]),
                _ => return json!("reset"),
            }
        }
    }
}

/// Says what the frames of an edge make of the one stream, as soon as they do.
fn verdict(bytes: &[u8]) -> Option<Value> {
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + 9) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let payload = bytes.get(at + 9..at + 9 + length)?;
        match header[3] {
            HEADERS => return Some(json!(status(payload))),
            RST_STREAM | GOAWAY => return Some(json!("reset")),
            _ => at += 9 + length,
        }
    }
    None
}

/// Reads the status, the first field of an answer: of the static table, or digits in Huffman's code or plain.
fn status(block: &[u8]) -> u16 {
    const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    let first = block[0];
    if first & 0x80 != 0 {
        return STATIC[usize::from(first & 0x7F) - 8];
    }
    let digits = &block[2..2 + usize::from(block[1] & 0x7F)];
    if block[1] & 0x80 == 0 {
        return std::str::from_utf8(digits).unwrap().parse().unwrap();
    }
    let mut bits = digits.iter().flat_map(|byte| (0..8).rev().map(move |at| u16::from(byte >> at & 1)));
    let mut take = |count: usize| bits.by_ref().take(count).fold(0, |number, bit| number << 1 | bit);
    // Codes of five bits are 0 to 2, those of six bits 25 to 31 are 3 to 9.
    (0..3).fold(0, |status, _| {
        let five = take(5);
        status * 10 + if five < 3 { five } else { (five << 1 | take(1)) - 22 }
    })
}

/// Writes a head as literal fields that nobody remembers.
fn head(fields: &[(String, String)], ends: bool) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x10);
        for text in [bytes(name), bytes(value)] {
            length(text.len(), &mut block);
            block.extend(text);
        }
    }
    let mut frames = Vec::new();
    let mut pieces = block.chunks(PIECE).peekable();
    let mut kind = HEADERS;
    while let Some(piece) = pieces.next() {
        let end = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        let stream = if ends && kind == HEADERS { END_STREAM } else { 0 };
        frames.extend(frame(kind, end | stream, 1, piece));
        kind = CONTINUATION;
    }
    frames
}

/// Writes a number of RFC 7541, section 5.1, with a prefix of seven bits.
fn length(mut number: usize, to: &mut Vec<u8>) {
    if number < 127 {
        to.push(u8::try_from(number).unwrap());
        return;
    }
    to.push(127);
    number -= 127;
    while number >= 128 {
        to.push(u8::try_from(number % 128 + 128).unwrap());
        number /= 128;
    }
    to.push(u8::try_from(number).unwrap());
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn bytes(text: &str) -> Vec<u8> {
    let text = text.replace("<66000>", &"a".repeat(66_000));
    text.chars().map(|byte| u8::try_from(u32::from(byte)).expect("characters are bytes")).collect()
}
