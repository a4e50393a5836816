//! What a client may do to a WebSocket and what not, frame by frame over raw sockets, at the streams of operations and at
//! feeds of events.
//!
//! The cases are in `tests/data/websocket.json`, numbered after the sections of Autobahn's fuzzing client: framing, pings,
//! reserved bits, opcodes, fragments, UTF-8, closing, limits. Each says what is sent, whole or `cut` into pieces, and with
//! which code each of the two closes; without one the connection has to be alive. An edge listens to nothing on the stream
//! of an operation, and takes nothing but a first word on a feed: there the code for whole messages is 1008.

use serde::Deserialize;
use serde_json::json;
use sinew_edge as edge;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
    time::timeout,
};

use super::System;
use crate::harness::SOON;

const CASES: &str = include_str!("../../data/websocket.json");
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const PING: u8 = 9;
const PONG: u8 = 10;
const CLOSE: u8 = 8;
/// Pinged to see whether a connection is alive.
const PROBE: &[u8] = b"are you there";
/// Stands for a close without a code.
const NO_CODE: u16 = 1005;
/// An operation that waits behind its first item, and a feed whose client has said where it begins.
const STREAM: &str = "/count/9?pause=1";
const FEED: &str = "/feed?last_event_id=0";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    send: Vec<Frame>,
    /// Bytes of each piece.
    cut: Option<usize>,
    stream: Option<u16>,
    feed: Option<u16>,
}

/// A frame, right or wrong.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame {
    op: u8,
    #[serde(default = "yes")]
    fin: bool,
    #[serde(default)]
    rsv: u8,
    #[serde(default = "yes")]
    mask: bool,
    #[serde(default)]
    text: String,
    #[serde(default)]
    hex: String,
    /// That many letters.
    #[serde(default)]
    size: usize,
    /// Bytes that its length is written in, where that is not the fewest.
    length: Option<u8>,
    /// Exactly these instead of all the above.
    bytes: Option<String>,
    #[serde(default = "once")]
    times: usize,
}

/// A client whose frames are read in a task of their own, as those of a real one are: it writes whatever comes.
struct Client {
    reader: OwnedReadHalf,
    writing: JoinHandle<OwnedWriteHalf>,
    held: Vec<u8>,
}

#[tokio::test]
async fn every_case_of_the_table_closes_as_the_standard_says() {
    let system = system().await;
    let cases: Vec<Case> = serde_json::from_str(CASES).unwrap();
    assert!(cases.len() >= 260, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        for (path, expected) in [(STREAM, case.stream), (FEED, case.feed)] {
            let seen = timeout(SOON, case.run(&system, path, expected.is_none())).await;
            let seen = seen.unwrap_or_else(|_| Err("nothing in time".to_owned()));
            if seen != Ok(expected) {
                wrong.push(format!("{} at {path}: {seen:?}, not {expected:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(system.client.get("/healthz/live").await.status, 200);
}

async fn system() -> System {
    let feed = json!({ "match": { "method": "GET", "path": "/feed" },
        "to": { "events": ["orders.*"], "feed": { "max_clients": 10_000, "max_clients_per_ip": 10_000 } } });
    System::start_with(edge::Config::read(&json!({ "routes": [feed] })).unwrap()).await
}

impl Case {
    /// Sends what the case says, and a ping where the connection should outlive it. Returns the code it was closed with, or
    /// none where the ping was answered.
    async fn run(&self, system: &System, path: &str, lives: bool) -> Result<Option<u16>, String> {
        let mut bytes: Vec<u8> = self.send.iter().flat_map(Frame::bytes).collect();
        let mut pings: Vec<Vec<u8>> = Vec::new();
        if lives {
            let asked = self.send.iter().filter(|frame| frame.op == PING);
            pings.extend(asked.flat_map(|frame| vec![frame.payload(); frame.times]));
            pings.push(PROBE.to_vec());
            bytes.extend(masked(PING, PROBE));
        }
        let mut client = Client::connect(system, path, bytes, self.cut).await;
        let mut pongs = Vec::new();
        while let Some((op, payload)) = client.frame().await? {
            match op {
                CLOSE => {
                    let code =
                        payload.get(..2).map_or(NO_CODE, |code| u16::from_be_bytes([code[0], code[1]]));
                    client.end(payload.get(..2).unwrap_or_default()).await?;
                    return Ok(Some(code));
                }
                PONG => pongs.push(payload),
                _ => {}
            }
            if lives && pongs.len() == pings.len() {
                return if pongs == pings { Ok(None) } else { Err(format!("other pongs: {pongs:?}")) };
            }
        }
        Err("the connection ended without a close".to_owned())
    }
}

impl Frame {
    fn payload(&self) -> Vec<u8> {
        let hex =
            (0..self.hex.len()).step_by(2).map(|at| u8::from_str_radix(&self.hex[at..at + 2], 16).unwrap());
        self.text.bytes().chain(hex).chain(vec![b'x'; self.size]).collect()
    }

    fn bytes(&self) -> Vec<u8> {
        if let Some(bytes) = &self.bytes {
            let pairs = (0..bytes.len()).step_by(2);
            return pairs.map(|at| u8::from_str_radix(&bytes[at..at + 2], 16).unwrap()).collect();
        }
        let payload = self.payload();
        let mut frame = vec![u8::from(self.fin) << 7 | self.rsv << 4 | self.op];
        let mask = u8::from(self.mask) << 7;
        match self.length {
            None if payload.len() < 126 => frame.push(mask | u8::try_from(payload.len()).unwrap()),
            Some(2) | None if payload.len() < 65_536 => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((payload.len() as u64).to_be_bytes());
            }
        }
        let key = if self.mask { MASK } else { [0; 4] };
        frame.extend(self.mask.then_some(MASK).into_iter().flatten());
        frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        frame.repeat(self.times)
    }
}

impl Client {
    /// Shakes hands, and begins to write the bytes, so many at a time.
    async fn connect(system: &System, path: &str, bytes: Vec<u8>, cut: Option<usize>) -> Self {
        let stream = TcpStream::connect(system.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (reader, mut writer) = stream.into_split();
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        writer.write_all(head.as_bytes()).await.unwrap();
        let writing = tokio::spawn(async move {
            for piece in bytes.chunks(cut.unwrap_or(usize::MAX)) {
                // A connection that was closed takes no more.
                if writer.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            writer
        });
        let mut client = Self { reader, writing, held: Vec::new() };
        while !client.held.windows(4).any(|four| four == b"\r\n\r\n") {
            assert!(client.more().await.unwrap(), "the handshake was not answered");
        }
        let end = client.held.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(client.held.drain(..end).collect()).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client
    }

    /// Reads the next frame; none at the end.
    async fn frame(&mut self) -> Result<Option<(u8, Vec<u8>)>, String> {
        loop {
            if let Some((end, frame)) = whole(&self.held) {
                self.held.drain(..end);
                return Ok(Some(frame));
            }
            if !self.more().await? {
                return if self.held.is_empty() { Ok(None) } else { Err("half a frame".to_owned()) };
            }
        }
    }

    async fn more(&mut self) -> Result<bool, String> {
        let mut piece = [0; 4096];
        let read = self.reader.read(&mut piece).await.map_err(|error| error.to_string())?;
        self.held.extend_from_slice(&piece[..read]);
        Ok(read > 0)
    }

    /// Agrees to the end, which has to come then: not as a reset, and with nothing more before it.
    async fn end(&mut self, code: &[u8]) -> Result<(), String> {
        let mut writer = (&mut self.writing).await.unwrap();
        let _ = writer.write_all(&masked(CLOSE, code)).await;
        match self.more().await? {
            false if self.held.is_empty() => Ok(()),
            _ => Err("something came behind the close".to_owned()),
        }
    }
}

fn masked(op: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | op, 0x80 | u8::try_from(payload.len()).unwrap()];
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Returns the first frame, where it is whole, and where it ends. Servers mask nothing, and send whole messages.
fn whole(bytes: &[u8]) -> Option<(usize, (u8, Vec<u8>))> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert!(first & 0xF0 == 0x80 && second < 126, "{first:02x} {second:02x}");
    let end = 2 + usize::from(second);
    bytes.get(2..end).map(|payload| (end, (first & 0xF, payload.to_vec())))
}

fn yes() -> bool {
    true
}

fn once() -> usize {
    1
}
