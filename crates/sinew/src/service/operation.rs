//! One operation at work: take, admit, run, answer. Every request is answered, and none after its deadline as success.

use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use futures::{FutureExt, future::BoxFuture};
use sinew_wire::{ContentType, Problem};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{Answer, BoxError, Invocation, OperationService, in_flight::InFlight};
use crate::{
    Bus, Ctx, Deadline,
    bus::Message,
    error::DEADLINE_EXCEEDED,
    pace::Pace,
    telemetry::{Attributes, SpanKind},
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
    /// Whether a stream follows its requests.
    pub(super) upload: bool,
    pub(super) inner: Inner,
    pub(super) stats: Stats,
    pub(super) pace: Pace,
    /// What the span of every request says.
    pub(super) attributes: Attributes,
}

/// What answers.
pub(super) enum Inner {
    /// A handler without layers.
    Plain(Handle),
    /// Layers, and a handler behind them.
    Layered(OperationService),
}

/// A handler with its types and its state put away.
pub(super) type Handle = Box<dyn Fn(Message, Ctx) -> BoxFuture<'static, Answer> + Send + Sync>;

/// A hand at one request: counted while it is held, however it is let go.
pub(super) struct AtWork<'a>(&'a Stats);

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
    /// Requests that hold a hand just now, streams included.
    in_flight: AtomicUsize,
    /// Written on failures only, and never held across an await.
    last_error: Mutex<String>,
}

impl Stats {
    /// Returns the text of the last failure; empty where there was none.
    pub(super) fn last_error(&self) -> String {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns how many requests are in work.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts the time a request was in work.
    pub(super) fn took(&self, began: Instant) {
        let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, problem: &Problem) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = problem.to_string();
    }
}

impl<'a> AtWork<'a> {
    pub(super) fn begin(stats: &'a Stats) -> Self {
        stats.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(stats)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Works on one request with the hand it was given. `began` is now.
pub(super) async fn work(
    shop: &Shop,
    operation: &Operation,
    message: Message,
    deadline: Deadline,
    began: Instant,
    _hand: OwnedSemaphorePermit,
) {
    let _at_work = AtWork::begin(&operation.stats);
    if deadline.has_passed_at(began) {
        // Nobody waits for this any more and nothing was begun, so nothing is begun.
        return reply(shop, operation, &message, Answer::problem(late(), wanted(&message))).await;
    }
    let tracer = shop.bus.tracer();
    // Where nothing is recorded, the context is read by whoever asks for it.
    let parent = tracer.is_on().then(|| message.trace()).flatten();
    let span = tracer
        .operation(&shop.service, &operation.name, SpanKind::Server, parent)
        .with_all(&operation.attributes);
    let ctx = Ctx::new(&shop.bus, &shop.service, message.clone(), deadline, span.context(), 1);
    let running = || run(operation, &message, ctx.clone(), deadline);
    let answer = match operation.stream {
        // Boxed: no other request has to carry the room a stream needs.
        true => {
            let _token = shop.streams.token();
            Box::pin(super::stream::run(shop, operation, &message, deadline, running())).await
        }
        false if operation.upload => {
            let _token = shop.streams.token();
            Box::pin(super::upload::run(shop, operation, &message, &ctx, running())).await
        }
        // Pinned here: handed on by value, it would take its room twice.
        false => shop.in_flight.unless_gone(message.reply_to(), &ctx, pin!(running())).await,
    };
    operation.stats.took(began);
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
pub(super) async fn run(operation: &Operation, message: &Message, ctx: Ctx, deadline: Deadline) -> Answer {
    let running =
        AssertUnwindSafe(operation.inner.answer(&operation.name, message.clone(), ctx)).catch_unwind();
    let outcome = match deadline.at() {
        Some(at) => tokio::time::timeout_at(at, running).await,
        None => Ok(running.await),
    };
    let to = || wanted(message);
    match outcome {
        Err(_) => Answer::problem(late(), to()),
        // The runtime may finish both at once; a reply that would leave after the deadline is not a success.
        Ok(_) if deadline.has_passed() => Answer::problem(late(), to()),
        Ok(Ok(Ok(answer))) => answer,
        Ok(Ok(Err(error))) => Answer::problem(layer_problem(&operation.name, error), to()),
        Ok(Err(panic)) => Answer::problem(handler_panicked(operation, &panic), to()),
    }
}

impl Inner {
    /// Answers one request.
    async fn answer(&self, operation: &Arc<str>, message: Message, ctx: Ctx) -> Result<Answer, BoxError> {
        match self {
            Self::Plain(handle) => Ok(handle(message, ctx).await),
            Self::Layered(service) => {
                let invocation = Invocation { operation: operation.clone(), message, ctx };
                // Boxed: a request without layers does not carry their room.
                Box::pin(service.clone().oneshot(invocation)).await
            }
        }
    }
}

/// Puts a problem in the place of an answer the bus would not take.
fn fit(shop: &Shop, operation: &Operation, message: &Message, answer: Answer) -> Answer {
    let bytes = answer.headers.wire_len() + answer.payload.len();
    if bytes <= shop.bus.max_payload() {
        return answer;
    }
    tracing::error!(operation = %operation.name, bytes, "a reply is too large for the bus");
    let problem = Problem::new(502, "reply-too-large", "the reply is larger than the bus takes");
    Answer { line: answer.line, ..Answer::problem(problem, wanted(message)) }
}

/// Sends an answer. What is sent is taken out of it first: the rest is not kept until that is done.
pub(super) fn reply<'a>(
    shop: &'a Shop,
    operation: &'a Operation,
    message: &'a Message,
    answer: Answer,
) -> impl Future<Output = ()> + Send + 'a {
    if let Some(problem) = &answer.problem {
        operation.stats.failed(problem);
    }
    let Answer { headers, payload, line, .. } = answer;
    async move {
        let Some(to) = message.reply_to() else { return };
        if let Err(error) = shop.bus.post(to, None, &headers, &payload).await {
            tracing::warn!(operation = %operation.name, %error, "a reply could not be sent");
        }
        drop(line);
    }
}

pub(super) fn wanted(message: &Message) -> ContentType {
    crate::routes::codecs(message).map_or(ContentType::Json, |(_, to)| to)
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
