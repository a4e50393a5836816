//! Which configuration is in force, since when, and what became of those that were to take its place.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
};

use ring::digest::{SHA256, digest};

use super::{family, sample, text::one};
use crate::Config;

/// What is known of reloads. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Reloads(Arc<Known>);

#[derive(Debug)]
struct Known {
    taken: AtomicU64,
    refused: AtomicU64,
    /// Whether the last one was taken.
    sound: AtomicBool,
    /// When the one in force was taken, in seconds of Unix time.
    since: AtomicI64,
    version: AtomicU64,
}

impl Reloads {
    /// Begins with the configuration the edge starts with.
    pub(crate) fn new(config: &Config) -> Self {
        Self(Arc::new(Known {
            taken: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            sound: AtomicBool::new(true),
            since: AtomicI64::new(now()),
            version: AtomicU64::new(version(config)),
        }))
    }

    /// Notes that a configuration was taken over.
    pub(crate) fn taken(&self, version: u64) {
        self.0.taken.fetch_add(1, Relaxed);
        self.0.since.store(now(), Relaxed);
        self.0.version.store(version, Relaxed);
        self.0.sound.store(true, Relaxed);
    }

    /// Notes that one was not.
    pub(crate) fn refused(&self) {
        self.0.refused.fetch_add(1, Relaxed);
        self.0.sound.store(false, Relaxed);
    }

    /// Returns a digest of the settings in force.
    pub(super) fn version(&self) -> String {
        format!("{:016x}", self.0.version.load(Relaxed))
    }

    /// Writes what is known, for readers of metrics.
    pub(super) fn describe(&self, text: &mut String) {
        let known = &*self.0;
        let name = "sinew_edge_config_reloads_total";
        family(text, name, "counter", "Configurations that were to be taken over, by whether they were.");
        sample(text, name, &[("outcome", "taken")], known.taken.load(Relaxed));
        sample(text, name, &[("outcome", "refused")], known.refused.load(Relaxed));
        let name = "sinew_edge_config_last_reload_successful";
        one(
            text,
            name,
            "gauge",
            "Whether the last configuration was taken over.",
            u8::from(known.sound.load(Relaxed)),
        );
        let name = "sinew_edge_config_last_reload_success_timestamp_seconds";
        one(text, name, "gauge", "Since when the configuration is in force.", known.since.load(Relaxed));
        let name = "sinew_edge_config_info";
        family(
            text,
            name,
            "gauge",
            "The configuration in force: the same version at edges with the same settings.",
        );
        sample(text, name, &[("version", &self.version())], 1);
    }
}

/// Returns a digest of all settings, without what secrets are.
pub(crate) fn version(config: &Config) -> u64 {
    let text = serde_json::to_vec(config).unwrap_or_default();
    let digest = digest(&SHA256, &text);
    let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(first)
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
