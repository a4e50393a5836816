//! The settings of the role.

mod calls;
mod limits;

use serde::{Deserialize, Serialize};

use crate::{Error, Kind, Lifecycle, Listen, Schedules};

pub use calls::{Allow, Calls};
pub use limits::{Limit, Limits, Rate};

/// Settings of the orchestrator.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Number of shard logs. Chosen once: instances are placed by it. One is right for a single server, whose syncs
    /// queue up behind each other; about two per expected replica for a cluster.
    pub shards: u16,
    /// Copies of the streams and buckets in a cluster.
    pub replicas: usize,
    /// Seconds after which the shards of a replica that fell silent are taken over; at least 2.
    pub lease_seconds: u64,
    /// Days an ended instance stays readable.
    pub history_days: u64,
    /// Instances per shard that are not parked, beyond which starts are turned away.
    pub max_live: usize,
    /// Parked instances per shard beyond which starts are turned away.
    pub max_parked: usize,
    /// Seconds after which an instance that waits for nothing but timers and events is parked: it is kept in the log alone
    /// and takes some hundred bytes of memory.
    pub park_after_seconds: u64,
    /// Instances per shard in memory beyond which those who wait are parked at once: what starts faster than it is parked
    /// would fill the memory.
    pub park_above: usize,
    /// Largest record in the log, in bytes; at most half of the server's message limit.
    pub max_record_bytes: usize,
    /// Largest input, reply or decision of an instance, in bytes; what a record does not hold is kept beside the log.
    pub max_value_bytes: usize,
    /// Records an instance may stand behind before the cleaner writes its state again, and records forgotten at once.
    pub clean_every: u64,
    /// What workflows call outside the bus.
    pub calls: Calls,
    /// How events reach workflows.
    pub listen: Listen,
    /// How instances start by themselves.
    pub schedules: Schedules,
    /// Which lifecycle events are published.
    pub lifecycle: Lifecycle,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: 1,
            replicas: 1,
            lease_seconds: 3,
            history_days: 30,
            max_live: 1_000_000,
            max_parked: 10_000_000,
            park_after_seconds: 5,
            park_above: 16_384,
            max_record_bytes: 512 * 1024,
            max_value_bytes: 16 * 1024 * 1024,
            clean_every: 4_096,
            calls: Calls::default(),
            listen: Listen::default(),
            schedules: Schedules::default(),
            lifecycle: Lifecycle::default(),
        }
    }
}

impl Config {
    pub(crate) fn park_after_ms(&self) -> u64 {
        self.park_after_seconds.saturating_mul(1_000)
    }

    /// Checks the settings against each other and against the largest message the server takes.
    pub(crate) fn validate(&self, max_payload: usize) -> Result<(), Error> {
        limits::validate(&self.calls.limits)?;
        let wrong = |text: &str| Err(Error::new(Kind::Config, text));
        if !(1..=1024).contains(&self.shards) {
            return wrong("shards: use 1 to 1024");
        }
        if self.lease_seconds < 2 {
            return wrong("lease_seconds: use at least 2, the server counts whole seconds");
        }
        if self.max_record_bytes < 64 * 1024 {
            return wrong("max_record_bytes: use at least 65536");
        }
        if self.max_record_bytes > max_payload / 2 {
            let most = max_payload / 2;
            return wrong(&format!("max_record_bytes: use at most {most}, half of the server's max_payload"));
        }
        if !(self.max_record_bytes..=64 * 1024 * 1024).contains(&self.max_value_bytes) {
            return wrong("max_value_bytes: use at least max_record_bytes and at most 67108864");
        }
        if self.clean_every == 0 {
            return wrong("clean_every: use at least 1");
        }
        Ok(())
    }
}
