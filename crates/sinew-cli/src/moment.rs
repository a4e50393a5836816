//! A point in a stream as it is typed: a sequence, a time, or how long ago.

use std::{str::FromStr, time::Duration};

use sinew::Timestamp;

use crate::operation::duration;

/// A point in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Sequence(u64),
    Time(Timestamp),
    /// So long ago.
    Ago(Duration),
}

impl Moment {
    /// Returns the sequence, or else the time.
    pub(crate) fn resolve(&self) -> Result<u64, Timestamp> {
        match self {
            Self::Sequence(sequence) => Ok(*sequence),
            Self::Time(time) => Err(*time),
            Self::Ago(ago) => Err(Timestamp::now().checked_sub(*ago).unwrap_or(Timestamp::UNIX_EPOCH)),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(sequence) = text.parse() {
            return Ok(Self::Sequence(sequence));
        }
        if let Ok(ago) = duration(text) {
            return Ok(Self::Ago(ago));
        }
        text.parse().map(Self::Time).map_err(|_| {
            "write how long ago (10m, 2h, 1d), a time (2030-01-31T12:00:00Z) or a sequence (4711)".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_sequence_a_duration_or_a_time() {
        let moment = |text: &str| text.parse::<Moment>().ok();
        assert_eq!(moment("4711"), Some(Moment::Sequence(4711)));
        assert_eq!(moment("10m"), Some(Moment::Ago(Duration::from_secs(600))));
        let time = "2030-01-31T12:00:00Z";
        assert_eq!(moment(time), Some(Moment::Time(time.parse().unwrap())));
        assert_eq!([moment("yesterday"), moment("-1"), moment("")], [None, None, None]);
    }

    #[test]
    fn longer_ago_than_time_itself_is_the_beginning() {
        assert_eq!(Moment::Ago(Duration::MAX).resolve(), Err(Timestamp::UNIX_EPOCH));
    }
}
