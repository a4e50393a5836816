//! Policies as `edge.yaml` writes them: at its top for every route, below a route for that one. Values only.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Breaker, Cache, Coalesce, Compression, Concurrency, Conditional, Idempotency, Lifecycle, Limits, Mistake,
    Priority, Quota, RateLimit, Retry, Timeouts, below, load, quota, rate,
};

/// What requests have to pass on their way. A member that a route has replaces the general one whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    /// How many requests pass in a time. All of these have to be kept; an empty list limits nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<Vec<RateLimit>>,
    /// How many requests pass in a day or a month of the calendar. All of these have to be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Vec<Quota>>,
    /// How many requests are under way at once, and how many wait. All of these have to be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Vec<Concurrency>>,
    /// Who is turned away first when the edge has too much to do; see `shedding`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// How large a request may be, and how slowly it may come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// How long things may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Changes made once however often they are asked for, told by the client's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<Idempotency>,
    /// Whether identical requests at one time are answered together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coalesce: Option<Coalesce>,
    /// Which replies are kept and used again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// How operations are asked again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// When operations that keep failing are not asked for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// How many requests to one operation are under way at once; further ones are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bulkhead: Option<u32>,
    /// Replies with entity tags, and requests that only want what they do not have, or only what they know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditional: Option<Conditional>,
    /// Replies made smaller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// What clients are told of the life of a route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
}

impl Policies {
    /// Returns these, and of `general` what these do not mention.
    #[must_use]
    pub fn over(&self, general: &Self) -> Self {
        Self {
            rate_limit: over(&self.rate_limit, &general.rate_limit),
            quota: over(&self.quota, &general.quota),
            concurrency: over(&self.concurrency, &general.concurrency),
            priority: over(&self.priority, &general.priority),
            limits: over(&self.limits, &general.limits),
            timeouts: over(&self.timeouts, &general.timeouts),
            idempotency: over(&self.idempotency, &general.idempotency),
            coalesce: over(&self.coalesce, &general.coalesce),
            cache: over(&self.cache, &general.cache),
            retry: over(&self.retry, &general.retry),
            breaker: over(&self.breaker, &general.breaker),
            bulkhead: over(&self.bulkhead, &general.bulkhead),
            conditional: over(&self.conditional, &general.conditional),
            compression: over(&self.compression, &general.compression),
            lifecycle: over(&self.lifecycle, &general.lifecycle),
        }
    }

    /// Says whether nothing is asked for.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Lists what cannot work.
    pub(crate) fn check(&self, at: &str, mistakes: &mut Vec<Mistake>) {
        rate::check(self.rate_limit.as_deref().unwrap_or_default(), &below(at, "rate_limit"), mistakes);
        quota::check(self.quota.as_deref().unwrap_or_default(), &below(at, "quota"), mistakes);
        let concurrency = self.concurrency.as_deref().unwrap_or_default();
        load::check(concurrency, &below(at, "concurrency"), mistakes);
        if let Some(limits) = &self.limits {
            limits.check(&below(at, "limits"), mistakes);
        }
        if let Some(timeouts) = &self.timeouts {
            timeouts.check(&below(at, "timeouts"), mistakes);
        }
        if let Some(idempotency) = &self.idempotency {
            idempotency.check(&below(at, "idempotency"), mistakes);
        }
        if let Some(coalesce) = &self.coalesce {
            coalesce.check(&below(at, "coalesce"), mistakes);
        }
        if let Some(cache) = &self.cache {
            cache.check(&below(at, "cache"), mistakes);
        }
        if let Some(retry) = &self.retry {
            retry.check(&below(at, "retry"), mistakes);
        }
        if let Some(breaker) = &self.breaker {
            breaker.check(&below(at, "breaker"), mistakes);
        }
        if self.bulkhead == Some(0) {
            mistakes.push(Mistake::new(below(at, "bulkhead"), "0 lets nothing pass: use 1 or more"));
        }
        if let Some(compression) = &self.compression {
            compression.check(&below(at, "compression"), mistakes);
        }
        if let Some(lifecycle) = &self.lifecycle {
            lifecycle.check(&below(at, "lifecycle"), mistakes);
        }
    }
}

fn over<T: Clone>(own: &Option<T>, general: &Option<T>) -> Option<T> {
    own.as_ref().or(general.as_ref()).cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_route_says_replaces_the_general_member_whole() {
        let read = |value| serde_json::from_value::<Policies>(value).unwrap();
        let general = read(json!({ "rate_limit": [{ "name": "all", "requests": 1, "per": "1s" }] }));
        let none = read(json!({ "rate_limit": [] }));
        assert_eq!(Policies::default().over(&general), general);
        assert_eq!(none.over(&general), none);
    }
}
