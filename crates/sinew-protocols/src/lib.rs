//! Carries out what workflows call outside the bus: HTTP, OpenAPI, gRPC, AsyncAPI, MCP, A2A, and processes.
//!
//! The engine computes the arguments of a call; [`Protocols::call`] carries it out and says what came of it as an
//! [`Outcome`]: done, definitely not done, or unknown. It never fails otherwise, and knows nothing of sagas or of the bus.

mod authentication;
mod call;
mod client;
mod document;
mod duration;
mod endpoint;
mod error;
mod failure;
mod http;
mod openapi;
mod process;
mod secrets;
mod settings;

pub use call::{Call, Protocols};
pub use error::Error;
pub use secrets::{Secrets, reveal};
pub use settings::{Allow, Settings};

#[cfg(test)]
mod tests;
