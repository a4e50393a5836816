//! The Sinew SDK: typed request/reply operations and events over NATS.
//!
//! # A service
//!
//! Messages carry their contract: a type says its subject, reply, errors and HTTP mapping, and [`contract!`] gathers
//! types into a service. Handlers are plain async functions, payload first, extractors after. Leaving an operation out
//! does not compile.
//!
//! ```no_run
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//! use sinew::{Config, Ctx, Event, Problem, Request, Retry, Service, State, contract};
//!
//! /// Reserves stock for an order.
//! #[derive(Request, Serialize, Deserialize, JsonSchema)]
//! #[sinew(subject = "inventory.reserve", reply = Reserved, error = StockError, idempotent, http = "POST /reservations")]
//! pub struct Reserve { sku: String, quantity: u32 }
//!
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! pub struct Reserved { id: String }
//!
//! #[derive(Event, Serialize, Deserialize, JsonSchema)]
//! #[sinew(subject = "stock.low", version = 1)]
//! pub struct StockLow { sku: String }
//!
//! #[derive(Debug, Problem)]
//! pub enum StockError {
//!     /// there is not enough of it
//!     #[problem(status = 409, code = "out-of-stock")]
//!     OutOfStock,
//! }
//!
//! contract! { pub Inventory = "inventory" @ "1.0.0" { reserve: Reserve } }
//!
//! async fn reserve(request: Reserve, ctx: Ctx, State(limit): State<u32>) -> Result<Reserved, StockError> {
//!     if request.quantity > limit {
//!         return Err(StockError::OutOfStock);
//!     }
//!     Ok(Reserved { id: ctx.idempotency_key().unwrap_or("r-1").to_owned() })
//! }
//!
//! async fn reorder(event: StockLow) -> Result<(), Problem> {
//!     println!("ordering more {}", event.sku);
//!     Ok(())
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), sinew::Error> {
//! Service::new("inventory", 100u32)
//!     .serve(Inventory, |s| s.reserve(reserve))
//!     .on("buyer", reorder, |group| group.concurrency(4).retry(Retry::default().attempts(5)))
//!     .run(Config::new("nats://127.0.0.1:4222", "inventory"))
//!     .await
//! # }
//! ```
//!
//! # What holds
//!
//! - **Deadlines travel as durations.** A call waits for the shorter of what it asks and what is left of its caller's
//!   time; a reply after the deadline is never a success ([`Deadline`], [`Call::within`]).
//! - **Who goes away takes the work along.** A call that is dropped or times out cancels its handler, and whatever that
//!   was calling in turn ([`Ctx::cancelled`], [`Ctx::shield`]).
//! - **Calls do no harm.** Only idempotent operations are tried again, within a budget that keeps retries from adding to
//!   an outage; circuit breakers, bulkheads and tower layers stand in one place ([`policy`]).
//! - **Errors decide.** A handler's error says whether trying again can help. [`CallError`] tells apart what matters to
//!   a caller: refused, nobody there, or *unknown* because no answer came in time.
//! - **An accepted event is never silently gone.** [`Ctx::publish`] returns when it is stored; every group handles it at
//!   least once, tries again as its [`Retry`] says, over hours if need be, and keeps what it cannot handle as a dead
//!   letter, to be mended and retried ([`dead_letters`]).
//! - **Stopping loses nothing.** [`Service::run`] drains on SIGTERM: takes nothing new, hands back what was not begun,
//!   finishes the rest, in bounded time ([`Running::drain`]).
//! - **A stream is whole or says so.** An operation may answer with many items ([`StreamHandler`], [`Ctx::stream`]) or
//!   take many ([`Upload`], [`Ctx::upload`]): in order, no faster than they are taken, and ended on both sides when either
//!   is gone ([`stream`]).
//! - **One trace.** What a handler calls or publishes through [`Ctx`] is in its caller's trace ([`telemetry`]).
//!
//! # Where things are
//!
//! [`Service`] and its handlers are what a service is made of; [`Ctx`] is how a handler talks to others, and every contract
//! has a typed client besides (`Orders::client(&ctx)`, see [`contract!`]); [`Bus`] is the connection, for tools that need
//! the raw thing; [`workflow`] starts sagas; [`broker`] finds or fetches a nats-server for development and tests. Events
//! in many at once are a [`Batch`]; events for later, or again and again, are in [`schedule`]; the past comes again with
//! [`replay`]. Extractors are in the documentation of [`FromMessage`], tower layers in [`Service::layer`].

pub mod barrier;
mod batch;
pub mod broker;
mod bulk;
pub mod bus;
mod call;
mod catalogue;
mod completion;
mod config;
mod context;
pub mod dead_letters;
mod encoded;
mod error;
mod extract;
mod group;
mod handler;
mod http;
mod pace;
pub mod policy;
mod publish;
pub mod replay;
mod routes;
pub mod schedule;
mod service;
pub mod shutdown;
pub mod stream;
mod streams;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod workflow;

pub use barrier::Barrier;
pub use batch::{Batch, BatchHandler, IntoOutcomes, Item, Outcomes};
pub use bulk::Bulk;
pub use bus::Bus;
pub use call::{Call, CallFuture, RawCall, problem_of};
pub use catalogue::{Catalogue, CatalogueChange, CatalogueWatch};
pub use completion::{Accepted, Completion, Given};
pub use config::Config;
pub use context::{Ctx, Deadline};
pub use encoded::Encoded;
pub use error::{CallError, Error, Kind};
pub use extract::{Attempt, Caller, FromHeader, FromMessage, FromRef, Header, IdempotencyKey, State};
pub use group::{BatchGroup, Events, Group, GroupOf, Ordered, Reaction, Redelivery, Retry};
pub use handler::{EventHandler, Handler, IntoReply, StreamHandler, UploadHandler};
pub use http::{HttpReply, HttpRequest};
pub use jiff::Timestamp;
pub use policy::{Breaker, CallRetry, Calls, Policy};
pub use publish::{Publish, PublishLater, PublishRepeatedly, publish_raw};
pub use routes::{Complete, Contract, IsServed, Routes, Served};
pub use service::{Answer, BoxError, Invocation, OperationService, Running, Service};
pub use sinew_macros::{Event, Problem, Request, contract};
pub use sinew_wire as wire;
pub use sinew_wire::{Event, Problem, Request, ServiceError, StreamRequest, UploadRequest};
pub use stream::{StreamCall, StreamRaw, Streaming, StreamingRaw, Upload, UploadCall};
pub use streams::{COMMANDS, DEAD_LETTERS, EVENTS, LANES, REDELIVERIES, ensure_commands, ensure_streams};
pub use telemetry::Tracer;

/// Creates an id that sorts by its time of creation: 32 hexadecimal digits.
pub fn new_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

// The derives name their output `::sinew::…`, also where this crate uses them itself.
extern crate self as sinew;

/// What the macros expand to. Not part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use schemars;
    pub use serde;
    pub use serde_json;
    pub use sinew_wire::*;

    pub use crate::{
        Call, Complete, Contract, Ctx, Handler, IsServed, Routes, Served, StreamCall, StreamHandler,
        UploadCall, UploadHandler, stream::Items,
    };

    /// Returns the JSON Schema (2020-12) of `T`.
    pub fn schema_of<T: Described>() -> serde_json::Value {
        T::described()
    }

    /// Returns the problem that describes a failed call to a caller further out.
    pub fn problem_of_call<E: ServiceError>(error: &crate::CallError<E>) -> Problem {
        error.to_problem()
    }
}
