//! Replicas tell each other what shared limits counted, and what is forgotten makes room.
//!
//! Every replica decides alone and at once; what it let pass it tells all others a moment later, in one message of the bus
//! that nobody acknowledges. A bucket in a key-value store would know exactly, at the price of a round trip for each request
//! and of contention on the keys that matter most; counts that are added up converge whatever order they come in, and a
//! bucket that was overdrawn pays that back before it lets more pass. While the bus is cut every replica holds the limit on
//! its own. What was counted then is not told later: by then it is over.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sinew::{
    bus::{Message, Subscription},
    wire::{ContentType, Headers, decode, encode},
};
use tokio::time::{Instant, sleep_until};

use super::{Keyed, State, key::Digest};
use crate::Edge;

/// Below what no operation is served.
const SUBJECT: &str = "_EDGE.counts";
/// Most counts in one message, which stays below every server's limit.
const CHUNK: usize = 8_000;
/// How often what is forgotten is looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// What one replica counted since it told that last.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    /// Who tells.
    from: u64,
    limit: String,
    counts: Vec<(u64, u64, u32)>,
}

/// The task behind the limits of one edge.
struct Keeper {
    edge: Arc<Edge>,
    own: u64,
    reports: Option<Subscription>,
    swept: Instant,
}

/// Tells, hears and sweeps as long as the edge runs.
pub(crate) async fn run(edge: Arc<Edge>) {
    let keeper = Keeper { edge: edge.clone(), own: fastrand::u64(..), reports: None, swept: Instant::now() };
    edge.closing.run_until_cancelled(keeper.run()).await;
}

impl Keeper {
    async fn run(mut self) {
        loop {
            // Who has no limits is not woken for them.
            while self.edge.policies.is_unused() {
                self.edge.policies.used.notified().await;
            }
            let shared = self.edge.policies.has_shared();
            if shared && self.reports.is_none() {
                self.listen().await;
            }
            let exchange = Duration::from_millis(self.edge.config.exchange_ms);
            let due = Instant::now() + if shared { exchange } else { SWEEP };
            self.hear(due).await;
            self.tell().await;
            if self.swept.elapsed() >= SWEEP {
                self.edge.policies.sweep();
                self.swept = Instant::now();
            }
        }
    }

    async fn listen(&mut self) {
        match self.edge.bus.subscribe(SUBJECT, None).await {
            Ok(reports) => self.reports = Some(reports),
            Err(error) => {
                tracing::debug!(%error, "cannot hear what other edges count: limits are held alone");
            }
        }
    }

    /// Takes what others tell until it is time to tell.
    async fn hear(&mut self, due: Instant) {
        loop {
            let heard = async {
                match &mut self.reports {
                    Some(reports) => reports.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep_until(due) => return,
                heard = heard => match heard {
                    Some(message) => self.take(&message),
                    None => self.reports = None,
                },
            }
        }
    }

    fn take(&self, message: &Message) {
        let Ok(report) = decode::<Report>(ContentType::MessagePack, message.payload()) else {
            return tracing::debug!("a report of another edge cannot be read");
        };
        let state = &self.edge.policies;
        let Some(table) = state.known(&report.limit).filter(|_| report.from != self.own) else { return };
        let now = state.now();
        for (high, low, count) in report.counts {
            table.add(Digest::from((high, low)), count, now);
        }
    }

    async fn tell(&self) {
        for table in self.edge.policies.shared() {
            let untold = table.untold();
            if !self.edge.bus.is_connected() {
                continue;
            }
            for chunk in untold.chunks(CHUNK) {
                self.tell_some(&table, chunk).await;
            }
        }
    }

    async fn tell_some(&self, table: &Keyed, counts: &[(Digest, u32)]) {
        let parts = |(key, count): &(Digest, u32)| {
            let (high, low) = (*key).into();
            (high, low, *count)
        };
        let report =
            Report { from: self.own, limit: table.id.clone(), counts: counts.iter().map(parts).collect() };
        let Ok(payload) = encode(ContentType::MessagePack, &report) else { return };
        if let Err(error) = self.edge.bus.publish(SUBJECT, &Headers::new(), payload).await {
            tracing::debug!(%error, limit = table.id, "other edges were not told what passed here");
        }
    }
}

impl State {
    fn is_unused(&self) -> bool {
        self.tables().is_empty()
    }

    fn has_shared(&self) -> bool {
        self.tables().values().any(|table| table.is_shared())
    }

    fn shared(&self) -> Vec<Arc<Keyed>> {
        self.tables().values().filter(|table| table.is_shared()).cloned().collect()
    }

    fn known(&self, id: &str) -> Option<Arc<Keyed>> {
        self.tables().get(id).cloned()
    }

    /// Forgets counts that are over, and limits that no route has and nothing is counted for.
    fn sweep(&self) {
        let now = self.now();
        let all: Vec<Arc<Keyed>> = self.tables().values().cloned().collect();
        let empty: Vec<&Arc<Keyed>> = all.iter().filter(|table| table.sweep(now) == 0).collect();
        let mut tables = self.tables();
        for table in empty {
            // One here, one in the list, and no route.
            if Arc::strong_count(table) == 2 {
                tables.remove(&table.id);
            }
        }
    }
}
