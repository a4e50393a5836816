//! One look at the bus: what every instance has counted so far, and where every group stands.

use std::{collections::BTreeMap, time::Instant};

use serde::Deserialize;
use sinew::{Bus, DEAD_LETTERS, EVENTS, Kind, REDELIVERIES};

use crate::{
    commands::tail::target::GroupName,
    discovery::{self, or_none},
};

/// What was counted until one moment.
pub(super) struct Sample {
    pub(super) at: Instant,
    /// By service, operation and instance.
    pub(super) operations: BTreeMap<(String, String, String), Counters>,
    /// By service and group.
    pub(super) groups: BTreeMap<(String, String), Standing>,
}

/// What one instance has counted for one operation since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) nanos: u64,
    pub(super) shed: u64,
    pub(super) panics: u64,
    /// Requests in work just now, where the instance says so.
    pub(super) in_flight: Option<u64>,
}

/// Where a group stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) settled: u64,
    pub(super) pending: u64,
    pub(super) unsettled: u64,
    pub(super) redelivered: u64,
    pub(super) waiting: u64,
    /// Events that wait in its own inlet: retries that were put off, redrives, replays.
    pub(super) inlet: u64,
    pub(super) dead: u64,
}

/// An answer to `$SRV.STATS` (ADR-32).
#[derive(Deserialize)]
struct Stats {
    name: String,
    id: String,
    #[serde(default, deserialize_with = "or_none")]
    endpoints: Vec<EndpointStats>,
}

#[derive(Deserialize)]
struct EndpointStats {
    name: String,
    #[serde(default)]
    num_requests: u64,
    #[serde(default)]
    num_errors: u64,
    #[serde(default)]
    processing_time: u64,
    #[serde(default)]
    data: serde_json::Value,
}

impl Sample {
    /// Asks everybody.
    pub(super) async fn take(bus: &Bus) -> Result<Self, sinew::Error> {
        let (answers, groups) = tokio::try_join!(discovery::gather(bus, "STATS"), groups(bus))?;
        let mut operations = BTreeMap::new();
        for stats in answers.iter().filter_map(|answer| serde_json::from_slice::<Stats>(answer).ok()) {
            for endpoint in stats.endpoints {
                let key = (stats.name.clone(), endpoint.name.clone(), stats.id.clone());
                operations.insert(key, endpoint.counters());
            }
        }
        Ok(Self { at: Instant::now(), operations, groups })
    }
}

impl EndpointStats {
    fn counters(&self) -> Counters {
        // What only services of ours count stands in `data`, and what they do not count yet is left open.
        let ours = |name: &str| self.data.get(name).and_then(serde_json::Value::as_u64);
        Counters {
            requests: self.num_requests,
            errors: self.num_errors,
            nanos: self.processing_time,
            shed: ours("shed").unwrap_or(0),
            panics: ours("panics").unwrap_or(0),
            in_flight: ours("in_flight"),
        }
    }
}

/// A bus without JetStream, or without events so far, has no groups.
async fn groups(bus: &Bus) -> Result<BTreeMap<(String, String), Standing>, sinew::Error> {
    let read = async {
        let dead = bus.subject_counts(DEAD_LETTERS, "dlq.>");
        tokio::try_join!(bus.consumers(EVENTS), bus.consumers(REDELIVERIES), dead)
    };
    let (consumers, inlets, dead) = match read.await {
        Err(error) if matches!(error.kind(), Kind::JetStream | Kind::NoResponders) => {
            return Ok(BTreeMap::new());
        }
        read => read?,
    };
    let dead: BTreeMap<String, u64> = dead.into_iter().collect();
    let standing = |consumer: &sinew::bus::ConsumerInfo| {
        let name = GroupName::of_consumer(&consumer.name)?;
        let standing = Standing {
            settled: consumer.settled,
            pending: consumer.pending,
            unsettled: consumer.unsettled,
            redelivered: consumer.redelivered,
            waiting: consumer.waiting,
            inlet: inlets.iter().find(|inlet| inlet.name == consumer.name).map_or(0, |inlet| inlet.pending),
            dead: dead.get(&name.dead_letters()).copied().unwrap_or(0),
        };
        Some(((name.service, name.group), standing))
    };
    Ok(consumers.iter().filter_map(standing).collect())
}
