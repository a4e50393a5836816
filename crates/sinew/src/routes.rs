//! What a service serves: contracts, and the typed routes that make a forgotten operation a compile error.

use std::{marker::PhantomData, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture};
use sinew_wire::{
    ContentType, Headers, OperationDescriptor, Problem, Request, ServiceDescriptor, ServiceError,
    StreamRequest, UploadRequest, header,
};

use crate::{
    Ctx, Handler, StreamHandler, Upload, UploadHandler,
    bus::Message,
    completion::Given,
    handler::Refusal,
    service::{Answer, Items},
    workflow::CompletionTerms,
};

/// A named, versioned set of operations. Made by `contract!`.
pub trait Contract: Send + 'static {
    /// The service's name.
    const NAME: &'static str;
    /// Semantic version of the contract.
    const VERSION: &'static str;
    /// The builder that has a method for each operation.
    type Routes<S>;

    /// Describes the service, schemas included.
    fn descriptor() -> ServiceDescriptor;
    /// Returns the builder with nothing served yet.
    fn routes<S>() -> Self::Routes<S>;
}

/// Routes that answer every operation of their contract.
#[diagnostic::on_unimplemented(
    message = "not every operation of the contract is served",
    note = "call .<operation>(handler) for each of them, or finish with .unimplemented()"
)]
pub trait Complete<S> {
    /// Returns the routes.
    fn into_routes(self) -> Routes<S>;
}

/// Marks an operation that has a handler.
#[derive(Debug)]
pub struct Served;

/// Holds for operations that have a handler.
#[diagnostic::on_unimplemented(
    message = "operation `{Self}` is not served",
    label = "no handler for `{Self}`",
    note = "call .<operation>(handler), or finish with .unimplemented() to answer it with 501"
)]
pub trait IsServed {}

impl IsServed for Served {}

/// The operations of one contract with their handlers.
pub struct Routes<S> {
    pub(crate) routes: Vec<Route<S>>,
}

pub(crate) struct Route<S> {
    pub(crate) descriptor: OperationDescriptor,
    pub(crate) endpoint: Arc<dyn Endpoint<S>>,
}

/// A handler with its types erased.
pub(crate) trait Endpoint<S>: Send + Sync {
    fn invoke(&self, message: Message, ctx: Ctx, state: S) -> BoxFuture<'static, Answer>;
}

struct Typed<H, R, M> {
    handler: H,
    types: PhantomData<fn(R, M)>,
}

/// The same for a handler that answers with a stream.
struct TypedStream<H, R, M> {
    handler: H,
    types: PhantomData<fn(R, M)>,
}

/// The same for a handler that takes an upload.
struct TypedUpload<H, R, M> {
    handler: H,
    types: PhantomData<fn(R, M)>,
}

struct Unimplemented;

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// Adds the handler of one operation.
    #[must_use]
    pub fn serve<R, H, M>(mut self, handler: H) -> Self
    where
        R: Request,
        H: Handler<R, S, M>,
        M: 'static,
    {
        let endpoint = Arc::new(Typed { handler, types: PhantomData::<fn(R, M)> });
        let descriptor = OperationDescriptor { accepts: H::ACCEPTS, ..R::descriptor() };
        self.routes.push(Route { descriptor, endpoint });
        self
    }

    /// Adds the handler of one operation that answers with a stream.
    #[must_use]
    pub fn serve_stream<R, H, M>(mut self, handler: H) -> Self
    where
        R: StreamRequest,
        H: StreamHandler<R, S, M>,
        M: 'static,
    {
        let endpoint = Arc::new(TypedStream { handler, types: PhantomData::<fn(R, M)> });
        self.routes.push(Route { descriptor: R::descriptor(), endpoint });
        self
    }

    /// Adds the handler of one operation that takes an upload.
    #[must_use]
    pub fn serve_upload<R, H, M>(mut self, handler: H) -> Self
    where
        R: UploadRequest,
        H: UploadHandler<R, S, M>,
        M: 'static,
    {
        let endpoint = Arc::new(TypedUpload { handler, types: PhantomData::<fn(R, M)> });
        self.routes.push(Route { descriptor: R::descriptor(), endpoint });
        self
    }

    /// Answers the operations in `all` that have no handler yet with 501.
    #[must_use]
    pub fn unimplemented(mut self, all: Vec<OperationDescriptor>) -> Self {
        for descriptor in all {
            if !self.routes.iter().any(|route| route.descriptor.name == descriptor.name) {
                self.routes.push(Route { descriptor, endpoint: Arc::new(Unimplemented) });
            }
        }
        self
    }
}

impl<S> Default for Routes<S> {
    fn default() -> Self {
        Self { routes: Vec::new() }
    }
}

impl<S, H, R, M> Endpoint<S> for Typed<H, R, M>
where
    S: Send + 'static,
    H: Handler<R, S, M>,
    R: Request,
{
    fn invoke(&self, message: Message, ctx: Ctx, state: S) -> BoxFuture<'static, Answer> {
        let handler = self.handler.clone();
        Box::pin(async move {
            let (request, to) = match read::<R>(&message) {
                Ok(read) => read,
                Err((problem, to)) => return Answer::problem(problem, to),
            };
            match handler.answer(request, ctx.clone(), state).await {
                Ok(Given::Now(reply)) => success(&reply, to, &ctx),
                Ok(Given::Encoded(reply)) => ready(reply, to, &ctx),
                Ok(Given::Later(terms)) => accepted(&terms, to, &ctx),
                Err(refusal) => refused(refusal, to),
            }
        })
    }
}

impl<S, H, R, M> Endpoint<S> for TypedStream<H, R, M>
where
    S: Send + 'static,
    H: StreamHandler<R, S, M>,
    R: StreamRequest,
{
    fn invoke(&self, message: Message, ctx: Ctx, state: S) -> BoxFuture<'static, Answer> {
        let handler = self.handler.clone();
        Box::pin(async move {
            let (request, to) = match read::<R>(&message) {
                Ok(read) => read,
                Err((problem, to)) => return Answer::problem(problem, to),
            };
            match handler.open(request, ctx.clone(), state).await {
                Ok(items) => {
                    let encoded = items.map(move |item| match item {
                        Ok(item) => encoded(&item, to),
                        Err(error) => Err(error.to_problem()),
                    });
                    let items = Some(Items(Box::pin(encoded)));
                    Answer { items, ..Answer::reply(reply_headers(to, &ctx), Bytes::new()) }
                }
                Err(refusal) => refused(refusal, to),
            }
        })
    }
}

impl<S, H, R, M> Endpoint<S> for TypedUpload<H, R, M>
where
    S: Send + 'static,
    H: UploadHandler<R, S, M>,
    R: UploadRequest,
{
    fn invoke(&self, message: Message, ctx: Ctx, state: S) -> BoxFuture<'static, Answer> {
        let handler = self.handler.clone();
        Box::pin(async move {
            let (request, to) = match read::<R>(&message) {
                Ok(read) => read,
                Err((problem, to)) => return Answer::problem(problem, to),
            };
            let Some(incoming) = ctx.incoming() else { return Answer::problem(no_upload(), to) };
            match handler.take(request, Upload::new(incoming), ctx.clone(), state).await {
                Ok(reply) => success(&reply, to, &ctx),
                Err(refusal) => refused(refusal, to),
            }
        })
    }
}

impl<S: Send + 'static> Endpoint<S> for Unimplemented {
    fn invoke(&self, message: Message, _: Ctx, _: S) -> BoxFuture<'static, Answer> {
        let problem = Problem::new(501, "not-implemented", "the operation is not implemented yet");
        let to = codecs(&message).map_or(ContentType::Json, |(_, to)| to);
        Box::pin(async move { Answer::problem(problem, to) })
    }
}

/// Returns the codec of the request and the one the caller wants back.
pub(crate) fn codecs(message: &Message) -> Result<(ContentType, ContentType), Problem> {
    let unsupported = |error: sinew_wire::CodecError| {
        Problem::new(415, "unsupported-media-type", "unsupported media type").detail(error.to_string())
    };
    let [own, accept] = message.header_values([header::CONTENT_TYPE, header::ACCEPT]);
    let from = match own {
        Some(own) => ContentType::parse(own),
        None => message.content_type(),
    };
    let from = from.map_err(unsupported)?;
    let to = match accept {
        Some(accept) => ContentType::parse(accept).unwrap_or(from),
        None => from,
    };
    Ok((from, to))
}

fn no_upload() -> Problem {
    Problem::new(400, "upload-missing", "the operation takes a stream of items behind the request").detail(
        "ask with Ctx::upload, or with sinew call --upload FILE; in a layer, hand a request on once only",
    )
}

fn malformed(reason: &str) -> Problem {
    Problem::new(400, "malformed-request", "the request does not fit the operation").detail(reason)
}

/// Decodes a request, and says in which codec its answer is wanted.
fn read<R: serde::de::DeserializeOwned>(
    message: &Message,
) -> Result<(R, ContentType), (Problem, ContentType)> {
    let (from, to) = codecs(message).map_err(|problem| (problem, ContentType::Json))?;
    match sinew_wire::decode::<R>(from, message.payload()) {
        Ok(request) => Ok((request, to)),
        Err(error) => Err((malformed(&error.to_string()), to)),
    }
}

fn refused<E: ServiceError>(refusal: Refusal<E>, to: ContentType) -> Answer {
    match refusal {
        Refusal::Handler(error) => Answer::problem(error.to_problem(), to),
        Refusal::Extractor(problem) => Answer::problem(problem, to),
    }
}

fn success<T: serde::Serialize>(reply: &T, to: ContentType, ctx: &Ctx) -> Answer {
    match encoded(reply, to) {
        Ok(payload) => Answer::reply(reply_headers(to, ctx), payload),
        Err(problem) => Answer::problem(problem, to),
    }
}

/// Answers with MessagePack that is at hand.
fn ready(reply: Bytes, to: ContentType, ctx: &Ctx) -> Answer {
    let payload = match to {
        ContentType::MessagePack => Ok(reply),
        other => sinew_wire::transcode(ContentType::MessagePack, other, &reply).map_err(unwritable),
    };
    match payload {
        Ok(payload) => Answer::reply(reply_headers(to, ctx), payload),
        Err(problem) => Answer::problem(problem, to),
    }
}

/// Says that the work is taken on, and on which terms.
fn accepted(terms: &CompletionTerms, to: ContentType, ctx: &Ctx) -> Answer {
    let mut answer = success(terms, to, ctx);
    if answer.problem.is_none() {
        // Both are plain text that can always be sent.
        let _ = answer.headers.set(header::ACCEPTED, "true");
        let _ = answer.headers.set(header::STATUS, "202");
    }
    answer
}

fn encoded<T: serde::Serialize>(value: &T, to: ContentType) -> Result<Bytes, Problem> {
    sinew_wire::encode(to, value).map_err(unwritable)
}

fn unwritable(error: sinew_wire::CodecError) -> Problem {
    tracing::error!(%error, "a reply could not be encoded");
    Problem::new(500, "internal", "internal error")
}

fn reply_headers(to: ContentType, ctx: &Ctx) -> Headers {
    let mut headers = Headers::new();
    let _ = headers.set(header::CONTENT_TYPE, to.as_str());
    ctx.reply_hints(&mut headers);
    headers
}
