//! The way out for spans: a bounded queue, batches, the OTLP exporter. Drops and counts rather than slow the work.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{Link, SpanContext, SpanKind as OtelKind, Status, TraceFlags, TraceState},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};
use sinew_wire::TraceContext;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{SpanKind, SpanRecord};
use crate::{Config, Error, Kind};

const QUEUE: usize = 16_384;
const BATCH: usize = 2_048;
/// Longest time a span waits for company.
const LINGER: Duration = Duration::from_millis(500);

/// Records spans and exports them; a cheap handle, clones share one queue.
#[derive(Clone, Debug, Default)]
pub struct Tracer {
    inner: Option<Arc<Inner>>,
}

#[derive(Debug)]
struct Inner {
    queue: mpsc::Sender<Job>,
    lost: AtomicU64,
    /// Taken once, by whoever shuts down first; never held across an await.
    task: Mutex<Option<JoinHandle<()>>>,
}

enum Job {
    Span(Box<SpanRecord>),
    Stop,
}

impl Tracer {
    /// Starts exporting as `config` says; without an endpoint nothing is started.
    ///
    /// # Errors
    /// [`Kind::Config`] when the endpoint is no URL.
    pub(crate) fn start(config: &Config) -> Result<Self, Error> {
        let Some(endpoint) = config.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) else {
            return Ok(Self::default());
        };
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let built = SpanExporter::builder().with_http().with_endpoint(&url).build();
        let mut exporter = built.map_err(|error| {
            Error::new(Kind::Config, format!("cannot export traces to {endpoint}: use http://host:4318"))
                .because(error)
        })?;
        exporter.set_resource(&Resource::builder().with_service_name(config.name.clone()).build());
        let (queue, jobs) = mpsc::channel(QUEUE);
        let task = tokio::spawn(run(exporter, jobs));
        let inner = Inner { queue, lost: AtomicU64::new(0), task: Mutex::new(Some(task)) };
        Ok(Self { inner: Some(Arc::new(inner)) })
    }

    /// Says whether spans go anywhere.
    pub fn is_on(&self) -> bool {
        self.inner.is_some()
    }

    /// Records a finished span. Never waits: when the queue is full the span is counted as lost.
    pub fn record(&self, span: SpanRecord) {
        self.hand_over(Box::new(span));
    }

    pub(super) fn hand_over(&self, span: Box<SpanRecord>) {
        if let Some(inner) = &self.inner
            && inner.queue.try_send(Job::Span(span)).is_err()
        {
            let lost = inner.lost.fetch_add(1, Ordering::Relaxed) + 1;
            if lost.is_power_of_two() {
                tracing::warn!(lost, "spans are lost: the trace collector is too slow or down");
            }
        }
    }

    /// Exports what is queued and ends the task. Spans recorded later are lost.
    pub async fn shutdown(&self) {
        let Some(inner) = &self.inner else { return };
        let task = inner.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = inner.queue.send(Job::Stop).await;
            let _ = task.await;
        }
    }
}

async fn run(exporter: SpanExporter, mut jobs: mpsc::Receiver<Job>) {
    let scope = InstrumentationScope::builder("sinew").with_version(env!("CARGO_PKG_VERSION")).build();
    let mut more = true;
    let mut failing = false;
    while more {
        let mut batch = Vec::new();
        more = collect(&mut jobs, &mut batch, &scope).await;
        if batch.is_empty() {
            continue;
        }
        match exporter.export(batch).await {
            Ok(()) => failing = false,
            // Said once per outage, not once per batch.
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "cannot export traces: is the collector running?");
            }
            Err(_) => {}
        }
    }
}

/// Fills one batch; `false` when it is the last.
async fn collect(
    jobs: &mut mpsc::Receiver<Job>,
    batch: &mut Vec<SpanData>,
    scope: &InstrumentationScope,
) -> bool {
    let mut taken = Vec::with_capacity(BATCH);
    let mut deadline = None;
    while batch.len() < BATCH {
        let room = BATCH - batch.len();
        let more = match deadline {
            // The first span waits for nobody's clock.
            None => Ok(jobs.recv_many(&mut taken, room).await),
            Some(at) => timeout_at(at, jobs.recv_many(&mut taken, room)).await,
        };
        deadline.get_or_insert_with(|| Instant::now() + LINGER);
        match more {
            Ok(0) => return false,
            Ok(_) => {}
            Err(_) => break,
        }
        for job in taken.drain(..) {
            match job {
                Job::Span(span) => batch.push(data(*span, scope)),
                Job::Stop => return false,
            }
        }
    }
    true
}

fn data(span: SpanRecord, scope: &InstrumentationScope) -> SpanData {
    let mut links = SpanLinks::default();
    links.links = span.links.iter().map(|link| Link::with_context(context(link))).collect();
    SpanData {
        span_context: context(&span.context),
        parent_span_id: span.parent.map_or(opentelemetry::trace::SpanId::INVALID, |parent| {
            opentelemetry::trace::SpanId::from_bytes(parent.0)
        }),
        parent_span_is_remote: matches!(span.kind, SpanKind::Server | SpanKind::Consumer),
        span_kind: match span.kind {
            SpanKind::Server => OtelKind::Server,
            SpanKind::Client => OtelKind::Client,
            SpanKind::Producer => OtelKind::Producer,
            SpanKind::Consumer => OtelKind::Consumer,
            SpanKind::Internal => OtelKind::Internal,
        },
        name: span.name,
        start_time: span.start,
        end_time: span.end,
        attributes: span.attributes.into_iter().map(|(name, value)| KeyValue::new(name, value)).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links,
        status: span.error.map_or(Status::Unset, |error| Status::Error { description: error.into() }),
        instrumentation_scope: scope.clone(),
    }
}

fn context(of: &TraceContext) -> SpanContext {
    SpanContext::new(
        opentelemetry::trace::TraceId::from_bytes(of.trace.0),
        opentelemetry::trace::SpanId::from_bytes(of.span.0),
        TraceFlags::new(of.flags),
        true,
        TraceState::NONE,
    )
}
