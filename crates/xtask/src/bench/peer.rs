//! The other side of each benchmark, in a process of its own, so that client and server do not share a runtime.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::post};
use bytes::Bytes;
use futures::StreamExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{
    Bus, Config, Problem, Request, Service, contract,
    wire::{ContentType, transcode},
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

use super::Error;

/// Linux accounts processor time to programs in hundredths of a second, on every architecture.
const TICK_MS: u64 = 10;

/// What every benchmark sends: about 256 bytes packed, 300 as JSON.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "bench.echo", reply = Sample, idempotent, http = "POST /echo")]
pub(super) struct Echo {
    pub(super) sample: Sample,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct Sample {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) tags: Vec<String>,
    pub(super) text: String,
}

/// One step of the benchmark saga.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "bench.step", reply = Step, idempotent)]
pub(super) struct Step {
    pub(super) payload: String,
}

/// A request that takes its time.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "bench.slow", reply = bool)]
pub(super) struct Slow {
    pub(super) text: String,
}

contract! {
    /// Answers with what it was asked.
    pub(super) Bench = "bench" @ "1.0.0" { echo: Echo, step: Step, slow: Slow }
}

/// A running peer; killed when dropped.
pub(super) struct Peer {
    child: Child,
    /// What it said when it was ready, for example its address.
    pub(super) said: String,
}

impl Peer {
    /// Starts this program again in the given part and waits until it is ready.
    pub(super) fn start(part: &str, nats: &str) -> Result<Self, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench-peer", part, nats]);
        Self::spawn(command)
    }

    /// As [`Peer::start`], with its spans sent to `collector`.
    pub(super) fn start_traced(part: &str, nats: &str, collector: &str) -> Result<Self, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench-peer", part, nats, collector]);
        Self::spawn(command)
    }

    /// Returns a figure of the kernel's about its memory (`VmRSS`, `VmHWM`), in megabytes.
    pub(super) fn resident(&self, field: &str) -> Result<f64, Error> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        Ok(kilobytes.ok_or("the kernel does not tell the memory of the peer")? / 1024.0)
    }

    /// Returns the processor time it has used.
    pub(super) fn processor(&self) -> Result<Duration, Error> {
        processor(self.child.id())
    }

    /// Starts any program that prints a line when it is ready.
    pub(super) fn spawn(mut command: Command) -> Result<Self, Error> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("the peer has no output")?;
        let mut said = String::new();
        BufReader::new(output).read_line(&mut said)?;
        Ok(Self { child, said: said.trim().to_owned() })
    }
}

/// Returns the processor time a process has used, as the kernel accounts it.
pub(super) fn processor(pid: u32) -> Result<Duration, Error> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name, in brackets, may hold blanks; what is wanted are the 12th and 13th fields behind it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * TICK_MS))
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It holds nothing worth draining.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sample {
    pub(super) fn new() -> Self {
        let tags = ["new", "gift", "fragile"].map(str::to_owned).to_vec();
        Self { id: 4_711, name: "a sample of middling size".to_owned(), tags, text: "x".repeat(150) }
    }
}

/// Plays a part until it is killed.
pub(super) async fn play(arguments: &[&str]) -> Result<(), Error> {
    let (part, nats, collector) = match arguments {
        [part, nats] => (part, nats, None),
        [part, nats, collector] => (part, nats, Some((*collector).to_owned())),
        _ => return Err("usage: bench-peer PART NATS_URL [COLLECTOR_URL]".into()),
    };
    if *part == "collector" {
        return collect().await;
    }
    let bus = Bus::connect(Config::new(*nats, *part).traced_to(collector)).await?;
    let edge = sinew_edge::Config { listen: ([127, 0, 0, 1], 0).into(), ..sinew_edge::Config::default() };
    match *part {
        "raw" => raw(nats).await,
        "service" => {
            let running = service().start(&bus).await?;
            ready("");
            sinew::shutdown::requested().await;
            running.drain().await;
            Ok(())
        }
        "slow" => {
            let running = service().limits(64, 1_024).start(&bus).await?;
            ready("");
            sinew::shutdown::requested().await;
            running.drain().await;
            Ok(())
        }
        "bridge" => bridge(nats).await,
        "edge" => {
            let running = sinew_edge::start(edge, bus).await?;
            ready(&running.local_addr().to_string());
            sinew::shutdown::requested().await;
            running.drain().await;
            Ok(())
        }
        "orchestrator" => {
            let running = sinew_orchestrator::start(sinew_orchestrator::Config::default(), bus).await?;
            while !running.is_ready() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            ready("");
            sinew::shutdown::requested().await;
            running.drain().await;
            Ok(())
        }
        other => Err(format!("there is no part {other}").into()),
    }
}

fn service() -> Service<()> {
    Service::new("bench", ()).serve(Bench, |s| s.echo(echo).step(step).slow(slow))
}

async fn echo(request: Echo) -> Result<Sample, Problem> {
    Ok(request.sample)
}

async fn step(request: Step) -> Result<Step, Problem> {
    Ok(request)
}

async fn slow(request: Slow) -> Result<bool, Problem> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(request.text.is_empty())
}

fn ready(what: &str) {
    println!("{what}");
}

/// Answers bytes with the same bytes and one header, as the service does.
async fn raw(nats: &str) -> Result<(), Error> {
    let client = async_nats::connect(nats).await?;
    let mut requests = client.queue_subscribe("raw.echo", "raw".to_owned()).await?;
    client.flush().await?;
    ready("");
    while let Some(message) = requests.next().await {
        let Some(reply) = message.reply else { continue };
        client
            .publish_with_headers(reply, headers(&[("content-type", "application/msgpack")]), message.payload)
            .await?;
    }
    Ok(())
}

/// Takes whatever is posted and throws it away, as cheaply as a socket allows.
async fn collect() -> Result<(), Error> {
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    ready(&format!("http://{}", listener.local_addr()?));
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(swallow(stream));
    }
    Ok(())
}

/// Reads one request after the other: a head, whose length says how much follows, and then as much.
async fn swallow(stream: tokio::net::TcpStream) -> std::io::Result<()> {
    let mut stream = tokio::io::BufReader::with_capacity(256 << 10, stream);
    let (mut line, mut length) = (String::new(), 0);
    while stream.read_line(&mut line).await? > 0 {
        if let Some((_, number)) =
            line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        {
            length = number.trim().parse().unwrap_or(0);
        }
        if line.trim().is_empty() {
            let mut rest = (&mut stream).take(length);
            tokio::io::copy_buf(&mut rest, &mut tokio::io::sink()).await?;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
        }
        line.clear();
    }
    Ok(())
}

/// What somebody would write by hand to put HTTP before one operation: axum, transcoding, one request.
async fn bridge(nats: &str) -> Result<(), Error> {
    let client = async_nats::connect(nats).await?;
    let app = Router::new().route("/echo", post(forward)).with_state(client);
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    ready(&listener.local_addr()?.to_string());
    axum::serve(listener, app).await?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the baseline is what the library offers by itself")]
async fn forward(
    State(client): State<async_nats::Client>,
    body: Bytes,
) -> Result<([(&'static str, &'static str); 1], Bytes), StatusCode> {
    let packed = transcode(ContentType::Json, ContentType::MessagePack, &body);
    let packed = packed.map_err(|_| StatusCode::BAD_REQUEST)?;
    let headers = headers(&[("content-type", "application/msgpack"), ("Sinew-Timeout", "30000")]);
    let reply = client.request_with_headers("svc.bench.echo", headers, packed).await;
    let reply = reply.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let text = transcode(ContentType::MessagePack, ContentType::Json, &reply.payload);
    Ok(([("content-type", "application/json")], text.map_err(|_| StatusCode::BAD_GATEWAY)?))
}

/// Makes a header map of values known to be safe.
#[expect(clippy::disallowed_methods, reason = "constant values")]
pub(super) fn headers(fields: &[(&'static str, &'static str)]) -> async_nats::HeaderMap {
    let mut map = async_nats::HeaderMap::new();
    for (name, value) in fields {
        map.insert(*name, *value);
    }
    map
}
