//! When a scheduled message is due (NATS ADR-51): `@at`, `@every` and cron expressions. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::schedule::Cron;

/// What the server says of a schedule it cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// When a message is published, as its `Nats-Schedule` header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    /// Once.
    At(Timestamp),
    /// Again and again, counted from the first time.
    Every(SignedDuration),
    /// Again and again, by the calendar.
    Cron(Cron),
}

impl Schedule {
    pub(super) fn parse(text: &str) -> Result<Self, Unreadable> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "@at" => rest.trim().parse().map(Self::At).map_err(|_| Unreadable),
            "@every" => interval(rest.trim()).map(Self::Every).ok_or(Unreadable),
            _ => Cron::parse(text).map(Self::Cron).ok_or(Unreadable),
        }
    }

    /// Returns when it is due first, once it was stored at `stored`.
    pub(super) fn first(self, stored: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Every(_) | Self::Cron(_) => self.after(stored).unwrap_or(Timestamp::MAX),
        }
    }

    /// Returns when it is due again after it was due at `due`.
    pub(super) fn after(self, due: Timestamp) -> Option<Timestamp> {
        match self {
            Self::At(_) => None,
            Self::Every(interval) => due.checked_add(interval).ok(),
            Self::Cron(cron) => cron.next(due, &TimeZone::UTC),
        }
    }
}

/// Reads `90s`, `1h30m` or `250ms`; at least a second, as the server has it.
pub(super) fn interval(text: &str) -> Option<SignedDuration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit = match unit {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3_600),
            _ => return None,
        };
        total = total.checked_add(unit.checked_mul(number.parse().ok()?)?)?;
        rest = tail;
    }
    SignedDuration::try_from(total).ok().filter(|total| *total >= SignedDuration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read_and_come_when_they_say() {
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let due = |text: &str| Schedule::parse(text).map(|schedule| schedule.first(now).to_string());
        assert_eq!(due("@at 2030-01-01T00:00:07Z").unwrap(), "2030-01-01T00:00:07Z");
        assert_eq!(due("@every 1m30s").unwrap(), "2030-01-01T00:01:30Z");
        assert_eq!(due("@hourly").unwrap(), "2030-01-01T01:00:00Z");
        assert_eq!(due("0 30 2 * * *").unwrap(), "2030-01-01T02:30:00Z");
        for unreadable in ["", "@at soon", "@every", "@every 5", "@every 10ms", "@every 5x", "30 2 * * *"] {
            assert_eq!(Schedule::parse(unreadable), Err(Unreadable), "{unreadable}");
        }
        let every = Schedule::parse("@every 5s").unwrap();
        assert_eq!(every.after(now).unwrap().to_string(), "2030-01-01T00:00:05Z");
        assert_eq!(Schedule::At(now).after(now), None);
    }
}
