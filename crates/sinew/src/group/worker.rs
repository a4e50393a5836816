//! A member of a consumer group at work: take as many events as there are free hands, settle each exactly one way.
//!
//! A member has two inlets: the events everybody gets, and those that are due for this group only. Both are read alike,
//! and share the hands. How a delivery ends is in [`super::settle`].

use std::{
    borrow::Cow,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures::{FutureExt, poll};
use sinew_wire::{Problem, TraceContext};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use super::{
    Failure, Group, Halt, React,
    inlet::{self, Arrival},
    ordered,
    settle::STORE_TIMEOUT,
};
use crate::{
    Bus, Ctx, Deadline, Error,
    bus::{Begin, Delivery, Pull, PullConfig},
    pace::Pace,
    streams::{EVENTS, GIVEN_UP, GIVING_UP},
    telemetry::{Span, SpanKind},
};

/// The server's own limit stays this far above ours, so that it never gives up on an event before we kept it.
const DELIVERY_MARGIN: u32 = 20;
/// Deliveries that may end without a word before the event is taken for one that crashes its process. A member that
/// stops hands back what it did not begin, which the server counts as a delivery too.
const SILENT_DELIVERIES: u32 = 5;
/// Whether a group hears from the server.
#[derive(Clone, Debug)]
pub(crate) struct Health(pub(super) [Arc<AtomicBool>; 2]);

pub(super) struct Spec {
    pub(super) group: Group,
    /// What it takes; several subjects separated by commas.
    pub(super) subject: Cow<'static, str>,
    pub(super) event: Cow<'static, str>,
    pub(super) react: React,
    /// How events are ordered, where they are.
    pub(super) order: Option<ordered::Order>,
}

/// The two inlets of a member.
pub(super) struct Inlets {
    /// What everybody gets.
    pub(super) events: Pull,
    /// What is due for this group only.
    pub(super) own: Pull,
}

pub(super) struct Member {
    pub(super) spec: Spec,
    pub(super) bus: Bus,
    pub(super) service: Arc<str>,
    pub(super) halt: Halt,
    pub(super) pace: Pace,
}

impl Health {
    /// Says whether the server answered lately.
    pub(crate) fn is_alive(&self) -> bool {
        self.0.iter().all(|inlet| inlet.load(Ordering::Relaxed))
    }
}

pub(super) async fn start(
    spec: Spec,
    bus: Bus,
    service: Arc<str>,
    tasks: &TaskTracker,
    halt: Halt,
) -> Result<Health, Error> {
    let member = Member::new(spec, &bus, &service, &halt);
    if let Some(order) = member.spec.order.clone() {
        return ordered::start(member, order, tasks).await;
    }
    let (inlets, health) = member.join(tasks).await?;
    let hands = Arc::new(Semaphore::new(member.spec.group.concurrency));
    let Inlets { events, own } = inlets;
    tasks.spawn(run(member.clone(), events, hands.clone(), Arrival::direct));
    tasks.spawn(run(member, own, hands, Arrival::redelivered));
    Ok(health)
}

/// Reads one inlet. Each asks for as many messages as the member has hands, so twice as many may be here as can be
/// begun: the rest wait for a hand, and the server is told that they do.
async fn run(member: Arc<Member>, mut pull: Pull, hands: Arc<Semaphore>, arrive: fn(Delivery) -> Arrival) {
    let stop = &member.halt.stop;
    let slots = Arc::new(Semaphore::new(member.spec.group.concurrency));
    let work = TaskTracker::new();
    loop {
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot,
            () = stop.cancelled() => break,
        };
        let Ok(slot) = slot else { break };
        let free = slots.available_permits() + 1;
        let delivery = tokio::select! {
            delivery = pull.next(free) => delivery,
            () = stop.cancelled() => break,
        };
        let Some(delivery) = delivery else { break };
        let arrival = arrive(delivery);
        let handling = Box::pin(member.clone().take(arrival, hands.clone(), slot));
        begin(&member.pace, &work, handling).await;
    }
    pull.stop().await;
    while let Some(unstarted) = pull.left().await {
        let _ = unstarted.nak(Duration::ZERO).await;
    }
    work.close();
    work.wait().await;
}

/// Begins in this task, which costs less; what has to wait for something goes on in a task of its own, and so does
/// everything of a handler that computes for long.
async fn begin(
    pace: &Pace,
    work: &TaskTracker,
    mut handling: Pin<Box<impl Future<Output = ()> + Send + 'static>>,
) {
    if pace.is_heavy(1) {
        work.spawn(handling);
        return;
    }
    let began = Instant::now();
    let waits = poll!(handling.as_mut()).is_pending();
    pace.note(began.elapsed(), 1);
    if waits {
        work.spawn(handling);
    }
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

/// What is said of an attempt that ended in a panic.
pub(super) fn panicked() -> Failure {
    Failure::Handler(Problem::new(500, "panic", "the handler panicked").retriable())
}

impl Member {
    pub(super) fn new(spec: Spec, bus: &Bus, service: &Arc<str>, halt: &Halt) -> Arc<Self> {
        let (bus, service, halt) = (bus.clone(), service.clone(), halt.clone());
        Arc::new(Self { spec, bus, service, halt, pace: Pace::default() })
    }

    /// Joins both consumers of the group, and begins to look after what the server gives up.
    pub(super) async fn join(self: &Arc<Self>, tasks: &TaskTracker) -> Result<(Inlets, Health), Error> {
        let events = self.bus.pull(&self.consumer()).await?;
        let own = self.join_inlet(tasks).await?;
        let health = Health([events.life(), own.life()]);
        Ok((Inlets { events, own }, health))
    }

    /// Returns the settings of the consumer of what everybody gets.
    pub(super) fn consumer(&self) -> PullConfig {
        let group = &self.spec.group;
        PullConfig {
            stream: EVENTS.to_owned(),
            // A sign that no name may hold: `a-b` of `c` is not `a` of `b-c`.
            durable: format!("{}+{}", self.service, group.name),
            filter: self.spec.subject.clone().into_owned(),
            ack_wait: group.ack_wait,
            max_deliver: i64::from(group.retry.attempts_limit().saturating_add(DELIVERY_MARGIN)),
            max_ack_pending: 10_000,
            begin: group.begin,
        }
    }

    /// Joins the consumer of the group's own inlet, and begins to look after what the server gives up.
    pub(super) async fn join_inlet(self: &Arc<Self>, tasks: &TaskTracker) -> Result<Pull, Error> {
        let events = self.consumer();
        let lost = PullConfig {
            stream: GIVEN_UP.to_owned(),
            filter: format!("{GIVING_UP}.*.{}", events.durable),
            ack_wait: 2 * STORE_TIMEOUT,
            max_deliver: -1,
            begin: Begin::First,
            ..events.clone()
        };
        let own = self.bus.pull(&inlet::consumer(&events, &self.service, &self.spec.group.name)).await?;
        let lost = self.bus.pull(&lost).await?;
        tasks.spawn(mourn(self.clone(), lost));
        Ok(own)
    }

    /// Waits for a free hand, and tells the server meanwhile that the event is not forgotten. `None` when the member
    /// stops first: the event was handed back.
    async fn hand(&self, delivery: &Delivery, hands: Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        let mut beat = tokio::time::interval(self.spec.group.ack_wait / 3);
        beat.reset();
        let hand = hands.acquire_owned();
        tokio::pin!(hand);
        loop {
            tokio::select! {
                biased;
                hand = &mut hand => return hand.ok(),
                () = self.halt.stop.cancelled() => {
                    let _ = delivery.nak(Duration::ZERO).await;
                    return None;
                }
                _ = beat.tick() => if let Err(error) = delivery.progress().await {
                    tracing::debug!(%error, "a sign of life could not be sent");
                },
            }
        }
    }

    async fn take(self: Arc<Self>, arrival: Arrival, hands: Arc<Semaphore>, _slot: OwnedSemaphorePermit) {
        let hand = match hands.clone().try_acquire_owned() {
            Ok(hand) => Some(hand),
            // Boxed: most find a hand, and need no room for waiting.
            Err(_) => Box::pin(self.hand(&arrival.delivery, hands)).await,
        };
        if let Some(_hand) = hand {
            self.handle(arrival).await;
        }
    }

    pub(super) async fn handle(&self, arrival: Arrival) {
        let (outcome, trace) = self.react(&arrival, self.crashed(&arrival)).await;
        let verdict = self.judge(arrival.attempt(), outcome);
        self.finish(&arrival, verdict, trace).await;
    }

    /// Makes one attempt in a span of its own, unless it is known to be hopeless. Returns the context of the span too.
    pub(super) async fn react(
        &self,
        arrival: &Arrival,
        hopeless: Option<Failure>,
    ) -> (Result<(), Failure>, Option<TraceContext>) {
        let span = self.span(arrival);
        let trace = span.context();
        let outcome = match hopeless {
            Some(failure) => Err(failure),
            None => self.attempt(&arrival.delivery, self.ctx(arrival, trace)).await,
        };
        match &outcome {
            Ok(()) => drop(span),
            Err(failure) => span.fail(failure.to_string()),
        }
        (outcome, trace)
    }

    /// Returns what a handler is told of an event.
    pub(super) fn ctx(&self, arrival: &Arrival, trace: Option<TraceContext>) -> Ctx {
        let message = arrival.delivery.message.clone();
        let ctx = Ctx::new(&self.bus, &self.service, message, Deadline::NONE, trace, arrival.attempt());
        ctx.delivered(arrival.origin.sequence, arrival.origin.why)
    }

    /// Says that earlier attempts ended without a word: the process died in the middle of them, each time.
    pub(super) fn crashed(&self, arrival: &Arrival) -> Option<Failure> {
        let limit = self.spec.group.retry.attempts_limit().saturating_add(SILENT_DELIVERIES);
        (arrival.attempt() > limit)
            .then(|| Failure::Handler(Problem::new(500, "crashed", "every attempt ended with the process")))
    }

    /// Begins the span of one attempt.
    ///
    /// A prompt first delivery is a child of its publisher; a later one may come long after that trace ended, so it
    /// begins a new trace and only points back. Where nothing is recorded, the context is handed on as it came.
    fn span(&self, arrival: &Arrival) -> Span {
        let parent = arrival.delivery.message.trace();
        let tracer = self.bus.tracer();
        let child = arrival.is_prompt() || !tracer.is_on();
        let mut span = tracer
            .span(|| format!("process {}", self.spec.event), SpanKind::Consumer, parent.filter(|_| child))
            .with("messaging.system", || "nats")
            .with("messaging.consumer.group.name", || self.spec.group.name.clone())
            .with("messaging.message.delivery_attempt", || arrival.attempt());
        if let Some(parent) = parent {
            span.link(parent);
        }
        span
    }

    /// Runs the handler with panics caught, and tells the server meanwhile that the event is in work.
    async fn attempt(&self, delivery: &Delivery, ctx: Ctx) -> Result<(), Failure> {
        let running = AssertUnwindSafe((self.spec.react)(delivery.message.clone(), ctx)).catch_unwind();
        tokio::pin!(running);
        let ended = |outcome: std::thread::Result<Result<(), Failure>>| {
            outcome.unwrap_or_else(|panic| {
                self.report(&panic);
                Err(panicked())
            })
        };
        // What is done at once needs no timer.
        if let Poll::Ready(outcome) = poll!(running.as_mut()) {
            return ended(outcome);
        }
        let mut beat = tokio::time::interval(self.spec.group.ack_wait / 3);
        beat.reset();
        loop {
            tokio::select! {
                outcome = &mut running => return ended(outcome),
                () = self.halt.abandon.cancelled() => return Err(Failure::Abandoned),
                _ = beat.tick() => if let Err(error) = delivery.progress().await {
                    tracing::debug!(%error, "a sign of life could not be sent");
                },
            }
        }
    }

    pub(super) fn report(&self, panic: &Box<dyn std::any::Any + Send>) {
        let text = crate::service::panic_text(panic);
        tracing::error!(group = self.spec.group.name, panic = text, "an event handler panicked");
    }
}
