//! Which dead letters are meant. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Letter, token};
use crate::Error;

/// Which dead letters are meant; all of them unless something narrows it down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    service: Option<String>,
    group: Option<String>,
    event: Option<String>,
    code: Option<String>,
    older: Option<Duration>,
    younger: Option<Duration>,
}

impl Filter {
    /// Only those of one service.
    #[must_use]
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.service = Some(service.into());
        self
    }

    /// Only those of one group of one service.
    #[must_use]
    pub fn group(mut self, service: impl Into<String>, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self.service(service)
    }

    /// Only those of one kind of event, `<domain>.<event>`.
    #[must_use]
    pub fn event(mut self, event: impl Into<String>) -> Self {
        self.event = Some(event.into());
        self
    }

    /// Only those that died of one problem.
    #[must_use]
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Only those that died longer ago.
    #[must_use]
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older = Some(age);
        self
    }

    /// Only those that died since.
    #[must_use]
    pub fn younger_than(mut self, age: Duration) -> Self {
        self.younger = Some(age);
        self
    }

    /// Returns the subject the server filters by.
    pub(super) fn subject(&self) -> Result<String, Error> {
        let part = |name: &Option<String>| name.as_deref().map_or(Ok("*"), token).map(str::to_owned);
        Ok(format!("dlq.{}.{}", part(&self.service)?, part(&self.group)?))
    }

    /// Says whether a letter that the server's filter let pass is meant.
    pub(super) fn matches(&self, letter: &Letter, now: Timestamp) -> bool {
        let same = |wanted: &Option<String>, own: &str| wanted.as_deref().is_none_or(|wanted| wanted == own);
        let age = letter.time.map(|time| now.duration_since(time).max(SignedDuration::ZERO).unsigned_abs());
        // An age that is not known is neither long nor short.
        let old = self.older.is_none_or(|limit| age.is_some_and(|age| age > limit));
        let young = self.younger.is_none_or(|limit| age.is_some_and(|age| age <= limit));
        same(&self.event, &letter.event) && same(&self.code, &letter.code) && old && young
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use sinew_wire::Headers;

    use super::*;
    use crate::{bus::Stored, dead_letters::field};

    fn letter(fields: &[(&'static str, &str)]) -> Letter {
        let mut headers = Headers::new();
        for (name, value) in fields {
            headers.set(*name, *value).unwrap();
        }
        let stored =
            Stored { subject: "dlq.mail.mailer".into(), sequence: 1, headers, payload: Bytes::new() };
        Letter::read(&stored).unwrap()
    }

    #[test]
    fn names_are_never_patterns() {
        assert_eq!(Filter::default().subject().unwrap(), "dlq.*.*");
        assert_eq!(Filter::default().group("mail", "mailer").subject().unwrap(), "dlq.mail.mailer");
        for bad in ["", "*", ">", "a.b", "a b"] {
            assert!(Filter::default().service(bad).subject().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn older_and_younger_part_the_letters_in_two(age in 0i64..10_000, limit in 0u64..10_000) {
            let died: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            let now = Timestamp::from_second(died.as_second() + age).unwrap();
            let letter = letter(&[(field::TIME, "2026-01-01T00:00:00Z")]);
            let limit = Duration::from_secs(limit);
            let old = Filter::default().older_than(limit).matches(&letter, now);
            prop_assert_ne!(old, Filter::default().younger_than(limit).matches(&letter, now));
        }
    }

    #[test]
    fn every_condition_counts() {
        let letter = letter(&[(field::SUBJECT, "evt.a.b"), (field::CODE, "busy")]);
        let now = Timestamp::UNIX_EPOCH;
        assert!(Filter::default().event("a.b").code("busy").matches(&letter, now));
        assert!(!Filter::default().event("a.b").code("poison").matches(&letter, now));
        assert!(!Filter::default().event("a.c").matches(&letter, now));
        assert!(!Filter::default().older_than(Duration::ZERO).matches(&letter, now), "its age is not known");
    }
}
