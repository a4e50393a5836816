//! Counts as requests change them: relaxed additions to numbers that their route already holds. No lock, no allocation.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::served::Served;

/// Upper bounds of the histogram, in microseconds.
pub(super) const BOUNDS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];
/// Statuses that are counted apart; others are counted as the first of their class.
pub(super) const STATUSES: [u16; 38] = [
    100, 101, 200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404,
    405, 406, 408, 409, 410, 412, 413, 415, 416, 417, 422, 428, 429, 500, 502, 503, 504,
];
/// Problem codes that are counted apart. Services choose their own, so there has to be an end.
const CODES: usize = 128;

/// All counts of an edge.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// By method, path template and name. A lock, as readers look in while a table is put into place; requests find theirs
    /// in their route.
    routes: Mutex<BTreeMap<Label, Arc<Counts>>>,
    /// Requests that no route takes.
    pub(super) unrouted: Arc<Counts>,
    pub(super) refused: Refused,
    pub(super) tables: AtomicU64,
}

/// What a route is called: method, path template, name.
pub(super) type Label = (String, String, String);

/// The counts of one route.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(super) statuses: [AtomicU64; STATUSES.len()],
    /// How many took up to each bound, and how many longer than all.
    pub(super) took: [AtomicU64; BOUNDS.len() + 1],
    pub(super) micros: AtomicU64,
    pub(super) in_flight: AtomicU64,
    pub(super) asked: AtomicU64,
    pub(super) answered: AtomicU64,
}

/// Bytes of a request's body, and of its answer's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traffic {
    pub(super) asked: u64,
    pub(super) answered: u64,
}

/// Something that is under way as long as this is kept.
#[derive(Debug)]
pub(crate) struct Gauge<'c>(&'c AtomicU64);

/// The code of the problem that a response tells.
#[derive(Clone, Debug)]
pub(crate) struct Code(Arc<str>);

/// Counts by problem code. A place is taken once and never given back, so that looking for one needs no lock.
#[derive(Debug)]
pub(super) struct Refused {
    places: [OnceLock<(Box<str>, AtomicU64)>; CODES],
    others: AtomicU64,
}

impl Metrics {
    /// Gives a route the counts it had before.
    pub(crate) fn bind(&self, served: &Served) {
        let label = (served.method.to_string(), served.path.clone(), served.name.clone());
        served.counts.get_or_init(|| self.routes().entry(label).or_default().clone());
    }

    /// Notes that a table was put into place.
    pub(crate) fn table(&self) {
        self.tables.fetch_add(1, Relaxed);
    }

    /// Lists the counts of the routes in force; those of routes that are gone are forgotten.
    pub(super) fn list(&self) -> Vec<(Label, Arc<Counts>)> {
        let mut routes = self.routes();
        routes.retain(|_, counts| Arc::strong_count(counts) > 1);
        let mut all: Vec<_> = routes.iter().map(|(label, counts)| (label.clone(), counts.clone())).collect();
        drop(routes);
        let none = || "-".to_owned();
        all.push(((none(), none(), none()), self.unrouted.clone()));
        all
    }

    fn routes(&self) -> MutexGuard<'_, BTreeMap<Label, Arc<Counts>>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Counts an answered request.
    pub(super) fn add(&self, status: u16, took: Duration, traffic: Traffic) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.statuses[place(status)].fetch_add(1, Relaxed);
        self.took[BOUNDS.partition_point(|bound| *bound < micros)].fetch_add(1, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
        if traffic.asked > 0 {
            self.asked.fetch_add(traffic.asked, Relaxed);
        }
        self.answered.fetch_add(traffic.answered, Relaxed);
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            statuses: [const { AtomicU64::new(0) }; STATUSES.len()],
            took: [const { AtomicU64::new(0) }; BOUNDS.len() + 1],
            micros: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        }
    }
}

impl<'c> Gauge<'c> {
    pub(super) fn raise(count: &'c AtomicU64) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Code {
    pub(crate) fn new(code: &str) -> Self {
        Self(code.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Refused {
    pub(super) fn add(&self, code: &str) {
        for place in &self.places {
            let (name, count) = place.get_or_init(|| (code.into(), AtomicU64::new(0)));
            if &**name == code {
                count.fetch_add(1, Relaxed);
                return;
            }
        }
        self.others.fetch_add(1, Relaxed);
    }

    /// Lists what was counted.
    pub(super) fn list(&self) -> impl Iterator<Item = (&str, u64)> {
        let told = self.places.iter().map_while(OnceLock::get).map(|(name, count)| (&**name, count));
        told.chain([("_OTHER", &self.others)]).map(|(name, count)| (name, count.load(Relaxed)))
    }
}

impl Default for Refused {
    fn default() -> Self {
        Self { places: [const { OnceLock::new() }; CODES], others: AtomicU64::new(0) }
    }
}

/// Finds where a status is counted.
fn place(status: u16) -> usize {
    let first = || STATUSES.iter().rposition(|known| *known <= status / 100 * 100).unwrap_or(0);
    STATUSES.binary_search(&status).unwrap_or_else(|_| first())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_status_is_counted_once_and_within_its_class(status in 100u16..600) {
            let (counts, traffic) = (Counts::default(), Traffic { asked: 1, answered: 2 });
            counts.add(status, Duration::from_micros(1), traffic);
            let counted: Vec<u16> = STATUSES.iter().zip(&counts.statuses)
                .filter(|(_, count)| count.load(Relaxed) == 1).map(|(status, _)| *status).collect();
            prop_assert_eq!(counted.len(), 1);
            prop_assert!(counted[0] == status || counted[0] == status / 100 * 100);
        }

        #[test]
        fn a_time_is_counted_below_the_first_bound_that_holds_it(micros in 0u64..20_000_000) {
            let counts = Counts::default();
            counts.add(200, Duration::from_micros(micros), Traffic { asked: 0, answered: 0 });
            let at = counts.took.iter().position(|count| count.load(Relaxed) == 1).unwrap();
            prop_assert!(at == BOUNDS.len() || micros <= BOUNDS[at]);
            prop_assert!(at == 0 || micros > BOUNDS[at - 1]);
        }
    }

    #[test]
    fn however_many_codes_services_invent_there_are_few_counts() {
        let refused = Refused::default();
        (0..1_000).for_each(|number| refused.add(&format!("code-{number}")));
        refused.add("code-0");
        let listed: Vec<_> = refused.list().collect();
        assert_eq!((listed.len(), listed[0], listed[CODES]), (CODES + 1, ("code-0", 2), ("_OTHER", 872)));
    }
}
