//! What a handler may know about the message in its hands, and what it may do on its behalf.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::Stream;
use sinew_wire::{
    CloudEvent, Event, Headers, Problem, Request, StreamRequest, TraceContext, UploadRequest, header,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Bus, Call, Error, RawCall, Redelivery, StreamCall, StreamRaw,
    bus::Message,
    publish::Publish,
    schedule::{self, ScheduleId},
    stream::{Incoming, Items, UploadCall, UploadRaw},
};

/// The handler's end of the conversation: calls and events made through it carry the caller's deadline and trace.
#[derive(Clone)]
pub struct Ctx {
    inner: Arc<Inner>,
}

/// When the caller stops waiting. Work beyond it is wasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

struct Inner {
    bus: Bus,
    service: Arc<str>,
    message: Option<Message>,
    deadline: Deadline,
    /// Where nothing is recorded that is the message's, which is read when somebody asks.
    trace: Option<TraceContext>,
    attempt: u32,
    sequence: Option<u64>,
    redelivery: Option<Redelivery>,
    /// Made when somebody asks: most requests are answered before.
    gone: OnceLock<CancellationToken>,
    reply: OnceLock<u16>,
    location: OnceLock<String>,
    etag: OnceLock<String>,
    cache_control: OnceLock<String>,
    cache_tags: OnceLock<String>,
    /// Put in once and taken out once, at the beginning of a handler; of every other request it is never touched.
    incoming: Mutex<Option<Incoming>>,
}

impl Ctx {
    pub(crate) fn new(
        bus: &Bus,
        service: &Arc<str>,
        message: Message,
        deadline: Deadline,
        trace: Option<TraceContext>,
        attempt: u32,
    ) -> Self {
        let (bus, service) = (bus.clone(), service.clone());
        let (gone, reply, location) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let (etag, cache_control, cache_tags) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let message = Some(message);
        let (sequence, redelivery) = (None, None);
        let inner = Inner {
            bus,
            service,
            message,
            deadline,
            trace,
            attempt,
            sequence,
            redelivery,
            gone,
            reply,
            location,
            etag,
            cache_control,
            cache_tags,
            incoming: Mutex::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Says which event this is about and why the group has it in hand.
    pub(crate) fn delivered(mut self, sequence: u64, redelivery: Option<Redelivery>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            (inner.sequence, inner.redelivery) = (Some(sequence), redelivery);
        }
        self
    }

    /// Creates a context outside any handler, for programs that only call: no deadline, no trace, `name` as the source
    /// of events.
    pub fn detached(bus: &Bus, name: &str) -> Self {
        Self::traced(bus, name, None)
    }

    /// As [`Ctx::detached`], within a trace.
    pub fn traced(bus: &Bus, name: &str, trace: Option<TraceContext>) -> Self {
        let inner = Inner {
            bus: bus.clone(),
            service: name.into(),
            message: None,
            deadline: Deadline(None),
            trace,
            attempt: 1,
            sequence: None,
            redelivery: None,
            gone: OnceLock::new(),
            reply: OnceLock::new(),
            location: OnceLock::new(),
            etag: OnceLock::new(),
            cache_control: OnceLock::new(),
            cache_tags: OnceLock::new(),
            incoming: Mutex::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Prepares a call; awaiting it sends the request. It waits no longer than the caller of this handler does.
    pub fn call<R: Request>(&self, request: R) -> Call<R> {
        Call::new(self.clone(), request)
    }

    /// Prepares a call of `subject` with a payload that is encoded already, for programs that know no types. It passes
    /// the same policies.
    pub fn call_raw(&self, subject: impl Into<Cow<'static, str>>, payload: Bytes) -> RawCall {
        RawCall::new(self.clone(), subject.into(), payload)
    }

    /// Prepares a request for a stream; awaiting it sends the request and waits until the stream is open.
    pub fn stream<R: StreamRequest>(&self, request: R) -> StreamCall<R> {
        StreamCall::new(self.clone(), request)
    }

    /// As [`Ctx::stream`] for programs that know no types: the payload is encoded already, and items come as they are.
    pub fn stream_raw(&self, subject: impl Into<Cow<'static, str>>, payload: Bytes) -> StreamRaw {
        StreamRaw::new(self.clone(), subject.into(), payload)
    }

    /// Prepares a call with an upload; awaiting it sends the request, `items` as fast as they are taken, and waits for
    /// the reply.
    ///
    /// `items` is a stream of `R::Item`, or of results: an error ends the upload, and the handler gets to see it.
    pub fn upload<R: UploadRequest>(&self, request: R, items: impl Items<R::Item>) -> UploadCall<R> {
        UploadCall::new(self.clone(), request, items)
    }

    /// As [`Ctx::upload`] for programs that know no types: payload and items are encoded already.
    pub fn upload_raw(
        &self,
        subject: impl Into<Cow<'static, str>>,
        payload: Bytes,
        items: impl Stream<Item = Result<Bytes, Problem>> + Send + 'static,
    ) -> UploadRaw {
        UploadRaw::new(self.clone(), subject.into(), payload, items)
    }

    /// Prepares an event; awaiting it publishes and waits until it is stored.
    pub fn publish<E: Event>(&self, event: E) -> Publish<E> {
        Publish::new(self.clone(), event)
    }

    /// Takes back an event that [waits](Publish::after), and says whether it was still there: `false` once it was
    /// published or cancelled.
    ///
    /// # Errors
    /// [`Kind::TimedOut`](crate::Kind::TimedOut) when it is unknown whether it was taken back.
    pub async fn cancel_scheduled(&self, id: &ScheduleId) -> Result<bool, Error> {
        schedule::cancel(self.bus(), id).await
    }

    /// Waits until nobody waits for this work any more: the caller went away, or its deadline passed.
    ///
    /// A handler need not ask. Its future is dropped at that moment, and with it every call it was waiting for, which
    /// cancels those in turn. This is for work that goes on elsewhere: on a thread, in another task, in
    /// [`Ctx::shield`]. An event has no caller that could go away, so its handler is never cancelled.
    pub async fn cancelled(&self) {
        let passed = async {
            match self.inner.deadline.0 {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.gone().cancelled() => {}
            () = passed => {}
        }
    }

    /// Runs `work` to its end even if the caller goes away in the middle of it. It begins at once, and a service that
    /// stops waits for it as for a handler.
    ///
    /// Its own calls still end with the caller's deadline.
    ///
    /// ```no_run
    /// # async fn charge() -> u32 { 1 }
    /// # async fn demo(ctx: sinew::Ctx) {
    /// // Half a charge would be worse than one nobody waits for.
    /// let receipt = ctx.shield(charge()).await;
    /// # }
    /// ```
    ///
    /// # Panics
    /// With what `work` panicked with.
    pub fn shield<F>(&self, work: F) -> impl Future<Output = F::Output> + Send + use<F>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let running = self.bus().dependencies().tasks().spawn(work);
        async move {
            match running.await {
                Ok(output) => output,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Only the end of the runtime cancels it, and that ends whoever waits here as well.
                    Err(_) => std::future::pending().await,
                },
            }
        }
    }

    /// Returns what is cancelled when the caller goes away.
    pub(crate) fn gone(&self) -> &CancellationToken {
        self.inner.gone.get_or_init(CancellationToken::new)
    }

    /// Puts in the upload that follows the request, for the handler.
    pub(crate) fn bring(&self, incoming: Incoming) {
        *self.inner.incoming.lock().unwrap_or_else(PoisonError::into_inner) = Some(incoming);
    }

    /// Takes the upload that follows the request, if there is one.
    pub(crate) fn incoming(&self) -> Option<Incoming> {
        self.inner.incoming.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns when the caller stops waiting.
    pub fn deadline(&self) -> Deadline {
        self.inner.deadline
    }

    /// Returns the trace this work belongs to.
    pub fn trace(&self) -> Option<TraceContext> {
        self.inner.trace.or_else(|| self.inner.message.as_ref()?.trace())
    }

    /// Returns a header of the message in hand.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.message.as_ref()?.header(name)
    }

    /// Returns the key that is constant over every repetition of the effect asked for.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.header(header::IDEMPOTENCY_KEY)
    }

    /// Returns who asks: the name the calling [`Ctx`] goes by, or the source of the event in hand. Said by the sender
    /// itself, see [`Caller`](crate::Caller).
    pub fn caller(&self) -> Option<&str> {
        self.header(header::CALLER).or_else(|| self.header("ce-source")?.strip_prefix("/services/"))
    }

    /// Returns how often this message was delivered, this time included.
    pub fn attempt(&self) -> u32 {
        self.inner.attempt
    }

    /// Returns the time: the machine's, or in a test the one the test has set
    /// (with the feature `testing`: `App::advance`).
    pub fn now(&self) -> jiff::Timestamp {
        self.inner.bus.now()
    }

    /// Returns the logical id of the event in hand: the same over every redelivery, redrive and replay, so what a
    /// handler remembers to recognise an event it has seen.
    pub fn event_id(&self) -> Option<String> {
        let id =
            schedule::logical_id(self.header("ce-id")?, self.header(schedule::FIRED), self.inner.sequence?);
        Some(CloudEvent::decode(&id))
    }

    /// Says why the group has this event in hand, where it did not just come from its publisher.
    pub fn redelivery(&self) -> Option<Redelivery> {
        self.inner.redelivery
    }

    /// Says whether the event comes from a replay of the past: a handler may want to leave out what must not happen
    /// again, for example sending mail.
    pub fn is_replay(&self) -> bool {
        self.redelivery() == Some(Redelivery::Replay)
    }

    /// Returns the name of the service the handler belongs to.
    pub fn service(&self) -> &str {
        &self.inner.service
    }

    /// Returns the connection.
    pub fn bus(&self) -> &Bus {
        &self.inner.bus
    }

    /// Asks the edge to answer a successful reply with this HTTP status. The first call counts.
    pub fn reply_status(&self, status: u16) {
        let _ = self.inner.reply.set(status);
    }

    /// Names the resource the reply is about; the edge sends it as `Location`. The first call counts.
    pub fn reply_location(&self, path: impl Into<String>) {
        let _ = self.inner.location.set(path.into());
    }

    /// Names the state of the resource the reply is about; the edge sends it as `ETag` where its route judges conditions,
    /// and hands the client's `If-Match` on in header `if-match`. The first call counts.
    ///
    /// `revision` is any text without quotes, such as a version or a digest.
    pub fn reply_etag(&self, revision: impl fmt::Display) {
        let _ = self.inner.etag.set(format!("\"{revision}\""));
    }

    /// Says how the reply may be kept, as `Cache-Control` does: `max-age=60, stale-while-revalidate=10`. It counts where the
    /// edge's route caches, and clients get it then. The first call counts.
    pub fn reply_cache_control(&self, directives: impl Into<String>) {
        let _ = self.inner.cache_control.set(directives.into());
    }

    /// Says what the reply is about, in words by which kept replies are let go of: `orders order:7`. The first call counts.
    pub fn reply_cache_tags(&self, tags: impl Into<String>) {
        let _ = self.inner.cache_tags.set(tags.into());
    }

    /// Writes what travels with every message sent on behalf of this work.
    pub(crate) fn inherit(&self, headers: &mut Headers, trace: Option<TraceContext>) {
        if let Some(trace) = trace {
            headers.set_trace(&trace);
        }
        let Some(message) = &self.inner.message else { return };
        let names = [header::TRACESTATE, header::BAGGAGE];
        for (name, value) in names.into_iter().zip(message.header_values(names)) {
            if let Some(value) = value {
                // It could be sent to us; a lost header is not worth a call.
                let _ = headers.set(name, value);
            }
        }
    }

    /// Says on whose behalf a request is sent.
    pub(crate) fn sign(&self, headers: &mut Headers) {
        // A name that cannot be sent is not worth the request.
        let _ = headers.set(header::CALLER, self.service());
    }

    pub(crate) fn reply_hints(&self, headers: &mut Headers) {
        if let Some(status) = self.inner.reply.get() {
            let _ = headers.set(header::STATUS, status.to_string());
        }
        if let Some(location) = self.inner.location.get() {
            let _ = headers.set(header::LOCATION, location.clone());
        }
        if let Some(etag) = self.inner.etag.get() {
            let _ = headers.set(header::ETAG, etag.clone());
        }
        if let Some(directives) = self.inner.cache_control.get() {
            let _ = headers.set(header::CACHE_CONTROL, directives);
        }
        if let Some(tags) = self.inner.cache_tags.get() {
            let _ = headers.set(header::CACHE_TAG, tags);
        }
    }
}

impl Deadline {
    /// No deadline.
    pub const NONE: Self = Self(None);

    /// The deadline `budget` from now.
    pub fn after(budget: Duration) -> Self {
        Self(Instant::now().checked_add(budget))
    }

    /// The deadline at that moment, or none.
    pub(crate) fn until(at: Option<Instant>) -> Self {
        Self(at)
    }

    pub(crate) fn at(&self) -> Option<Instant> {
        self.0
    }

    /// As [`Deadline::has_passed`], for somebody who has just looked at the clock.
    pub(crate) fn has_passed_at(&self, now: Instant) -> bool {
        self.0.is_some_and(|at| at <= now)
    }

    /// Returns what is left; `None` without a deadline, zero when it has passed.
    pub fn remaining(&self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Says whether the caller has stopped waiting.
    pub fn has_passed(&self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }

    /// Returns the shorter of `asked` and what is left.
    pub fn within(&self, asked: Duration) -> Duration {
        self.remaining().map_or(asked, |left| left.min(asked))
    }
}

impl fmt::Debug for Ctx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctx")
            .field("service", &self.inner.service)
            .field("trace", &self.trace())
            .finish_non_exhaustive()
    }
}
