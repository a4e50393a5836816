//! One operation at work: take, admit, run, answer. Every request is answered, and none after its deadline as success.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::FutureExt;
use sinew_wire::{ContentType, Headers, Problem, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{Answer, BoxError, Invocation, OperationService, in_flight::InFlight, shed};
use crate::{
    Bus, Ctx, Deadline,
    bus::{Message, Subscription},
    error::DEADLINE_EXCEEDED,
    telemetry::SpanKind,
};

/// Shared by the operations of one service.
pub(super) struct Shop {
    pub(super) bus: Bus,
    pub(super) service: Arc<str>,
    pub(super) hands: Arc<Semaphore>,
    pub(super) waiting: AtomicUsize,
    pub(super) queue: usize,
    pub(super) concurrency: usize,
    pub(super) tasks: TaskTracker,
    /// Holds a token for each running stream.
    pub(super) streams: TaskTracker,
    /// Ends the streams that outlast the drain.
    pub(super) abandon: CancellationToken,
    pub(super) in_flight: InFlight,
}

/// One operation.
pub(super) struct Operation {
    pub(super) name: Arc<str>,
    /// Whether it answers with a stream.
    pub(super) stream: bool,
    pub(super) inner: OperationService,
    pub(super) stats: Stats,
}

/// What `$SRV.STATS` shows.
#[derive(Default)]
pub(super) struct Stats {
    pub(super) requests: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) nanos: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) shed: AtomicU64,
    /// Given up because the caller went away.
    pub(super) cancelled: AtomicU64,
    /// Written on failures only, and never held across an await.
    last_error: Mutex<String>,
}

impl Stats {
    /// Returns the text of the last failure; empty where there was none.
    pub(super) fn last_error(&self) -> String {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn failed(&self, problem: &Problem) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = problem.to_string();
    }
}

/// Takes requests until `stop`; then reads what the server had already sent, so that nothing accepted is dropped.
pub(super) async fn serve(
    shop: Arc<Shop>,
    operation: Arc<Operation>,
    mut subscription: Subscription,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            message = subscription.next() => match message {
                Some(message) => admit(&shop, &operation, message),
                None => return,
            },
            () = stop.cancelled() => break,
        }
    }
    subscription.drain().await;
    while let Some(message) = subscription.next_drained().await {
        admit(&shop, &operation, message);
    }
}

fn admit(shop: &Arc<Shop>, operation: &Arc<Operation>, message: Message) {
    let (shop, operation) = (shop.clone(), operation.clone());
    operation.stats.requests.fetch_add(1, Ordering::Relaxed);
    let deadline = deadline(&message);
    if let Ok(hand) = shop.hands.clone().try_acquire_owned() {
        shop.tasks.clone().spawn(async move { work(&shop, &operation, message, deadline, hand).await });
        return;
    }
    if shop.waiting.fetch_add(1, Ordering::Relaxed) >= shop.queue {
        shop.waiting.fetch_sub(1, Ordering::Relaxed);
        operation.stats.shed.fetch_add(1, Ordering::Relaxed);
        shop.tasks.clone().spawn(async move {
            let pause = shed::pause(&shop, &operation.stats);
            let problem = Problem::new(503, "overloaded", "the service is overloaded").retry_after(pause);
            reply(&shop, &operation, &message, Answer::problem(problem, wanted(&message))).await;
        });
        return;
    }
    shop.tasks.clone().spawn(async move {
        let hand = hand(&shop, &message, deadline).await;
        shop.waiting.fetch_sub(1, Ordering::Relaxed);
        match hand {
            Some(Some(hand)) => work(&shop, &operation, message, deadline, hand).await,
            Some(None) => reply(&shop, &operation, &message, Answer::problem(late(), wanted(&message))).await,
            None => _ = operation.stats.cancelled.fetch_add(1, Ordering::Relaxed),
        }
    });
}

/// Waits for a free hand: within the deadline, as who waits for nothing must not keep others out of the queue, and unless
/// the caller goes away, which is the outer `None`.
async fn hand(shop: &Shop, message: &Message, deadline: Deadline) -> Option<Option<OwnedSemaphorePermit>> {
    let free = shop.hands.clone().acquire_owned();
    let free = async {
        // The semaphore is never closed.
        match deadline.remaining() {
            Some(left) => tokio::time::timeout(left, free).await.ok()?.ok(),
            None => free.await.ok(),
        }
    };
    match message.reply_to() {
        Some(reply_to) => shop.in_flight.guarded(reply_to, &CancellationToken::new(), free).await,
        None => Some(free.await),
    }
}

async fn work(
    shop: &Shop,
    operation: &Operation,
    message: Message,
    deadline: Deadline,
    _hand: OwnedSemaphorePermit,
) {
    if deadline.has_passed() {
        // Nobody waits for this any more and nothing was begun, so nothing is begun.
        return reply(shop, operation, &message, Answer::problem(late(), wanted(&message))).await;
    }
    let began = Instant::now();
    let tracer = shop.bus.tracer();
    let name = || format!("{}/{}", shop.service, operation.name);
    let span = tracer
        .span(name, SpanKind::Server, message.trace())
        .with("rpc.system", || "sinew".into())
        .with("messaging.destination.name", || message.subject().to_owned());
    let ctx = Ctx::new(&shop.bus, &shop.service, message.clone(), deadline, span.context(), 1);
    let running = run(operation, message.clone(), ctx.clone(), deadline);
    let _token = operation.stream.then(|| shop.streams.token());
    let answer = match operation.stream {
        true => super::stream::run(shop, operation, &message, deadline, running).await,
        false => shop.in_flight.unless_gone(message.reply_to(), &ctx, running).await,
    };
    operation
        .stats
        .nanos
        .fetch_add(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    let Some(answer) = answer else {
        // The handler was dropped, and with it the calls it was waiting for: that cancels them in turn.
        operation.stats.cancelled.fetch_add(1, Ordering::Relaxed);
        ctx.gone().cancel();
        return span.fail("the caller went away");
    };
    // What a stream sends it has measured itself.
    let answer = if operation.stream { answer } else { fit(shop, operation, &message, answer) };
    match &answer.problem {
        Some(problem) => span.fail(problem.to_string()),
        None => drop(span),
    }
    reply(shop, operation, &message, answer).await;
}

/// Runs layers and handler, bounded by the deadline, with panics caught.
async fn run(operation: &Operation, message: Message, ctx: Ctx, deadline: Deadline) -> Answer {
    let to = wanted(&message);
    let invocation = Invocation { operation: operation.name.clone(), message: message.clone(), ctx };
    let running = AssertUnwindSafe(operation.inner.clone().oneshot(invocation)).catch_unwind();
    let outcome = match deadline.remaining() {
        Some(left) => tokio::time::timeout(left, running).await,
        None => Ok(running.await),
    };
    match outcome {
        Err(_) => Answer::problem(late(), to),
        // The runtime may finish both at once; a reply that would leave after the deadline is not a success.
        Ok(_) if deadline.has_passed() => Answer::problem(late(), to),
        Ok(Ok(Ok(answer))) => answer,
        Ok(Ok(Err(error))) => Answer::problem(layer_problem(&operation.name, error), to),
        Ok(Err(panic)) => Answer::problem(handler_panicked(operation, &panic), to),
    }
}

/// Puts a problem in the place of an answer the bus would not take.
fn fit(shop: &Shop, operation: &Operation, message: &Message, answer: Answer) -> Answer {
    let bytes = wire_len(&answer.headers) + answer.payload.len();
    if bytes <= shop.bus.max_payload() {
        return answer;
    }
    tracing::error!(operation = %operation.name, bytes, "a reply is too large for the bus");
    let problem = Problem::new(502, "reply-too-large", "the reply is larger than the bus takes");
    Answer::problem(problem, wanted(message))
}

async fn reply(shop: &Shop, operation: &Operation, message: &Message, answer: Answer) {
    if let Some(problem) = &answer.problem {
        operation.stats.failed(problem);
    }
    let Some(to) = message.reply_to() else { return };
    if let Err(error) = shop.bus.publish(to, &answer.headers, answer.payload).await {
        tracing::warn!(operation = %operation.name, %error, "a reply could not be sent");
    }
}

fn deadline(message: &Message) -> Deadline {
    let budget =
        message.header(header::TIMEOUT).and_then(|text| text.parse().ok()).map(Duration::from_millis);
    budget.map_or(Deadline::NONE, Deadline::after)
}

pub(super) fn wanted(message: &Message) -> ContentType {
    crate::routes::codecs(message).map_or(ContentType::Json, |(_, to)| to)
}

/// The version line, `name: value` lines and an empty one, each ended by two bytes.
fn wire_len(headers: &Headers) -> usize {
    headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>() + 14
}

pub(super) fn late() -> Problem {
    Problem::new(504, DEADLINE_EXCEEDED, "the caller's deadline passed before the work was done")
}

/// Counts a panic and says what its caller is told.
pub(super) fn handler_panicked(operation: &Operation, panic: &Box<dyn std::any::Any + Send>) -> Problem {
    operation.stats.panics.fetch_add(1, Ordering::Relaxed);
    tracing::error!(operation = %operation.name, panic = panic_text(panic), "a handler panicked");
    Problem::new(500, "internal", "internal error")
}

fn layer_problem(operation: &str, error: BoxError) -> Problem {
    let error = match error.downcast::<Problem>() {
        Ok(problem) => return *problem,
        Err(error) => error,
    };
    tracing::warn!(operation, %error, "a layer refused a request");
    if error.is::<tower::timeout::error::Elapsed>() {
        // The handler was at work when it was given up: whoever reads "try again" must not think nothing was done.
        return Problem::new(504, DEADLINE_EXCEEDED, "the service did not finish the work in its own time");
    }
    Problem::new(503, "refused-by-layer", "the service cannot take the request now").retriable()
}

pub(crate) fn panic_text(panic: &Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
