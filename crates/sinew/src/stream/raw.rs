//! A request for a stream by programs that know no types: payload and items as they travel.

use std::{
    borrow::Cow,
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::Stream;
use sinew_wire::{Headers, Problem, header};

use super::{
    DEFAULT_CREDIT, DEFAULT_IDLE, Pace, ask,
    feed::{Feed, Terms},
    receive::Raw,
};
use crate::{CallError, Ctx, Error, bus::Message, telemetry::SpanKind};

/// A request for a stream of a subject, with a payload that is encoded already; awaiting it sends the request and waits
/// until the stream is open.
///
/// Everything else is as with [`StreamCall`](crate::StreamCall): flow control, signs of life, and the end of both sides.
#[must_use = "a stream is not asked for until it is awaited"]
pub struct StreamRaw {
    ctx: Ctx,
    subject: Cow<'static, str>,
    payload: Bytes,
    within: Option<Duration>,
    credit: u32,
    headers: Headers,
}

/// The items of an open stream as they came, in order. Dropping it cancels the stream.
///
/// An item that is an error is the last one.
#[must_use = "dropping a stream cancels it"]
pub struct StreamingRaw(Feed<Raw>);

impl StreamRaw {
    pub(crate) fn new(ctx: Ctx, subject: Cow<'static, str>, payload: Bytes) -> Self {
        Self { ctx, subject, payload, within: None, credit: DEFAULT_CREDIT, headers: Headers::new() }
    }

    /// Bounds the whole stream, from the request to the last item. Default: what is left of the deadline of the
    /// [`Ctx`], and no bound where it has none.
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = Some(limit);
        self
    }

    /// Lets at most this many items be under way or wait to be taken, 1 to 16,384. Default: 256.
    pub fn credit(mut self, items: u32) -> Self {
        self.credit = items.clamp(1, super::MAX_CREDIT);
        self
    }

    /// Sends these headers, `content-type` among them: without it the payload is taken for JSON.
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    async fn open(mut self) -> Result<StreamingRaw, CallError<Problem>> {
        let own = self.ctx.deadline();
        let limit = self.within.map(|limit| own.within(limit)).or_else(|| own.remaining());
        if limit.is_some_and(|limit| limit.is_zero()) {
            return Err(CallError::NotSent(Error::too_late()));
        }
        let bus = self.ctx.bus().clone();
        let name = self.subject.strip_prefix("svc.").unwrap_or(&self.subject).replacen('.', "/", 1);
        let span = bus.tracer().span(|| name, SpanKind::Client, self.ctx.trace());
        let headers = &mut self.headers;
        if let Some(trace) = span.context() {
            // Plain ASCII, as are the numbers below.
            let _ = headers.set(header::TRACEPARENT, trace.to_string());
        }
        if let Some(limit) = limit {
            let _ = headers.set_display(header::TIMEOUT, limit.as_millis().max(1));
        }
        let _ = headers.set(header::CREDIT, self.credit.to_string());
        let _ = headers.set(header::IDLE, Pace::new(DEFAULT_IDLE).idle().as_millis().to_string());
        match ask(&bus, &self.subject, headers, self.payload).await {
            Ok(inbox) => {
                let terms = Terms { credit: self.credit, idle: DEFAULT_IDLE, limit };
                Feed::open(&bus, inbox, terms, span).await.map(StreamingRaw)
            }
            Err(error) => {
                span.fail(error.to_string());
                Err(CallError::NotSent(error))
            }
        }
    }
}

impl IntoFuture for StreamRaw {
    type Output = Result<StreamingRaw, CallError<Problem>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

impl StreamingRaw {
    /// Returns the next item; `None` behind the last one.
    ///
    /// # Errors
    /// An error is the last item. What came before it stays true.
    ///
    /// # Cancel safety
    /// Cancel safe: no item is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Message, CallError<Problem>>> {
        std::future::poll_fn(|cx| self.0.poll_next(cx)).await
    }
}

impl Stream for StreamingRaw {
    type Item = Result<Message, CallError<Problem>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(cx)
    }
}

impl fmt::Debug for StreamingRaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamingRaw").field("taken", &self.0.taken()).finish_non_exhaustive()
    }
}
