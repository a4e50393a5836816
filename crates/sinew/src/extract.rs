//! Extractors: what a handler may ask for behind its payload.

use sinew_wire::Problem;

use crate::{Ctx, Deadline};

/// Takes an argument of a handler out of the message and the service's state.
///
/// Implement it for your own types to add extractors.
///
/// ```
/// use sinew::{Ctx, FromMessage, Problem};
///
/// /// Who asks, as the edge verified it.
/// struct Tenant(String);
///
/// impl<S: Sync> FromMessage<S> for Tenant {
///     async fn from_message(ctx: &Ctx, _state: &S) -> Result<Self, Problem> {
///         let tenant = ctx.header("x-tenant").ok_or_else(|| Problem::new(401, "no-tenant", "no tenant given"))?;
///         Ok(Self(tenant.to_owned()))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler",
    note = "the payload comes first; behind it may stand State<T>, Ctx, Deadline, Attempt, IdempotencyKey or your own FromMessage type"
)]
pub trait FromMessage<S>: Sized + Send {
    /// Takes the value.
    ///
    /// # Errors
    /// The problem is answered instead of calling the handler.
    fn from_message(ctx: &Ctx, state: &S) -> impl Future<Output = Result<Self, Problem>> + Send;
}

/// Borrows a part of the state, as its own clone.
pub trait FromRef<S> {
    /// Returns the part.
    fn from_ref(state: &S) -> Self;
}

/// The service's state, or a part of it.
#[derive(Clone, Copy, Debug)]
pub struct State<T>(pub T);

/// How often this message was delivered, this time included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt(pub u32);

/// The key that is constant over every repetition of the effect asked for, if the caller sent one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(pub Option<String>);

impl<S: Clone> FromRef<S> for S {
    fn from_ref(state: &S) -> Self {
        state.clone()
    }
}

impl<S: Sync, T: FromRef<S> + Send> FromMessage<S> for State<T> {
    async fn from_message(_: &Ctx, state: &S) -> Result<Self, Problem> {
        Ok(Self(T::from_ref(state)))
    }
}

impl<S: Sync> FromMessage<S> for Ctx {
    async fn from_message(ctx: &Ctx, _: &S) -> Result<Self, Problem> {
        Ok(ctx.clone())
    }
}

impl<S: Sync> FromMessage<S> for Deadline {
    async fn from_message(ctx: &Ctx, _: &S) -> Result<Self, Problem> {
        Ok(ctx.deadline())
    }
}

impl<S: Sync> FromMessage<S> for Attempt {
    async fn from_message(ctx: &Ctx, _: &S) -> Result<Self, Problem> {
        Ok(Self(ctx.attempt()))
    }
}

impl<S: Sync> FromMessage<S> for IdempotencyKey {
    async fn from_message(ctx: &Ctx, _: &S) -> Result<Self, Problem> {
        Ok(Self(ctx.idempotency_key().map(str::to_owned)))
    }
}
