//! Rate limits of a route: every one has to let a request pass, and the client is told of the tightest.
//!
//! The header fields are those of the IETF draft "RateLimit header fields for HTTP".

use std::{
    fmt::Write as _,
    sync::{Arc, OnceLock},
};

use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use super::{
    Keyed, State,
    key::Key,
    keyed::Place,
    meter::{Meter, Verdict},
};
use crate::{
    Response,
    config::{RateLimit, Scope, Versions},
    exchange::Asked,
    problem::Refusal,
};

/// What all requests of the same limits are told.
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What one client is told.
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const SECOND: u64 = 1_000_000_000;

/// The rate limits of one route.
#[derive(Debug)]
pub(crate) struct Rates {
    rates: Vec<Rate>,
    policy: Option<HeaderValue>,
}

/// How a request stands to the limits.
#[derive(Debug, Default)]
pub(crate) struct Standing(Vec<(HeaderName, HeaderValue)>);

#[derive(Debug)]
struct Rate {
    name: String,
    line: String,
    id: String,
    shared: bool,
    key: Key,
    meter: Meter,
    /// Found when the first request comes: tools build routes without an edge.
    counts: OnceLock<Arc<Keyed>>,
}

/// One limit, with how a request stands to it.
type Told<'r> = (&'r Rate, Verdict);

impl Rates {
    /// Builds the limits of a route.
    pub(super) fn new(limits: &[RateLimit], route: &str, versions: &Versions, version: Option<&str>) -> Self {
        let rates = limits.iter().map(|limit| Rate::new(limit, route, versions, version)).collect();
        let policy = limits.iter().map(policy).collect::<Vec<_>>().join(", ");
        Self { rates, policy: HeaderValue::try_from(policy).ok() }
    }

    pub(super) fn bind(&self, state: &State) {
        self.rates.iter().for_each(|rate| {
            rate.counts(state);
        });
    }

    /// Counts a request.
    ///
    /// # Errors
    /// 429 when one of the limits is reached; then it counts for none of them. `standing` is told either way.
    pub(crate) fn pass(
        &self,
        state: &State,
        asked: &Asked<'_>,
        standing: &mut Standing,
    ) -> Result<(), Refusal> {
        let client = state.proxies.client(asked.peer, &asked.head.headers);
        let now = state.now();
        let mut tightest: Option<Told<'_>> = None;
        // The last one never has to be taken back: a single limit needs no list.
        let mut counted: Vec<(&Keyed, Place)> = Vec::new();
        for (index, rate) in self.rates.iter().enumerate() {
            let counts = rate.counts(state);
            let (verdict, place) = counts.take(rate.key.of(asked.head, &client), client.crowd(), now);
            if !verdict.admitted {
                counted.into_iter().for_each(|(counts, place)| counts.give_back(place, now));
                standing.add(self.policy.clone(), rate.limit(&verdict));
                return Err(rate.refuse(&verdict, asked));
            }
            if index + 1 < self.rates.len() {
                counted.push((counts, place));
            }
            if tightest.is_none_or(|(_, other)| verdict.remaining < other.remaining) {
                tightest = Some((rate, verdict));
            }
        }
        standing.add(self.policy.clone(), tightest.and_then(|(rate, verdict)| rate.limit(&verdict)));
        Ok(())
    }

    /// Describes each for people.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.rates.iter().map(|rate| format!("rate limit {}", rate.line))
    }
}

impl Standing {
    /// Adds a policy, and how the request stands to it.
    pub(super) fn add(&mut self, policy: Option<HeaderValue>, limit: Option<HeaderValue>) {
        self.0.extend(
            [(POLICY, policy), (LIMIT, limit)].into_iter().filter_map(|(name, value)| Some((name, value?))),
        );
    }

    /// Tells the client with whatever it is answered.
    ///
    /// # Errors
    /// The refusal, where there is nothing to tell.
    pub(crate) fn signed(self, answer: Result<Response, Refusal>) -> Result<Response, Refusal> {
        if self.0.is_empty() {
            return answer;
        }
        let mut response = answer.unwrap_or_else(Refusal::into_response);
        for (name, value) in self.0 {
            response.headers_mut().append(name, value);
        }
        Ok(response)
    }
}

impl Rate {
    fn new(limit: &RateLimit, route: &str, versions: &Versions, version: Option<&str>) -> Self {
        let scope = if limit.scope == Scope::Edge { "*" } else { route };
        // Other numbers are another limit: counts of the old one mean nothing to it, here and on other replicas.
        let id = format!("{scope} · {limit}");
        Self {
            name: limit.name.clone(),
            line: limit.to_string(),
            id,
            shared: limit.shared,
            key: Key::new(&limit.key, versions, version),
            meter: Meter::new(limit),
            counts: OnceLock::new(),
        }
    }

    fn counts(&self, state: &State) -> &Keyed {
        self.counts.get_or_init(|| state.table(&self.id, self.meter, self.shared))
    }

    fn refuse(&self, verdict: &Verdict, asked: &Asked<'_>) -> Refusal {
        tracing::debug!(limit = self.id, path = asked.head.uri.path(), "a request came above its limit");
        let seconds = verdict.retry.div_ceil(SECOND).max(1);
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", "too many requests")
            .detail(format!("{} is used up: ask again in {seconds} s", self.name))
            .with("policy", self.name.as_str())
            .with("violated-policies", json!([self.name]))
            .after(seconds)
    }

    fn limit(&self, verdict: &Verdict) -> Option<HeaderValue> {
        let mut text = String::with_capacity(self.name.len() + 32);
        // A limit that is used up matters until the next request passes, another one until it is whole again.
        let until = if verdict.remaining == 0 { verdict.retry } else { verdict.reset };
        let seconds = until.div_ceil(SECOND);
        write!(text, "\"{}\";r={};t={seconds}", self.name, verdict.remaining).ok()?;
        HeaderValue::try_from(text).ok()
    }
}

/// Describes a limit: the quota, and the seconds it is for. Those are whole ones in the field.
fn policy(limit: &RateLimit) -> String {
    let seconds = limit.per.length().as_millis().div_ceil(1_000).max(1);
    format!("\"{}\";q={};w={seconds}", limit.name, limit.requests)
}
