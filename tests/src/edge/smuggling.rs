//! Requests that two implementations would read differently, over raw sockets: what each is answered, and that nothing
//! hidden in it reaches a service.
//!
//! The cases are in `tests/data/smuggling.json`. In their bytes `<post>` stands for the first lines of a request to a
//! service, `<next>` for a whole request that would reach it, `<70000>` for that many letters, `<150 fields>` for that
//! many header fields; every other character is the byte of its number.

mod http2;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde::Deserialize;
use sinew::wire::Headers;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{System, client::problem_in};
use crate::harness::{SOON, eventually};

const CASES: &str = include_str!("../../data/smuggling.json");
const POST: &str = "POST /raw/echo HTTP/1.1\r\nhost: a\r\n";
const NEXT: &str = "POST /raw/echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    bytes: String,
    /// The status of every answer before the connection ends.
    answers: Vec<u16>,
    /// How many requests a service gets to see.
    reached: usize,
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        let mut text = self.bytes.replace("<post>", POST).replace("<next>", NEXT);
        for number in [2_000, 9_000, 70_000] {
            text = text.replace(&format!("<{number}>"), &"a".repeat(number));
        }
        let fields: String = (0..150).map(|number| format!("x-{number}: 1\r\n")).collect();
        text = text.replace("<150 fields>", &fields);
        text.chars().map(|byte| u8::try_from(u32::from(byte)).expect("characters are bytes")).collect()
    }
}

#[tokio::test]
async fn every_case_of_the_corpus_has_its_verdict_and_nothing_hidden_reaches_a_service() {
    let system = System::start().await;
    let reached = counted(&system).await;
    let cases: Vec<Case> = serde_json::from_str(CASES).unwrap();
    assert!(cases.len() >= 60);
    let mut wrong = Vec::new();
    for case in &cases {
        // In one piece, and with its first bytes alone: a guard must not depend on how they come.
        for cut in [0, 30] {
            let before = reached.load(Ordering::SeqCst);
            let answer = exchange(&system, &case.bytes(), cut).await;
            let seen = (statuses(&answer), reached.load(Ordering::SeqCst) - before);
            if seen != (case.answers.clone(), case.reached) {
                wrong.push(format!(
                    "{} (cut at {cut}): {seen:?}, not {:?}",
                    case.name,
                    (&case.answers, case.reached)
                ));
            }
            if seen.0.last().is_some_and(|status| *status >= 400) {
                // A refusal of the implementation's own would be an empty response, which is no document.
                problem_in(&answer[answer.rfind("HTTP/1.1 ").unwrap_or_default()..]);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(system.client.get("/healthz/live").await.status, 200);
}

/// Serves what the cases ask for, and counts it.
async fn counted(system: &System) -> Arc<AtomicUsize> {
    let mut requests = system.shop.bus.subscribe("svc.raw.echo", None).await.unwrap();
    system.shop.bus.barrier().await.unwrap();
    let (reached, bus) = (Arc::new(AtomicUsize::new(0)), system.shop.bus.clone());
    let counter = reached.clone();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            counter.fetch_add(1, Ordering::SeqCst);
            bus.publish(request.reply_to().unwrap(), &Headers::new(), "{}".into()).await.unwrap();
        }
    });
    system.shop.announce_raw(&["echo"]).await;
    let served = || async { system.client.send("POST", "/raw/echo", &[], "{}").await.status == 200 };
    eventually(SOON, served).await;
    reached
}

/// Sends the bytes, and returns everything that comes back.
async fn exchange(system: &System, bytes: &[u8], cut: usize) -> String {
    let mut stream = TcpStream::connect(system.address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (first, rest) = bytes.split_at(cut.min(bytes.len()));
    for piece in [first, rest].into_iter().filter(|piece| !piece.is_empty()) {
        // A connection that is closed over a refusal takes no more.
        let _ = stream.write_all(piece).await;
        tokio::task::yield_now().await;
    }
    super::client::rest(&mut stream).await
}

/// Returns the status of every response; bodies are short documents that hold no status line.
fn statuses(answer: &str) -> Vec<u16> {
    let lines = answer.match_indices("HTTP/1.1 ").map(|(at, line)| &answer[at + line.len()..]);
    lines.filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
}
