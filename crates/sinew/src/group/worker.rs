//! A member of a consumer group at work: take as many events as there are free hands, settle each exactly one way.
//!
//! Settled means acknowledged, handed back with a delay, or kept as a dead letter. A dead letter is stored before the
//! event is given up, so that a crash in between duplicates it and never loses it.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::FutureExt;
use serde::Deserialize;
use sinew_wire::{Headers, Problem, Subject, header};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{Failure, Group, Halt, React};
use crate::{
    Bus, Ctx, Deadline, Error, Kind,
    bus::{Delivery, Message, Pull, PullConfig},
    publish::{EVENTS, GIVEN_UP, GIVING_UP},
    telemetry::SpanKind,
};

const DEAD_LETTER_TIMEOUT: Duration = Duration::from_secs(10);
/// The server's own limit stays this far above ours, so that it never gives up on an event before we kept it.
const DELIVERY_MARGIN: u32 = 20;
/// Deliveries that may end without a word before the event is taken for one that crashes its process. A member that
/// stops hands back what it did not begin, which the server counts as a delivery too.
const SILENT_DELIVERIES: u32 = 5;
/// An event older than this begins a trace of its own: that of its publisher has long been looked at.
const PROMPT: Duration = Duration::from_secs(60);

/// Whether a group hears from the server.
#[derive(Clone, Debug)]
pub(crate) struct Health(Arc<AtomicBool>);

pub(super) struct Spec {
    pub(super) group: Group,
    pub(super) subject: &'static str,
    pub(super) event: &'static str,
    pub(super) react: React,
}

/// What the server says when it gives a message up.
#[derive(Deserialize)]
struct GivenUp {
    stream_seq: u64,
    deliveries: u32,
}

struct Member {
    spec: Spec,
    bus: Bus,
    service: Arc<str>,
    halt: Halt,
}

impl Health {
    /// Says whether the server answered lately.
    pub(crate) fn is_alive(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pub(super) async fn start(
    spec: Spec,
    bus: Bus,
    service: Arc<str>,
    tasks: &TaskTracker,
    halt: Halt,
) -> Result<Health, Error> {
    let group = &spec.group;
    let config = PullConfig {
        stream: EVENTS.to_owned(),
        // A sign that no name may hold: `a-b` of `c` is not `a` of `b-c`.
        durable: format!("{service}+{}", group.name),
        filter: spec.subject.to_owned(),
        ack_wait: group.ack_wait,
        max_deliver: i64::from(group.retry.attempts_limit().saturating_add(DELIVERY_MARGIN)),
        max_ack_pending: 10_000,
    };
    let pull = bus.pull(&config).await?;
    let lost = PullConfig {
        stream: GIVEN_UP.to_owned(),
        filter: format!("{GIVING_UP}.{}", config.durable),
        ack_wait: 2 * DEAD_LETTER_TIMEOUT,
        max_deliver: -1,
        ..config
    };
    let lost = bus.pull(&lost).await?;
    let health = Health(pull.life());
    let member = Arc::new(Member { spec, bus, service, halt });
    tasks.spawn(mourn(member.clone(), lost));
    tasks.spawn(run(member, pull));
    Ok(health)
}

async fn run(member: Arc<Member>, mut pull: Pull) {
    let stop = &member.halt.stop;
    let limit = member.spec.group.concurrency;
    let hands = Arc::new(Semaphore::new(limit));
    let work = TaskTracker::new();
    loop {
        // A hand is taken before a message is asked for: what is delivered is begun at once.
        let hand = tokio::select! {
            hand = hands.clone().acquire_owned() => hand,
            () = stop.cancelled() => break,
        };
        let Ok(hand) = hand else { break };
        let free = hands.available_permits() + 1;
        let delivery = tokio::select! {
            delivery = pull.next(free) => delivery,
            () = stop.cancelled() => break,
        };
        let Some(delivery) = delivery else { break };
        let member = member.clone();
        work.spawn(async move {
            member.handle(delivery).await;
            drop(hand);
        });
    }
    pull.stop().await;
    while let Some(unstarted) = pull.left().await {
        let _ = unstarted.nak(Duration::ZERO).await;
    }
    work.close();
    work.wait().await;
}

/// Keeps a dead letter of every event the server gave up: one whose headers break each connection it is sent on never
/// reaches a handler, or anybody who could bury it.
async fn mourn(member: Arc<Member>, mut lost: Pull) {
    loop {
        let advisory = tokio::select! {
            () = member.halt.stop.cancelled() => return,
            advisory = lost.next(1) => advisory,
        };
        let Some(advisory) = advisory else { return };
        let settled = match member.bury_unseen(&advisory.message).await {
            Ok(()) => advisory.ack().await,
            Err(error) => Err(error),
        };
        if let Err(error) = settled {
            tracing::warn!(group = member.spec.group.name, %error, "an event that was given up is not yet kept");
        }
    }
}

impl Member {
    async fn handle(&self, delivery: Delivery) {
        let attempt = delivery.attempt;
        let parent = delivery.message.trace();
        let tracer = self.bus.tracer();
        // A prompt first delivery is a child of its publisher; a later one may come long after that trace ended, so it
        // begins a new trace and only points back. Where nothing is recorded, the context is handed on as it came.
        let age = SystemTime::now().duration_since(delivery.stored).unwrap_or_default();
        let child = (attempt == 1 && age < PROMPT) || !tracer.is_on();
        let mut span = tracer
            .span(|| format!("process {}", self.spec.event), SpanKind::Consumer, parent.filter(|_| child))
            .with("messaging.system", || "nats".into())
            .with("messaging.consumer.group.name", || self.spec.group.name.clone())
            .with("messaging.message.delivery_attempt", || attempt.to_string());
        if let Some(parent) = parent {
            span.link(parent);
        }
        let ctx = Ctx::new(
            &self.bus,
            &self.service,
            delivery.message.clone(),
            Deadline::NONE,
            span.context(),
            attempt,
        );
        let limit = self.spec.group.retry.attempts_limit();
        let outcome = if attempt > limit.saturating_add(SILENT_DELIVERIES) {
            // Earlier attempts ended without a word: the process died in the middle of them, each time.
            Err(Failure::Handler(Problem::new(500, "crashed", "every attempt ended with the process")))
        } else {
            self.attempt(&delivery, ctx).await
        };
        match &outcome {
            Ok(()) => drop(span),
            Err(Failure::Poison(reason)) => span.fail(reason.clone()),
            Err(Failure::Handler(problem)) => span.fail(problem.to_string()),
            Err(Failure::Abandoned) => span.fail("the process stopped in the middle of it"),
        }
        if let Err(error) = self.settle(&delivery, outcome).await {
            tracing::warn!(group = self.spec.group.name, %error, "an event could not be settled and will come again");
        }
    }

    /// Runs the handler with panics caught, and tells the server meanwhile that the event is in work.
    async fn attempt(&self, delivery: &Delivery, ctx: Ctx) -> Result<(), Failure> {
        let running = AssertUnwindSafe((self.spec.react)(delivery.message.clone(), ctx)).catch_unwind();
        tokio::pin!(running);
        let mut beat = tokio::time::interval(self.spec.group.ack_wait / 3);
        beat.reset();
        loop {
            tokio::select! {
                outcome = &mut running => return outcome.unwrap_or_else(|panic| {
                    let text = crate::service::panic_text(&panic);
                    tracing::error!(group = self.spec.group.name, panic = text, "an event handler panicked");
                    Err(Failure::Handler(Problem::new(500, "panic", "the handler panicked").retriable()))
                }),
                () = self.halt.abandon.cancelled() => return Err(Failure::Abandoned),
                _ = beat.tick() => if let Err(error) = delivery.progress().await {
                    tracing::debug!(%error, "a sign of life could not be sent");
                },
            }
        }
    }

    async fn settle(&self, delivery: &Delivery, outcome: Result<(), Failure>) -> Result<(), Error> {
        let problem = match outcome {
            Ok(()) => return delivery.ack().await,
            Err(Failure::Poison(reason)) => {
                Problem::new(400, "poison", "the payload is not the event").detail(reason)
            }
            Err(Failure::Handler(problem)) => problem,
            Err(Failure::Abandoned) => return delivery.nak(Duration::ZERO).await,
        };
        let delay = self.spec.group.retry.delay(delivery.attempt, fastrand::f64()).filter(|_| problem.retry);
        match delay {
            Some(delay) => delivery.nak(delay).await,
            None => self.bury(delivery, &problem).await,
        }
    }

    /// Keeps the event as a dead letter, original bytes and headers, and only then gives it up.
    async fn bury(&self, delivery: &Delivery, problem: &Problem) -> Result<(), Error> {
        let mut headers = Headers::new();
        // Headers of NATS are orders to the server that were carried out when the event was stored.
        let own = delivery.message.headers();
        for (name, value) in own.iter().filter(|(name, _)| !is_order(name)) {
            headers.set(name.to_owned(), value)?;
        }
        self.obituary(&mut headers, problem, delivery.attempt, delivery.sequence)?;
        let kept = self.keep(&headers, delivery.message.payload().clone()).await;
        if kept.as_ref().is_err_and(|error| error.kind() == Kind::TooLarge) {
            // There is no room for event and reason in one message.
            self.keep_reference(headers).await?;
        } else {
            kept?;
        }
        delivery.term().await
    }

    /// Keeps an event that no member has seen.
    async fn bury_unseen(&self, advisory: &Message) -> Result<(), Error> {
        let GivenUp { stream_seq, deliveries } =
            serde_json::from_slice(advisory.payload()).map_err(|error| {
                Error::new(Kind::JetStream, "the server's advisory cannot be read").because(error)
            })?;
        let problem = Problem::new(500, "undeliverable", "no delivery of the event was answered");
        let mut headers = Headers::new();
        self.obituary(&mut headers, &problem, deliveries, stream_seq)?;
        self.keep_reference(headers).await
    }

    async fn keep_reference(&self, mut headers: Headers) -> Result<(), Error> {
        // The sequence says where the event still stands.
        headers.set("Sinew-Dead-Payload", "left in the stream")?;
        self.keep(&headers, Bytes::new()).await
    }

    async fn keep(&self, headers: &Headers, payload: Bytes) -> Result<(), Error> {
        let group = &self.spec.group.name;
        let subject = Subject::parse(format!("dlq.{}.{group}", self.service))
            .map_err(|error| Error::new(Kind::Config, error.to_string()))?;
        self.bus.publish_acked(subject.as_str(), headers, payload, DEAD_LETTER_TIMEOUT).await?;
        let told = |name| headers.get(name).unwrap_or_default();
        let (code, sequence) = (told("Sinew-Dead-Code"), told("Sinew-Dead-Sequence"));
        tracing::warn!(group, code, sequence, "an event became a dead letter");
        Ok(())
    }

    /// Writes what became of an event.
    fn obituary(
        &self,
        headers: &mut Headers,
        problem: &Problem,
        attempts: u32,
        sequence: u64,
    ) -> Result<(), Error> {
        let plain = |text: String| text.chars().filter(|c| !c.is_control()).take(500).collect::<String>();
        headers.set("Sinew-Dead-Reason", plain(problem.to_string()))?;
        headers.set("Sinew-Dead-Code", plain(problem.code.clone()))?;
        headers.set("Sinew-Dead-Attempts", attempts.to_string())?;
        headers.set("Sinew-Dead-Subject", self.spec.subject)?;
        headers.set("Sinew-Dead-Sequence", sequence.to_string())?;
        headers.set(header::MESSAGE_ID, format!("{}/{}/{sequence}", self.service, self.spec.group.name))?;
        Ok(())
    }
}

fn is_order(name: &str) -> bool {
    name.get(..5).is_some_and(|prefix| prefix.eq_ignore_ascii_case("nats-"))
}
