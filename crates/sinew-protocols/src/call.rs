//! The front door: which protocol carries out a call.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use sinew_workflow::{Fault, Outcome, Protocol};

use crate::{Error, Settings};

/// Carries out calls; cheap to clone, one per process, so that connections and tokens are shared.
#[derive(Clone, Debug)]
pub struct Protocols {
    #[allow(dead_code, reason = "the protocols read it")]
    settings: std::sync::Arc<Settings>,
}

/// One call, as the engine asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What carries it out.
    pub protocol: Protocol,
    /// The arguments of the task as the specification writes them, with their expressions computed.
    pub arguments: &'a Value,
    /// The idempotency key, sent along where the protocol has a place for it.
    pub key: &'a str,
    /// How long it may take.
    pub limit: Duration,
    /// The trace it belongs to, as a `traceparent`.
    pub traceparent: Option<&'a str>,
}

impl Protocols {
    /// Sets calls up.
    ///
    /// # Errors
    /// [`Error::Setting`] for certificates that cannot be read.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        Ok(Self { settings: std::sync::Arc::new(settings) })
    }

    /// Carries out a call. Whatever goes wrong is an outcome.
    ///
    /// # Cancel safety
    /// A dropped future leaves the outcome unknown: the other side may have done it.
    pub async fn call(&self, call: Call<'_>) -> Outcome {
        let detail = format!("`{}` cannot be called yet", call.protocol);
        Outcome::NotSent(Fault::configuration(detail))
    }

    /// Fetches an external resource, such as a schema or a function: an `endpoint` as the specification writes it.
    ///
    /// # Errors
    /// The fault a task that needs it raises.
    pub async fn fetch(&self, endpoint: &Value, limit: Duration) -> Result<Bytes, Box<Fault>> {
        let detail = format!("{endpoint} cannot be fetched yet within {limit:?}");
        Err(Box::new(Fault::configuration(detail)))
    }
}
