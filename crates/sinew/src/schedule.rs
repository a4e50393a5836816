//! Events that the server holds back: until a moment, or again and again. What waits survives a restart of everything.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use sinew::{Ctx, Event, schedule::{self, Recurrence}};
//! # use serde::{Serialize, Deserialize};
//! # use schemars::JsonSchema;
//! /// The customer has not paid yet.
//! #[derive(Event, Serialize, Deserialize, JsonSchema)]
//! #[sinew(subject = "orders.reminder-due")]
//! struct ReminderDue { order: String }
//!
//! # async fn demo(ctx: Ctx) -> Result<(), sinew::Error> {
//! let due = ReminderDue { order: "o-7".into() };
//! let reminder = ctx.publish(due).id("o-7").after(Duration::from_secs(24 * 60 * 60)).await?;
//! // Paid after all:
//! let in_time = ctx.cancel_scheduled(&reminder.id).await?;
//!
//! let report = ReminderDue { order: "all".into() };
//! ctx.publish(report).repeat("nightly", Recurrence::cron("0 30 2 * * *").zone("Europe/Berlin")).await?;
//! # Ok(()) }
//! ```
//!
//! An event comes up to half a second late, never early. It is published once; a recurring one is a new event each time
//! ([`Ctx::event_id`](crate::Ctx::event_id) tells them apart). Occurrences that fall into a time when the server was down
//! are not made up for.
//!
//! A service declares its recurring events with [`Service::repeat`](crate::Service::repeat).
//!
//! What waits stands in the stream of events, on subjects of its own (`evt-at.…`, `evt-every.…`) that no group listens
//! to; the server puts the event on the subject of its kind when it is due (NATS ADR-51). An age
//! limit that an operator puts on that stream ends what waits longer, and the clock that counts is the server's.

mod cancel;
mod cron;
mod list;
mod recurrence;

use std::{fmt, str::FromStr, time::Duration};

use jiff::{SignedDuration, Timestamp};
use sinew_wire::{Headers, InvalidSubject, Subject};

use crate::Error;

pub(crate) use cancel::cancel;
pub use cancel::remove;
pub(crate) use cron::Cron;
pub use list::{Waiting, list};
pub(crate) use recurrence::declare;
pub use recurrence::{Declared, Recurrence};

/// The header in which the server names the schedule an event comes from.
pub(crate) const FIRED: &str = "Nats-Scheduler";
/// Where single events wait.
pub(crate) const ONCE: &str = "evt-at.";
/// Where recurring ones stand.
pub(crate) const EVERY: &str = "evt-every.";

/// An event that waits at the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// What [`Ctx::cancel_scheduled`](crate::Ctx::cancel_scheduled) needs; it may be written down and read again.
    pub id: ScheduleId,
    /// When it is due.
    pub due: Timestamp,
}

/// Names an event that waits: the service that published it, the kind of event, its logical id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScheduleId(String);

impl ScheduleId {
    pub(crate) fn new(service: &str, event: &str, id: &str) -> Result<Self, Error> {
        let text = format!("{}.{event}.{}", token(service), token(id));
        let checked = Subject::parse(format!("{ONCE}{text}"));
        checked.map(|_| Self(text)).map_err(|_| {
            let reason = "the event's id is too long to be scheduled: use at most 100 characters";
            Error::new(crate::Kind::Config, reason)
        })
    }

    /// Returns the subject the event waits on.
    pub(crate) fn subject(&self) -> String {
        format!("{ONCE}{}", self.0)
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ScheduleId {
    type Err = InvalidSubject;

    fn from_str(text: &str) -> Result<Self, InvalidSubject> {
        Subject::parse(text).map(|subject| Self(subject.into()))
    }
}

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Orders the server to hold a message back until `due`.
pub(crate) fn order(headers: &mut Headers, due: Timestamp, target: &str) -> Result<(), Error> {
    headers.set("Nats-Schedule", format!("@at {due}"))?;
    headers.set("Nats-Schedule-Target", target)?;
    Ok(())
}

/// Returns the moment `delay` after `now`, or the last one there is.
pub(crate) fn after(now: Timestamp, delay: Duration) -> Timestamp {
    let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
    // The server reads years of four digits.
    let last = Timestamp::from_second(253_370_764_800).unwrap_or(Timestamp::MAX);
    now.checked_add(delay).unwrap_or(Timestamp::MAX).min(last)
}

/// Returns the logical id of an event: its own, and for a recurring one, which the server publishes under the same id
/// each time, its sequence as well. Written as it stands in the header.
pub(crate) fn logical_id(id: &str, fired: Option<&str>, sequence: u64) -> String {
    if fired.is_some_and(|schedule| schedule.starts_with(EVERY)) {
        format!("{id}-{sequence}")
    } else {
        id.to_owned()
    }
}

/// Writes any text as one token of a subject, different texts differently.
fn token(text: &str) -> String {
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            token.push(char::from(byte));
        } else {
            token.push_str(&format!("={byte:02X}"));
        }
    }
    if token.is_empty() { "=".to_owned() } else { token }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_id_is_one_token_and_no_two_are_the_same(one in ".{0,20}", other in ".{0,20}") {
            let subject = ScheduleId::new("mail", "orders.placed", &one).unwrap().subject();
            prop_assert_eq!(subject.split('.').count(), 5);
            prop_assert!(Subject::parse(subject).is_ok());
            prop_assert_eq!(token(&one) == token(&other), one == other);
        }

        #[test]
        fn a_delay_never_ends_early_and_never_overflows(seconds: u64) {
            let now = Timestamp::from_second(1_800_000_000).unwrap();
            let due = after(now, Duration::from_secs(seconds));
            prop_assert!(due >= now);
            prop_assert_eq!(due.to_string().split('-').next().map(str::len), Some(4), "{}", due);
        }
    }

    #[test]
    fn an_id_is_read_as_it_was_written_and_is_never_a_pattern() {
        let id = ScheduleId::new("mail", "orders.placed", "o 7/*").unwrap();
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        assert_eq!(id.as_str(), "mail.orders.placed.o=207=2F=2A");
        assert!("mail.>".parse::<ScheduleId>().is_err());
        assert!(ScheduleId::new("mail", "orders.placed", &"x".repeat(300)).is_err());
    }

    #[test]
    fn only_recurring_events_are_told_apart_by_their_sequence() {
        assert_eq!(logical_id("a", None, 7), "a");
        assert_eq!(logical_id("a", Some("evt-at.mail.x"), 7), "a");
        assert_eq!(logical_id("a", Some("evt-every.mail.x"), 7), "a-7");
    }
}
