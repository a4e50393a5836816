//! Which dead letters are meant: by their sequences, or by group, event, code and age.

use std::{str::FromStr, time::Duration};

use sinew::dead_letters::Filter;

use crate::{commands::tail::target::GroupName, error::Error, operation::duration};

/// What letters have in common.
#[derive(Debug, clap::Args)]
pub(super) struct Choice {
    /// Only of this kind of event, such as orders.placed
    #[arg(long, value_name = "EVENT")]
    event: Option<String>,
    /// Only those that died of this problem, such as poison
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// Only those that died longer ago, such as 1h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Only those that died since, such as 1h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    younger_than: Option<Duration>,
}

/// A sequence, a group or a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Sequence(u64),
    Group(GroupName),
    Service(String),
}

impl Choice {
    /// Says whether anything narrows it down.
    pub(super) fn is_empty(&self) -> bool {
        self.event.is_none()
            && self.code.is_none()
            && self.older_than.is_none()
            && self.younger_than.is_none()
    }

    /// Returns the filter for one group or service, or for all.
    pub(super) fn filter(&self, of: Option<&Which>) -> Filter {
        let filter = match of {
            Some(Which::Group(name)) => Filter::default().group(&name.service, &name.group),
            Some(Which::Service(service)) => Filter::default().service(service),
            Some(Which::Sequence(_)) | None => Filter::default(),
        };
        let add = |filter: Filter, set: fn(Filter, String) -> Filter, value: &Option<String>| match value {
            Some(value) => set(filter, value.clone()),
            None => filter,
        };
        let filter = add(filter, Filter::event, &self.event);
        let filter = add(filter, Filter::code, &self.code);
        let filter = self.older_than.map_or(filter.clone(), |age| filter.older_than(age));
        self.younger_than.map_or(filter.clone(), |age| filter.younger_than(age))
    }
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(sequence) = text.parse() {
            return Ok(Self::Sequence(sequence));
        }
        if text.contains(['/', '@']) {
            return text.parse().map(Self::Group);
        }
        // A service alone means all of its groups; the group's rules hold for its name.
        let checked: Result<GroupName, _> = format!("{text}/all").parse();
        checked
            .map(|name| Self::Service(name.service))
            .map_err(|_| "write SERVICE/GROUP, SERVICE, or the sequence of a letter".to_owned())
    }
}

/// Parts what was typed into sequences and at most one group or service.
pub(super) fn parted(which: &[Which]) -> Result<(Vec<u64>, Option<&Which>), Error> {
    let sequences = which.iter().filter_map(|one| match one {
        Which::Sequence(sequence) => Some(*sequence),
        _ => None,
    });
    let mut places = which.iter().filter(|one| !matches!(one, Which::Sequence(_)));
    let (sequences, place): (Vec<u64>, _) = (sequences.collect(), places.next());
    if places.next().is_some() || (place.is_some() && !sequences.is_empty()) {
        return Err(Error::usage("name either sequences, or one group or service"));
    }
    Ok((sequences, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_named_by_sequence_group_or_service() {
        let which = |text: &str| text.parse::<Which>().unwrap();
        let group = GroupName { service: "orders".into(), group: "mailer".into() };
        assert_eq!(which("7"), Which::Sequence(7));
        assert_eq!(
            [which("orders/mailer"), which("mailer@orders")],
            [(); 2].map(|()| Which::Group(group.clone()))
        );
        assert_eq!(which("orders"), Which::Service("orders".into()));
        assert!("or.ders".parse::<Which>().is_err() && "*".parse::<Which>().is_err());
        assert!(
            parted(&[which("1"), which("orders")]).is_err() && parted(&[which("a"), which("b")]).is_err()
        );
        assert_eq!(parted(&[which("1"), which("2")]).unwrap().0, [1, 2]);
    }
}
