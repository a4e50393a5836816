//! The way out for spans: a bounded buffer that every span is written into, and the task that posts it. Drops and counts
//! rather than slow the work.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, task::JoinHandle, time::timeout};

use super::{SpanRecord, otlp, post::Post, settings::Settings};
use crate::{Config, Error};

/// Bytes of spans that may wait: some 16,000 spans, and well below what a collector takes at once.
const LIMIT: usize = 4 << 20;
/// Bytes that are worth an export before the time is over: some 2,000 spans.
const WORTH: usize = 512 << 10;
/// Longest time a span waits for company.
const LINGER: Duration = Duration::from_millis(500);

/// Records spans and exports them; a cheap handle, clones share one buffer.
#[derive(Clone, Debug, Default)]
pub struct Tracer {
    inner: Option<Arc<Inner>>,
}

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue>,
    /// Taken once, by whoever shuts down first; never held across an await.
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Queue {
    /// A plain lock, held while one span is written or all are taken: a channel would cost each span a box and wake the
    /// task for it.
    waiting: Mutex<Waiting>,
    /// The first span came, there is enough for an export, or it is over.
    worth: Notify,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    spans: Vec<u8>,
    over: bool,
}

impl Tracer {
    /// Starts exporting as `config` and the standard variables say; without an endpoint nothing is started.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::Kind::Config) when the endpoint or a variable cannot be used.
    pub(crate) fn start(config: &Config) -> Result<Self, Error> {
        let Some(settings) = Settings::read(config, |name| std::env::var(name).ok())? else {
            return Ok(Self::default());
        };
        let queue = Arc::<Queue>::default();
        let task = tokio::spawn(run(queue.clone(), Post::new(settings)));
        Ok(Self { inner: Some(Arc::new(Inner { queue, task: Mutex::new(Some(task)) })) })
    }

    /// Says whether spans go anywhere.
    pub fn is_on(&self) -> bool {
        self.inner.is_some()
    }

    /// Records a finished span. Never waits: when too much waits already, the span is counted as lost.
    pub fn record(&self, span: SpanRecord) {
        let mut text = Vec::new();
        otlp::span(&mut text, &span);
        self.append(&text);
    }

    /// Takes a finished span as it is written.
    pub(super) fn append(&self, span: &[u8]) {
        if let Some(inner) = &self.inner {
            inner.queue.append(span);
        }
    }

    /// Exports what waits and ends the task. Spans recorded later are lost.
    pub async fn shutdown(&self) {
        let Some(inner) = &self.inner else { return };
        let task = inner.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            inner.queue.end();
            let _ = task.await;
        }
    }
}

/// A tracer that nobody holds any more exports what it has, and ends.
impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.end();
    }
}

impl Queue {
    fn append(&self, span: &[u8]) {
        let mut waiting = self.lock();
        let before = waiting.spans.len();
        if waiting.over || before >= LIMIT {
            drop(waiting);
            return self.lose();
        }
        otlp::element(&mut waiting.spans, span);
        let after = waiting.spans.len();
        drop(waiting);
        if before == 0 || (before < WORTH && after >= WORTH) {
            self.worth.notify_one();
        }
    }

    fn end(&self) {
        self.lock().over = true;
        self.worth.notify_one();
    }

    fn lose(&self) {
        let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
        if lost.is_power_of_two() {
            tracing::warn!(lost, "spans are lost: the trace collector is too slow or down");
        }
    }

    /// Waits until an export is worth it, and takes what there is; `false` says that it is the last.
    async fn take(&self) -> (Vec<u8>, bool) {
        while self.has_less_than(1) {
            self.worth.notified().await;
        }
        let enough = async {
            while self.has_less_than(WORTH) {
                self.worth.notified().await;
            }
        };
        // The end of the time is as good.
        let _ = timeout(LINGER, enough).await;
        let mut waiting = self.lock();
        // The next ones are likely to be as many.
        let room = Vec::with_capacity(waiting.spans.len());
        (std::mem::replace(&mut waiting.spans, room), !waiting.over)
    }

    fn has_less_than(&self, bytes: usize) -> bool {
        let waiting = self.lock();
        waiting.spans.len() < bytes && !waiting.over
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(queue: Arc<Queue>, mut post: Post) {
    let (mut more, mut failing) = (true, false);
    while more {
        let spans;
        (spans, more) = queue.take().await;
        if spans.is_empty() {
            continue;
        }
        match post.send(spans.into()).await {
            Ok(()) => failing = false,
            // Said once per outage, not once per export.
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(error, "cannot export traces: is the collector running?");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_span_waits_for_company_but_not_for_long() {
        let queue = Queue::default();
        let began = tokio::time::Instant::now();
        let append = async { queue.append(b"span") };
        let ((spans, more), ()) = tokio::join!(queue.take(), append);
        assert!(more && spans.ends_with(b"span"));
        assert_eq!(began.elapsed(), LINGER);
        queue.append(&[0; WORTH]);
        assert!(queue.take().await.0.len() > WORTH);
        assert_eq!(began.elapsed(), LINGER, "what is worth an export leaves at once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_takes_is_bounded_and_the_rest_is_counted() {
        let queue = Queue::default();
        (0..10).for_each(|_| queue.append(&[0; LIMIT / 8]));
        assert!(queue.lock().spans.len() < LIMIT + LIMIT / 4);
        assert_eq!(queue.lost.load(Ordering::Relaxed), 2);
        queue.take().await;
        queue.append(b"span");
        assert_eq!(queue.lost.load(Ordering::Relaxed), 2, "there is room again");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_takes_what_is_left_and_nothing_after_it() {
        let queue = Queue::default();
        queue.append(b"first");
        queue.end();
        queue.append(b"second");
        let (spans, more) = queue.take().await;
        assert!(spans.ends_with(b"first") && !more, "it is the last");
        assert_eq!(queue.lost.load(Ordering::Relaxed), 1);
    }
}
