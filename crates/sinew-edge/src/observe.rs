//! What is seen of requests: counts for whoever reads metrics, and a line in a log. Off, a request pays one look each.

mod access;
mod counts;
mod listener;
mod reloads;
pub(crate) mod tally;
mod text;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::{header, request::Parts};
use hyper::body::Body as _;
use sinew::wire::TraceContext;

pub(crate) use access::{Log, open as open_log};
pub(crate) use counts::{Code, Counts, Metrics};
use counts::{Gauge, Traffic};
pub(crate) use listener::run as serve_metrics;
pub(crate) use reloads::{Reloads, version};
pub(crate) use tally::{Followed, Row, Tallies, Tally};
pub(crate) use text::{family, sample};

use crate::{Response, guard::Ended, policy, served::Served};

/// Everybody who looks.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    pub(crate) metrics: Option<Metrics>,
    pub(crate) log: Option<Log>,
    /// Open connections.
    connections: AtomicU64,
}

/// A request that is looked at until it is answered.
pub(crate) struct Seen<'e> {
    observer: &'e Observer,
    counts: Option<(&'e Counts, Gauge<'e>)>,
}

/// Why a connection was closed on its client, in the order of [`tally::CUT`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    Framing,
    Flood,
    Slow,
    Silent,
    TooMany,
}

/// What became of a request.
pub(crate) struct Done<'r> {
    pub(crate) head: &'r Parts,
    pub(crate) route: &'r str,
    pub(crate) peer: SocketAddr,
    pub(crate) trace: TraceContext,
    pub(crate) began: Instant,
    pub(crate) response: &'r Response,
}

impl From<Ended> for Cut {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Framing => Self::Framing,
            Ended::Flood => Self::Flood,
        }
    }
}

impl Observer {
    pub(crate) fn new(counts: bool, log: Option<Log>) -> Self {
        Self { metrics: counts.then(Metrics::default), log, connections: AtomicU64::new(0) }
    }

    /// Begins to look at a request, where anybody does.
    pub(crate) fn begin<'e>(&'e self, served: Option<&'e Arc<Served>>) -> Option<Seen<'e>> {
        if self.metrics.is_none() && self.log.is_none() {
            return None;
        }
        let counts = self.metrics.as_ref().map(|metrics| {
            let counts = served.and_then(|served| served.counts.get()).unwrap_or(&metrics.unrouted);
            (&**counts, Gauge::raise(&counts.in_flight))
        });
        Some(Seen { observer: self, counts })
    }

    /// Notes that something was no request at all.
    pub(crate) fn refused(&self, response: &Response) {
        let Some(metrics) = &self.metrics else { return };
        metrics.unrouted.add(response.status().as_u16(), Duration::ZERO, Traffic { asked: 0, answered: 0 });
        if let Some(code) = response.extensions().get::<Code>() {
            metrics.refused.add(code.as_str());
        }
    }

    /// Counts a connection as long as what is returned is kept.
    pub(crate) fn connection(&self) -> Gauge<'_> {
        Gauge::raise(&self.connections)
    }

    /// Counts a connection that was closed on its client.
    pub(crate) fn cut(&self, tallies: &Tallies, why: Cut) {
        if self.metrics.is_some() {
            tallies.row(&tally::CUT, "").add(why as usize, 1);
        }
    }

    fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }
}

impl Seen<'_> {
    /// Notes what became of the request.
    pub(crate) fn end(self, done: &Done<'_>, proxies: &policy::Proxies) {
        let (took, status) = (done.began.elapsed(), done.response.status().as_u16());
        let code = done.response.extensions().get::<Code>();
        let answered = done.response.body().size_hint().exact();
        if let (Some((counts, _)), Some(metrics)) = (&self.counts, &self.observer.metrics) {
            let length = done.head.headers.get(header::CONTENT_LENGTH);
            let asked = length.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0);
            counts.add(status, took, Traffic { asked, answered: answered.unwrap_or(0) });
            if let Some(code) = code {
                metrics.refused.add(code.as_str());
            }
        }
        if let Some(log) = &self.observer.log
            && log.wants(status, took)
        {
            log.write(done, took, code.map(Code::as_str), answered, proxies);
        }
    }
}
