//! What is seen of requests: counts for whoever reads metrics, and a line in a log. Off, a request pays one look each.

mod access;
mod counts;
mod listener;
mod live;
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

/// How long operations took for a request. It travels with the head, so that who is asked in another task counts, too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upstream(Arc<AtomicU64>);

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
    /// Nothing where what came was no request.
    pub(crate) head: Option<&'r Parts>,
    pub(crate) route: &'r str,
    pub(crate) peer: SocketAddr,
    pub(crate) trace: TraceContext,
    pub(crate) began: Instant,
    pub(crate) response: &'r Response,
}

impl Upstream {
    /// Takes the time of an operation; of several at once the longest counts.
    pub(crate) fn took(&self, time: Duration) {
        self.0.fetch_max(u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1), Relaxed);
    }

    fn time(&self) -> Option<Duration> {
        Some(self.0.load(Relaxed)).filter(|micros| *micros > 0).map(Duration::from_micros)
    }
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
    pub(crate) fn refused(&self, done: &Done<'_>, proxies: &policy::Proxies) {
        let (status, code) = (done.response.status().as_u16(), done.response.extensions().get::<Code>());
        if let Some(metrics) = &self.metrics {
            metrics.unrouted.add(status, Duration::ZERO, Traffic { asked: 0, answered: 0 });
            if let Some(code) = code {
                metrics.refused.add(code.as_str());
            }
        }
        if let Some(log) = &self.log
            && log.wants(status, Duration::ZERO)
        {
            let answered = done.response.body().size_hint().exact();
            log.write(done, Duration::ZERO, code.map(Code::as_str), answered, proxies);
        }
    }

    /// Has the time that operations take measured for a request, where the log tells it.
    pub(crate) fn prepare(&self, head: &mut Parts) {
        if self.log.as_ref().is_some_and(Log::tells_upstream) {
            head.extensions.insert(Upstream::default());
        }
    }

    /// Begins to measure, where anybody wants to know.
    pub(crate) fn asking<'r>(&self, head: &'r Parts) -> Option<(&'r Upstream, Instant)> {
        let upstream = self.log.as_ref().and_then(|_| head.extensions.get::<Upstream>())?;
        Some((upstream, Instant::now()))
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
            let length = done.head.and_then(|head| head.headers.get(header::CONTENT_LENGTH));
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
