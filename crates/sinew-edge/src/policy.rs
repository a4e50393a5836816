//! What a request has to pass on its way to its target, as the table has it; and what has to outlive a table.
//!
//! A route's policies are built once, when its table is. What they count stands in [`State`], which belongs to the edge:
//! other routes may come and go meanwhile.

mod calendar;
mod client;
mod key;
mod keyed;
mod meter;
pub(crate) mod quota;
pub(crate) mod rate;
pub(crate) mod shared;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

pub(crate) use client::Proxies;
pub(crate) use keyed::Keyed;
use sinew::bus::Kv;
use tokio::sync::{Notify, OnceCell};

use crate::config::{self, Config, Versions};
use meter::{Meter, nanos};
use quota::{Ledger, Quotas};
use rate::Rates;

/// The policies of one route. A route without one pays one look for it.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    pub(crate) rate_limit: Option<Rates>,
    pub(crate) quota: Option<Quotas>,
}

/// What policies count and know, whatever becomes of routes.
pub(crate) struct State {
    began: Instant,
    pub(crate) proxies: Proxies,
    /// Keys for each limit.
    keys: usize,
    /// By the names of limits. A lock, as the keeper looks in while a table is put into place; requests find theirs in
    /// their route.
    tables: Mutex<HashMap<String, Arc<Keyed>>>,
    /// Told when a limit comes up.
    used: Notify,
    /// By the names of quotas; a lock for the same reason.
    ledgers: Mutex<HashMap<String, Arc<Ledger>>>,
    /// Told when a quota comes up.
    accounted: Notify,
    /// Where quotas are kept, opened when the first one is asked for.
    bucket: OnceCell<Kv>,
}

impl Policies {
    /// Builds what a route asks for; `version` is the one it stands for.
    pub(crate) fn new(
        asked: &config::Policies,
        route: &str,
        versions: &Versions,
        version: Option<&str>,
    ) -> Self {
        let rates = asked.rate_limit.as_deref().filter(|limits| !limits.is_empty());
        let quotas = asked.quota.as_deref().filter(|quotas| !quotas.is_empty());
        Self {
            rate_limit: rates.map(|limits| Rates::new(limits, route, versions, version)),
            quota: quotas.map(|quotas| Quotas::new(quotas, route, versions, version)),
        }
    }

    /// Finds what was counted for the route before, so that what other replicas tell finds it, too.
    pub(crate) fn bind(&self, state: &State) {
        if let Some(rates) = &self.rate_limit {
            rates.bind(state);
        }
    }

    /// Describes them for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let rates = self.rate_limit.iter().flat_map(Rates::lines);
        rates.chain(self.quota.iter().flat_map(Quotas::lines)).collect()
    }
}

impl State {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            began: Instant::now(),
            proxies: Proxies::new(config),
            keys: config.max_limit_keys,
            tables: Mutex::default(),
            used: Notify::new(),
            ledgers: Mutex::default(),
            accounted: Notify::new(),
            bucket: OnceCell::new(),
        }
    }

    /// Returns the time, in nanoseconds since the edge's beginning.
    pub(crate) fn now(&self) -> u64 {
        nanos(self.began.elapsed())
    }

    /// Returns the counts of a limit, fresh where nobody asked for them before.
    fn table(&self, id: &str, meter: Meter, shared: bool) -> Arc<Keyed> {
        let new = || {
            self.used.notify_one();
            Arc::new(Keyed::new(id.to_owned(), meter, self.keys, shared))
        };
        self.tables().entry(id.to_owned()).or_insert_with(new).clone()
    }

    fn tables(&self) -> MutexGuard<'_, HashMap<String, Arc<Keyed>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
