//! Policies as `edge.yaml` writes them: at its top for every route, below a route for that one. Values only.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Concurrency, Mistake, Priority, Quota, RateLimit, below, load, quota, rate};

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
}

impl Policies {
    /// Returns these, and of `general` what these do not mention.
    #[must_use]
    pub fn over(&self, general: &Self) -> Self {
        Self {
            rate_limit: self.rate_limit.as_ref().or(general.rate_limit.as_ref()).cloned(),
            quota: self.quota.as_ref().or(general.quota.as_ref()).cloned(),
            concurrency: self.concurrency.as_ref().or(general.concurrency.as_ref()).cloned(),
            priority: self.priority.or(general.priority),
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
    }
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
