//! When instances start by themselves: by the clock, after the one before, or by events.

mod calendar;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::state::Correlation;

pub(crate) use calendar::{Calendar, nearest_zone, zone};

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
    pub(crate) cron: Option<Box<Calendar>>,
    pub(crate) after: Option<u64>,
    pub(crate) on: bool,
    pub(crate) missed: Option<Missed>,
}

/// What becomes of moments that passed while nobody could start an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Nothing: the next moment counts.
    Skip,
    /// One instance makes up for all of them.
    Once,
    /// One instance each, as far as a host can.
    All,
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

    /// Returns the cron expression; it is in the time of [`Schedule::zone`].
    #[must_use]
    pub fn cron(&self) -> Option<&str> {
        self.cron.as_ref().map(|cron| cron.text())
    }

    /// Returns the IANA name of the time zone the cron expression is in: `UTC` where the document names none.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.cron.as_ref().map(|cron| cron.zone())
    }

    /// Returns what becomes of missed moments; `None` where the document leaves that to the host.
    #[must_use]
    pub const fn missed(&self) -> Option<Missed> {
        self.missed
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
        let cron = self.cron.as_ref().and_then(|cron| cron.following(last));
        tick.into_iter().chain(cron).min()
    }

    /// Returns when the instance after one that ended starts, if the schedule starts one.
    #[must_use]
    pub fn again(&self, ended: Timestamp) -> Option<Timestamp> {
        self.after.map(|after| ended.after(after))
    }
}
