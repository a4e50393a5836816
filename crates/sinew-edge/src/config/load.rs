//! How much is under way at once, as `edge.yaml` writes it: for one route, and for the whole edge under pressure.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Key, Mistake, Scope, below,
    rate::{by, check_keys, check_name},
};

/// So many requests at once, and so many that wait for one of them to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// What problems and tools call it.
    pub name: String,
    /// How many requests are under way at once.
    pub requests: u32,
    /// How many further ones wait; nobody where nothing is said.
    #[serde(default)]
    pub waiting: u32,
    /// Longest time one of them waits, in milliseconds.
    #[serde(default = "a_second")]
    pub wait_ms: u64,
    /// Who is counted apart: every combination of these has a limit of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<Key>,
    /// Which requests are counted together.
    #[serde(default, skip_serializing_if = "Scope::is_default")]
    pub scope: Scope,
}

/// What a route's requests are worth when not all can be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Turned away last.
    High,
    /// Turned away before those.
    #[default]
    Normal,
    /// Turned away first.
    Low,
}

/// When the edge has too much to do, and turns requests away by their routes' `priority`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shedding {
    /// Most requests under way at once. Of low priority are turned away from 70 % of it on, normal ones from 90 %.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// How long a task that is ready may wait for its turn, in milliseconds, before requests of low priority are turned
    /// away; twice that for normal, four times for high priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lag_ms: Option<u64>,
}

impl Shedding {
    pub(crate) fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// Lists what cannot work.
    pub(super) fn mistakes(&self) -> Vec<Mistake> {
        let zero = [
            ("/shedding/max_in_flight", self.max_in_flight == Some(0)),
            ("/shedding/max_lag_ms", self.max_lag_ms == Some(0)),
        ];
        let wrong = zero.into_iter().filter(|(_, wrong)| *wrong);
        wrong
            .map(|(at, _)| Mistake::new(at, "0 turns everybody away: use 1 or more, or leave it out"))
            .collect()
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        })
    }
}

impl fmt::Display for Concurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at once", self.name, self.requests)?;
        if self.waiting > 0 {
            write!(f, ", {} wait up to {} ms", self.waiting, self.wait_ms)?;
        }
        by(f, &self.key)?;
        f.write_str(if self.scope == Scope::Edge { ", on all routes" } else { "" })
    }
}

/// Lists what cannot work about these limits.
pub(super) fn check(limits: &[Concurrency], at: &str, mistakes: &mut Vec<Mistake>) {
    for (index, limit) in limits.iter().enumerate() {
        let at = format!("{at}/{index}");
        check_name(&limit.name, &at, mistakes);
        if limits[..index].iter().any(|other| other.name == limit.name) {
            mistakes.push(Mistake::new(below(&at, "name"), "stands twice: give every limit its own name"));
        }
        if limit.requests == 0 {
            mistakes.push(Mistake::new(below(&at, "requests"), "0 lets nothing pass: use 1 or more"));
        }
        if limit.wait_ms == 0 {
            mistakes.push(Mistake::new(below(&at, "wait_ms"), "0 cannot work: leave `waiting` out"));
        }
        check_keys(&limit.key, &below(&at, "key"), mistakes);
    }
}

fn a_second() -> u64 {
    1_000
}
