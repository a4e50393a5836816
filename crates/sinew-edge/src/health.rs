//! Health: whether the process lives, and whether it can serve. What "can serve" means is a list of named checks.

use std::{fmt, sync::Arc};

use http::StatusCode;
use serde_json::{Value, json};

use crate::{Response, reply};

/// Something that has to be right before the edge calls itself ready.
///
/// ```
/// let check = sinew_edge::ReadyCheck::new("orchestrator", || true);
/// assert!(check.is_ready());
/// ```
#[derive(Clone)]
pub struct ReadyCheck {
    name: String,
    check: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl ReadyCheck {
    /// Creates a check. It is asked at every probe, so it has to answer at once.
    pub fn new(name: impl Into<String>, check: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { name: name.into(), check: Arc::new(check) }
    }

    /// Returns the name that probes show.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks.
    pub fn is_ready(&self) -> bool {
        (self.check)()
    }
}

impl fmt::Debug for ReadyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyCheck").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Answers that the process runs.
pub(crate) fn live() -> Response {
    reply::json(StatusCode::OK, &json!({ "status": "live" }))
}

/// Answers with every check; 503 when one of them fails.
pub(crate) fn ready(checks: &[ReadyCheck]) -> Response {
    let results: Vec<(&str, bool)> = checks.iter().map(|check| (check.name(), check.is_ready())).collect();
    let all = results.iter().all(|(_, ready)| *ready);
    let listed: Vec<Value> =
        results.into_iter().map(|(name, ready)| json!({ "name": name, "ready": ready })).collect();
    let status = if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply::json(status, &json!({ "status": if all { "ready" } else { "not ready" }, "checks": listed }))
}
