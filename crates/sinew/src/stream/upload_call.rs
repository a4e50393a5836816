//! A call with an upload, in preparation: typed, and raw.

use std::{
    borrow::Cow,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use serde::{Serialize, de::DeserializeOwned};
use sinew_wire::{ContentType, Headers, Problem, ServiceError, UploadRequest, header};

use super::{
    DEFAULT_IDLE, Pace,
    send::{Encoded, Lost, Outgoing, Sending},
};
use crate::{
    CallError, Ctx, Error, Kind,
    bus::Message,
    call::{prepare, refusal},
    problem_of,
    telemetry::Span,
};

/// A stream of items that can be uploaded: of `T`, or of `Result<T, E>` where `E` is a problem or a derived one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no stream of items `{T}`",
    label = "not what the operation takes",
    note = "hand over a Stream of {T}, or of Result<{T}, Problem>, that is Send and owns what it needs; futures::stream::iter(..) makes one of a list"
)]
pub trait Items<T>: Send + 'static {
    /// Writes every item as it will travel.
    #[doc(hidden)]
    fn encoded(self) -> Pin<Box<dyn Stream<Item = Result<Bytes, Problem>> + Send>>;
}

/// One item of an upload, or the error that ends it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither an item `{T}` nor a result of one",
    note = "the items of an upload are those declared on the request: {T}, or Result<{T}, Problem>"
)]
pub trait UploadItem<T> {
    /// Returns the item, or what is to be said in its place.
    ///
    /// # Errors
    /// What ends the upload.
    fn into_item(self) -> Result<T, Problem>;
}

/// A call with an upload, in preparation; awaiting it sends the request and the items, and waits for the reply.
///
/// The service asks for items as its handler takes them, so neither side holds more than a few hundred, or a mebibyte
/// of them. When the handler answers before it has taken everything, the stream of items is dropped and the call ends
/// with the reply. An upload is sent once: there is no retry, as what was sent is gone. It passes the circuit breaker
/// and the bulkhead of the service's [`policy`](crate::policy), not the layers around calls.
///
/// ```no_run
/// # use sinew::{CallError, Ctx, Problem, Request};
/// # use {schemars::JsonSchema, serde::{Deserialize, Serialize}};
/// # #[derive(Request, Serialize, Deserialize, JsonSchema)]
/// # #[sinew(subject = "orders.import", upload = u32, reply = u64)]
/// # struct ImportRows { table: String }
/// # async fn demo(ctx: Ctx) -> Result<(), CallError<Problem>> {
/// let rows = futures::stream::iter(1..=1_000);
/// let imported = ctx.upload(ImportRows { table: "sales".into() }, rows).await?;
/// println!("{imported} rows");
/// # Ok(()) }
/// ```
///
/// # Cancel safety
/// Dropping the future cancels the call: the handler is dropped as well. What it had done by then stays done.
#[must_use = "nothing is sent until the call is awaited"]
pub struct UploadCall<R> {
    request: R,
    call: Prepared,
}

/// As [`UploadCall`], of a subject, with everything encoded already; awaiting it returns the reply as it came.
///
/// A reply may carry a problem: [`problem_of`] reads it.
///
/// # Errors
/// What the bus reports. [`Kind::TimedOut`] when nobody knows how far the service has come.
#[must_use = "nothing is sent until the call is awaited"]
pub struct UploadRaw {
    subject: Cow<'static, str>,
    payload: Bytes,
    call: Prepared,
}

/// What both have in common.
struct Prepared {
    ctx: Ctx,
    items: Encoded,
    within: Option<Duration>,
    idle: Duration,
    headers: Headers,
    invalid: Option<Error>,
}

impl<T: Serialize + 'static, I> Items<T> for I
where
    I: Stream<Item: UploadItem<T>> + Send + 'static,
{
    fn encoded(self) -> Encoded {
        Box::pin(self.map(|item| {
            let item = item.into_item()?;
            sinew_wire::encode(ContentType::MessagePack, &item).map_err(|error| {
                tracing::error!(%error, "an item of an upload could not be encoded");
                Problem::new(500, "internal", "internal error")
            })
        }))
    }
}

impl<T> UploadItem<T> for T {
    fn into_item(self) -> Result<T, Problem> {
        Ok(self)
    }
}

impl<T, E: ServiceError> UploadItem<T> for Result<T, E> {
    fn into_item(self) -> Result<T, Problem> {
        self.map_err(|error| error.to_problem())
    }
}

impl<R: UploadRequest> UploadCall<R> {
    pub(crate) fn new(ctx: Ctx, request: R, items: impl Items<R::Item>) -> Self {
        Self { request, call: Prepared::new(ctx, items.encoded()) }
    }

    /// Bounds the whole call, from the request to the reply. Default: what is left of the deadline of the [`Ctx`], and
    /// no bound where it has none: an upload may take long, and [`UploadCall::idle`] notices when it does not go on.
    pub fn within(mut self, limit: Duration) -> Self {
        self.call.within = Some(limit);
        self
    }

    /// Gives up after so much silence. Default: 30 seconds.
    ///
    /// A service that is alive is not silent: until it answers, it shows life three times as often, however slow its
    /// handler is. So this says how soon a service that died or is cut off is noticed at the latest.
    pub fn idle(mut self, limit: Duration) -> Self {
        self.call.idle = limit;
        self
    }

    /// Sends the key under which the callee recognises a repetition.
    pub fn idempotency_key(self, key: impl Into<String>) -> Self {
        self.header(header::IDEMPOTENCY_KEY, key)
    }

    /// Adds a header to the request. One that cannot be sent fails the call before anything is sent.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Err(error) = self.call.headers.set(name, value.into()) {
            self.call.invalid = Some(error.into());
        }
        self
    }

    async fn run(self) -> Result<R::Reply, CallError<R::Error>> {
        let Self { request, call } = self;
        let payload = sinew_wire::encode(ContentType::MessagePack, &request)
            .map_err(|error| CallError::NotSent(error.into()))?;
        let names = Some((R::SERVICE, R::OPERATION));
        let (sent, span) = call.run(R::SUBJECT.into(), names, payload).await;
        let outcome = match sent {
            Ok(reply) => match problem_of(&reply) {
                Some(problem) => Err(refusal(problem)),
                None => read(&reply),
            },
            Err(lost) => Err(lost.into()),
        };
        match &outcome {
            Err(error) => span.fail(error.to_string()),
            Ok(_) => drop(span),
        }
        outcome
    }
}

impl UploadRaw {
    pub(crate) fn new(
        ctx: Ctx,
        subject: Cow<'static, str>,
        payload: Bytes,
        items: impl Stream<Item = Result<Bytes, Problem>> + Send + 'static,
    ) -> Self {
        Self { subject, payload, call: Prepared::new(ctx, Box::pin(items)) }
    }

    /// Bounds the whole call, from the request to the reply. Default as with [`UploadCall::within`].
    pub fn within(mut self, limit: Duration) -> Self {
        self.call.within = Some(limit);
        self
    }

    /// Sends these headers, `content-type` among them, which holds for the items as well: without it all is taken for
    /// JSON. Trace and timeout are written by the call itself.
    pub fn headers(mut self, headers: Headers) -> Self {
        self.call.headers = headers;
        self
    }

    async fn run(self) -> Result<Message, Error> {
        let Self { subject, payload, call } = self;
        let (sent, span) = call.run(subject.clone(), None, payload).await;
        let outcome = sent.map_err(|lost| lost.into_error(&subject));
        match outcome.as_ref().map(problem_of) {
            Ok(None) => drop(span),
            Ok(Some(problem)) => span.fail(problem.to_string()),
            Err(error) => span.fail(error.to_string()),
        }
        outcome
    }
}

impl Prepared {
    fn new(ctx: Ctx, items: Encoded) -> Self {
        let (within, invalid) = (None, None);
        Self { ctx, items, within, idle: DEFAULT_IDLE, headers: Headers::new(), invalid }
    }

    async fn run(
        mut self,
        subject: Cow<'static, str>,
        names: Option<(&str, &str)>,
        payload: Bytes,
    ) -> (Result<Message, Lost>, Span) {
        let split = || subject.strip_prefix("svc.").unwrap_or(&subject).split_once('.');
        let (service, operation) = names.or_else(split).unwrap_or((&subject, "request"));
        let span = self.ctx.bus().tracer().call(service, operation, self.ctx.trace());
        let own = self.ctx.deadline();
        let limit = self.within.map(|limit| own.within(limit)).or_else(|| own.remaining());
        if let Some(error) =
            self.invalid.take().or_else(|| limit.is_some_and(|limit| limit.is_zero()).then(Error::too_late))
        {
            return (Err(Lost::NotSent(error)), span);
        }
        // Typed calls write MessagePack, others have said what they write.
        let codec = match names {
            Some(_) => ContentType::MessagePack,
            None => self
                .headers
                .get(header::CONTENT_TYPE)
                .and_then(|text| ContentType::parse(text).ok())
                .unwrap_or_default(),
        };
        let pace = Pace::new(self.idle);
        self.write_headers(&span, codec, pace, limit);
        let bus = self.ctx.bus().clone();
        let dependency = bus.dependencies().of(service);
        dependency.count();
        let pass = match dependency.enter() {
            Ok(pass) => pass,
            Err(error) => return (Err(Lost::NotSent(error)), span),
        };
        let (headers, items) = (&self.headers, self.items);
        let outgoing =
            Outgoing { bus: &bus, subject: subject.clone(), headers, payload, items, codec, pace, limit };
        let sent = match Sending::begin(outgoing).await {
            Ok(sending) => sending.run().await,
            Err(lost) => Err(lost),
        };
        match &sent {
            Ok(reply) => pass.answered(problem_of(reply).as_ref()),
            Err(Lost::NotSent(error)) => pass.failed(error),
            Err(Lost::NoResponders) => pass.failed(&Error::new(Kind::NoResponders, "")),
            Err(Lost::TimedOut | Lost::Interrupted(_)) => pass.failed(&Error::new(Kind::TimedOut, "")),
        }
        (sent, span)
    }

    fn write_headers(&mut self, span: &Span, codec: ContentType, pace: Pace, limit: Option<Duration>) {
        let headers = &mut self.headers;
        self.ctx.inherit(headers, span.context());
        self.ctx.sign(headers);
        prepare(headers, limit);
        // Names and numbers can be sent.
        let _ = headers.set(header::CONTENT_TYPE, codec.as_str());
        let _ = headers.set(header::UPLOAD, "items");
        let _ = headers.set(header::IDLE, pace.idle().as_millis().to_string());
    }
}

impl<R: UploadRequest> IntoFuture for UploadCall<R> {
    type Output = Result<R::Reply, CallError<R::Error>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl IntoFuture for UploadRaw {
    type Output = Result<Message, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<E> From<Lost> for CallError<E> {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::NotSent(error) => Self::NotSent(error),
            Lost::NoResponders => Self::NoResponders,
            Lost::TimedOut => Self::TimedOut,
            Lost::Interrupted(reason) => Self::Interrupted(reason.to_owned()),
        }
    }
}

fn read<T: DeserializeOwned, E>(message: &Message) -> Result<T, CallError<E>> {
    let codec = message.content_type().map_err(|error| CallError::Incompatible(error.to_string()))?;
    sinew_wire::decode(codec, message.payload()).map_err(|error| CallError::Incompatible(error.to_string()))
}
