//! Handlers: plain async functions, payload first, extractors after.

use futures::Stream;
use sinew_wire::{Event, Request, ServiceError, StreamRequest, UploadRequest};

use crate::{Accepted, Ctx, FromMessage, Upload, completion::Given};

/// A function that answers one kind of request.
///
/// `M` only names the shape of the arguments and is always inferred.
#[diagnostic::on_unimplemented(
    message = "this function cannot answer `{R}`",
    label = "not a handler of `{R}`",
    note = "write it as: async fn(request: {R}, ..extractors) -> Result<Reply, Error>, with Reply and Error as declared on `{R}`; for a stream of items declare `stream = Item` there",
    note = "extractors are State<T> with T: FromRef of the service's state, Ctx, Deadline, Attempt, Caller, Header<T>, IdempotencyKey, Option or Result<_, Problem> of one, and your own FromMessage types",
    note = "if all that fits: what the function holds over an .await has to be Send, which Rc, RefCell borrows and lock guards are not"
)]
pub trait Handler<R: Request, S, M>: Clone + Send + Sync + 'static {
    /// Whether it may take work on and answer later.
    const ACCEPTS: bool = false;

    /// Answers `request`.
    fn answer(
        self,
        request: R,
        ctx: Ctx,
        state: S,
    ) -> impl Future<Output = Result<Given<R::Reply>, Refusal<R::Error>>> + Send;
}

/// A function that answers one kind of request with a stream of items.
///
/// Two shapes are handlers: an async function that returns `Result<impl Stream, Error>`, which may refuse before the
/// first item, and a plain function that returns `impl Stream`. The items are `Result<Item, Error>`, with both types as
/// declared on the request; the first error is the last item.
///
/// ```
/// use futures::{Stream, StreamExt, stream};
/// use sinew::{Ctx, Problem, Request, Service, contract};
/// # use {schemars::JsonSchema, serde::{Deserialize, Serialize}};
///
/// #[derive(Request, Serialize, Deserialize, JsonSchema)]
/// #[sinew(subject = "counter.count", stream = u64)]
/// struct Count { from: u64 }
///
/// #[derive(Request, Serialize, Deserialize, JsonSchema)]
/// #[sinew(subject = "counter.primes", stream = u64)]
/// struct Primes {}
///
/// contract! { Counter = "counter" @ "1.0.0" { count: stream Count, primes: stream Primes } }
///
/// async fn count(request: Count, _ctx: Ctx) -> Result<impl Stream<Item = Result<u64, Problem>>, Problem> {
///     if request.from == 0 {
///         return Err(Problem::new(400, "from-one", "counting begins at 1"));
///     }
///     Ok(stream::iter(request.from..).map(Ok))
/// }
///
/// fn primes(_: Primes) -> impl Stream<Item = Result<u64, Problem>> {
///     stream::iter([2, 3, 5, 7]).map(Ok)
/// }
///
/// let service = Service::new("counter", ()).serve(Counter, |c| c.count(count).primes(primes));
/// ```
///
/// The stream is dropped when the caller is gone, at whatever await it stands.
#[diagnostic::on_unimplemented(
    message = "this function cannot answer `{R}` with a stream",
    label = "not a stream handler of `{R}`",
    note = "write it as: async fn(request: {R}, ..extractors) -> Result<impl Stream<Item = Result<Item, Error>>, Error>, or fn(..) -> impl Stream<..>, with Item and Error as declared on `{R}`",
    note = "extractors are State<T> with T: FromRef of the service's state, Ctx, Deadline, Attempt, Caller, Header<T>, IdempotencyKey, Option or Result<_, Problem> of one, and your own FromMessage types",
    note = "if all that fits: what the function holds over an .await has to be Send, which Rc, RefCell borrows and lock guards are not"
)]
pub trait StreamHandler<R: StreamRequest, S, M>: Clone + Send + Sync + 'static {
    /// The items.
    type Items: Stream<Item = Result<R::Item, R::Error>> + Send + 'static;

    /// Opens the stream.
    fn open(
        self,
        request: R,
        ctx: Ctx,
        state: S,
    ) -> impl Future<Output = Result<Self::Items, Refusal<R::Error>>> + Send;
}

/// A function that takes an upload: a request, the [`Upload`] behind it, and extractors after.
#[diagnostic::on_unimplemented(
    message = "this function cannot take the upload of `{R}`",
    label = "not an upload handler of `{R}`",
    note = "write it as: async fn(request: {R}, items: Upload<Item>, ..extractors) -> Result<Reply, Error>, with Item, Reply and Error as declared on `{R}`",
    note = "extractors are State<T> with T: FromRef of the service's state, Ctx, Deadline, Attempt, Caller, Header<T>, IdempotencyKey, Option or Result<_, Problem> of one, and your own FromMessage types",
    note = "if all that fits: what the function holds over an .await has to be Send, which Rc, RefCell borrows and lock guards are not"
)]
pub trait UploadHandler<R: UploadRequest, S, M>: Clone + Send + Sync + 'static {
    /// Takes `items` and answers `request`.
    fn take(
        self,
        request: R,
        items: Upload<R::Item>,
        ctx: Ctx,
        state: S,
    ) -> impl Future<Output = Result<R::Reply, Refusal<R::Error>>> + Send;
}

/// Marks handlers that are plain functions and return the stream itself.
#[derive(Debug)]
pub struct Plain;

/// A function that reacts to one kind of event.
#[diagnostic::on_unimplemented(
    message = "this function cannot react to an event",
    label = "not a handler of an event",
    note = "write it as: async fn(event: TheEvent, ..extractors) -> Result<(), Error>, with a derived Event and a derived Problem, or sinew::Problem",
    note = "extractors are State<T> with T: FromRef of the service's state, Ctx, Deadline, Attempt, Caller, Header<T>, IdempotencyKey, Option or Result<_, Problem> of one, and your own FromMessage types",
    note = "if all that fits: what the function holds over an .await has to be Send, which Rc, RefCell borrows and lock guards are not"
)]
pub trait EventHandler<E: Event, S, M>: Clone + Send + Sync + 'static {
    /// Reacts to `event`.
    fn react(
        self,
        event: E,
        ctx: Ctx,
        state: S,
    ) -> impl Future<Output = Result<(), sinew_wire::Problem>> + Send;
}

/// What a handler may give its caller: the reply `T`, or word that it [comes later](crate::Accepted).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no reply",
    label = "not `{T}`",
    note = "return `{T}`, as declared on the request, or `Accepted<{T}>` for work that is finished later"
)]
pub trait IntoReply<T>: Send {
    /// Whether it may be word that the reply comes later.
    const ACCEPTS: bool = false;

    /// Tells which it is.
    fn into_reply(self) -> Given<T>;
}

impl<T: Send> IntoReply<T> for T {
    fn into_reply(self) -> Given<T> {
        Given::Now(self)
    }
}

impl<T> IntoReply<T> for Accepted<T> {
    const ACCEPTS: bool = true;

    fn into_reply(self) -> Given<T> {
        self.given()
    }
}

/// Who refused: the handler, or an extractor before it ran.
#[derive(Debug)]
pub enum Refusal<E> {
    /// The handler returned an error.
    Handler(E),
    /// An extractor did.
    Extractor(sinew_wire::Problem),
}

macro_rules! handlers {
    ($($arg:ident),*) => {
        #[allow(non_snake_case, unused_variables, reason = "type parameters name the arguments of each arity")]
        impl<F, Fut, Out, R, S, $($arg,)*> Handler<R, S, (R, $($arg,)*)> for F
        where
            F: Fn(R, $($arg),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = Result<Out, R::Error>> + Send,
            Out: IntoReply<R::Reply>,
            R: Request,
            S: Send + Sync,
            $($arg: FromMessage<S>,)*
        {
            const ACCEPTS: bool = Out::ACCEPTS;

            async fn answer(self, request: R, ctx: Ctx, state: S) -> Result<Given<R::Reply>, Refusal<R::Error>> {
                $(let $arg = $arg::from_message(&ctx, &state).await.map_err(Refusal::Extractor)?;)*
                let given = self(request, $($arg),*).await.map_err(Refusal::Handler)?;
                Ok(given.into_reply())
            }
        }

        #[allow(non_snake_case, unused_variables, reason = "type parameters name the arguments of each arity")]
        impl<F, Fut, St, R, S, $($arg,)*> StreamHandler<R, S, (R, $($arg,)*)> for F
        where
            F: Fn(R, $($arg),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = Result<St, R::Error>> + Send,
            St: Stream<Item = Result<R::Item, R::Error>> + Send + 'static,
            R: StreamRequest,
            S: Send + Sync,
            $($arg: FromMessage<S>,)*
        {
            type Items = St;

            async fn open(self, request: R, ctx: Ctx, state: S) -> Result<St, Refusal<R::Error>> {
                $(let $arg = $arg::from_message(&ctx, &state).await.map_err(Refusal::Extractor)?;)*
                self(request, $($arg),*).await.map_err(Refusal::Handler)
            }
        }

        #[allow(non_snake_case, unused_variables, reason = "type parameters name the arguments of each arity")]
        impl<F, St, R, S, $($arg,)*> StreamHandler<R, S, (Plain, R, $($arg,)*)> for F
        where
            F: Fn(R, $($arg),*) -> St + Clone + Send + Sync + 'static,
            St: Stream<Item = Result<R::Item, R::Error>> + Send + 'static,
            R: StreamRequest,
            S: Send + Sync,
            $($arg: FromMessage<S>,)*
        {
            type Items = St;

            async fn open(self, request: R, ctx: Ctx, state: S) -> Result<St, Refusal<R::Error>> {
                $(let $arg = $arg::from_message(&ctx, &state).await.map_err(Refusal::Extractor)?;)*
                Ok(self(request, $($arg),*))
            }
        }

        #[allow(non_snake_case, unused_variables, reason = "type parameters name the arguments of each arity")]
        impl<F, Fut, R, S, $($arg,)*> UploadHandler<R, S, (R, $($arg,)*)> for F
        where
            F: Fn(R, Upload<R::Item>, $($arg),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = Result<R::Reply, R::Error>> + Send,
            R: UploadRequest,
            S: Send + Sync,
            $($arg: FromMessage<S>,)*
        {
            async fn take(
                self,
                request: R,
                items: Upload<R::Item>,
                ctx: Ctx,
                state: S,
            ) -> Result<R::Reply, Refusal<R::Error>> {
                $(let $arg = $arg::from_message(&ctx, &state).await.map_err(Refusal::Extractor)?;)*
                self(request, items, $($arg),*).await.map_err(Refusal::Handler)
            }
        }

        #[allow(non_snake_case, unused_variables, reason = "type parameters name the arguments of each arity")]
        impl<F, Fut, E, P, S, $($arg,)*> EventHandler<E, S, (E, P, $($arg,)*)> for F
        where
            F: Fn(E, $($arg),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = Result<(), P>> + Send,
            E: Event,
            P: ServiceError,
            S: Send + Sync,
            $($arg: FromMessage<S>,)*
        {
            async fn react(self, event: E, ctx: Ctx, state: S) -> Result<(), sinew_wire::Problem> {
                $(let $arg = $arg::from_message(&ctx, &state).await?;)*
                self(event, $($arg),*).await.map_err(|error| error.to_problem())
            }
        }
    };
}

handlers!();
handlers!(A1);
handlers!(A1, A2);
handlers!(A1, A2, A3);
handlers!(A1, A2, A3, A4);
handlers!(A1, A2, A3, A4, A5);
handlers!(A1, A2, A3, A4, A5, A6);
