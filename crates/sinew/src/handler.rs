//! Handlers: plain async functions, payload first, extractors after.

use sinew_wire::{Event, Request, ServiceError};

use crate::{Ctx, FromMessage};

/// A function that answers one kind of request.
///
/// `M` only names the shape of the arguments and is always inferred.
#[diagnostic::on_unimplemented(
    message = "this function cannot answer `{R}`",
    label = "not a handler of `{R}`",
    note = "write it as: async fn(request: {R}, ..extractors) -> Result<Reply, Error>, with Reply and Error as declared on `{R}`"
)]
pub trait Handler<R: Request, S, M>: Clone + Send + Sync + 'static {
    /// Answers `request`.
    fn answer(
        self,
        request: R,
        ctx: Ctx,
        state: S,
    ) -> impl Future<Output = Result<R::Reply, Refusal<R::Error>>> + Send;
}

/// A function that reacts to one kind of event.
#[diagnostic::on_unimplemented(
    message = "this function cannot react to `{E}`",
    label = "not a handler of `{E}`",
    note = "write it as: async fn(event: {E}, ..extractors) -> Result<(), Error>, with a derived Problem as Error"
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
        impl<F, Fut, R, S, $($arg,)*> Handler<R, S, (R, $($arg,)*)> for F
        where
            F: Fn(R, $($arg),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = Result<R::Reply, R::Error>> + Send,
            R: Request,
            S: Send + Sync,
            $($arg: FromMessage<S>,)*
        {
            async fn answer(self, request: R, ctx: Ctx, state: S) -> Result<R::Reply, Refusal<R::Error>> {
                $(let $arg = $arg::from_message(&ctx, &state).await.map_err(Refusal::Extractor)?;)*
                self(request, $($arg),*).await.map_err(Refusal::Handler)
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
