//! A member that takes many events at once: gather until there are enough or the first has waited long enough, hand
//! them over, settle each as its own outcome says.
//!
//! What is gathered and not yet begun is kept alive at the server by signs of life, so that a slow batch does not cost
//! the next one its deliveries. A batch that fails as a whole is tried again as a whole; before that would make dead
//! letters of its events, each is tried alone, so that one of them cannot take its neighbours along.

use std::{marker::PhantomData, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use sinew_wire::{BatchDescriptor, Event, GroupDescriptor, TraceContext};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};
use tokio_util::task::TaskTracker;

use super::{
    Failure, Group, GroupSpec, Halt, Health, React, Retry, decode, describe,
    inlet::Arrival,
    settle::Verdict,
    validate, worker,
    worker::{Inlets, Member},
};
use crate::{
    Batch, BatchHandler, Bus, Ctx, Error,
    bus::Message,
    telemetry::{Span, SpanKind},
};

/// The settings of a consumer group that takes events in batches.
#[derive(Clone, Debug)]
pub struct BatchGroup {
    group: Group,
    max: usize,
    linger: Duration,
}

/// Reacts to one batch: an outcome for each message.
type ReactAll = Arc<dyn Fn(Vec<(Message, Ctx)>, Ctx) -> BoxFuture<'static, Reaction> + Send + Sync>;

struct Reaction {
    each: Vec<Result<(), Failure>>,
    /// Whether the batch failed as a whole, so that nothing is known of its single events.
    whole: bool,
}

struct Typed<E, H, M> {
    group: BatchGroup,
    handler: H,
    types: PhantomData<fn(E, M)>,
}

impl BatchGroup {
    pub(crate) fn new(name: &str) -> Self {
        Self { group: Group::new(name).concurrency(1), max: 100, linger: Duration::from_millis(50) }
    }

    /// Hands over at most `limit` events at once. Default: 100; at most 5,000.
    #[must_use]
    pub fn max(mut self, limit: usize) -> Self {
        self.max = limit.clamp(1, 5_000);
        self
    }

    /// Waits this long for more events after the first. Default: 50 milliseconds.
    #[must_use]
    pub fn linger(mut self, wait: Duration) -> Self {
        self.linger = wait.min(Duration::from_secs(60));
        self
    }

    /// Handles up to `limit` batches at once in this process. Default: 1.
    #[must_use]
    pub fn concurrency(mut self, limit: usize) -> Self {
        self.group = self.group.concurrency(limit);
        self
    }

    /// Sets how an event that failed is tried again, with its batch or alone, before it becomes a dead letter.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.group = self.group.retry(retry);
        self
    }

    /// As [`Group::ack_wait`].
    #[must_use]
    pub fn ack_wait(mut self, wait: Duration) -> Self {
        self.group = self.group.ack_wait(wait);
        self
    }

    /// As [`Group::longest_hold`].
    #[must_use]
    pub fn longest_hold(mut self, limit: Duration) -> Self {
        self.group = self.group.longest_hold(limit);
        self
    }
}

pub(crate) fn spec<E, S, H, M>(group: BatchGroup, handler: H) -> Box<dyn GroupSpec<S>>
where
    E: Event,
    S: Clone + Send + Sync + 'static,
    H: BatchHandler<E, S, M>,
    M: Send + Sync + 'static,
{
    Box::new(Typed { group, handler, types: PhantomData::<fn(E, M)> })
}

impl<E, S, H, M> GroupSpec<S> for Typed<E, H, M>
where
    E: Event,
    S: Clone + Send + Sync + 'static,
    H: BatchHandler<E, S, M>,
    M: Send + Sync + 'static,
{
    fn describe(&self) -> GroupDescriptor {
        let BatchGroup { group, max, linger } = &self.group;
        let batch = BatchDescriptor {
            max: u32::try_from(*max).unwrap_or(u32::MAX),
            linger_ms: u64::try_from(linger.as_millis()).unwrap_or(u64::MAX),
        };
        GroupDescriptor { batch: Some(batch), ..describe::<E>(group) }
    }

    fn validate(&self) -> Result<(), Error> {
        validate(&self.group.group)
    }

    fn start<'a>(
        &'a self,
        bus: &'a Bus,
        service: &'a Arc<str>,
        state: S,
        tasks: &'a TaskTracker,
        halt: &'a Halt,
    ) -> BoxFuture<'a, Result<Health, Error>> {
        let handler = self.handler.clone();
        let all: ReactAll =
            Arc::new(move |messages, ctx| Box::pin(react_all(handler.clone(), messages, ctx, state.clone())));
        let together = all.clone();
        let alone: React = Arc::new(move |message, ctx: Ctx| {
            let reaction = together(vec![(message, ctx.clone())], ctx);
            Box::pin(async move { reaction.await.each.pop().unwrap_or(Ok(())) })
        });
        let BatchGroup { group, max, linger } = self.group.clone();
        let spec = worker::Spec {
            group,
            subject: E::SUBJECT.into(),
            event: E::NAME.into(),
            react: alone,
            order: None,
        };
        let member = Member::new(spec, bus, service, halt);
        Box::pin(async move {
            let (inlets, health) = member.join(tasks).await?;
            let gatherer = Gatherer { member, all, max, linger, gathered: Vec::new(), begun: None };
            tasks.spawn(gatherer.run(inlets));
            Ok(health)
        })
    }
}

/// Decodes what can be decoded and hands it over; the rest is poison, and no handler sees it.
async fn react_all<E, S, H, M>(handler: H, messages: Vec<(Message, Ctx)>, ctx: Ctx, state: S) -> Reaction
where
    E: Event,
    H: BatchHandler<E, S, M>,
{
    let (mut each, mut events, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (place, (message, ctx)) in messages.into_iter().enumerate() {
        each.push(decode::<E>(&message).map(|event| {
            events.push((event, ctx));
            places.push(place);
        }));
    }
    if events.is_empty() {
        return Reaction { each, whole: false };
    }
    match handler.react(Batch::new(events), ctx, state).await {
        Ok(outcomes) => {
            for (place, outcome) in places.into_iter().zip(outcomes.into_vec()) {
                each[place] = outcome.map_err(Failure::Handler);
            }
            Reaction { each, whole: false }
        }
        Err(problem) => {
            let whole = places.len() > 1;
            for place in places {
                each[place] = Err(Failure::Handler(problem.clone()));
            }
            Reaction { each, whole }
        }
    }
}

/// Gathers batches and hands them over.
struct Gatherer {
    member: Arc<Member>,
    all: ReactAll,
    max: usize,
    linger: Duration,
    gathered: Vec<Arrival>,
    /// When the first of them came.
    begun: Option<Instant>,
}

impl Gatherer {
    async fn run(mut self, Inlets { mut events, mut own }: Inlets) {
        let halt = self.member.halt.clone();
        let hands = Arc::new(Semaphore::new(self.member.spec.group.concurrency));
        let work = TaskTracker::new();
        let mut beat = tokio::time::interval(self.member.spec.group.ack_wait / 3);
        let mut ripe = false;
        loop {
            // Both inlets may bring as many as there is room for: what comes on top waits for the next batch.
            let room = self.max.saturating_sub(self.gathered.len());
            let full = room == 0;
            let end = self.begun.map_or_else(Instant::now, |begun| begun + self.linger);
            tokio::select! {
                () = halt.stop.cancelled() => break,
                hand = hands.clone().acquire_owned(), if full || ripe => {
                    let Ok(hand) = hand else { break };
                    let batch = self.take();
                    let (member, all) = (self.member.clone(), self.all.clone());
                    work.spawn(async move {
                        member.handle_all(batch, all).await;
                        drop(hand);
                    });
                    ripe = false;
                }
                delivery = events.next(room) => match delivery {
                    Some(delivery) => self.add(Arrival::direct(delivery)),
                    None => break,
                },
                delivery = own.next(room) => match delivery {
                    Some(delivery) => self.add(Arrival::redelivered(delivery)),
                    None => break,
                },
                () = sleep_until(end), if self.begun.is_some() && !ripe => ripe = true,
                _ = beat.tick(), if self.begun.is_some() => progress(self.gathered.iter()).await,
            }
        }
        for unstarted in self.gathered {
            let _ = unstarted.delivery.nak(Duration::ZERO).await;
        }
        for mut pull in [events, own] {
            pull.stop().await;
            while let Some(unstarted) = pull.left().await {
                let _ = unstarted.nak(Duration::ZERO).await;
            }
        }
        work.close();
        work.wait().await;
    }

    fn add(&mut self, arrival: Arrival) {
        self.begun.get_or_insert_with(Instant::now);
        self.gathered.push(arrival);
    }

    fn take(&mut self) -> Vec<Arrival> {
        let rest = self.gathered.split_off(self.max.min(self.gathered.len()));
        self.begun = (!rest.is_empty()).then(Instant::now);
        std::mem::replace(&mut self.gathered, rest)
    }
}

impl Member {
    async fn handle_all(&self, arrivals: Vec<Arrival>, all: ReactAll) {
        // One that ended its process again and again does not come along.
        let (crashed, sound): (Vec<_>, Vec<_>) =
            arrivals.into_iter().partition(|arrival| self.crashed(arrival).is_some());
        for arrival in crashed {
            self.handle(arrival).await;
        }
        let arrivals = sound;
        if arrivals.is_empty() {
            return;
        }
        let span = self.span_all(&arrivals);
        let trace = span.context();
        let Reaction { each, whole } = self.attempt_all(&arrivals, all, trace).await;
        match each.iter().find_map(|outcome| outcome.as_ref().err()) {
            Some(failure) => span.fail(failure.to_string()),
            None => drop(span),
        }
        let settle = arrivals.into_iter().zip(each).map(|(arrival, outcome)| async move {
            let verdict = self.judge(arrival.attempt(), outcome);
            if whole && matches!(verdict, Verdict::Bury(_)) {
                self.handle(arrival).await;
            } else {
                self.finish(&arrival, verdict, trace).await;
            }
        });
        futures::future::join_all(settle).await;
    }

    /// Runs the handler with panics caught, and tells the server meanwhile that the events are in work.
    async fn attempt_all(
        &self,
        arrivals: &[Arrival],
        all: ReactAll,
        trace: Option<TraceContext>,
    ) -> Reaction {
        let messages =
            arrivals.iter().map(|arrival| (arrival.delivery.message.clone(), self.ctx(arrival, trace)));
        let ctx = Ctx::traced(&self.bus, &self.service, trace);
        let running = AssertUnwindSafe(all(messages.collect(), ctx)).catch_unwind();
        tokio::pin!(running);
        let mut beat = tokio::time::interval(self.spec.group.ack_wait / 3);
        beat.reset();
        let everyone = |failure: fn() -> Failure| arrivals.iter().map(|_| Err(failure())).collect();
        loop {
            tokio::select! {
                reaction = &mut running => return reaction.unwrap_or_else(|panic| {
                    self.report(&panic);
                    Reaction { each: everyone(worker::panicked), whole: arrivals.len() > 1 }
                }),
                () = self.halt.abandon.cancelled() => {
                    return Reaction { each: everyone(|| Failure::Abandoned), whole: false };
                }
                _ = beat.tick() => progress(arrivals.iter()).await,
            }
        }
    }

    /// Begins the span of one batch: a trace of its own that points to every publisher's.
    fn span_all(&self, arrivals: &[Arrival]) -> Span {
        let tracer = self.bus.tracer();
        let mut span = tracer
            .span(|| format!("process {}", self.spec.event), SpanKind::Consumer, None)
            .with("messaging.system", || "nats")
            .with("messaging.consumer.group.name", || self.spec.group.name.clone())
            .with("messaging.batch.message_count", || u32::try_from(arrivals.len()).unwrap_or(u32::MAX));
        for publisher in arrivals.iter().filter_map(|arrival| arrival.delivery.message.trace()) {
            span.link(publisher);
        }
        span
    }
}

async fn progress(arrivals: impl Iterator<Item = &Arrival>) {
    for delivery in arrivals.map(|arrival| &arrival.delivery) {
        if let Err(error) = delivery.progress().await {
            tracing::debug!(%error, "a sign of life could not be sent");
            return;
        }
    }
}
