//! When instances start by themselves: by the clock, after the one before, or by events.

use croner::Cron;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::state::Correlation;

/// The schedule of a definition. Knows when, and starts nothing.
///
/// ```
/// use sinew_workflow::{Definition, Timestamp};
///
/// let definition = Definition::parse(
///     "
/// document: { dsl: '1.0.3', namespace: shop, name: backup, version: '1.0.0' }
/// schedule: { cron: '30 2 * * *' }
/// do: [ { save: { call: store.backup } } ]
/// ",
///     "backup.yaml",
/// )?;
/// let schedule = definition.schedule().ok_or("no schedule")?;
/// let deployed = Timestamp::from_millis(0);
/// let next = schedule.next(deployed, deployed).ok_or("never")?;
/// assert_eq!(next.to_string(), "1970-01-01T02:30:00.000Z");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    pub(crate) every: Option<u64>,
    pub(crate) cron: Option<Box<Cron>>,
    pub(crate) after: Option<u64>,
    pub(crate) on: bool,
}

/// The events on their way to starting an instance: kept by whoever starts instances, between two calls of
/// [`Definition::gather`](crate::Definition::gather).
///
/// Serializable to any self-describing format. It holds at most 1,000 groups of events, the newest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gathering {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<Group>,
    /// What came, to know what comes again.
    pub(crate) came: Correlation,
}

/// Events that belong together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Group {
    pub(crate) correlation: Correlation,
    pub(crate) events: Vec<serde_json::Value>,
}

impl Schedule {
    /// Returns the interval at which instances start, in milliseconds.
    #[must_use]
    pub const fn every(&self) -> Option<u64> {
        self.every
    }

    /// Returns the cron expression; it is in UTC.
    #[must_use]
    pub fn cron(&self) -> Option<&str> {
        self.cron.as_ref().map(|cron| cron.as_str())
    }

    /// Returns how long after the end of an instance the next one starts, in milliseconds. The first starts at once.
    #[must_use]
    pub const fn after(&self) -> Option<u64> {
        self.after
    }

    /// Says whether events start instances: see [`Definition::gather`](crate::Definition::gather).
    #[must_use]
    pub const fn is_triggered(&self) -> bool {
        self.on
    }

    /// Returns the first moment after `last` at which an instance starts by the clock; intervals count from `since`, when
    /// the schedule came into force. None when no clock starts any.
    ///
    /// It depends on nothing else, so a host that was down finds what it missed by asking again.
    #[must_use]
    pub fn next(&self, since: Timestamp, last: Timestamp) -> Option<Timestamp> {
        let tick = self.every.map(|every| {
            let passed = last.since(since) / every.max(1);
            if last < since { since } else { since.after(passed.saturating_add(1).saturating_mul(every)) }
        });
        let cron = self.cron.as_ref().and_then(|cron| following(cron, last));
        tick.into_iter().chain(cron).min()
    }

    /// Returns when the instance after one that ended starts, if the schedule starts one.
    #[must_use]
    pub fn again(&self, ended: Timestamp) -> Option<Timestamp> {
        self.after.map(|after| ended.after(after))
    }
}

/// Finds the next moment of a cron expression, in UTC.
fn following(cron: &Cron, last: Timestamp) -> Option<Timestamp> {
    let utc = jiff::tz::TimeZone::UTC;
    let last = jiff::Timestamp::from_millisecond(last.as_millis()).ok()?.to_zoned(utc.clone()).datetime();
    let next = cron.find_next_occurrence(&last, false).ok()?;
    Some(Timestamp::from_millis(next.to_zoned(utc).ok()?.timestamp().as_millisecond()))
}
