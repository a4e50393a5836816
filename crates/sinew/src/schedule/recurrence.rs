//! How often a recurring event comes, and declaring it: the same declaration from many replicas makes one schedule.

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use sinew_wire::Headers;

use super::{EVERY, token};
use crate::{Ctx, Error, Kind, publish, streams::EVENTS};

/// Says what a schedule was declared as, to recognise the same declaration.
const DIGEST: &str = "Sinew-Schedule-Digest";
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
/// Declarations that may get in each other's way before one gives up.
const TRIES: u32 = 8;

/// When a recurring event comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recurrence {
    spec: String,
    zone: Option<String>,
}

/// What declaring a recurring event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// There was none of this name.
    New,
    /// It stood already, as declared. It goes on undisturbed.
    Unchanged,
    /// It stood with another recurrence or content, which this one took the place of.
    Replaced,
}

impl Recurrence {
    /// Comes every `interval`, counted from the declaration; whole seconds, at least one.
    pub fn every(interval: Duration) -> Self {
        // The server rounds fractions up to the next second at each occurrence; that helps nobody.
        Self { spec: format!("@every {}s", interval.as_secs().max(1)), zone: None }
    }

    /// Comes as a cron expression of six fields says: seconds, minutes, hours, day of month, month, day of week.
    ///
    /// `0 30 2 * * mon-fri` is half past two on working days. `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly` are
    /// understood too. The time zone is UTC unless [`Recurrence::zone`] names another.
    pub fn cron(expression: impl Into<String>) -> Self {
        Self { spec: expression.into(), zone: None }
    }

    /// Reads the cron expression in a time zone, for example `Europe/Berlin`.
    #[must_use]
    pub fn zone(mut self, name: impl Into<String>) -> Self {
        self.zone = Some(name.into());
        self
    }

    /// Returns the expression as the server reads it.
    pub fn as_str(&self) -> &str {
        &self.spec
    }

    pub(super) fn read(headers: &Headers) -> Option<Self> {
        let spec = headers.get("Nats-Schedule")?.to_owned();
        Some(Self { spec, zone: headers.get("Nats-Schedule-Time-Zone").map(str::to_owned) })
    }

    /// Returns the interval, if this is one.
    pub(super) fn interval(&self) -> Option<Duration> {
        let seconds = self.spec.strip_prefix("@every ")?.strip_suffix('s')?;
        seconds.parse().ok().map(Duration::from_secs)
    }

    /// Returns the time zone, if it is not UTC.
    pub fn time_zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    fn check(&self) -> Result<(), Error> {
        let wrong = |reason: String| Err(Error::new(Kind::Config, reason));
        let spec = &self.spec;
        if spec.starts_with('@') {
            return match &self.zone {
                Some(zone) if self.interval().is_some() => wrong(format!(
                    "an interval has no time zone: leave {zone:?} out, or use a cron expression"
                )),
                _ => Ok(()),
            };
        }
        match spec.split_whitespace().count() {
            6 => Ok(()),
            5 => wrong(format!("{spec:?} has five fields: put the seconds in front, as in \"0 {spec}\"")),
            fields => wrong(format!(
                "{spec:?} has {fields} fields: write second, minute, hour, day of month, month, day of week"
            )),
        }
    }
}

/// Declares a recurring event: creates it, leaves it, or takes the place of a different one of the same name.
pub(crate) async fn declare(
    ctx: &Ctx,
    name: &str,
    recurrence: &Recurrence,
    target: &str,
    mut headers: Headers,
    payload: Bytes,
) -> Result<Declared, Error> {
    recurrence.check()?;
    if token(name) != name {
        let reason = format!("{name:?} is not a name for a schedule: use letters, digits, '-' and '_'");
        return Err(Error::new(Kind::Config, reason));
    }
    headers.set("Nats-Schedule", recurrence.spec.as_str())?;
    headers.set("Nats-Schedule-Target", target)?;
    if let Some(zone) = &recurrence.zone {
        headers.set("Nats-Schedule-Time-Zone", zone.as_str())?;
    }
    let digest = digest(recurrence, target, &headers, &payload);
    headers.set(DIGEST, digest.as_str())?;
    let subject = format!("{EVERY}{}.{name}", token(ctx.service()));
    let mut last = 0;
    for _ in 0..TRIES {
        // Whoever is first creates it; the others see what stands there.
        headers.set(EXPECTED, last.to_string())?;
        match publish::offer(ctx, &subject, name, headers.clone(), payload.clone()).await {
            Ok(_) if last == 0 => return Ok(Declared::New),
            Ok(_) => return Ok(Declared::Replaced),
            Err(error) if error.kind() == Kind::Conflict => {}
            Err(error) if error.kind() == Kind::JetStream => {
                let reason = format!("the server does not take the schedule {:?}: {error}", recurrence.spec);
                return Err(Error::new(Kind::Config, reason).because(error));
            }
            Err(error) => return Err(error),
        }
        match ctx.bus().last_message(EVENTS, &subject).await? {
            Some(standing) if standing.headers.get(DIGEST) == Some(&digest) => {
                return Ok(Declared::Unchanged);
            }
            Some(standing) => last = standing.sequence,
            None => last = 0,
        }
    }
    Err(Error::new(Kind::Conflict, format!("schedule {name} is declared differently by others: try again")))
}

/// Returns what two declarations must have in common to be the same one.
fn digest(recurrence: &Recurrence, target: &str, headers: &Headers, payload: &Bytes) -> String {
    let mut hash = Sha256::new();
    let zone = recurrence.zone.as_deref().unwrap_or_default();
    let told = |name| headers.get(name).unwrap_or_default();
    for part in [&recurrence.spec, zone, target, told("ce-type"), told("ce-subject"), told("content-type")] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.update(payload);
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_told_with_its_remedy() {
        let told = |recurrence: Recurrence| recurrence.check().unwrap_err().to_string();
        assert!(told(Recurrence::cron("30 2 * * *")).contains("\"0 30 2 * * *\""));
        assert!(told(Recurrence::cron("soon")).contains("1 fields"));
        assert!(told(Recurrence::every(Duration::from_secs(5)).zone("Europe/Berlin")).contains("leave"));
        for good in ["0 30 2 * * mon-fri", "@daily", "*/5 * * * * *"] {
            Recurrence::cron(good).zone("Europe/Berlin").check().unwrap();
        }
    }

    #[test]
    fn an_interval_counts_whole_seconds() {
        assert_eq!(Recurrence::every(Duration::from_millis(2_700)).interval(), Some(Duration::from_secs(2)));
        assert_eq!(Recurrence::every(Duration::ZERO).as_str(), "@every 1s");
        assert_eq!(Recurrence::cron("@daily").interval(), None);
    }

    #[test]
    fn what_differs_has_another_digest() {
        let base = || Recurrence::cron("@daily");
        let of = |recurrence: &Recurrence, target: &str, payload: &'static str| {
            digest(recurrence, target, &Headers::new(), &payload.into())
        };
        let one = of(&base(), "evt.a.b", "x");
        assert_eq!(one, of(&base(), "evt.a.b", "x"));
        for other in [
            of(&base().zone("Europe/Berlin"), "evt.a.b", "x"),
            of(&Recurrence::cron("@hourly"), "evt.a.b", "x"),
            of(&base(), "evt.a.c", "x"),
            of(&base(), "evt.a.b", "y"),
        ] {
            assert_ne!(one, other);
        }
    }
}
