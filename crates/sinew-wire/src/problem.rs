//! Problems: the body of every error, on the bus and over HTTP.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The member that carries a retry hint.
const RETRY_AFTER: &str = "retry_after_ms";

/// A problem as RFC 9457 describes it, with a stable `code` to branch on and `retry` to decide by.
///
/// What stands here reaches clients: causes belong in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Problem {
    /// URI reference of the kind of problem; `about:blank` where the status says it all.
    #[serde(rename = "type", default = "blank")]
    pub kind: String,
    /// Short text for people, the same for every occurrence.
    #[serde(default)]
    pub title: String,
    /// HTTP status, also outside HTTP.
    pub status: u16,
    /// Stable code for programs, such as `out-of-stock` or `SNW-3004`.
    #[serde(default)]
    pub code: String,
    /// What happened this time and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// URI reference of this occurrence, for example of the workflow instance that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Whether the same request may succeed later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry: bool,
    /// Further members, such as the violations of a schema.
    #[serde(flatten)]
    pub extensions: Map<String, Value>,
}

impl Problem {
    /// Creates a problem without detail, not retriable.
    pub fn new(status: u16, code: impl Into<String>, title: impl Into<String>) -> Self {
        Self {
            kind: blank(),
            title: title.into(),
            status,
            code: code.into(),
            detail: None,
            instance: None,
            retry: false,
            extensions: Map::new(),
        }
    }

    /// Adds what happened this time.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Marks the problem as worth a retry.
    #[must_use]
    pub fn retriable(mut self) -> Self {
        self.retry = true;
        self
    }

    /// Adds a further member.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extensions.insert(name.into(), value.into());
        self
    }

    /// Says how long to wait before trying again makes sense, as the member `retry_after_ms`; whole milliseconds travel.
    #[must_use]
    pub fn retry_after(self, pause: Duration) -> Self {
        self.with(RETRY_AFTER, u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)).retriable()
    }

    /// Returns how long to wait before trying again makes sense, where the problem says so.
    pub fn retry_hint(&self) -> Option<Duration> {
        self.extensions.get(RETRY_AFTER)?.as_u64().map(Duration::from_millis)
    }

    /// Names the occurrence.
    #[must_use]
    pub fn instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = Some(instance.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.title, self.status, self.code)?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

fn blank() -> String {
    "about:blank".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContentType, decode, encode};

    #[test]
    fn members_of_others_survive_a_round_trip() {
        let problem = Problem::new(409, "out-of-stock", "out of stock").with("sku", "tea").retriable();
        for codec in [ContentType::Json, ContentType::MessagePack] {
            let bytes = encode(codec, &problem).unwrap();
            assert_eq!(decode::<Problem>(codec, &bytes).unwrap(), problem);
        }
    }

    #[test]
    fn a_retry_hint_travels_in_milliseconds() {
        let problem = Problem::new(503, "busy", "busy").retry_after(Duration::from_micros(70_900));
        assert!(problem.retry, "a time to come back is an invitation to do so");
        for codec in [ContentType::Json, ContentType::MessagePack] {
            let read = decode::<Problem>(codec, &encode(codec, &problem).unwrap()).unwrap();
            assert_eq!(read.retry_hint(), Some(Duration::from_millis(70)));
        }
        assert_eq!(Problem::new(503, "busy", "busy").with("retry_after_ms", "soon").retry_hint(), None);
    }

    #[test]
    fn a_bare_problem_of_another_stack_is_read() {
        let problem: Problem = decode(ContentType::Json, br#"{"status":404}"#).unwrap();
        assert_eq!((problem.kind.as_str(), problem.status, problem.retry), ("about:blank", 404, false));
    }
}
