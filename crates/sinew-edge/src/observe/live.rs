//! The routes of this edge with what they did since its start, for `sinew edge routes --live`.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use serde::Serialize;

use super::counts::{Counts, STATUSES};
use crate::{Edge, RouteInfo, served::Served};

/// All routes in force.
#[derive(Serialize)]
struct Live {
    /// The same at edges with the same settings.
    version: String,
    ready: bool,
    routes: Vec<LiveRoute>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// A route and what it did.
#[derive(Serialize)]
struct LiveRoute {
    #[serde(flatten)]
    route: RouteInfo,
    requests: u64,
    client_errors: u64,
    server_errors: u64,
    in_flight: u64,
    /// Mean time to the beginning of an answer; absent before the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_ms: Option<f64>,
    /// Operations that are not asked just now, as they keep failing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    circuits: Vec<Broken>,
}

#[derive(Serialize)]
struct Broken {
    operation: String,
    state: &'static str,
}

/// Writes them as JSON.
pub(super) fn write(edge: &Edge) -> Vec<u8> {
    let table = edge.table.load();
    let own = table.own_routes().into_iter();
    let live = Live {
        version: edge.reloads.version(),
        ready: edge.checks.iter().all(crate::ReadyCheck::is_ready),
        routes: own.chain(table.routes().iter().map(Arc::as_ref)).map(LiveRoute::of).collect(),
        notes: table.overview().notes,
    };
    // It has string keys only, which is all that JSON could refuse.
    serde_json::to_vec(&live).unwrap_or_default()
}

impl LiveRoute {
    fn of(served: &Served) -> Self {
        // Traces write a slash; whoever reads routes knows an operation by its dot.
        let broken = |(operation, tried): (String, bool)| Broken {
            operation: operation.replacen('/', ".", 1),
            state: if tried { "half-open" } else { "open" },
        };
        let none = Counts::default();
        let counts = served.counts.get().map_or(&none, AsRef::as_ref);
        let class = |class: u16| {
            let own = STATUSES.iter().zip(&counts.statuses).filter(|(status, _)| **status / 100 == class);
            own.map(|(_, count)| count.load(Relaxed)).sum()
        };
        let requests: u64 = counts.statuses.iter().map(|count| count.load(Relaxed)).sum();
        let mean = counts.micros.load(Relaxed) as f64 / 1e3 / requests as f64;
        Self {
            route: RouteInfo::of(served),
            requests,
            client_errors: class(4),
            server_errors: class(5),
            in_flight: counts.in_flight.load(Relaxed),
            mean_ms: (requests > 0).then_some((mean * 1e3).round() / 1e3),
            circuits: served.policies.circuits().map(broken).collect(),
        }
    }
}
