//! Extractors: what a handler may ask for behind its payload.

use sinew_wire::Problem;

use crate::{Ctx, Deadline};

/// Takes an argument of a handler out of the message and the service's state.
///
/// | extractor | gives |
/// |---|---|
/// | [`Ctx`] | the handler's end of the conversation: calls, events, headers |
/// | [`State<T>`](State) | the service's state, or a part of it by [`FromRef`] |
/// | [`Deadline`] | when the caller stops waiting |
/// | [`Attempt`] | how often the message was delivered |
/// | [`IdempotencyKey`] | the key of the effect asked for |
/// | [`Caller`] | who asks, by its own account |
/// | [`Header<T>`](Header) | a header as a type of yours |
/// | [`Completion<T>`](crate::Completion) | the way to finish the work later |
/// | `Option<T>` | what `T` gives, `None` where there is none |
/// | `Result<T, Problem>` | what `T` gives, or the refusal it would have answered |
///
/// Implement it for your own types to add extractors.
///
/// ```
/// use sinew::{Ctx, FromMessage, FromRef, Problem};
///
/// /// Who is logged in, looked up in the part of the state that knows.
/// struct User { name: String }
///
/// #[derive(Clone)]
/// struct Sessions;
///
/// impl Sessions {
///     async fn user(&self, token: &str) -> Option<User> {
///         (token == "t-1").then(|| User { name: "Ada".to_owned() })
///     }
/// }
///
/// impl<S: Sync> FromMessage<S> for User
/// where
///     Sessions: FromRef<S>,
/// {
///     async fn from_message(ctx: &Ctx, state: &S) -> Result<Self, Problem> {
///         let refused = || Problem::new(401, "not-logged-in", "log in first");
///         let token = ctx.header("x-session").ok_or_else(refused)?;
///         Sessions::from_ref(state).user(token).await.ok_or_else(refused)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler",
    note = "the payload comes first; behind it may stand State<T> with T: FromRef of the service's state, Ctx, Deadline, Attempt, Caller, Header<T>, IdempotencyKey, Option or Result<_, Problem> of one, or your own FromMessage type"
)]
pub trait FromMessage<S>: Sized + Send {
    /// Takes the value.
    ///
    /// # Errors
    /// The problem is answered instead of calling the handler.
    fn from_message(ctx: &Ctx, state: &S) -> impl Future<Output = Result<Self, Problem>> + Send;

    /// Takes the value where there is one; this is what `Option<Self>` does. Every refusal is taken for "there is none",
    /// unless the type knows better.
    ///
    /// # Errors
    /// The problem is answered instead of calling the handler.
    fn from_message_if_any(
        ctx: &Ctx,
        state: &S,
    ) -> impl Future<Output = Result<Option<Self>, Problem>> + Send {
        let taken = Self::from_message(ctx, state);
        async { Ok(taken.await.ok()) }
    }
}

/// Borrows a part of the state, as its own clone.
///
/// ```
/// use sinew::{FromRef, Problem, Request, Service, State, contract};
/// # use {schemars::JsonSchema, serde::{Deserialize, Serialize}};
/// # #[derive(Request, Serialize, Deserialize, JsonSchema)]
/// # #[sinew(subject = "mail.send", reply = ())]
/// # pub struct Send {}
/// # contract! { pub Mail = "mail" @ "1.0.0" { send: Send } }
///
/// #[derive(Clone)]
/// struct Relay { host: String }
///
/// #[derive(Clone)]
/// struct App { relay: Relay, per_minute: u32 }
///
/// impl FromRef<App> for Relay {
///     fn from_ref(app: &App) -> Self {
///         app.relay.clone()
///     }
/// }
///
/// async fn send(_: Send, State(relay): State<Relay>, State(app): State<App>) -> Result<(), Problem> {
///     println!("by {}, {} a minute", relay.host, app.per_minute);
///     Ok(())
/// }
///
/// let app = App { relay: Relay { host: "localhost".into() }, per_minute: 60 };
/// let service = Service::new("mail", app).serve(Mail, |mail| mail.send(send));
/// ```
///
/// Every message gets a clone of what it asks for, so parts that are costly to clone stand behind an `Arc`. The state's
/// own type needs no implementation: `State<App>` works for every service whose state is an `App`.
#[diagnostic::on_unimplemented(
    message = "`State<{Self}>` cannot be taken out of the state `{S}`",
    label = "no part of `{S}`",
    note = "hand a `{Self}` to Service::new, or say which part it is: impl FromRef<{S}> for {Self}"
)]
pub trait FromRef<S> {
    /// Returns the part.
    fn from_ref(state: &S) -> Self;
}

/// A header with a name and a meaning of its own, for [`Header`].
///
/// ```
/// use sinew::{FromHeader, Header, Problem, Request};
/// # use {schemars::JsonSchema, serde::{Deserialize, Serialize}};
/// # #[derive(Request, Serialize, Deserialize, JsonSchema)]
/// # #[sinew(subject = "books.list", reply = u32)]
/// # struct List {}
///
/// /// On whose behalf the request is made.
/// struct Tenant(String);
///
/// impl FromHeader for Tenant {
///     const NAME: &'static str = "x-tenant";
///
///     fn from_header(value: &str) -> Result<Self, Problem> {
///         match value.len() {
///             1..=40 => Ok(Self(value.to_owned())),
///             _ => Err(Problem::new(400, "bad-tenant", "a tenant has 1 to 40 letters")),
///         }
///     }
/// }
///
/// async fn list(_: List, Header(tenant): Header<Tenant>) -> Result<u32, Problem> {
///     Ok(tenant.0.len() as u32)
/// }
/// ```
///
/// The caller sends it with [`Call::header`](crate::Call::header), over HTTP with a header of the same name where the
/// edge hands it on.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no header",
    note = "say its name and how it is read: impl FromHeader for {Self}"
)]
pub trait FromHeader: Sized + Send {
    /// The header's name; case does not matter.
    const NAME: &'static str;

    /// Reads the value.
    ///
    /// # Errors
    /// The problem is answered instead of calling the handler, also where the handler takes an `Option`.
    fn from_header(value: &str) -> Result<Self, Problem>;

    /// Returns what a request without the header is answered, unless the handler takes an `Option`.
    fn missing() -> Problem {
        Problem::new(400, "header-missing", "a header is missing")
            .detail(format!("send the header {}", Self::NAME))
    }
}

/// The service's state, or a part of it.
#[derive(Clone, Copy, Debug)]
pub struct State<T>(pub T);

/// A header of the message, by its type. `Option<Header<T>>` is `None` where it is absent, and still refuses a value
/// that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<T>(pub T);

/// How often this message was delivered, this time included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt(pub u32);

/// The key that is constant over every repetition of the effect asked for, if the caller sent one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(pub Option<String>);

/// The service that asks or published the event, if it says so: the name its [`Ctx`] goes by.
///
/// Good for logs, statistics and limits per caller. It is **not** authentication: the sender writes it, and the server
/// checks it as little as any other header. Who may send what is a matter of the account's permissions on subjects;
/// only where those let one identity alone reach a subject is the name as good as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(pub Option<String>);

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

impl<S: Sync> FromMessage<S> for Caller {
    async fn from_message(ctx: &Ctx, _: &S) -> Result<Self, Problem> {
        Ok(Self(ctx.caller().map(str::to_owned)))
    }
}

impl<S: Sync, T: FromHeader> FromMessage<S> for Header<T> {
    async fn from_message(ctx: &Ctx, _: &S) -> Result<Self, Problem> {
        read(ctx)?.ok_or_else(T::missing)
    }

    async fn from_message_if_any(ctx: &Ctx, _: &S) -> Result<Option<Self>, Problem> {
        read(ctx)
    }
}

impl<S: Sync, T: FromMessage<S>> FromMessage<S> for Option<T> {
    async fn from_message(ctx: &Ctx, state: &S) -> Result<Self, Problem> {
        T::from_message_if_any(ctx, state).await
    }
}

impl<S: Sync, T: FromMessage<S>> FromMessage<S> for Result<T, Problem> {
    async fn from_message(ctx: &Ctx, state: &S) -> Result<Self, Problem> {
        Ok(T::from_message(ctx, state).await)
    }
}

fn read<T: FromHeader>(ctx: &Ctx) -> Result<Option<Header<T>>, Problem> {
    ctx.header(T::NAME).map(T::from_header).transpose().map(|value| value.map(Header))
}
