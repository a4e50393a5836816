//! The derives of the Sinew SDK: [`Request`], [`Event`], [`Problem`], and [`contract!`].
//!
//! They check what can be checked while compiling and describe the rest for the catalogue. They never rewrite what
//! a user wrote: a derived type stays the plain type it was, and a handler stays a plain function.
//!
//! Use them through the crate `sinew`, which re-exports them next to the traits they implement; the generated code
//! names nothing but `sinew` and `std`.

mod attributes;
mod contract;
mod event;
mod fields;
mod http;
mod name;
mod problem;
mod request;

use proc_macro::TokenStream;

/// Derives `Request`: the type becomes a message that asks one operation for a reply.
///
/// The type is a struct that owns its data, without generic parameters. It also needs `Serialize`, `Deserialize` and
/// `JsonSchema`; the first paragraph of its documentation describes the operation in the catalogue.
///
/// | key in `#[sinew(..)]` | meaning |
/// |---|---|
/// | `subject = "orders.place"` | service and operation, required; requests go to `svc.orders.place` |
/// | `reply = Order` | what a successful call answers, required; `()` if there is nothing to say |
/// | `stream = Row` | in the place of `reply`: a successful call answers a stream of these, and the type implements `StreamRequest` |
/// | `upload = Row` | beside `reply`: a stream of these follows the request, and the type implements `UploadRequest` |
/// | `error = OrderError` | what a refused call answers; any problem where nothing is declared |
/// | `idempotent` | repeating the request has no further effect, so it may be retried |
/// | `http = "POST /orders/{id}"` | how the edge publishes it; `{id}` is a field, in its serialized spelling |
/// | `body = "input"` | the field that takes the whole HTTP body; without it the body's members are the fields |
/// | `status = 201` | HTTP status of a success, 200 to 299 |
///
/// ```
/// # use sinew::{Problem, Request};
/// # use {schemars::JsonSchema, serde::{Deserialize, Serialize}};
/// # #[derive(Serialize, Deserialize, JsonSchema)] struct Order;
/// # #[derive(Debug, Problem)] enum OrderError {}
/// /// Places an order.
/// #[derive(Request, Serialize, Deserialize, JsonSchema)]
/// #[sinew(subject = "orders.place", reply = Order, error = OrderError, idempotent, http = "POST /orders")]
/// struct PlaceOrder {
///     sku: String,
///     quantity: u32,
/// }
///
/// assert_eq!(PlaceOrder::SUBJECT, "svc.orders.place");
/// ```
#[proc_macro_derive(Request, attributes(sinew))]
pub fn request(input: TokenStream) -> TokenStream {
    expand(syn::parse(input).and_then(request::expand))
}

/// Derives `Event`: the type becomes a message that says what happened.
///
/// The type is a struct or an enum that owns its data, without generic parameters. It also needs `Serialize`,
/// `Deserialize` and `JsonSchema`; the first paragraph of its documentation describes the event in the catalogue.
///
/// | key in `#[sinew(..)]` | meaning |
/// |---|---|
/// | `subject = "orders.placed"` | domain and event, required; published to `evt.orders.placed` |
/// | `version = 1` | version of the schema, from 1; 1 where nothing is said |
///
/// ```
/// # use sinew::Event;
/// # use {schemars::JsonSchema, serde::{Deserialize, Serialize}};
/// /// An order was accepted.
/// #[derive(Event, Serialize, Deserialize, JsonSchema)]
/// #[sinew(subject = "orders.placed", version = 1)]
/// struct OrderPlaced {
///     id: String,
/// }
///
/// assert_eq!(OrderPlaced::TYPE, "orders.placed.v1");
/// ```
#[proc_macro_derive(Event, attributes(sinew))]
pub fn event(input: TokenStream) -> TokenStream {
    expand(syn::parse(input).and_then(event::expand))
}

/// Derives `ServiceError`, `Display` and `std::error::Error` for an enum of the errors a service declares.
///
/// The enum also needs `Debug`. Each variant carries `#[problem(..)]` and becomes one RFC 9457 problem:
///
/// | key in `#[problem(..)]` | meaning |
/// |---|---|
/// | `status = 409` | HTTP status, 400 to 599, required |
/// | `code = "out-of-stock"` | stable code for programs, unique in the enum; the variant's name where nothing is said |
/// | `title = "out of stock"` | short text; the first paragraph of the variant's documentation, else its name |
/// | `retry` | the same request may succeed later |
/// | `transparent` | alone, on one variant that holds a `sinew::Problem`, boxed or not: carries what others declared |
///
/// What a variant holds travels with the problem: the `String` of a one-field variant as `detail`, named fields as
/// extension members. A named field `detail` has to be a `String` and is the problem's own `detail`.
///
/// An enum with a transparent variant is also made from a `sinew::Problem` and from the error of any call, so that
/// `?` hands on what another service answered.
///
/// ```
/// # use sinew::{Problem, ServiceError};
/// #[derive(Debug, Problem)]
/// enum OrderError {
///     /// Out of stock.
///     #[problem(status = 409)]
///     OutOfStock { sku: String },
///     #[problem(status = 503, code = "busy", retry)]
///     Busy,
///     #[problem(transparent)]
///     Other(sinew::Problem),
/// }
///
/// assert_eq!(OrderError::OutOfStock { sku: "tea".into() }.to_problem().code, "out-of-stock");
/// ```
///
/// A problem is recognised by its code. Its other members are taken from the declaration, so a transparent variant
/// that is given one of the enum's own codes comes back as the variant of that code.
#[proc_macro_derive(Problem, attributes(problem))]
pub fn problem(input: TokenStream) -> TokenStream {
    expand(syn::parse(input).and_then(problem::expand))
}

/// Declares a contract: a service's name, its version and the operations it answers.
///
/// The documentation of the contract describes the service in the catalogue. The contract becomes a unit struct, and
/// a builder with one method per operation, which takes the operation's handler. A service that leaves an operation
/// out does not compile, unless it says `.unimplemented()`; nor does one that serves an operation twice.
///
/// A request that is declared with `stream = ..` or `upload = ..` is listed with that word: `rows: stream Rows`,
/// `import: upload ImportRows`.
///
/// Callers need the contract and no handlers: `Orders::client(&ctx)` is a client with one method per operation, which
/// returns the same as `ctx.call(..)`, `ctx.stream(..)` or `ctx.upload(..)` would.
///
/// Every request has to belong to the service, and the version has to be a semantic version.
///
/// ```
/// # use sinew::{Request, Service, contract};
/// # use {schemars::JsonSchema, serde::{Deserialize, Serialize}};
/// # #[derive(Request, Serialize, Deserialize, JsonSchema)]
/// # #[sinew(subject = "orders.place", reply = u32)]
/// # pub struct PlaceOrder {}
/// # #[derive(Request, Serialize, Deserialize, JsonSchema)]
/// # #[sinew(subject = "orders.get", reply = u32)]
/// # pub struct GetOrder {}
/// # async fn place(_: PlaceOrder) -> Result<u32, sinew::Problem> { Ok(1) }
/// # async fn get(_: GetOrder) -> Result<u32, sinew::Problem> { Ok(1) }
/// # let state = ();
/// contract! {
///     /// Takes orders and knows what became of them.
///     pub Orders = "orders" @ "1.2.0" {
///         place: PlaceOrder,
///         get: GetOrder,
///     }
/// }
///
/// let service = Service::new("orders", state).serve(Orders, |orders| orders.place(place).get(get));
///
/// async fn buy(ctx: sinew::Ctx) -> Result<u32, sinew::CallError<sinew::Problem>> {
///     let orders = Orders::client(&ctx);
///     orders.place(PlaceOrder {}).idempotency_key("cart-7").await
/// }
/// ```
#[proc_macro]
pub fn contract(input: TokenStream) -> TokenStream {
    expand(syn::parse(input).and_then(contract::expand))
}

fn expand(result: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    result.unwrap_or_else(syn::Error::into_compile_error).into()
}
