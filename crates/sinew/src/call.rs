//! Calls: typed requests with a deadline. One place every call passes, so that policies have one place to stand.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use sinew_wire::{ContentType, Headers, Problem, Request, ServiceError, header};

use crate::{CallError, Ctx, Error, Kind, bus::Message, error::DEADLINE_EXCEEDED, telemetry::SpanKind};

/// Longest wait of a call that says nothing and has no deadline above it.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// A call in preparation; awaiting it sends the request and waits for the reply.
///
/// ```no_run
/// # use sinew::{workflow::GetWorkflow, Ctx};
/// # async fn demo(ctx: Ctx) -> Result<(), Box<dyn std::error::Error>> {
/// let request = GetWorkflow { name: "place-order".into(), id: "o-1".into() };
/// let instance = ctx.call(request).within(std::time::Duration::from_secs(1)).await?;
/// # Ok(()) }
/// ```
#[must_use = "a call does nothing until it is awaited"]
pub struct Call<R> {
    ctx: Ctx,
    request: R,
    within: Option<Duration>,
    headers: Headers,
    invalid: Option<Error>,
}

impl<R: Request> Call<R> {
    pub(crate) fn new(ctx: Ctx, request: R) -> Self {
        Self { ctx, request, within: None, headers: Headers::new(), invalid: None }
    }

    /// Waits at most `limit`, or what is left of the caller's deadline where that is less. Default: 30 seconds.
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = Some(limit);
        self
    }

    /// Sends the key under which the callee recognises a repetition.
    pub fn idempotency_key(self, key: impl Into<String>) -> Self {
        self.header(header::IDEMPOTENCY_KEY, key)
    }

    /// Adds a header. One that cannot be sent fails the call before anything is sent.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Err(error) = self.headers.set(name, value) {
            self.invalid = Some(error.into());
        }
        self
    }

    async fn send(self) -> Result<R::Reply, CallError<R::Error>> {
        if let Some(error) = self.invalid {
            return Err(CallError::NotSent(error));
        }
        let (ctx, mut headers) = (self.ctx, self.headers);
        let limit = ctx.deadline().within(self.within.unwrap_or(DEFAULT_TIMEOUT));
        if limit.is_zero() {
            return Err(CallError::NotSent(Error::too_late()));
        }
        let tracer = ctx.bus().tracer();
        let span = tracer.span(|| format!("{}/{}", R::SERVICE, R::OPERATION), SpanKind::Client, ctx.trace());
        let span = span.with("rpc.system", || "sinew".into()).with("messaging.system", || "nats".into());
        ctx.inherit(&mut headers, span.context());
        ctx.sign(&mut headers);
        prepare(&mut headers, Some(limit));
        let payload = sinew_wire::encode(ContentType::MessagePack, &self.request)
            .map_err(|error| CallError::NotSent(error.into()))?;
        let answer = ctx.bus().request(R::SUBJECT, &headers, payload, limit).await;
        let outcome = answer.map_err(lost).and_then(|message| read::<R>(&message));
        match &outcome {
            Err(error) => span.fail(error.to_string()),
            Ok(_) => drop(span),
        }
        outcome
    }
}

impl<R: Request> IntoFuture for Call<R> {
    type Output = Result<R::Reply, CallError<R::Error>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// Reads a reply: a problem where the service says so, else the typed reply.
fn read<R: Request>(message: &Message) -> Result<R::Reply, CallError<R::Error>> {
    if let Some(problem) = problem_of(message) {
        return Err(refusal(problem));
    }
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
        let _ = headers.set(header::TIMEOUT, limit.as_millis().max(1).to_string());
    }
}

fn lost<E>(error: Error) -> CallError<E> {
    match error.kind() {
        Kind::NoResponders => CallError::NoResponders,
        Kind::TimedOut => CallError::TimedOut,
        _ => CallError::NotSent(error),
    }
}
