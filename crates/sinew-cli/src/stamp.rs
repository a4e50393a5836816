//! Tells one state of a file from the next: asking for times works on every file system, and costs next to nothing.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

/// How often files under watch are looked at.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);

/// One state of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

impl Stamp {
    /// Looks at a file; `None` where there is none.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self { modified: metadata.modified().ok(), length: metadata.len() })
    }
}
