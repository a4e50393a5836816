//! Calls: typed requests with a deadline. One place every call passes, so that policies have one place to stand.

mod attempts;
mod raw;

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use sinew_wire::{ContentType, Headers, Problem, Request, ServiceError, header};

use self::attempts::{Plan, Sent, Target};
use crate::{
    CallError, CallRetry, Ctx, Error, Kind, bus::Message, error::DEADLINE_EXCEEDED, telemetry::Span,
};

pub use raw::RawCall;

pub(crate) use attempts::transmit;

/// Longest wait of a call that says nothing and has no deadline above it.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// A call under way; dropping it cancels it.
pub type CallFuture<R> =
    Pin<Box<dyn Future<Output = Result<<R as Request>::Reply, CallError<<R as Request>::Error>>> + Send>>;

/// A call in preparation; awaiting it sends the request and waits for the reply.
///
/// An idempotent operation is tried again when that may help: nobody was there, the connection was down, the service
/// said `retry`, or an attempt brought no answer in its time. A call that carries an [idempotency
/// key](Call::idempotency_key) counts as idempotent. Every other operation is sent at most once. How often and how much
/// at all is in the [`policy`](crate::policy) of the service.
///
/// ```no_run
/// # use sinew::{workflow::GetWorkflow, Ctx};
/// # async fn demo(ctx: Ctx) -> Result<(), Box<dyn std::error::Error>> {
/// let request = GetWorkflow { name: "place-order".into(), id: "o-1".into() };
/// let instance = ctx.call(request).within(std::time::Duration::from_secs(1)).await?;
/// # Ok(()) }
/// ```
///
/// # Cancel safety
/// Dropping the future cancels the call: the service is told that nobody waits, and stops working on it, as do the
/// services it was calling itself. What had been done by then stays done.
#[must_use = "a call does nothing until it is awaited"]
pub struct Call<R> {
    ctx: Ctx,
    request: R,
    options: Options,
}

/// What a caller may ask for, typed or raw.
#[derive(Default)]
struct Options {
    within: Option<Duration>,
    headers: Headers,
    retry: Option<CallRetry>,
    hedge: Option<Duration>,
    invalid: Option<Error>,
}

impl<R: Request> Call<R> {
    pub(crate) fn new(ctx: Ctx, request: R) -> Self {
        Self { ctx, request, options: Options::default() }
    }

    /// Waits at most `limit`, or what is left of the caller's deadline where that is less. Default: 30 seconds.
    pub fn within(mut self, limit: Duration) -> Self {
        self.options.within = Some(limit);
        self
    }

    /// Sends the key under which the callee recognises a repetition. The call may then be tried again.
    pub fn idempotency_key(self, key: impl Into<String>) -> Self {
        self.header(header::IDEMPOTENCY_KEY, key)
    }

    /// Adds a header. One that cannot be sent fails the call before anything is sent.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.options.header(name, value.into());
        self
    }

    /// Tries again in this way, instead of the policy's. Refused for an operation that is not idempotent.
    pub fn retry(mut self, retry: CallRetry) -> Self {
        self.options.retry = Some(retry);
        self
    }

    /// Sends the request once.
    pub fn no_retry(mut self) -> Self {
        self.options.retry = Some(CallRetry::never());
        self
    }

    /// Asks a second time when no answer came within `pause`, and takes the answer that comes first; the other request
    /// is cancelled. Refused for an operation that is not idempotent.
    ///
    /// A second request comes out of the service's retry budget: when that is spent, the call goes on without. A good
    /// `pause` is what 95 of 100 calls stay below.
    pub fn hedge_after(mut self, pause: Duration) -> Self {
        self.options.hedge = Some(pause);
        self
    }

    /// Answers `value` when the service fails: nobody there, no answer in time, a 5xx, or a policy that did not let the
    /// call through. A refusal stays a refusal.
    ///
    /// The span of the last attempt says that it was used. Where the operation changes something, a failure may still
    /// have done so.
    ///
    /// ```no_run
    /// # use sinew::{workflow::ListDefinitions, Ctx};
    /// # async fn demo(ctx: Ctx) -> Result<(), Box<dyn std::error::Error>> {
    /// let definitions = ctx.call(ListDefinitions {}).fallback(Vec::new()).await?;
    /// # Ok(()) }
    /// ```
    pub fn fallback(self, value: R::Reply) -> CallFuture<R> {
        self.or_else(|error| std::future::ready(if error.is_failure() { Ok(value) } else { Err(error) }))
    }

    /// Decides what takes the place of a reply when the call fails in any way.
    ///
    /// ```no_run
    /// # use sinew::{workflow::{GetWorkflow, WorkflowInstance}, CallError, Ctx};
    /// # async fn look_up(id: &str) -> Option<WorkflowInstance> { None }
    /// # async fn demo(ctx: Ctx) -> Result<(), Box<dyn std::error::Error>> {
    /// let request = GetWorkflow { name: "place-order".into(), id: "o-1".into() };
    /// let instance = ctx.call(request).or_else(|error| async {
    ///     match look_up("o-1").await {
    ///         Some(known) if error.is_failure() => Ok(known),
    ///         _ => Err(error),
    ///     }
    /// });
    /// println!("{}", instance.await?.status);
    /// # Ok(()) }
    /// ```
    pub fn or_else<F, Fut>(self, fallback: F) -> CallFuture<R>
    where
        F: FnOnce(CallError<R::Error>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<R::Reply, CallError<R::Error>>> + Send,
    {
        let mut plan = self.plan();
        Box::pin(async move {
            let (outcome, mut span) = answer::<R>(plan.run().await);
            let Err(error) = outcome else { return outcome };
            let text = error.to_string();
            let instead = fallback(error).await;
            if instead.is_ok() {
                span.set("sinew.fallback", || "true");
                tracing::debug!(operation = R::SUBJECT, error = text, "a fallback took the place of a reply");
            }
            span.fail(text);
            instead
        })
    }

    fn plan(self) -> Plan {
        let payload = sinew_wire::encode(ContentType::MessagePack, &self.request).map_err(Error::from);
        let mut options = self.options;
        prepare(&mut options.headers, None);
        let names = Some((R::SERVICE, R::OPERATION));
        let target = Target { subject: R::SUBJECT.into(), names, idempotent: R::IDEMPOTENT };
        Plan::new(self.ctx, target, options, payload)
    }
}

impl<R: Request> IntoFuture for Call<R> {
    type Output = Result<R::Reply, CallError<R::Error>>;
    type IntoFuture = CallFuture<R>;

    fn into_future(self) -> Self::IntoFuture {
        let mut plan = self.plan();
        Box::pin(async move {
            let (outcome, span) = answer::<R>(plan.run().await);
            match &outcome {
                Err(error) => span.fail(error.to_string()),
                Ok(_) => drop(span),
            }
            outcome
        })
    }
}

impl Options {
    fn header(&mut self, name: &'static str, value: String) {
        if let Err(error) = self.headers.set(name, value) {
            self.invalid = Some(error.into());
        }
    }
}

/// Reads how a call ended. The last attempt's span is left open.
fn answer<R: Request>(sent: Sent) -> (Result<R::Reply, CallError<R::Error>>, Span) {
    let outcome = match sent.result {
        Ok(reply) => match reply.problem {
            Some(problem) => Err(refusal(*problem)),
            None => read::<R>(&reply.message),
        },
        Err(error) if sent.begun => Err(lost(error)),
        Err(error) => Err(CallError::NotSent(error)),
    };
    (outcome, sent.span)
}

fn read<R: Request>(message: &Message) -> Result<R::Reply, CallError<R::Error>> {
    let codec = message.content_type().map_err(|error| CallError::Incompatible(error.to_string()))?;
    sinew_wire::decode(codec, message.payload()).map_err(|error| CallError::Incompatible(error.to_string()))
}

/// Says what the problem in a reply means to the caller.
pub(crate) fn refusal<E: ServiceError>(problem: Problem) -> CallError<E> {
    // Said by the runtime of the service, not by its handler: the work was given up in the middle.
    if problem.status == 504 && problem.code == DEADLINE_EXCEEDED {
        return CallError::TimedOut;
    }
    match E::from_problem(&problem) {
        Some(error) => CallError::Refused(error),
        None if problem.status == 504 => CallError::TimedOut,
        None => CallError::Undeclared(problem),
    }
}

/// Returns the problem a reply carries, if it is one. A service of another stack may send a bare error header.
///
/// A message of a stream is a problem here as well: its first item must not be taken for the whole answer.
pub fn problem_of(message: &Message) -> Option<Problem> {
    // Nearly every reply is none, and every reply passes here.
    let names = [header::SERVICE_ERROR, header::SERVICE_ERROR_CODE, header::SEQ, header::END];
    if message.header_values(names) == [None; 4] {
        return None;
    }
    declared_problem(message).or_else(|| {
        let streams = message.header(header::SEQ).is_some() || message.header(header::END).is_some();
        streams.then(|| {
            Problem::new(501, "streaming-operation", "the operation answers with a stream")
                .detail("ask with Ctx::stream, or with a client that takes many replies to one request")
        })
    })
}

/// Returns the problem a message carries, of a stream or not.
pub(crate) fn declared_problem(message: &Message) -> Option<Problem> {
    let text = message.header(header::SERVICE_ERROR);
    let code = message.header(header::SERVICE_ERROR_CODE);
    if text.is_none() && code.is_none() {
        return None;
    }
    let codec = message.content_type().unwrap_or_default();
    let problem =
        (!message.is_empty()).then(|| sinew_wire::decode::<Problem>(codec, message.payload()).ok()).flatten();
    Some(problem.unwrap_or_else(|| {
        let status =
            code.and_then(|code| code.parse().ok()).filter(|code| (400..600).contains(code)).unwrap_or(500);
        Problem::new(status, "service-error", text.unwrap_or("the service answered with an error"))
    }))
}

/// Writes the headers every request carries.
pub(crate) fn prepare(headers: &mut Headers, limit: Option<Duration>) {
    // Both values are plain ASCII.
    let _ = headers.set(header::CONTENT_TYPE, ContentType::MessagePack.as_str());
    if let Some(limit) = limit {
        let _ = headers.set_display(header::TIMEOUT, limit.as_millis().max(1));
    }
}

fn lost<E>(error: Error) -> CallError<E> {
    match error.kind() {
        Kind::NoResponders => CallError::NoResponders,
        Kind::TimedOut => CallError::TimedOut,
        _ => CallError::NotSent(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_surely_not_sent_is_told_from_what_may_have_been() {
        let told = |kind| lost::<Problem>(Error::new(kind, "")).to_problem();
        for (kind, code, retry) in [
            (Kind::Permission, "not-permitted", false),
            (Kind::CircuitOpen, "circuit-open", true),
            (Kind::BulkheadFull, "bulkhead-full", true),
            (Kind::Disconnected, "bus-down", true),
        ] {
            let error = lost::<Problem>(Error::new(kind, ""));
            assert!(matches!(error, CallError::NotSent(_)) && !error.is_unknown(), "{kind:?}");
            assert_eq!((told(kind).code.as_str(), told(kind).retry), (code, retry));
        }
        assert!(lost::<Problem>(Error::new(Kind::TimedOut, "")).is_unknown());
    }

    #[test]
    fn a_retry_hint_reaches_whoever_asks_for_it() {
        let pause = Duration::from_millis(70);
        let open = Error::new(Kind::CircuitOpen, "").retry_after(pause);
        assert_eq!(CallError::<Problem>::NotSent(open).retry_hint(), Some(pause));
        let busy = Problem::new(503, "busy", "busy").retry_after(pause);
        assert_eq!(CallError::<Problem>::Undeclared(busy).retry_hint(), Some(pause));
        assert_eq!(CallError::<Problem>::NoResponders.retry_hint(), None);
    }
}
