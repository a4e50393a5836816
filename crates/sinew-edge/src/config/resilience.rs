//! How operations are asked, as `edge.yaml` writes it: when to stop asking, how much at once, how often, for how long.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::Deadline;

use super::{Mistake, below};

/// When an operation that keeps failing is not asked for a while. Every operation has a circuit of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// So many failures in a row open it.
    pub failures: u32,
    /// As do so many failures of a hundred requests,
    pub percent: u8,
    /// when there were at least so many requests
    pub requests: u32,
    /// in this time, in milliseconds.
    pub window_ms: u64,
    /// How long it is open the first time, in milliseconds; twice as long each further time.
    pub pause_ms: u64,
    /// Longest time it is open, in milliseconds.
    pub longest_pause_ms: u64,
    /// How many good answers close it again; so many requests are let through to find out.
    pub probes: u32,
}

/// How an operation is asked again on the client's behalf: only if it is idempotent or the request has an
/// `Idempotency-Key`, and never past the request's deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// How often it is asked at most, the first time included.
    pub attempts: u32,
    /// Longest pause before the second attempt, in milliseconds; twice as long before each further one. Pauses are drawn
    /// from nothing up to that.
    pub pause_ms: u64,
    /// Longest pause at all, in milliseconds.
    pub longest_pause_ms: u64,
    /// How long one attempt may take, in milliseconds; without it one attempt may use up the request's time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt_ms: Option<u64>,
    /// How many requests of a hundred to the operation may be asked again,
    pub budget_percent: u8,
    /// and how many a second where there are few.
    pub budget_per_second: u32,
}

/// How long things may take, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// From a request's head to its answer, instead of `request_timeout_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_ms: Option<u64>,
    /// From a request's head to the end of its body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_ms: Option<u64>,
    /// From asking an operation to its answer, or to its stream's opening.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u64>,
    /// Between two items of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
}

/// How large a request may be, and how slowly it may come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest body, in bytes, instead of `max_body_bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<usize>,
    /// Most header fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_headers: Option<usize>,
    /// Most bytes of names and values of header fields together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_header_bytes: Option<usize>,
    /// How many bytes of a body have to come in each second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_body_bytes_per_s: Option<u32>,
}

/// Identical requests (`GET` and `HEAD`) that come while the first of them is under way get its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Coalesce {
    /// Header fields that make a difference, beside `Accept`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vary: Vec<String>,
    /// Whether requests with different `Authorization` or cookies get one answer: only where it is the same for
    /// everybody.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub across_credentials: bool,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 10,
            percent: 50,
            requests: 20,
            window_ms: 10_000,
            pause_ms: 1_000,
            longest_pause_ms: 30_000,
            probes: 3,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            pause_ms: 25,
            longest_pause_ms: 1_000,
            attempt_ms: None,
            budget_percent: 20,
            budget_per_second: 10,
        }
    }
}

impl Breaker {
    pub(crate) fn built(&self) -> sinew::Breaker {
        let ms = Duration::from_millis;
        sinew::Breaker::default()
            .opens_after(self.failures)
            .opens_at(f64::from(self.percent) / 100.0, self.requests, ms(self.window_ms))
            .pauses(ms(self.pause_ms), ms(self.longest_pause_ms))
            .probes(self.probes)
    }

    pub(super) fn check(&self, at: &str, mistakes: &mut Vec<Mistake>) {
        if !(1..=100).contains(&self.percent) {
            mistakes.push(Mistake::new(below(at, "percent"), "has to be 1 to 100"));
        }
        let numbers = [
            ("failures", self.failures.into()),
            ("requests", self.requests.into()),
            ("window_ms", self.window_ms),
            ("pause_ms", self.pause_ms),
            ("longest_pause_ms", self.longest_pause_ms),
            ("probes", self.probes.into()),
        ];
        positive(numbers.map(|(name, number)| (name, Some(number))), at, mistakes);
    }
}

impl Retry {
    pub(crate) fn built(&self) -> sinew::CallRetry {
        let ms = Duration::from_millis;
        let retry = sinew::CallRetry::times(self.attempts.saturating_sub(1))
            .backoff(ms(self.pause_ms), ms(self.longest_pause_ms));
        self.attempt_ms.map_or(retry.clone(), |limit| retry.attempt_within(ms(limit)))
    }

    pub(super) fn check(&self, at: &str, mistakes: &mut Vec<Mistake>) {
        if !(1..=10).contains(&self.attempts) {
            mistakes.push(Mistake::new(below(at, "attempts"), "has to be 1 to 10"));
        }
        if self.budget_percent > 100 {
            mistakes.push(Mistake::new(below(at, "budget_percent"), "has to be 0 to 100"));
        }
        positive([("attempt_ms", self.attempt_ms)], at, mistakes);
    }
}

impl Timeouts {
    /// Returns when a request is too late that would be at `general`.
    pub(crate) fn deadline(&self, general: Deadline) -> Deadline {
        self.request_ms.map_or(general, |ms| Deadline::after(Duration::from_millis(ms)))
    }

    pub(super) fn check(&self, at: &str, mistakes: &mut Vec<Mistake>) {
        let numbers = [
            ("request_ms", self.request_ms),
            ("body_ms", self.body_ms),
            ("first_byte_ms", self.first_byte_ms),
            ("idle_ms", self.idle_ms),
        ];
        positive(numbers, at, mistakes);
    }
}

impl Limits {
    pub(super) fn check(&self, at: &str, mistakes: &mut Vec<Mistake>) {
        let number = |number: Option<usize>| number.map(|number| number as u64);
        let numbers = [
            ("max_body_bytes", number(self.max_body_bytes)),
            ("max_headers", number(self.max_headers)),
            ("max_header_bytes", number(self.max_header_bytes)),
            ("min_body_bytes_per_s", self.min_body_bytes_per_s.map(u64::from)),
        ];
        positive(numbers, at, mistakes);
    }
}

impl Coalesce {
    pub(super) fn check(&self, at: &str, mistakes: &mut Vec<Mistake>) {
        for (index, name) in self.vary.iter().enumerate() {
            if http::HeaderName::try_from(name.as_str()).is_err() {
                mistakes.push(Mistake::new(format!("{at}/vary/{index}"), "is no name of a header field"));
            }
        }
    }
}

impl fmt::Display for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { failures, percent, requests, window_ms, .. } = self;
        write!(f, "{failures} failures in a row, or {percent} % of {requests} in {window_ms} ms")
    }
}

impl fmt::Display for Timeouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("request", self.request_ms),
            ("body", self.body_ms),
            ("first byte", self.first_byte_ms),
            ("idle", self.idle_ms),
        ];
        let told = all.into_iter().filter_map(|(name, ms)| ms.map(|ms| format!("{name} {ms} ms")));
        f.write_str(&told.collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("bytes of body", self.max_body_bytes),
            ("header fields", self.max_headers),
            ("bytes of header fields", self.max_header_bytes),
        ];
        let told = all.into_iter().filter_map(|(name, most)| most.map(|most| format!("{most} {name}")));
        let pace = self.min_body_bytes_per_s.map(|pace| format!("at least {pace} bytes of body a second"));
        f.write_str(&told.chain(pace).collect::<Vec<_>>().join(", "))
    }
}

fn positive<const N: usize>(numbers: [(&str, Option<u64>); N], at: &str, mistakes: &mut Vec<Mistake>) {
    let zero = numbers.into_iter().filter(|(_, number)| *number == Some(0));
    mistakes.extend(zero.map(|(name, _)| Mistake::new(below(at, name), "0 cannot work: use 1 or more")));
}
