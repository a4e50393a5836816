//! Plays the other side of a benchmark until it is killed: `bench-peer PART NATS_URL [COLLECTOR_URL | SHARDS | JSON]`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "whoever starts it reads what it prints")]

mod messages;

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use axum::{Router, extract::State, http::StatusCode, routing::post};
use bytes::Bytes;
use futures::StreamExt;
use mimalloc::MiMalloc;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{
    Bus, Config, Problem, Request, Service, contract,
    wire::{ContentType, transcode},
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

use messages::{Echo, Sample, Slow, headers};

/// As in the binary `sinew`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What a part may fail with; read by a person.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// One step of the benchmark saga.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "bench.step", reply = Step, idempotent)]
struct Step {
    payload: String,
}

contract! {
    /// Answers with what it was asked.
    Bench = "bench" @ "1.0.0" { echo: Echo, step: Step, slow: Slow }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match play(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn play(arguments: &[&str]) -> Result<(), Error> {
    let (part, nats, collector) = match arguments {
        ["orchestrator", nats, shards] => return orchestrate(nats, shards.parse()?).await,
        ["orchestrator", nats] => return orchestrate(nats, 1).await,
        ["configured-edge", nats, config] => return configured_edge(nats, config, false).await,
        ["reloading-edge", nats, config] => return configured_edge(nats, config, true).await,
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
        other => Err(format!("there is no part {other}").into()),
    }
}

/// Serves with the settings given as JSON; with `reloads` it changes its first route every second.
async fn configured_edge(nats: &str, config: &str, reloads: bool) -> Result<(), Error> {
    let config: sinew_edge::Config = serde_json::from_str(config)?;
    let config = sinew_edge::Config { listen: ([127, 0, 0, 1], 0).into(), ..config };
    let bus = Bus::connect(Config::new(nats, "edge")).await?;
    let running = sinew_edge::start(config.clone(), bus).await?;
    ready(&running.local_addr().to_string());
    if reloads {
        return reload(running.reloader(), config).await;
    }
    sinew::shutdown::requested().await;
    running.drain().await;
    Ok(())
}

/// Goes on until the process is killed.
async fn reload(reloader: sinew_edge::Reloader, mut config: sinew_edge::Config) -> Result<(), Error> {
    for number in 0.. {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Some(first) = config.routes.first_mut() {
            first.matches.path = format!("/changed/{number}");
        }
        reloader.reload(config.clone()).await?;
    }
    Ok(())
}

async fn orchestrate(nats: &str, shards: u16) -> Result<(), Error> {
    let bus = Bus::connect(Config::new(nats, "orchestrator")).await?;
    let config = sinew_orchestrator::Config { shards, ..sinew_orchestrator::Config::default() };
    let running = sinew_orchestrator::start(config, bus).await?;
    while !running.is_ready() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    ready("");
    sinew::shutdown::requested().await;
    running.drain().await;
    Ok(())
}

fn service() -> Service<()> {
    Service::new("bench", ()).serve(Bench, |s| s.echo(echo).step(step).slow(slow))
}

async fn echo(request: Echo) -> Result<Sample, Problem> {
    Ok(request.sample)
}

async fn step(request: Step) -> Result<Step, Problem> {
    if request.payload == "refuse" {
        return Err(Problem::new(409, "told-to-refuse", "the step was told to refuse"));
    }
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
