//! What a feed is, read from its route once.

use std::{sync::Arc, time::Duration};

use sinew::wire::{OperationName, ServiceName};
use tokio::time::Instant;

use super::{filter::Criterion, hub::Subjects};
use crate::{
    config::{Feed, FeedFormat, Mistake, below},
    matcher::Template,
};

/// A feed of events.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FeedPlan {
    pub(super) subjects: Subjects,
    pub(super) criteria: Vec<Criterion>,
    pub(super) settings: Settings,
}

/// What holds for every client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) format: FeedFormat,
    pub(super) replay: bool,
    pub(super) max_clients: usize,
    pub(super) max_clients_per_ip: usize,
    pub(super) max_rate: u32,
    pub(super) heartbeat: Duration,
    pub(super) longest: Option<Duration>,
    pub(super) retry_ms: u64,
}

impl FeedPlan {
    /// Reads the events and settings of a route.
    pub(crate) fn read(
        events: &[String],
        feed: &Feed,
        template: &Template,
        at: &str,
        mistakes: &mut Vec<Mistake>,
    ) -> Self {
        let subjects = subjects(events, &below(at, "events"), mistakes);
        let at = below(at, "feed");
        feed.out_of_range(&at, mistakes);
        let criteria = Criterion::read(&feed.filter, template, &below(&at, "filter"), mistakes);
        Self { subjects, criteria, settings: Settings::of(feed) }
    }

    /// Returns the feed of one event.
    pub(super) fn of(subject: &str, feed: &Feed, criteria: Vec<Criterion>) -> Self {
        Self { subjects: Arc::from([subject.to_owned()]), criteria, settings: Settings::of(feed) }
    }

    /// Names the events.
    pub(crate) fn events(&self) -> Vec<&str> {
        self.subjects.iter().map(|subject| subject.strip_prefix("evt.").unwrap_or(subject)).collect()
    }

    /// Writes what it does as a person would.
    pub(crate) fn lines(&self) -> Vec<String> {
        let Settings { max_clients, max_clients_per_ip, max_rate, replay, longest, .. } = self.settings;
        let limits = format!("at most {max_clients} clients, {max_clients_per_ip} of one address");
        let rate = (max_rate > 0).then(|| format!("at most {max_rate} events a second to each"));
        let replay = replay.then(|| "clients may begin in the past".to_owned());
        let longest = longest.map(|time| format!("for at most {} ms", time.as_millis()));
        let lines = self.criteria.iter().map(Criterion::line).chain([limits]);
        lines.chain(rate).chain(longest).chain(replay).collect()
    }

    /// Names the parameters of the query that it takes.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.criteria.iter().filter_map(Criterion::parameter)
    }

    pub(crate) fn takes_past(&self) -> bool {
        self.settings.replay
    }
}

impl Settings {
    fn of(feed: &Feed) -> Self {
        Self {
            format: feed.format,
            replay: feed.replay,
            max_clients: feed.max_clients,
            max_clients_per_ip: feed.max_clients_per_ip,
            max_rate: feed.max_rate,
            heartbeat: Duration::from_millis(feed.heartbeat_ms),
            longest: (feed.longest_ms > 0).then(|| Duration::from_millis(feed.longest_ms)),
            retry_ms: feed.retry_ms,
        }
    }
}

/// Until when a client may stay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stay(Option<Instant>);

impl Stay {
    /// Begins with a client that comes now.
    pub(super) fn begin(settings: &Settings) -> Self {
        Self(settings.longest.and_then(|longest| Instant::now().checked_add(longest)))
    }

    /// Says whether it is over. Where there is no end, no clock is read.
    pub(super) fn is_over(self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }

    /// Returns the part of a silence that ends before the stay does.
    pub(super) fn within(self, silence: Duration) -> Duration {
        self.0.map_or(silence, |end| silence.min(end.saturating_duration_since(Instant::now())))
    }
}

/// Reads names of events, `*` for every domain or event. What another one covers is left out; a consumer at the server
/// cannot have subjects that overlap.
pub(crate) fn subjects(events: &[String], at: &str, mistakes: &mut Vec<Mistake>) -> Subjects {
    let mut patterns: Vec<(&str, &str)> = Vec::new();
    for (index, text) in events.iter().enumerate() {
        match text
            .split_once('.')
            .filter(|(domain, event)| is_name::<ServiceName>(domain) && is_name::<OperationName>(event))
        {
            Some(pattern) => patterns.push(pattern),
            None => {
                let message = "is no event: write domain.event, such as orders.placed, orders.* or *.*";
                mistakes.push(Mistake::new(format!("{at}/{index}"), message));
            }
        }
    }
    patterns.sort_unstable();
    patterns.dedup();
    let all = patterns.clone();
    patterns.retain(|own| !all.iter().any(|other| other != own && covers(*other, *own)));
    for (index, one) in patterns.iter().enumerate() {
        if let Some(other) = patterns[..index].iter().find(|other| overlap(**other, *one)) {
            let message = format!(
                "{}.{} and {}.{} have events in common: name them one by one",
                other.0, other.1, one.0, one.1
            );
            mistakes.push(Mistake::new(at, message));
        }
    }
    patterns.iter().map(|(domain, event)| format!("evt.{domain}.{event}")).collect()
}

/// Names the events that such a list stands for, without overlaps.
pub(crate) fn names(events: &[String]) -> Vec<String> {
    let subjects = subjects(events, "", &mut Vec::new());
    subjects.iter().map(|subject| subject.strip_prefix("evt.").unwrap_or(subject).to_owned()).collect()
}

fn is_name<T: std::str::FromStr>(text: &str) -> bool {
    text == "*" || text.parse::<T>().is_ok()
}

fn covers(wide: (&str, &str), narrow: (&str, &str)) -> bool {
    let part = |wide: &str, narrow: &str| wide == "*" || wide == narrow;
    part(wide.0, narrow.0) && part(wide.1, narrow.1)
}

fn overlap(one: (&str, &str), other: (&str, &str)) -> bool {
    let part = |one: &str, other: &str| one == "*" || other == "*" || one == other;
    part(one.0, other.0) && part(one.1, other.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(events: &[&str]) -> Result<Vec<String>, Vec<String>> {
        let mut mistakes = Vec::new();
        let events: Vec<String> = events.iter().map(|event| (*event).to_owned()).collect();
        let subjects = subjects(&events, "/e", &mut mistakes);
        if mistakes.is_empty() {
            Ok(subjects.to_vec())
        } else {
            Err(mistakes.into_iter().map(|one| one.pointer).collect())
        }
    }

    #[test]
    fn events_are_named_one_by_one_or_by_stars_that_do_not_overlap() {
        assert_eq!(read(&["orders.placed", "orders.*", "orders.placed"]), Ok(vec!["evt.orders.*".into()]));
        assert_eq!(read(&["b.c", "a.b"]), Ok(vec!["evt.a.b".into(), "evt.b.c".into()]));
        assert_eq!(read(&["*.*", "a.b", "a.*"]), Ok(vec!["evt.*.*".into()]));
        assert_eq!(read(&["a.*", "*.b"]), Err(vec!["/e".into()]));
        for wrong in ["orders", "orders.>", "$JS.x", "a.b.c", "evt..x", "", "a b.c"] {
            assert_eq!(read(&["a.b", wrong]), Err(vec!["/e/1".into()]), "{wrong}");
        }
    }
}
