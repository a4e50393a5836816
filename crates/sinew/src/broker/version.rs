//! The version of a nats-server, as it prints it. Orders nothing but what the required minimum asks.

use std::fmt;
use std::str::FromStr;

/// The version of a nats-server, such as `2.15.1` or `2.14.0-RC.2`.
///
/// ```
/// let version: sinew::broker::Version = "nats-server: v2.15.1".parse()?;
/// assert_eq!(version.to_string(), "2.15.1");
/// assert!(version.is_supported());
/// # Ok::<(), sinew::broker::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Changes with incompatible releases.
    pub major: u32,
    /// Changes with features.
    pub minor: u32,
    /// Changes with fixes.
    pub patch: u32,
    /// What follows the numbers (`-RC.2`), empty for a release.
    pub suffix: String,
}

/// The oldest server that has per-key TTL, message schedules and atomic batches, all of which Sinew uses.
pub(super) const REQUIRED: (u32, u32) = (2, 12);

impl Version {
    /// Tells whether the server is new enough, which is 2.12 or later; a release candidate counts as its release.
    pub fn is_supported(&self) -> bool {
        (self.major, self.minor) >= REQUIRED
    }

    /// Tells whether a message can say that the server is to leave its trace alone; an older one logs an error for each
    /// that does.
    pub(crate) fn leaves_traces(&self) -> bool {
        (self.major, self.minor) >= (2, 14)
    }
}

impl FromStr for Version {
    type Err = super::Error;

    /// Reads `2.15.1`, `v2.15.1`, or the line `nats-server --version` prints.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| super::Error::NoVersion { text: text.trim().chars().take(80).collect() })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}{}", self.major, self.minor, self.patch, self.suffix)
    }
}

fn parse(text: &str) -> Option<Version> {
    let text = text.trim();
    let text = text.strip_prefix("nats-server:").unwrap_or(text).trim_start();
    let text = text.strip_prefix('v').unwrap_or(text);
    let numbers = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, suffix) = text.split_at(numbers);
    let mut parts = numbers.split('.').map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    Some(Version { major, minor, patch, suffix: suffix.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_servers_print() {
        for (text, shown, supported) in [
            ("nats-server: v2.15.1\n", "2.15.1", true),
            ("2.12.0", "2.12.0", true),
            ("v2.12.0-RC.3", "2.12.0-RC.3", true),
            ("2.14.0-beta.1+build.7", "2.14.0-beta.1+build.7", true),
            ("3.0.0", "3.0.0", true),
            ("nats-server: v2.11.99", "2.11.99", false),
            ("1.90.0", "1.90.0", false),
        ] {
            let version: Version = text.parse().unwrap();
            assert_eq!((version.to_string().as_str(), version.is_supported()), (shown, supported), "{text}");
        }
    }

    #[test]
    fn only_a_server_that_understands_it_is_told_to_leave_traces_alone() {
        for (text, understands) in [("2.13.9", false), ("2.14.0", true), ("3.0.0", true)] {
            assert_eq!(text.parse::<Version>().unwrap().leaves_traces(), understands, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_version() {
        for text in ["", "nats-server: v2", "2.15", "2.15.1.0", "two.12.0", "usage: nats-server"] {
            assert!(matches!(text.parse::<Version>(), Err(crate::broker::Error::NoVersion { .. })), "{text}");
        }
    }
}
