//! The caller's end as it is used: a stream in preparation, and an open one.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use sinew_wire::{ContentType, Headers, StreamRequest, header};

use super::{
    DEFAULT_CREDIT, DEFAULT_IDLE, MAX_CREDIT, Pace, ask,
    feed::{Feed, Terms},
};
use crate::{CallError, Ctx, Error, call::prepare, telemetry::Span};

/// A request for a stream in preparation; awaiting it sends the request and waits until the stream is open.
///
/// ```no_run
/// # use sinew::{Ctx, CallError, Problem, Request, wire};
/// # use {schemars::JsonSchema, serde::{Deserialize, Serialize}};
/// # #[derive(Request, Serialize, Deserialize, JsonSchema)]
/// # #[sinew(subject = "reports.rows", stream = String)]
/// # struct Rows { table: String }
/// # async fn demo(ctx: Ctx) -> Result<(), CallError<Problem>> {
/// let mut rows = ctx.stream(Rows { table: "sales".into() }).within(std::time::Duration::from_secs(60)).await?;
/// while let Some(row) = rows.next().await {
///     println!("{}", row?);
/// }
/// # Ok(()) }
/// ```
#[must_use = "a stream is not asked for until it is awaited"]
pub struct StreamCall<R> {
    ctx: Ctx,
    request: R,
    within: Option<Duration>,
    idle: Duration,
    credit: u32,
    headers: Headers,
    invalid: Option<Error>,
}

/// The items of an open stream, in order.
///
/// Dropping it cancels the stream: the handler's side is dropped as well.
///
/// An item that is an error is the last one. [`CallError::Refused`] and [`CallError::Undeclared`] are the service's own
/// words; after [`CallError::TimedOut`] and [`CallError::Interrupted`] nobody knows how far the service has come.
#[must_use = "dropping a stream cancels it"]
pub struct Streaming<R: StreamRequest> {
    feed: Feed<R>,
}

impl<R: StreamRequest> StreamCall<R> {
    pub(crate) fn new(ctx: Ctx, request: R) -> Self {
        let (within, idle, credit) = (None, DEFAULT_IDLE, DEFAULT_CREDIT);
        Self { ctx, request, within, idle, credit, headers: Headers::new(), invalid: None }
    }

    /// Bounds the whole stream, from the request to the last item. Default: what is left of the deadline of the
    /// [`Ctx`], and no bound where it has none.
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = Some(limit);
        self
    }

    /// Gives up after this much silence. Default: 30 seconds.
    ///
    /// A service that is alive is not silent: it shows life three times as often, however slow its items are. So this
    /// says how soon a service that died or is cut off is noticed at the latest.
    pub fn idle(mut self, limit: Duration) -> Self {
        self.idle = limit;
        self
    }

    /// Lets at most this many items be under way or wait to be taken, 1 to 16,384. Default: 256.
    ///
    /// It bounds memory on both sides. A small number costs throughput, as more has to be asked for more often.
    pub fn credit(mut self, items: u32) -> Self {
        self.credit = items.clamp(1, MAX_CREDIT);
        self
    }

    /// Sends the key under which the callee recognises a repetition.
    pub fn idempotency_key(self, key: impl Into<String>) -> Self {
        self.header(header::IDEMPOTENCY_KEY, key)
    }

    /// Adds a header. One that cannot be sent fails the request before anything is sent.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Err(error) = self.headers.set(name, value.into()) {
            self.invalid = Some(error.into());
        }
        self
    }

    async fn open(mut self) -> Result<Streaming<R>, CallError<R::Error>> {
        if let Some(error) = self.invalid.take() {
            return Err(CallError::NotSent(error));
        }
        let own = self.ctx.deadline();
        let limit = self.within.map(|limit| own.within(limit)).or_else(|| own.remaining());
        if limit.is_some_and(|limit| limit.is_zero()) {
            return Err(CallError::NotSent(Error::too_late()));
        }
        let span = self.ctx.bus().tracer().call(R::SERVICE, R::OPERATION, self.ctx.trace());
        self.write_headers(&span, limit);
        let payload = sinew_wire::encode(ContentType::MessagePack, &self.request)
            .map_err(|error| CallError::NotSent(error.into()))?;
        match ask(self.ctx.bus(), R::SUBJECT, &self.headers, payload).await {
            Ok(inbox) => {
                let terms = Terms { credit: self.credit, idle: self.idle, limit };
                let feed = Feed::open(self.ctx.bus(), inbox, terms, span).await?;
                Ok(Streaming { feed })
            }
            Err(error) => {
                span.fail(error.to_string());
                Err(CallError::NotSent(error))
            }
        }
    }

    fn write_headers(&mut self, span: &Span, limit: Option<Duration>) {
        let headers = &mut self.headers;
        self.ctx.inherit(headers, span.context());
        self.ctx.sign(headers);
        prepare(headers, limit);
        // Numbers can be sent.
        let _ = headers.set(header::CREDIT, self.credit.to_string());
        let _ = headers.set(header::IDLE, Pace::new(self.idle).idle().as_millis().to_string());
    }
}

impl<R: StreamRequest> IntoFuture for StreamCall<R> {
    type Output = Result<Streaming<R>, CallError<R::Error>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

impl<R: StreamRequest> Streaming<R> {
    /// Returns the next item; `None` behind the last one.
    ///
    /// # Errors
    /// An error is the last item. What came before it stays true.
    ///
    /// # Cancel safety
    /// Cancel safe: no item is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<R::Item, CallError<R::Error>>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<R: StreamRequest> Stream for Streaming<R> {
    type Item = Result<R::Item, CallError<R::Error>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.feed.poll_next(cx)
    }
}

impl<R: StreamRequest> fmt::Debug for Streaming<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming")
            .field("subject", &R::SUBJECT)
            .field("taken", &self.feed.taken())
            .finish_non_exhaustive()
    }
}
