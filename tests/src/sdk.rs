//! The SDK against real servers: requests, events, what happens when the bus breaks, and what others see of a service.

mod barrier;
mod batches;
mod book;
mod calls;
mod cancels;
mod catalogue;
mod conformance;
mod connection;
mod crowds;
mod dead_letters;
mod deadlines;
mod discovery;
mod draining;
mod events;
mod extractors;
mod facts;
mod follow;
mod hostile;
mod identity;
mod inlet;
mod inspect;
mod kit;
mod lanes;
mod layers;
mod lost;
mod outage;
mod policies;
mod replay;
mod requests;
mod retries;
mod schedules;
mod seen;
mod store;
mod streams;
mod traces;
mod uploads;

use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::wire::{self, ContentType, Headers};
use sinew::{
    Bus, CallError, Config, Ctx, Event, Handler, Problem, Request, Running, Service, bus::Message, contract,
};

use crate::harness::Harness;

/// Longer than any test takes: a call that waits for it has hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// Says back what it is told.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "desk.echo", reply = String, error = DeskError, idempotent, http = "POST /echo")]
struct Echo {
    text: String,
}

#[derive(Clone, Debug, PartialEq, Problem)]
enum DeskError {
    /// out of stock
    #[problem(status = 409)]
    OutOfStock { sku: String },
    #[problem(status = 503, code = "busy", retry)]
    Busy,
}

contract! {
    /// Answers what it is asked.
    Desk = "desk" @ "1.2.3" { echo: Echo }
}

/// Something was written down.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "desk.noted", version = 3)]
struct Noted {
    number: u32,
}

/// A server, a connection for services and one for callers.
struct Stage {
    harness: Harness,
    bus: Bus,
    caller: Ctx,
}

impl Stage {
    async fn start() -> Self {
        Self::on(Harness::start().await).await
    }

    async fn on(harness: Harness) -> Self {
        let bus = connect(&harness, "desk").await;
        let caller = Ctx::detached(&connect(&harness, "caller").await, "caller");
        Self { harness, bus, caller }
    }

    /// Serves the desk's one operation.
    async fn serve<M: 'static>(&self, handler: impl Handler<Echo, (), M>) -> Running {
        self.start_service(desk((), handler)).await
    }

    async fn start_service<S: Clone + Send + Sync + 'static>(&self, service: Service<S>) -> Running {
        service.start(&self.bus).await.expect("start the service")
    }

    /// Calls once, so that what one call does can be counted.
    async fn call(&self, text: &str) -> Result<String, CallError<DeskError>> {
        self.caller.call(echo(text)).within(PATIENCE).no_retry().await
    }

    async fn publish(&self, number: u32) -> sinew::bus::PubAck {
        self.caller.publish(Noted { number }).await.expect("publish an event")
    }

    /// Sends a request as it is, and returns what came back as it is.
    async fn request(&self, headers: &[(&'static str, &str)], payload: impl Into<Bytes>) -> Message {
        let mut checked = Headers::new();
        for (name, value) in headers {
            checked.set(*name, *value).unwrap();
        }
        let reply = self.caller.bus().request(Echo::SUBJECT, &checked, payload.into(), PATIENCE);
        reply.await.expect("an answer")
    }
}

fn desk<S, M: 'static>(state: S, handler: impl Handler<Echo, S, M>) -> Service<S>
where
    S: Clone + Send + Sync + 'static,
{
    Service::new("desk", state).serve(Desk, |desk| desk.echo(handler))
}

fn echo(text: &str) -> Echo {
    Echo { text: text.to_owned() }
}

/// The plainest handler.
async fn repeat(request: Echo) -> Result<String, DeskError> {
    Ok(request.text)
}

async fn connect(harness: &Harness, name: &str) -> Bus {
    Bus::connect(Config::new(harness.url(), name)).await.expect("connect")
}

/// Returns the problem a reply carries.
fn problem(reply: &Message) -> Problem {
    sinew::problem_of(reply).expect("the reply is a problem")
}

fn pack(value: &impl Serialize) -> Bytes {
    wire::encode(ContentType::MessagePack, value).unwrap()
}

fn now() -> sinew::Timestamp {
    sinew::Timestamp::now()
}
