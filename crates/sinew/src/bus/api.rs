//! Requests to the JetStream API: JSON there, JSON back, and an error that says by number what the server minds.
//!
//! Source: the JetStream wire API reference, `$JS.API.>`; numbers are the `err_code` of its error object.

use std::{fmt, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use sinew_wire::Headers;

use super::Bus;
use crate::{Error, Kind};

/// How long the server may take: replicated streams and consumers are made by vote.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the server's numbers mean to us.
pub(super) mod code {
    pub(in crate::bus) const CONSUMER_NOT_FOUND: u64 = 10_014;
    pub(in crate::bus) const NO_MESSAGE: u64 = 10_037;
    pub(in crate::bus) const NO_SEQUENCE: u64 = 10_043;
    pub(in crate::bus) const STREAM_NOT_FOUND: u64 = 10_059;
    pub(in crate::bus) const STREAM_STANDS: u64 = 10_058;
    pub(in crate::bus) const WRONG_LAST_SEQUENCE: [u64; 2] = [10_071, 10_164];
}

/// Why an API request brought nothing.
#[derive(Debug)]
pub(super) enum ApiError {
    /// The server answered, and said no.
    Refused(Refusal),
    /// There was no answer to be read.
    Lost(Error),
}

/// The server's error object.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) err_code: u64,
    #[serde(default)]
    pub(super) description: String,
}

/// Every answer is either this or what was asked for.
#[derive(Deserialize)]
struct Refused {
    error: Option<Refusal>,
}

impl Bus {
    /// Asks `$JS.API.<operation>`; `Value::Null` sends no body.
    pub(super) async fn api<T: DeserializeOwned>(
        &self,
        operation: &str,
        body: &Value,
    ) -> Result<T, ApiError> {
        let payload = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let asked = self.request(&format!("$JS.API.{operation}"), &Headers::new(), payload, PATIENCE).await;
        let reply = asked.map_err(|error| ApiError::Lost(without_jetstream(error)))?;
        read(reply.payload())
    }
}

impl ApiError {
    /// Says whether the server refused with this number.
    pub(super) fn is(&self, code: u64) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.err_code == code)
    }

    /// Returns the error of the SDK; `what` was being done.
    pub(super) fn during(self, what: &str) -> Error {
        match self {
            Self::Refused(refusal) => Error::new(Kind::JetStream, format!("{what}: {refusal}")),
            Self::Lost(error) => Error::new(error.kind(), format!("{what}: {error}")).because(error),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.description, self.err_code)
    }
}

/// Reads an answer of the API, or a stream's word on a message.
pub(super) fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, ApiError> {
    let unreadable = |error: serde_json::Error| {
        ApiError::Lost(Error::new(Kind::JetStream, "the stream's answer cannot be read").because(error))
    };
    let refused: Refused = serde_json::from_slice(answer).map_err(unreadable)?;
    match refused.error {
        Some(refusal) => Err(ApiError::Refused(refusal)),
        None => serde_json::from_slice(answer).map_err(unreadable),
    }
}

fn without_jetstream(error: Error) -> Error {
    match error.kind() {
        Kind::NoResponders => Error::new(
            Kind::JetStream,
            "the server does not serve jetstream: enable it, or wait until it is up",
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_what_was_asked_for_or_a_refusal() {
        let read = |text: &str| read::<Vec<u8>>(text.as_bytes());
        let refused = read(r#"{"type":"x","error":{"code":404,"err_code":10059,"description":"not there"}}"#);
        let refused = refused.unwrap_err();
        assert!(refused.is(code::STREAM_NOT_FOUND) && !refused.is(code::NO_MESSAGE));
        let error = refused.during("cannot ask");
        assert_eq!(
            (error.kind(), error.to_string()),
            (Kind::JetStream, "cannot ask: not there (code 10059)".into())
        );
        assert_eq!(read("<html>").unwrap_err().during("cannot ask").kind(), Kind::JetStream);
    }
}
