//! When a cron expression comes next, as the server reads it: six fields, or a word such as `@daily`. Pure.

use jiff::{
    Timestamp,
    civil::{Date, Time},
    tz::TimeZone,
};

/// Days that are looked at: one that comes on 29 February of a certain weekday only comes within 40 years.
const HORIZON: u32 = 366 * 40;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A cron expression; each field is a set of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cron {
    seconds: Field,
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    bits: u64,
    /// Whether it leaves everything open. Of days and weekdays the other one decides then; otherwise either does.
    open: bool,
}

impl Cron {
    /// Reads an expression; `None` for what is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = match text.trim() {
            "@yearly" | "@annually" => "0 0 0 1 1 *",
            "@monthly" => "0 0 0 1 * *",
            "@weekly" => "0 0 0 * * 0",
            "@daily" | "@midnight" => "0 0 0 * * *",
            "@hourly" => "0 0 * * * *",
            text => text,
        }
        .split_whitespace()
        .collect();
        let [seconds, minutes, hours, days, months, weekdays] = fields[..] else { return None };
        Some(Self {
            seconds: Field::parse(seconds, 0, 59, &[])?,
            minutes: Field::parse(minutes, 0, 59, &[])?,
            hours: Field::parse(hours, 0, 23, &[])?,
            days: Field::parse(days, 1, 31, &[])?,
            months: Field::parse(months, 1, 12, &MONTHS)?,
            weekdays: Field::parse(weekdays, 0, 6, &WEEKDAYS)?,
        })
    }

    /// Returns the first time behind `after`; `None` for an expression that names no day there is.
    pub(crate) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let local = zone.to_datetime(after);
        let (mut day, mut from) = (local.date(), Some(local.time()));
        for _ in 0..HORIZON {
            if self.has_day(day) {
                let due = self.times(from.take()).find_map(|time| {
                    // A time that a change of the clock leaves out comes as much later.
                    let due = zone.to_ambiguous_zoned(day.to_datetime(time)).compatible().ok()?.timestamp();
                    (due > after).then_some(due)
                });
                if due.is_some() {
                    return due;
                }
            }
            from = None;
            day = day.tomorrow().ok()?;
        }
        None
    }

    fn has_day(&self, day: Date) -> bool {
        let weekday = i64::from(day.weekday().to_sunday_zero_offset());
        let (by_date, by_weekday) = (self.days.has(i64::from(day.day())), self.weekdays.has(weekday));
        let day_fits = match self.days.open || self.weekdays.open {
            true => by_date && by_weekday,
            false => by_date || by_weekday,
        };
        self.months.has(i64::from(day.month())) && day_fits
    }

    /// Goes through the times of a day, those of the hour of `from` and later ones.
    fn times(&self, from: Option<Time>) -> impl Iterator<Item = Time> {
        let first = from.map_or(0, Time::hour);
        let hours = (first..24).filter(|hour| self.hours.has(i64::from(*hour)));
        hours.flat_map(move |hour| {
            let minutes = (0..60).filter(|minute| self.minutes.has(i64::from(*minute)));
            minutes.flat_map(move |minute| {
                let seconds = (0..60).filter(|second| self.seconds.has(i64::from(*second)));
                seconds.map(move |second| Time::constant(hour, minute, second, 0))
            })
        })
    }
}

impl Field {
    fn parse(text: &str, least: u32, most: u32, names: &[&str]) -> Option<Self> {
        let mut field = Self { bits: 0, open: false };
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(step.parse::<u32>().ok().filter(|step| *step > 0)?)),
                None => (part, None),
            };
            let number = |text: &str| named(text, least, names).or_else(|| text.parse().ok());
            let (from, to) = match range.split_once('-') {
                _ if matches!(range, "*" | "?") => {
                    field.open |= step.unwrap_or(1) == 1;
                    (least, most)
                }
                Some((from, to)) => (number(from)?, number(to)?),
                // `5/10` goes on to the end, `5` stands for itself.
                None => (number(range)?, if step.is_some() { most } else { number(range)? }),
            };
            if from < least || to > most || from > to {
                return None;
            }
            let step = usize::try_from(step.unwrap_or(1)).ok()?;
            field.bits |= (from..=to).step_by(step).fold(0, |bits, number| bits | 1 << number);
        }
        Some(field)
    }

    fn has(self, number: i64) -> bool {
        self.bits >> number & 1 == 1
    }
}

fn named(text: &str, least: u32, names: &[&str]) -> Option<u32> {
    let at = names.iter().position(|name| name.eq_ignore_ascii_case(text))?;
    Some(least + u32::try_from(at).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn next(expression: &str, after: &str) -> String {
        let next = Cron::parse(expression).unwrap().next(after.parse().unwrap(), &TimeZone::UTC);
        next.map_or_else(|| "never".to_owned(), |next| next.to_string())
    }

    #[test]
    fn the_next_time_is_the_first_that_fits() {
        for (expression, after, due) in [
            ("0 * * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            ("0 * * * * *", "2026-01-01T00:00:59.9Z", "2026-01-01T00:01:00Z"),
            ("*/20 * * * * *", "2026-01-01T23:59:40Z", "2026-01-02T00:00:00Z"),
            ("0 30 2 * * mon-fri", "2026-01-02T02:30:00Z", "2026-01-05T02:30:00Z"),
            ("0 0 12 29 feb ?", "2026-01-01T00:00:00Z", "2028-02-29T12:00:00Z"),
            ("0 0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 0 */2 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 0 * * 5", "2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z"),
            ("5/25 1,3 4-5 * * *", "2026-01-01T04:03:31Z", "2026-01-01T04:03:55Z"),
            ("@hourly", "2026-01-01T00:20:00Z", "2026-01-01T01:00:00Z"),
            ("@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("@monthly", "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z"),
            ("@yearly", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("0 0 0 31 2 *", "2026-01-01T00:00:00Z", "never"),
        ] {
            assert_eq!(next(expression, after), due, "{expression} after {after}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        let bad =
            ["", "@every 5s", "* * * * *", "60 * * * * *", "* * * 0 * *", "5-1 * * * * *", "*/0 * * * * *"];
        for text in bad.into_iter().chain(["x * * * * *", "* * * * * 7", "* * * * janu *", "@soon"]) {
            assert_eq!(Cron::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_zone_moves_the_time() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let next = Cron::parse("0 30 2 * * *").unwrap().next("2026-06-01T00:00:00Z".parse().unwrap(), &zone);
        assert_eq!(next.unwrap().to_string(), "2026-06-01T00:30:00Z");
    }

    proptest! {
        #[test]
        fn nothing_lies_between(second in 0u32..60, minute in 0u32..60, hour in 0u32..24, after in 0i64..4_000_000_000) {
            let cron = Cron::parse(&format!("{second} {minute} {hour} * * *")).unwrap();
            let after = Timestamp::from_second(after).unwrap();
            let wait = cron.next(after, &TimeZone::UTC).unwrap().duration_since(after).as_secs();
            prop_assert!(wait > 0 && wait <= 24 * 3_600);
        }

        #[test]
        fn any_text_can_be_read(text in "[@0-9a-z*/?, -]{0,24}") {
            let _ = Cron::parse(&text);
        }
    }
}
