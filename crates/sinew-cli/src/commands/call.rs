//! `sinew call`: sends one request to an operation and prints the reply.

mod lines;

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use sinew::{
    Bus, Ctx, Kind,
    bus::Message,
    telemetry::SpanKind,
    wire::{ContentType, Headers, header},
};

use crate::{
    catalogue, discovery, document,
    error::Error,
    operation::{OperationName, duration},
    session::Session,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reaches services of Sinew and, in JSON, every NATS service that answers discovery.\n\nExamples:\n  sinew call greeter.hello '{\"name\":\"Ada\"}'\n  sinew call orders.place @order.json --key order-1 --timeout 5s\n  sinew call orders.import '{\"table\":\"sales\"}' --upload rows.jsonl"
)]
pub(crate) struct Args {
    /// The operation, as SERVICE.OPERATION
    #[arg(value_name = "SERVICE.OPERATION")]
    operation: OperationName,
    /// The request: JSON, @FILE or - for standard input
    #[arg(default_value = "{}", value_name = "JSON")]
    request: String,
    /// How long to wait for the reply, such as 500ms, 2s or 1m
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = duration)]
    timeout: Duration,
    /// Idempotency key: the same key means the same effect
    #[arg(long)]
    key: Option<String>,
    /// Send what follows the request: JSON lines of FILE, or - for standard input
    #[arg(long, value_name = "FILE")]
    upload: Option<String>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    if args.upload.as_deref() == Some("-") && args.request == "-" {
        let hint = "give the request as an argument or as @FILE, and the items on standard input";
        return Err(Error::usage("standard input cannot be both the request and its items").hint(hint));
    }
    let request = document::read(&args.request)?;
    let reply = session.on_bus(async |bus| call(bus, &args, &request).await).await?;
    session.output.value(&reply);
    Ok(())
}

async fn call(bus: &Bus, args: &Args, request: &Value) -> Result<Value, Error> {
    let name = || format!("{}/{}", args.operation.service, args.operation.operation);
    let span = bus.tracer().span(name, SpanKind::Client, None);
    let headers = headers(args, span.context().map(|trace| trace.to_string())).map_err(sinew::Error::from)?;
    let payload = sinew::wire::encode(ContentType::Json, request).map_err(sinew::Error::from)?;
    let sent = match &args.upload {
        None => send(bus, args, &headers, payload).await,
        Some(from) => upload(bus, args, headers, payload, lines::open(from)?).await,
    };
    match sent {
        Ok(message) => read(&message),
        Err(error) => {
            span.fail(error.to_string());
            match error.kind() {
                Kind::NoResponders => Err(catalogue::explain_absence(bus, &args.operation).await),
                _ => Err(error.into()),
            }
        }
    }
}

/// Sends it to where services of ours listen; when nobody is there, to where the service itself says that it does.
async fn send(bus: &Bus, args: &Args, headers: &Headers, payload: Bytes) -> Result<Message, sinew::Error> {
    let subject = args.operation.subject();
    let sent = bus.request(subject.as_str(), headers, payload.clone(), args.timeout).await;
    match sent {
        // It reached nobody, so sending it again is safe.
        Err(error) if error.kind() == Kind::NoResponders => match discovery::find(bus, &args.operation).await
        {
            Some(other) if other != *subject => {
                bus.request(other.as_str(), headers, payload, args.timeout).await
            }
            _ => Err(error),
        },
        sent => sent,
    }
}

/// Sends it with items behind it, as fast as the service takes them.
async fn upload(
    bus: &Bus,
    args: &Args,
    headers: Headers,
    payload: Bytes,
    items: lines::Lines,
) -> Result<Message, sinew::Error> {
    let subject = args.operation.subject().as_str().to_owned();
    let call = Ctx::detached(bus, "sinew").upload_raw(subject, payload, items.into_stream());
    call.headers(headers).within(args.timeout).await
}

fn headers(args: &Args, traceparent: Option<String>) -> Result<Headers, sinew::wire::InvalidHeader> {
    let mut headers = Headers::new();
    headers.set(header::CONTENT_TYPE, ContentType::Json.as_str())?;
    headers.set(header::ACCEPT, ContentType::Json.as_str())?;
    headers.set(header::TIMEOUT, args.timeout.as_millis().to_string())?;
    if let Some(key) = &args.key {
        headers.set(header::IDEMPOTENCY_KEY, key.as_str())?;
    }
    if let Some(traceparent) = traceparent {
        headers.set(header::TRACEPARENT, traceparent)?;
    }
    Ok(headers)
}

fn read(message: &Message) -> Result<Value, Error> {
    if let Some(problem) = sinew::problem_of(message) {
        return Err(problem.into());
    }
    if message.is_empty() {
        return Ok(Value::Null);
    }
    let reply = message.content_type().and_then(|codec| sinew::wire::decode(codec, message.payload()));
    reply.map_err(|error| {
        Error::from(sinew::Error::from(error))
            .hint("the service was reached, but answered neither in JSON nor in MessagePack")
    })
}
