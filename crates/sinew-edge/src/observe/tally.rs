//! What policies, streams and webhooks did, by outcome: relaxed additions to numbers that each of them looks up once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{family, sample};

/// Outcomes of one kind, at most.
const ROOM: usize = 5;

/// A metric with a sample for each outcome of each thing that is counted apart.
#[derive(Debug)]
pub(crate) struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    /// What tells things apart; empty where there is one only.
    by: &'static str,
    /// What tells outcomes apart; empty where there is one only.
    label: &'static str,
    outcomes: &'static [&'static str],
}

/// All counts of an edge. They outlive tables and are never forgotten: their names stand in configurations and contracts.
#[derive(Clone, Debug, Default)]
// A lock, as readers look in while a row is looked up; whoever counts has found its row before.
pub(crate) struct Tallies(Arc<Mutex<BTreeMap<(&'static str, String), Row>>>);

/// The counts of one thing.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    family: &'static Family,
    counts: Arc<[AtomicU64; ROOM]>,
}

/// The counts of one thing, looked up when it is first counted.
#[derive(Debug)]
pub(crate) struct Tally {
    family: &'static Family,
    id: String,
    row: OnceLock<Row>,
}

/// What one client of a feed is counted by.
#[derive(Debug)]
pub(crate) struct Followed {
    clients: Row,
    events: Row,
    cut_off: Row,
}

pub(crate) const QUOTA: Family = Family {
    name: "sinew_edge_quota_total",
    kind: "counter",
    help: "Requests that a quota looked at, by what it said.",
    by: "quota",
    label: "outcome",
    outcomes: &["passed", "refused"],
};
pub(crate) const CONCURRENCY: Family = Family {
    name: "sinew_edge_concurrency_total",
    kind: "counter",
    help: "Requests that wanted to be under way, by whether they were at once, later or never.",
    by: "limit",
    label: "outcome",
    outcomes: &["passed", "waited", "refused"],
};
pub(crate) const CACHE: Family = Family {
    name: "sinew_edge_cache_total",
    kind: "counter",
    help: "Requests of routes with a cache: answered with what is kept, or asked because there was nothing, it was too \
           old (also behind a stale answer), or they wanted to pass it by.",
    by: "name",
    label: "outcome",
    outcomes: &["hit", "stale", "miss", "expired", "bypass"],
};
pub(crate) const COALESCED: Family = Family {
    name: "sinew_edge_coalesced_total",
    kind: "counter",
    help: "Requests that asked for all that wanted the same, and those that got the answer of such a one.",
    by: "name",
    label: "outcome",
    outcomes: &["asked", "shared"],
};
pub(crate) const RETRIES: Family = Family {
    name: "sinew_edge_retries_total",
    kind: "counter",
    help: "Attempts beyond the first.",
    by: "name",
    label: "",
    outcomes: &[""],
};
pub(crate) const COMPRESSED: Family = Family {
    name: "sinew_edge_compressed_total",
    kind: "counter",
    help: "Replies that were compressed.",
    by: "name",
    label: "coding",
    outcomes: &["br", "zstd", "gzip"],
};
pub(crate) const SAVED: Family = Family {
    name: "sinew_edge_compression_saved_bytes_total",
    kind: "counter",
    help: "Bytes that compression saved.",
    by: "name",
    label: "",
    outcomes: &[""],
};
pub(crate) const FEED_CLIENTS: Family = Family {
    name: "sinew_edge_feed_clients",
    kind: "gauge",
    help: "Clients that follow events.",
    by: "name",
    label: "",
    outcomes: &[""],
};
pub(crate) const FEED_EVENTS: Family = Family {
    name: "sinew_edge_feed_events_total",
    kind: "counter",
    help: "Events handed to clients that follow them.",
    by: "name",
    label: "",
    outcomes: &[""],
};
pub(crate) const FEED_CUT_OFF: Family = Family {
    name: "sinew_edge_feed_cut_off_total",
    kind: "counter",
    help: "Clients that were let go of because they took too long.",
    by: "name",
    label: "",
    outcomes: &[""],
};
pub(crate) const WEBHOOKS: Family = Family {
    name: "sinew_edge_webhook_attempts_total",
    kind: "counter",
    help: "Attempts to send an event: taken, to be tried again, or a dead letter from here on.",
    by: "webhook",
    label: "outcome",
    outcomes: &["delivered", "retried", "dead"],
};
pub(crate) const CUT: Family = Family {
    name: "sinew_edge_connections_cut_total",
    kind: "counter",
    help: "Connections that were closed on their clients.",
    by: "",
    label: "reason",
    outcomes: &["framing", "flood", "slow", "silent", "too-many"],
};

impl Tallies {
    /// Returns the counts of one thing, which begin at nothing.
    pub(crate) fn row(&self, family: &'static Family, id: &str) -> Row {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Row { family, counts: Arc::default() };
        rows.entry((family.name, id.to_owned())).or_insert_with(new).clone()
    }

    /// Writes everything that was counted, for readers of metrics.
    pub(crate) fn describe(&self, text: &mut String) {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut begun = "";
        for ((name, id), row) in &rows {
            let Family { kind, help, by, label, outcomes, .. } = row.family;
            if begun != *name {
                family(text, name, kind, help);
                begun = name;
            }
            for (outcome, count) in outcomes.iter().zip(&*row.counts) {
                let labels = [(*by, id.as_str()), (*label, *outcome)];
                let labels: Vec<_> = labels.into_iter().filter(|(label, _)| !label.is_empty()).collect();
                sample(text, name, &labels, count.load(Relaxed));
            }
        }
    }
}

impl Row {
    /// Counts an outcome, by its place in the family.
    pub(crate) fn add(&self, outcome: usize, count: u64) {
        self.counts[outcome].fetch_add(count, Relaxed);
    }
}

impl Tally {
    pub(crate) fn new(family: &'static Family, id: impl Into<String>) -> Self {
        Self { family, id: id.into(), row: OnceLock::new() }
    }

    /// Counts one outcome, by its place in the family.
    pub(crate) fn add(&self, tallies: &Tallies, outcome: usize) {
        self.row(tallies).add(outcome, 1);
    }

    pub(crate) fn row(&self, tallies: &Tallies) -> &Row {
        self.row.get_or_init(|| tallies.row(self.family, &self.id))
    }
}

impl Followed {
    /// Counts a client of a route; it counts until this is dropped.
    pub(crate) fn begin(tallies: &Tallies, route: &str) -> Self {
        let row = |family| tallies.row(family, route);
        let (clients, events, cut_off) = (row(&FEED_CLIENTS), row(&FEED_EVENTS), row(&FEED_CUT_OFF));
        clients.add(0, 1);
        Self { clients, events, cut_off }
    }

    /// Counts an event that was handed to it.
    pub(crate) fn event(&self) {
        self.events.add(0, 1);
    }

    /// Counts that it took too long.
    pub(crate) fn cut_off(&self) {
        self.cut_off.add(0, 1);
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.clients.counts[0].fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_every_outcome() {
        let all = [
            QUOTA,
            CONCURRENCY,
            CACHE,
            COALESCED,
            RETRIES,
            COMPRESSED,
            SAVED,
            FEED_CLIENTS,
            FEED_EVENTS,
            FEED_CUT_OFF,
            WEBHOOKS,
            CUT,
        ];
        assert!(all.iter().all(|family| (1..=ROOM).contains(&family.outcomes.len())));
    }

    #[test]
    fn a_family_is_begun_once_and_a_thing_counts_on_where_it_was() {
        let tallies = Tallies::default();
        for id in ["a", "b", "a"] {
            Tally::new(&QUOTA, id).add(&tallies, 1);
        }
        tallies.row(&CUT, "").add(2, 5);
        let mut text = String::new();
        tallies.describe(&mut text);
        assert_eq!(text.matches("# TYPE sinew_edge_quota_total counter").count(), 1);
        for line in [
            "sinew_edge_quota_total{quota=\"a\",outcome=\"refused\"} 2",
            "sinew_edge_quota_total{quota=\"b\",outcome=\"passed\"} 0",
            "sinew_edge_connections_cut_total{reason=\"slow\"} 5",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is missing in\n{text}");
        }
    }
}
