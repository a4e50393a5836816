//! The policy of idempotency keys, as `edge.yaml` writes it.

use std::time::Duration;

use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Mistake, Period, below};

/// How long replies are kept where nothing is said.
const A_DAY: Duration = Duration::from_secs(24 * 3_600);
/// Longest time replies are kept.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Largest reply that is kept: with its header fields it has to fit into one message of the bus.
const MOST: usize = 768 * 1024;

/// Changes that are made once however often they are asked for: the reply to the first request with an `Idempotency-Key`
/// is kept, and repeated ones get it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Idempotency {
    /// Whether `POST` and `PATCH` have to have a key.
    pub required: bool,
    /// How long a reply is kept, such as `24h`; a day where nothing is said, 720 hours at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<Period>,
    /// Whether replies are kept that say "not now": 5xx, 401, 403, 408, 425 and 429. Without it a key is free again after one.
    pub keep_failures: bool,
    /// The largest reply that is kept, in bytes. Of a larger one only is kept that there was one.
    pub max_reply_bytes: usize,
    /// Where clients read what to do, for the `Link` of a request without a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docs: Option<String>,
}

impl Default for Idempotency {
    fn default() -> Self {
        Self { required: false, keep: None, keep_failures: false, max_reply_bytes: 256 * 1024, docs: None }
    }
}

impl Idempotency {
    /// Returns how long a reply is kept.
    pub(crate) fn keep(&self) -> Duration {
        self.keep.map_or(A_DAY, Period::length)
    }

    /// Lists what cannot work.
    pub(super) fn check(&self, at: &str, mistakes: &mut Vec<Mistake>) {
        let mut wrong =
            |member: &str, message: String| mistakes.push(Mistake::new(below(at, member), message));
        if self.keep() < Duration::from_secs(1) || self.keep() > LONGEST {
            wrong("keep", "has to be 1s to 720h".to_owned());
        }
        if self.max_reply_bytes > MOST {
            wrong("max_reply_bytes", format!("is more than one message takes: use {MOST} or less"));
        }
        let unwritable =
            |href: &String| href.is_empty() || href.parse::<Uri>().is_err() || href.contains(['<', '>']);
        if self.docs.as_ref().is_some_and(unwritable) {
            wrong("docs", "write a URI or a path".to_owned());
        }
    }
}
