//! Carries out what workflows call outside the bus: HTTP, OpenAPI, gRPC, AsyncAPI, MCP, A2A, and processes.
//!
//! The engine computes the arguments of a call; [`Protocols::call`] carries it out and says what came of it as an
//! [`Outcome`]: done, definitely not done, or unknown. It never fails otherwise, and knows nothing of sagas or of the bus.

mod call;
mod error;
mod settings;

pub use call::{Call, Protocols};
pub use error::Error;
pub use settings::{Allow, Settings};
