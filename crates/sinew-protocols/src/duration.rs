//! Durations in arguments: ISO 8601 texts or objects of units. A day has 24 hours.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use serde_json::Value;

use crate::failure::Failure;

const UNITS: [(&str, u64); 5] = [
    ("days", 86_400_000),
    ("hours", 3_600_000),
    ("minutes", 60_000),
    ("seconds", 1_000),
    ("milliseconds", 1),
];

/// Reads a duration.
pub(crate) fn read(value: &Value) -> Result<Duration, Failure> {
    let read = match value {
        Value::String(text) => from_text(text),
        Value::Object(units) if units.keys().all(|unit| UNITS.iter().any(|(known, _)| known == unit)) => {
            let parts = UNITS.iter().map(|(unit, millis)| {
                let count = units.get(*unit).map_or(Some(0), Value::as_u64)?;
                count.checked_mul(*millis)
            });
            let sum = parts.reduce(|sum, part| sum?.checked_add(part?));
            sum.flatten().map(Duration::from_millis)
        }
        _ => None,
    };
    read.ok_or_else(|| {
        Failure::configuration(format!(
            "{value} is not a duration: write one such as `PT30S` or `{{ seconds: 30 }}`"
        ))
    })
}

fn from_text(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_spellings_are_read() {
        assert_eq!(read(&json!("P1DT30S")).unwrap(), Duration::from_secs(86_430));
        assert_eq!(read(&json!({ "minutes": 1, "milliseconds": 5 })).unwrap(), Duration::from_millis(60_005));
    }

    #[test]
    fn nonsense_is_a_configuration_fault() {
        for value in [
            json!("soon"),
            json!(5),
            json!({ "weeks": 1 }),
            json!({ "seconds": -1 }),
            json!("-PT1S"),
            json!({ "days": u64::MAX }),
        ] {
            assert_eq!(read(&value).unwrap_err().fault.kind(), "configuration", "{value}");
        }
    }
}
