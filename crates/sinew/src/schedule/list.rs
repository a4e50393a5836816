//! Showing what waits, and when it comes next.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use super::{Cron, EVERY, FIRED, ONCE, Recurrence, ScheduleId, after};
use crate::{Bus, Error, Kind, bus::Stored, streams::EVENTS};

/// An event that waits at the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// It comes once.
    Once {
        /// What cancelling it needs.
        id: ScheduleId,
        /// The subject it will be published on.
        target: String,
        /// When it is due.
        due: Timestamp,
    },
    /// It comes again and again.
    Recurring {
        /// The service that declared it.
        service: String,
        /// Its name there.
        name: String,
        /// The subject it is published on.
        target: String,
        /// How often it comes.
        recurrence: Recurrence,
        /// When it comes next: as the server says, or as it is declared. Of a cron expression in another time zone than UTC
        /// it may be unknown until it has come once, where this machine has no such zone.
        next: Option<Timestamp>,
    },
}

/// Lists what waits: single events by the time they were scheduled, then recurring ones.
///
/// # Errors
/// [`Kind::TimedOut`] when the server stops answering.
pub async fn list(bus: &Bus) -> Result<Vec<Waiting>, Error> {
    let mut waiting = Vec::new();
    for prefix in [ONCE, EVERY] {
        let mut reader = bus.read_stream(EVENTS, &format!("{prefix}>"), 1).await?;
        loop {
            let batch = match reader.batch().await {
                Ok(batch) => batch,
                // Nobody has published anything yet.
                Err(error) if error.kind() == Kind::NoResponders => return Ok(waiting),
                Err(error) => return Err(error),
            };
            if batch.is_empty() {
                break;
            }
            for stored in batch {
                waiting.extend(read(bus, &stored).await?);
            }
        }
    }
    Ok(waiting)
}

async fn read(bus: &Bus, stored: &Stored) -> Result<Option<Waiting>, Error> {
    let Some(target) = stored.headers.get("Nats-Schedule-Target").map(str::to_owned) else {
        return Ok(None);
    };
    if let Some(id) = stored.subject.strip_prefix(ONCE) {
        let due =
            stored.headers.get("Nats-Schedule").and_then(|spec| spec.strip_prefix("@at ")?.parse().ok());
        let id = id.parse().ok();
        return Ok(id.zip(due).map(|(id, due)| Waiting::Once { id, target, due }));
    }
    let name = stored.subject.strip_prefix(EVERY).and_then(|rest| rest.split_once('.'));
    let (Some((service, name)), Some(recurrence)) = (name, Recurrence::read(&stored.headers)) else {
        return Ok(None);
    };
    let last = bus.last_message(EVENTS, &target).await?;
    let next = next(stored, &recurrence, last.as_ref(), Timestamp::now());
    let (service, name) = (service.to_owned(), name.to_owned());
    Ok(Some(Waiting::Recurring { service, name, target, recurrence, next }))
}

/// Returns when a recurring event comes next: as the server wrote it on the last one, or counted from the declaration.
fn next(
    declared: &Stored,
    recurrence: &Recurrence,
    last: Option<&Stored>,
    now: Timestamp,
) -> Option<Timestamp> {
    // What an earlier declaration of the same name published says nothing of this one.
    let told = last.filter(|last| {
        last.sequence > declared.sequence && last.headers.get(FIRED) == Some(declared.subject.as_str())
    });
    let told = told.and_then(|last| last.headers.get("Nats-Schedule-Next")?.parse().ok());
    if let Some(next) = told.filter(|next| *next >= now) {
        return Some(next);
    }
    let Some(interval) = recurrence.interval() else {
        let zone = recurrence.time_zone().map_or(Ok(TimeZone::UTC), TimeZone::get).ok()?;
        return Cron::parse(recurrence.as_str())?.next(now, &zone);
    };
    let begin: Timestamp = declared.headers.get("Nats-Time-Stamp")?.parse().ok()?;
    // The server counts whole seconds.
    let begin = Timestamp::from_second(begin.as_second()).ok()?;
    let gone = u64::try_from(now.duration_since(begin).as_secs()).unwrap_or(0) / interval.as_secs().max(1);
    let wait = interval.as_secs().checked_mul(gone.checked_add(1)?)?;
    Some(after(begin, Duration::from_secs(wait)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use sinew_wire::Headers;

    use super::*;

    fn stored(subject: &str, sequence: u64, fields: &[(&'static str, &str)]) -> Stored {
        let mut headers = Headers::new();
        for (name, value) in fields {
            headers.set(*name, *value).unwrap();
        }
        Stored { subject: subject.into(), sequence, headers, payload: Bytes::new() }
    }

    #[test]
    fn the_servers_own_word_comes_first() {
        let declared = stored("evt-every.a.b", 5, &[("Nats-Time-Stamp", "2026-01-01T00:00:00.7Z")]);
        let fired = [(FIRED, "evt-every.a.b"), ("Nats-Schedule-Next", "2026-01-01T00:00:30Z")];
        let now = "2026-01-01T00:00:25Z".parse().unwrap();
        let every = Recurrence::every(Duration::from_secs(10));
        let of = |recurrence: &Recurrence, last: Option<&Stored>| {
            next(&declared, recurrence, last, now).map(|next| next.to_string())
        };
        let told = stored("evt.x.y", 6, &fired);
        assert_eq!(of(&Recurrence::cron("@daily"), Some(&told)).as_deref(), Some("2026-01-01T00:00:30Z"));
        assert_eq!(of(&Recurrence::cron("@daily"), None).as_deref(), Some("2026-01-02T00:00:00Z"));
        assert_eq!(of(&Recurrence::cron("0 30 2 * * *").zone("Nowhere/Land"), None), None);
        assert_eq!(of(&every, None).as_deref(), Some("2026-01-01T00:00:30Z"));
        let earlier = stored("evt.x.y", 4, &fired);
        let next = of(&Recurrence::cron("@daily"), Some(&earlier));
        assert_eq!(
            next.as_deref(),
            Some("2026-01-02T00:00:00Z"),
            "what another declaration did says nothing"
        );
    }

    proptest! {
        #[test]
        fn the_next_time_lies_ahead_by_at_most_one_interval(seconds in 1u64..1_000_000, gone in 0i64..10_000_000) {
            let declared = stored("evt-every.a.b", 5, &[("Nats-Time-Stamp", "2026-01-01T00:00:00.7Z")]);
            let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            let now = Timestamp::from_second(begin.as_second() + gone).unwrap();
            let next = next(&declared, &Recurrence::every(Duration::from_secs(seconds)), None, now).unwrap();
            let wait = next.duration_since(now).as_secs();
            prop_assert!(wait > 0 && wait <= i64::try_from(seconds).unwrap());
        }
    }
}
