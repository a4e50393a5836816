//! The settings of streams and consumers as they travel, as far as the SDK uses them. Durations are nanoseconds.

use std::time::Duration;

use serde::Deserialize;

/// A stream's settings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct StreamSettings {
    pub(super) name: String,
    pub(super) subjects: Vec<String>,
    pub(super) retention: String,
    pub(super) discard: String,
    pub(super) max_age: u64,
    pub(super) max_msgs: i64,
    pub(super) max_msgs_per_subject: i64,
    pub(super) duplicate_window: u64,
    pub(super) deny_delete: bool,
    pub(super) deny_purge: bool,
    pub(super) allow_rollup_hdrs: bool,
    pub(super) allow_msg_ttl: bool,
    pub(super) subject_delete_marker_ttl: u64,
    pub(super) allow_msg_schedules: bool,
}

/// A consumer's settings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct ConsumerSettings {
    pub(super) filter_subject: String,
    pub(super) filter_subjects: Vec<String>,
    pub(super) deliver_subject: Option<String>,
    pub(super) deliver_policy: String,
    pub(super) opt_start_seq: u64,
    pub(super) ack_policy: String,
    pub(super) ack_wait: u64,
    pub(super) max_deliver: i64,
    pub(super) max_ack_pending: i64,
    pub(super) idle_heartbeat: u64,
}

impl StreamSettings {
    pub(super) fn is_work_queue(&self) -> bool {
        self.retention == "workqueue"
    }

    pub(super) fn max_age(&self) -> Option<Duration> {
        (self.max_age > 0).then(|| Duration::from_nanos(self.max_age))
    }

    /// How long a message id is remembered; two minutes unless the stream says otherwise.
    pub(super) fn duplicate_window(&self) -> Duration {
        match self.duplicate_window {
            0 => Duration::from_secs(120),
            nanos => Duration::from_nanos(nanos),
        }
    }

    pub(super) fn max_per_subject(&self) -> Option<usize> {
        usize::try_from(self.max_msgs_per_subject).ok().filter(|limit| *limit > 0)
    }

    pub(super) fn max_messages(&self) -> Option<usize> {
        usize::try_from(self.max_msgs).ok().filter(|limit| *limit > 0)
    }
}

impl ConsumerSettings {
    pub(super) fn filters(&self) -> Vec<&str> {
        match (self.filter_subject.as_str(), self.filter_subjects.as_slice()) {
            ("", []) => vec![">"],
            ("", several) => several.iter().map(String::as_str).collect(),
            (one, _) => vec![one],
        }
    }

    pub(super) fn takes(&self, subject: &str) -> bool {
        self.filters().iter().any(|filter| super::subject::matches(filter, subject))
    }

    pub(super) fn acknowledges(&self) -> bool {
        self.ack_policy != "none"
    }

    pub(super) fn ack_wait(&self) -> Duration {
        Duration::from_nanos(if self.ack_wait == 0 { 30_000_000_000 } else { self.ack_wait })
    }

    pub(super) fn max_ack_pending(&self) -> usize {
        match usize::try_from(self.max_ack_pending) {
            Ok(0) => 1_000,
            Ok(limit) => limit,
            Err(_) => usize::MAX,
        }
    }
}
