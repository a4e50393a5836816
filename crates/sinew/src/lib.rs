//! The Sinew SDK: typed operations and events over NATS.

pub mod broker;
pub mod bus;
mod call;
mod catalogue;
mod config;
mod context;
mod error;
mod extract;
mod group;
mod handler;
mod publish;
mod routes;
mod service;
pub mod shutdown;
pub mod telemetry;
pub mod workflow;

pub use bus::Bus;
pub use call::{Call, problem_of};
pub use catalogue::{Catalogue, CatalogueChange, CatalogueWatch};
pub use config::Config;
pub use context::{Ctx, Deadline};
pub use error::{CallError, Error, Kind};
pub use extract::{Attempt, FromMessage, FromRef, IdempotencyKey, State};
pub use group::{Group, Retry};
pub use handler::{EventHandler, Handler};
pub use publish::{DEAD_LETTERS, EVENTS, Publish, ensure_streams, publish_raw};
pub use routes::{Complete, Contract, IsServed, Routes, Served};
pub use service::{Answer, BoxError, Invocation, OperationService, Running, Service};
pub use sinew_macros::{Event, Problem, Request, contract};
pub use sinew_wire as wire;
pub use sinew_wire::{Event, Problem, Request, ServiceError};
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

    pub use crate::{Complete, Contract, Handler, IsServed, Routes, Served};

    /// Returns the JSON Schema (2020-12) of `T`.
    pub fn schema_of<T: schemars::JsonSchema>() -> serde_json::Value {
        schemars::schema_for!(T).to_value()
    }

    /// Returns the problem that describes a failed call to a caller further out.
    pub fn problem_of_call<E: ServiceError>(error: &crate::CallError<E>) -> Problem {
        error.to_problem()
    }
}
