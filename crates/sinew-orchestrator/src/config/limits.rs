//! Limits of calls: how many of an operation at once, and how many in a time.

use std::{collections::BTreeMap, fmt, num::NonZeroU32, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Kind};

/// Limits by operation, `service.operation`, or `service.*` for all others of a service together.
pub type Limits = BTreeMap<String, Limit>;

/// How much of an operation may go on. What is beyond it waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limit {
    /// Calls at once, over all replicas.
    pub concurrency: Option<NonZeroU32>,
    /// Calls that begin in a time, over all replicas: `100/s`, `30/min` or `500/h`.
    #[schemars(with = "Option<String>")]
    pub rate: Option<Rate>,
}

/// So many in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    count: NonZeroU32,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
}

impl Limit {
    /// Returns the part of one shard among `shards`, which all together keep to the limit; at least one call at once.
    pub(crate) fn share(self, shard: u16, shards: u16) -> (Option<usize>, Option<Duration>) {
        let (shard, shards) = (u32::from(shard), u32::from(shards.max(1)));
        let concurrency = self.concurrency.map(|limit| {
            let part = limit.get() / shards + u32::from(shard < limit.get() % shards);
            usize::try_from(part.max(1)).unwrap_or(usize::MAX)
        });
        (concurrency, self.rate.map(|rate| rate.interval().saturating_mul(shards)))
    }
}

impl Rate {
    /// Returns the time from one to the next.
    fn interval(self) -> Duration {
        let seconds = match self.unit {
            Unit::Second => 1,
            Unit::Minute => 60,
            Unit::Hour => 3_600,
        };
        Duration::from_secs(seconds) / self.count.get()
    }
}

/// Checks the names of operations.
pub(crate) fn validate(limits: &Limits) -> Result<(), Error> {
    let word = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    let named = |name: &str| {
        name.split_once('.')
            .is_some_and(|(service, operation)| word(service) && (operation == "*" || word(operation)))
    };
    match limits.keys().find(|name| !named(name)) {
        Some(name) => {
            let text = format!("calls.limits: {name}: write service.operation, or service.* for all of it");
            Err(Error::new(Kind::Config, text))
        }
        None => Ok(()),
    }
}

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let read = || {
            let (count, unit) = text.split_once('/')?;
            let unit = match unit.trim() {
                "s" => Unit::Second,
                "min" => Unit::Minute,
                "h" => Unit::Hour,
                _ => return None,
            };
            Some(Self { count: count.trim().parse().ok()?, unit })
        };
        read().ok_or_else(|| format!("`{text}` is no rate: write 100/s, 30/min or 500/h"))
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Second => "s",
            Unit::Minute => "min",
            Unit::Hour => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn limit(value: serde_json::Value) -> Limit {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_rate_is_written_as_people_say_it() {
        let share = |rate: &str| limit(json!({ "rate": rate })).share(0, 1).1.unwrap();
        assert_eq!(share("100/s"), Duration::from_millis(10));
        assert_eq!(share("30/min"), Duration::from_secs(2));
        assert_eq!(share(" 2 / h "), Duration::from_secs(1_800));
        for wrong in ["100", "0/s", "-1/s", "1/d", "x/s"] {
            let error = serde_json::from_value::<Limit>(json!({ "rate": wrong })).unwrap_err();
            assert!(error.to_string().contains("write 100/s"), "{error}");
        }
        assert_eq!(serde_json::to_value(limit(json!({ "rate": "30/min" }))).unwrap()["rate"], "30/min");
    }

    #[test]
    fn a_name_that_is_no_operation_is_refused() {
        let check = |name: &str| validate(&Limits::from([(name.to_owned(), Limit::default())])).is_ok();
        assert!(check("payments.charge") && check("payments.*"));
        assert!(!check("payments") && !check("*.charge") && !check("payments.charge.now") && !check(".x"));
    }

    proptest! {
        #[test]
        fn the_shares_of_all_shards_are_the_limit(concurrency in 1u32..10_000, shards in 1u16..200) {
            let limit = limit(json!({ "concurrency": concurrency, "rate": "7/s" }));
            let shares: usize = (0..shards).map(|shard| limit.share(shard, shards).0.unwrap()).sum();
            prop_assert_eq!(shares, usize::try_from(concurrency).unwrap().max(usize::from(shards)));
        }
    }
}
