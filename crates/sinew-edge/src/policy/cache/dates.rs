//! Dates of HTTP (RFC 9110, section 5.6.7): the form of today, the two of old, and what is clearly meant as one of them.
//!
//! Only Greenwich is a zone: a date in another one is none, and so in the past.

use jiff::{Timestamp, civil};

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Reads a date; `now` tells which century two digits mean.
pub(crate) fn read(text: &str, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim().to_ascii_lowercase();
    let mut parts = text.split([' ', ',', '-']).filter(|part| !part.is_empty()).peekable();
    // The day of the week is said, and not needed.
    parts.next_if(|part| part.len() >= 3 && part.bytes().all(|byte| byte.is_ascii_alphabetic()))?;
    let first = parts.next()?;
    let (day, month, year, time) = match month(first) {
        // As C writes it: month, day, time, year.
        Some(month) => {
            let (day, time) = (parts.next()?, parts.next()?);
            (day, month, parts.next()?, time)
        }
        None => {
            let month = month(parts.next()?)?;
            let year = parts.next()?;
            (first, month, year, parts.next()?)
        }
    };
    let zone = parts.next();
    if zone.is_some_and(|zone| !matches!(zone, "gmt" | "utc")) || parts.next().is_some() {
        return None;
    }
    let [hour, minute, second] = time_of_day(time)?;
    let year = match (year.len(), number(year)?) {
        (4, year) => year,
        (2, short) => century(short, now),
        _ => return None,
    };
    let date =
        civil::DateTime::new(year, month, i8::try_from(number(day)?).ok()?, hour, minute, second.min(59), 0);
    date.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|date| date.timestamp())
}

fn month(text: &str) -> Option<i8> {
    let at = MONTHS.iter().position(|name| *name == text)?;
    i8::try_from(at + 1).ok()
}

fn time_of_day(text: &str) -> Option<[i8; 3]> {
    let mut parts = text.split([':', '.']);
    let mut next =
        || parts.next().filter(|part| part.len() <= 2).and_then(number).and_then(|n| i8::try_from(n).ok());
    let time = [next()?, next()?, next()?];
    parts.next().is_none().then_some(time)
}

/// What would lie more than fifty years ahead was the century before.
fn century(short: i16, now: Timestamp) -> i16 {
    let this = now.to_zoned(jiff::tz::TimeZone::UTC).year();
    let year = this - this % 100 + short;
    if year > this + 50 { year - 100 } else { year }
}

fn number(text: &str) -> Option<i16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_forms_mean_the_same_moment() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let moment: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "SUN, 06 NOV 1994 8:49:37 gmt",
            "Sun 06 Nov 1994 08.49.37 UTC",
        ] {
            assert_eq!(read(text, now), Some(moment), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        let now = Timestamp::UNIX_EPOCH;
        for text in [
            "",
            "0",
            "-1",
            "now",
            "Sun, 06 Nov 1994 08:49:37 AEST",
            "Sun, 06 Nov 1994 08:49",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(read(text, now), None, "{text}");
        }
    }
}
