//! What a request has to pass on its way to its target, as the table has it; and what has to outlive a table.
//!
//! A route's policies are built once, when its table is. What they count stands in [`State`], which belongs to the edge:
//! other routes may come and go meanwhile.

pub(crate) mod cache;
mod calendar;
pub(crate) mod calls;
mod client;
pub(crate) mod coalesce;
mod compression;
pub(crate) mod concurrency;
pub(crate) mod conditional;
pub(crate) mod idempotency;
mod key;
mod keyed;
mod lifecycle;
mod meter;
pub(crate) mod pressure;
pub(crate) mod quota;
pub(crate) mod rate;
pub(crate) mod replies;
pub(crate) mod shared;
mod visitors;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

pub(crate) use client::Proxies;
use http::Method;
pub(crate) use keyed::Keyed;
use sinew::{bus::Kv, policy::Circuit};
use tokio::sync::{Notify, OnceCell};

use crate::{
    config::{self, Config, Limits, Priority, Timeouts, Versions},
    observe::{Tallies, family, sample},
};
use cache::{Cache, Caches};
use calls::{Calls, Family};
use coalesce::{Coalesce, Flights};
use compression::Compression;
use concurrency::{Gates, Rooms, Turn};
use conditional::Conditional;
use idempotency::Idempotency;
use lifecycle::Lifecycle;
use meter::{Meter, nanos};
use pressure::{Place, Pressure};
use quota::{Ledger, Quotas};
use rate::Rates;
pub(crate) use visitors::Visit;
use visitors::Visitors;

/// The policies of one route. A route without one pays one look for it.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    /// Whether requests pass anything on their way to the target.
    policed: bool,
    pub(crate) rate_limit: Option<Rates>,
    pub(crate) quota: Option<Quotas>,
    pub(crate) concurrency: Option<Gates>,
    pub(crate) priority: Priority,
    pub(crate) limits: Option<Limits>,
    pub(crate) timeouts: Option<Timeouts>,
    pub(crate) idempotency: Option<Idempotency>,
    pub(crate) coalesce: Option<Coalesce>,
    pub(crate) cache: Option<Cache>,
    /// Whether its requests may make wrong what other routes keep.
    pub(crate) changes: bool,
    pub(crate) calls: Option<Calls>,
    pub(crate) conditional: Option<Conditional>,
    pub(crate) compression: Option<Compression>,
    pub(crate) lifecycle: Option<Lifecycle>,
}

/// What a request holds while it is under way: until its answer is ready, or its stream has ended.
#[derive(Debug, Default)]
pub(crate) struct Held {
    _place: Option<Place>,
    _turns: Vec<Turn>,
}

impl Held {
    /// Returns what is held, where there is anything.
    pub(crate) fn some(place: Option<Place>, turns: Vec<Turn>) -> Option<Arc<Self>> {
        (place.is_some() || !turns.is_empty()).then(|| Arc::new(Self { _place: place, _turns: turns }))
    }
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
    /// By the names of limits of concurrency; a lock for the same reason.
    rooms: Mutex<HashMap<String, Arc<Rooms>>>,
    /// By the ways in which operations are asked; a lock for the same reason.
    families: Mutex<HashMap<String, Arc<Family>>>,
    pub(crate) flights: Flights,
    pub(crate) caches: Caches,
    pub(crate) pressure: Pressure,
    pub(crate) visitors: Visitors,
    /// By the names of quotas; a lock for the same reason.
    ledgers: Mutex<HashMap<String, Arc<Ledger>>>,
    /// Told when a quota comes up.
    accounted: Notify,
    /// Where quotas are kept, opened when the first one is asked for.
    bucket: OnceCell<Kv>,
    /// Where replies to idempotency keys are kept, opened when the first key comes.
    replies: OnceCell<Kv>,
    /// What they did, by outcome.
    pub(crate) tallies: Tallies,
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
        let gates = asked.concurrency.as_deref().filter(|limits| !limits.is_empty());
        let quotas = asked.quota.as_deref().filter(|quotas| !quotas.is_empty());
        let coding = asked.compression.as_ref().filter(|compression| !compression.encodings.is_empty());
        Self {
            rate_limit: rates.map(|limits| Rates::new(limits, route, versions, version)),
            concurrency: gates.map(|limits| Gates::new(limits, route, versions, version)),
            policed: !config::Policies { retry: None, breaker: None, bulkhead: None, ..asked.clone() }
                .is_empty(),
            priority: asked.priority.unwrap_or_default(),
            limits: asked.limits.clone(),
            timeouts: asked.timeouts.clone(),
            idempotency: asked.idempotency.as_ref().map(Idempotency::new),
            coalesce: asked.coalesce.as_ref().map(|asked| Coalesce::new(asked, route)),
            cache: asked.cache.as_ref().map(|asked| Cache::new(asked, route, versions, version)),
            changes: false,
            calls: Calls::new(asked, route),
            quota: quotas.map(|quotas| Quotas::new(quotas, route, versions, version)),
            conditional: asked.conditional.as_ref().map(Conditional::new),
            compression: coding.map(|asked| Compression::new(asked, route)),
            lifecycle: asked.lifecycle.as_ref().map(Lifecycle::new),
        }
    }

    /// Finds what was counted for the route before, so that what other replicas tell finds it, too.
    pub(crate) fn bind(&self, state: &State) {
        if let Some(rates) = &self.rate_limit {
            rates.bind(state);
        }
    }

    /// Has requests that may change something let go of what is kept.
    pub(crate) fn change(&mut self, method: &Method) {
        self.changes = !method.is_safe() && self.cache.is_none();
        self.policed |= self.changes;
    }

    /// Says whether requests pass nothing on their way to the target. How operations are asked comes later.
    pub(crate) fn is_plain(&self) -> bool {
        !self.policed
    }

    /// Says which operations are not asked just now.
    pub(crate) fn broken(&self, route: &str) -> Vec<String> {
        let told = |(operation, circuit)| match circuit {
            Circuit::HalfOpen => format!("{route}: {operation} is being tried again after it kept failing"),
            _ => format!("{route}: {operation} keeps failing and is not asked for a while"),
        };
        self.calls.iter().flat_map(Calls::broken).map(told).collect()
    }

    /// Lists the operations that are not asked just now, and whether each is being tried again.
    pub(crate) fn circuits(&self) -> impl Iterator<Item = (String, bool)> {
        let broken = self.calls.iter().flat_map(Calls::broken);
        broken.map(|(operation, circuit)| (operation, circuit == Circuit::HalfOpen))
    }

    /// Says whether replies do not go out as they are.
    pub(crate) fn shape_replies(&self) -> bool {
        self.conditional.is_some() || self.compression.is_some()
    }

    /// Describes them for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let limits = self.limits.iter().map(|limits| format!("limits {limits}"));
        let timeouts = self.timeouts.iter().map(|timeouts| format!("timeouts {timeouts}"));
        let priority = (self.priority != Priority::Normal).then(|| format!("{} priority", self.priority));
        let coalesce = self.coalesce.iter().map(|_| "identical requests together".to_owned());
        let lines = limits.chain(timeouts).chain(priority);
        let lines = lines.chain(self.rate_limit.iter().flat_map(Rates::lines));
        let lines = lines.chain(self.quota.iter().flat_map(Quotas::lines));
        let lines = lines.chain(self.concurrency.iter().flat_map(Gates::lines));
        let lines = lines.chain(self.idempotency.iter().map(Idempotency::line)).chain(coalesce);
        let lines = lines.chain(self.cache.iter().flat_map(Cache::lines));
        let lines = lines.chain(self.calls.iter().flat_map(Calls::lines));
        let conditional = self.conditional.iter().map(|_| "conditional requests".to_owned());
        let lines = lines.chain(conditional).chain(self.compression.iter().map(Compression::line));
        lines.chain(self.lifecycle.iter().flat_map(Lifecycle::lines)).collect()
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
            rooms: Mutex::default(),
            families: Mutex::default(),
            flights: Flights::default(),
            caches: Caches::new(config.max_cache_bytes),
            pressure: Pressure::new(&config.shedding),
            visitors: Visitors::new(config.max_connections_per_client),
            ledgers: Mutex::default(),
            accounted: Notify::new(),
            bucket: OnceCell::new(),
            replies: OnceCell::new(),
            tallies: Tallies::default(),
        }
    }

    /// Returns the time, in nanoseconds since the edge's beginning.
    pub(crate) fn now(&self) -> u64 {
        nanos(self.began.elapsed())
    }

    /// Writes what limits counted, for readers of metrics.
    pub(crate) fn describe(&self, text: &mut String) {
        let name = "sinew_edge_rate_limit_total";
        family(text, name, "counter", "Requests that a rate limit looked at, by what it said.");
        for (id, counts) in self.tables().iter() {
            let (passed, refused) = counts.told();
            sample(text, name, &[("limit", id), ("outcome", "passed")], passed);
            sample(text, name, &[("limit", id), ("outcome", "refused")], refused);
        }
        self.pressure.describe(text);
        concurrency::describe(self, text);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn built(asked: serde_json::Value) -> Policies {
        let asked: config::Policies = serde_json::from_value(asked).unwrap();
        Policies::new(&asked, "route", &Versions::default(), None)
    }

    #[test]
    fn people_are_told_every_policy_with_its_numbers() {
        let all = built(json!({
            "rate_limit": [{ "name": "each", "requests": 5, "per": "60s", "key": ["ip"], "shared": true }],
            "quota": [{ "name": "plan", "requests": 9, "per": "day", "scope": "edge" }],
            "concurrency": [{ "name": "few", "requests": 2, "waiting": 3 }],
            "priority": "low", "idempotency": {}, "limits": { "max_headers": 7 }, "timeouts": { "body_ms": 8 }, "coalesce": {},
            "retry": {}, "breaker": {}, "bulkhead": 4,
        }));
        let expected = [
            "limits 7 header fields",
            "timeouts body 8 ms",
            "low priority",
            "rate limit each 5 per 1m, by ip, with all replicas",
            "quota plan 9 per day, on all routes",
            "concurrency few 2 at once, 3 wait up to 1000 ms",
            "idempotency keys honoured, replies kept 86400 s",
            "identical requests together",
            "retry up to 3 attempts, 20 % of requests",
            "circuit opens at 10 failures in a row, or 50 % of 20 in 10000 ms",
            "bulkhead of 4",
        ];
        assert_eq!(all.lines(), expected);
    }

    #[test]
    fn who_asks_for_nothing_pays_for_nothing_on_the_way_to_the_target() {
        assert!(Policies::default().is_plain() && built(json!({})).is_plain());
        assert!(built(json!({ "retry": {} })).is_plain(), "that comes behind the target's door");
        assert!(!built(json!({ "priority": "low" })).is_plain());
    }
}
