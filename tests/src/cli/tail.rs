//! `sinew tail` on a bus with a service of ours: what it shows, how it ends.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinew::{Bus, Config, Ctx, Event, Problem, Retry, Running, Service, bus::PubAck, wire::Headers};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
};

use super::program::{self, sinew};
use crate::harness::{Harness, SOON};

/// A letter came.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "post.arrived", version = 2)]
struct Arrived {
    number: u32,
    from: String,
}

/// Refuses 13 for good and 7 once.
async fn sort(event: Arrived, ctx: Ctx) -> Result<(), Problem> {
    match event.number {
        13 => Err(Problem::new(422, "unlucky", "nobody wants it")),
        7 if ctx.attempt() == 1 => Err(Problem::new(503, "busy", "try again").retriable()),
        _ => Ok(()),
    }
}

/// A running `sinew tail --json`.
struct Tail {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

#[tokio::test]
async fn stored_events_are_decoded_filtered_and_numbered() {
    let post = Post::open().await;
    for number in 1..=5 {
        post.publish(number).await;
    }
    let tail = |arguments: &'static [&'static str]| post.tail(arguments);
    let first = tail(&["post.arrived", "--since", "2", "--count", "1"]).await;
    assert_eq!((&first[0]["sequence"], &first[0]["type"]), (&json!(2), &json!("post.arrived.v2")));
    assert_eq!(first[0]["data"], json!({ "number": 2, "from": "ada" }));
    assert_eq!((&first[0]["verdict"], &first[0]["headers"]), (&json!("known"), &Value::Null));
    let chosen =
        tail(&["post.*", "--since", "1h", "--filter", "number>2", "--filter", "number!=4", "--count", "2"])
            .await;
    assert_eq!(numbers(&chosen), [3, 5]);
    let between = sinew::Timestamp::now().to_string();
    post.publish(6).await;
    assert_eq!(numbers(&post.tail(&["post.arrived", "--since", &between, "--count", "1"]).await), [6]);
    let with = tail(&["evt.post.arrived", "--since", "1", "--count", "1", "--headers", "--raw"]).await;
    assert_eq!(with[0]["headers"]["ce-type"], "post.arrived.v2");
    assert!(with[0]["raw"].as_str().unwrap().contains(r"\xa6number"), "{with:?}");
    post.close().await;
}

#[tokio::test]
async fn what_fits_no_contract_is_marked() {
    let post = Post::open().await;
    post.publish(1).await;
    for (id, event, data) in [("a", "post.arrived", r#"{"number":"x"}"#), ("b", "post.lost", "{}")] {
        let arguments =
            ["--nats-url", post.harness.url(), "publish", event, data, "--id", id, "--event-version", "2"];
        sinew(&[&arguments[..], &["--force"]].concat()).await.succeeded();
    }
    post.bus.publish_acked("evt.post.arrived", &Headers::new(), "{".into(), SOON).await.unwrap();
    let shown = post.tail(&["post.>", "--since", "1", "--count", "4"]).await;
    let verdicts: Vec<_> = shown.iter().map(|line| line["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["known", "unfit", "unknown", "undecodable"]);
    assert_eq!(shown[3]["raw"], "{");
    let text = sinew(&["--nats-url", post.harness.url(), "tail", "post.>", "--since", "1", "--count", "4"])
        .await
        .succeeded();
    for part in [
        "post.arrived.v2 #1  {\"number\":1,\"from\":\"ada\"}\n",
        "does not fit its contract: ",
        "in no contract",
        "undecodable: ",
    ] {
        assert!(text.stdout.contains(part), "{part} is missing in {}", text.stdout);
    }
    post.close().await;
}

#[tokio::test]
async fn live_messages_are_shown_as_they_pass_and_ctrl_c_ends_it() {
    let post = Post::open().await;
    let mut tail = Tail::start(&post, &["post.arrived"]);
    let first = tail.hears(async || {
        post.publish(1).await;
    });
    assert_eq!(first.await["data"]["number"], 1);
    program::interrupt(&tail.child);
    assert_eq!(program::ended(&mut tail.child).await, Some(0));
    post.close().await;
}

#[tokio::test]
async fn a_reader_that_stops_reading_does_not_hold_up_the_end() {
    let post = Post::open().await;
    let mut tail = Tail::start(&post, &["post.bulk"]);
    let payload = format!("\"{}\"", "x".repeat(20_000));
    let bulk = async || {
        post.bus.publish("evt.post.bulk", &Headers::new(), payload.clone().into()).await.unwrap();
    };
    tail.hears(&bulk).await;
    // Nobody reads from here on: a pipe holds a few of these, and the program has to stay able to end.
    for _ in 0..2_000 {
        bulk().await;
    }
    post.bus.barrier().await.unwrap();
    program::interrupt(&tail.child);
    assert_eq!(program::ended(&mut tail.child).await, Some(0));
    post.close().await;
}

#[tokio::test]
async fn a_group_shows_what_it_was_given_and_what_became_of_it() {
    let post = Post::open().await;
    let mut tail = Tail::start(&post, &["post-office/sorter", "--since", "1"]);
    let first = tail.lines.expect().await;
    assert_eq!(first["what"], "progress");
    for number in [1, 7, 13] {
        post.publish(number).await;
    }
    let mut seen = Vec::new();
    let dead = loop {
        let line = tail.lines.expect().await;
        seen.push(line["what"].as_str().unwrap().to_owned());
        let settled = line["settledBelow"] == 3;
        if settled && seen.iter().any(|what| what == "dead") && seen.iter().any(|what| what == "handed-back")
        {
            break line;
        }
    };
    assert_eq!((&dead["pending"], &dead["inHand"]), (&json!(0), &json!(0)));
    assert_eq!(seen.iter().filter(|what| *what == "given").count(), 3, "{seen:?}");
    assert_eq!(seen.iter().filter(|what| *what == "dead").count(), 1, "{seen:?}");
    program::interrupt(&tail.child);
    assert_eq!(program::ended(&mut tail.child).await, Some(0));
    let wrong = sinew(&["--json", "--nats-url", post.harness.url(), "tail", "post-office/sorted"]).await;
    assert_eq!((wrong.code, wrong.error_code()), (1, "SNW-5012".into()), "{wrong:?}");
    assert_eq!(wrong.error()["hint"], "did you mean post-office/sorter?");
    post.close().await;
}

#[tokio::test]
async fn requests_have_no_past() {
    let post = Post::open().await;
    let ran = sinew(&["--json", "--nats-url", post.harness.url(), "tail", "svc.a.b", "--since", "1m"]).await;
    assert_eq!((ran.code, ran.error_code()), (1, "SNW-5013".into()), "{ran:?}");
    let ran = sinew(&["--json", "tail", "a..b"]).await;
    assert_eq!((ran.code, ran.error_code()), (2, "SNW-5001".into()), "{ran:?}");
    post.close().await;
}

fn numbers(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|line| line["data"]["number"].as_u64().unwrap()).collect()
}

/// A post office on a server of its own.
struct Post {
    harness: Harness,
    bus: Bus,
    running: Running,
}

impl Post {
    async fn open() -> Self {
        let harness = Harness::start().await;
        let bus = Bus::connect(Config::new(harness.url(), "post-office")).await.unwrap();
        let retry = Retry::exponential(Duration::from_millis(50), Duration::from_millis(50)).attempts(3);
        let service = Service::new("post-office", ()).on("sorter", sort, |group| group.retry(retry));
        let running = service.start(&bus).await.unwrap();
        Self { harness, bus, running }
    }

    async fn publish(&self, number: u32) -> PubAck {
        let event = Arrived { number, from: "ada".into() };
        Ctx::detached(&self.bus, "post-office").publish(event).await.unwrap()
    }

    /// Runs a tail that ends by itself and returns its lines.
    async fn tail(&self, arguments: &[&str]) -> Vec<Value> {
        let ran = sinew(&[&["--json", "--nats-url", self.harness.url(), "tail"], arguments].concat())
            .await
            .succeeded();
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn close(self) {
        self.running.drain().await;
        self.bus.close().await;
    }
}

impl Tail {
    fn start(post: &Post, arguments: &[&str]) -> Self {
        let url = post.harness.url();
        let mut child = program::start(&[&["--json", "--nats-url", url, "tail"], arguments].concat());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Publishes until the first line comes: from then on it is known to listen.
    async fn hears(&mut self, publish: impl AsyncFn()) -> Value {
        let heard = async {
            loop {
                publish().await;
                if let Some(line) = self.lines.next_line_soon().await {
                    return line;
                }
            }
        };
        tokio::time::timeout(SOON, heard).await.expect("it listens")
    }
}

trait JsonLines {
    /// Returns the next line, which has to come.
    async fn expect(&mut self) -> Value;

    /// Returns the next line if it comes soon.
    async fn next_line_soon(&mut self) -> Option<Value>;
}

impl JsonLines for Lines<BufReader<ChildStdout>> {
    async fn expect(&mut self) -> Value {
        let line = tokio::time::timeout(SOON, self.next_line()).await.expect("a line comes");
        serde_json::from_str(&line.unwrap().expect("it goes on")).unwrap()
    }

    async fn next_line_soon(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(Duration::from_millis(50), self.next_line()).await.ok()?;
        line.unwrap().map(|line| serde_json::from_str(&line).unwrap())
    }
}
