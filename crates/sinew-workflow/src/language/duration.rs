//! Durations as the language writes them: ISO 8601 text or an object of units. Only units of fixed length.

use super::yaml::{Node, Tree};

const SECOND: f64 = 1_000.0;
const MINUTE: f64 = 60.0 * SECOND;
const HOUR: f64 = 60.0 * MINUTE;
const DAY: f64 = 24.0 * HOUR;

/// A century, in milliseconds: longer is a mistake, and would overflow timestamps sooner or later.
const MAX: f64 = 36_525.0 * DAY;

/// Reads an ISO 8601 duration in milliseconds.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let unreadable = || format!("`{text}` is not an ISO 8601 duration");
    let rest = text.trim().strip_prefix('P').ok_or_else(unreadable)?;
    let (date, time) = rest.split_once('T').map_or((rest, None), |(date, time)| (date, Some(time)));
    if date.is_empty() && time.is_none_or(str::is_empty) || time == Some("") {
        return Err(unreadable());
    }
    let days = components(date, |unit| match unit {
        'Y' | 'M' => Err(format!("`{text}` has years or months, which have no fixed length")),
        'W' => Ok(7.0 * DAY),
        'D' => Ok(DAY),
        _ => Err(unreadable()),
    })?;
    let hours = components(time.unwrap_or_default(), |unit| match unit {
        'H' => Ok(HOUR),
        'M' => Ok(MINUTE),
        'S' => Ok(SECOND),
        _ => Err(unreadable()),
    })?;
    whole(days + hours)
}

/// Reads an object of units in milliseconds.
pub(crate) fn from_object(node: &Node) -> Result<u64, String> {
    let mut total = 0.0;
    for (key, value) in node.entries() {
        let unit = match key.text.as_str() {
            "days" => DAY,
            "hours" => HOUR,
            "minutes" => MINUTE,
            "seconds" => SECOND,
            "milliseconds" => 1.0,
            // The grammar reports unknown units.
            _ => continue,
        };
        let Tree::Number(number) = &value.tree else { continue };
        total += number.as_f64().filter(|count| *count >= 0.0).ok_or("a duration cannot be negative")? * unit;
    }
    whole(total)
}

fn components(mut text: &str, unit: impl Fn(char) -> Result<f64, String>) -> Result<f64, String> {
    let mut total = 0.0;
    while !text.is_empty() {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (count, rest) = text.split_at(end);
        let mut rest = rest.chars();
        let factor = unit(rest.next().unwrap_or(' '))?;
        let count: f64 = count.parse().map_err(|_| format!("`{count}` is not a number of units"))?;
        total += count * factor;
        text = rest.as_str();
    }
    Ok(total)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked first")]
fn whole(millis: f64) -> Result<u64, String> {
    if (0.0..=MAX).contains(&millis) {
        Ok(millis.round() as u64)
    } else {
        Err("a duration ends within a century".to_owned())
    }
}
