//! Requests in work, by the inbox their replies go to, so that a caller that goes away stops what it asked for.

use std::{
    collections::{HashMap, hash_map::RandomState},
    future::poll_fn,
    hash::BuildHasher,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use bytes::Bytes;
use sinew_wire::Headers;
use tokio_util::sync::CancellationToken;

use crate::{Bus, Ctx, bus::Subscription};

/// Cancellations remembered that fit no request. Most are of requests that other instances work on; some overtook theirs.
const EARLY: usize = 1_024;

/// The requests of one service that are waiting or in work; clones share them.
#[derive(Clone, Default)]
pub(super) struct InFlight {
    hasher: RandomState,
    /// A plain lock, held for one or two map operations: an owning task would cost every request two hops.
    table: Arc<Mutex<Table>>,
}

struct Table {
    running: HashMap<u64, CancellationToken>,
    /// The latest cancellations that fit nothing, each in the slot of its key: a later one takes the place.
    early: [u64; EARLY],
}

/// A request's place in the table.
struct Place<'a> {
    key: u64,
    all: &'a InFlight,
}

/// Returns where the service behind the subject of an operation hears that a caller went away.
pub(crate) fn cancel_subject(operation: &str) -> Option<String> {
    let (service, _) = operation.strip_prefix("svc.")?.split_once('.')?;
    Some(cancel_subject_of(service))
}

/// As [`cancel_subject`]; `$` keeps it apart from every operation.
pub(super) fn cancel_subject_of(service: &str) -> String {
    format!("svc.{service}.$cancel")
}

/// Returns where the service behind the subject of an operation is asked whether it works on a request.
pub(crate) fn held_subject(operation: &str) -> Option<String> {
    let (service, _) = operation.strip_prefix("svc.")?.split_once('.')?;
    Some(held_subject_of(service))
}

pub(super) fn held_subject_of(service: &str) -> String {
    format!("svc.{service}.$held")
}

impl InFlight {
    /// Runs `work` unless the caller goes away, which is `None`. What is done at once never enters the table.
    pub(super) async fn unless_gone<F: Future>(
        &self,
        reply_to: Option<&str>,
        ctx: &Ctx,
        mut work: Pin<&mut F>,
    ) -> Option<F::Output> {
        if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            return Some(output);
        }
        let Some(reply_to) = reply_to else { return Some(work.await) };
        self.guarded(reply_to, ctx.gone(), work).await
    }

    /// As [`InFlight::unless_gone`], for what surely has to wait.
    pub(super) async fn guarded<F: Future>(
        &self,
        reply_to: &str,
        gone: &CancellationToken,
        work: F,
    ) -> Option<F::Output> {
        let _place = self.enter(reply_to, gone);
        tokio::select! {
            biased;
            output = work => Some(output),
            () = gone.cancelled() => None,
        }
    }

    /// Cancels what callers no longer wait for, until `stop`.
    pub(super) async fn hear(self, mut cancellations: Subscription, stop: CancellationToken) {
        loop {
            let message = tokio::select! {
                () = stop.cancelled() => return,
                message = cancellations.next() => message,
            };
            let Some(message) = message else { return };
            self.cancel(message.payload());
        }
    }

    /// Answers who asks whether a request is in work, as far as it is, until `stop`.
    pub(super) async fn answer(self, bus: Bus, mut questions: Subscription, stop: CancellationToken) {
        loop {
            let question = tokio::select! {
                () = stop.cancelled() => return,
                question = questions.next() => question,
            };
            let Some(question) = question else { return };
            let Some(asker) = question.reply_to().filter(|_| self.holds(question.payload())) else {
                continue;
            };
            if let Err(error) = bus.publish(asker, &Headers::new(), Bytes::new()).await {
                tracing::debug!(%error, "a caller could not be told that its request is in work");
            }
        }
    }

    fn holds(&self, reply_to: &[u8]) -> bool {
        self.lock().running.contains_key(&self.key(reply_to))
    }

    fn enter(&self, reply_to: &str, gone: &CancellationToken) -> Place<'_> {
        let key = self.key(reply_to.as_bytes());
        let mut table = self.lock();
        if table.early[slot(key)] == key {
            gone.cancel();
        }
        table.running.insert(key, gone.clone());
        Place { key, all: self }
    }

    fn cancel(&self, reply_to: &[u8]) {
        let key = self.key(reply_to);
        let mut table = self.lock();
        if let Some(gone) = table.running.get(&key) {
            return gone.cancel();
        }
        table.early[slot(key)] = key;
    }

    fn key(&self, reply_to: &[u8]) -> u64 {
        self.hasher.hash_one(reply_to)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.all.lock().running.remove(&self.key);
    }
}

impl Default for Table {
    fn default() -> Self {
        Self { running: HashMap::new(), early: [0; EARLY] }
    }
}

fn slot(key: u64) -> usize {
    (key % EARLY as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_cancelled_request_ends_and_others_go_on() {
        let all = InFlight::default();
        let (mine, other) = (CancellationToken::new(), CancellationToken::new());
        let cancel = async { all.cancel(b"in.1") };
        let (outcome, _, ()) = tokio::join!(
            biased;
            all.guarded("in.1", &mine, pending::<()>()),
            all.guarded("in.2", &other, ready(())),
            cancel
        );
        assert_eq!(outcome, None);
        assert!(!all.holds(b"in.1"), "it is over");
        assert!(mine.is_cancelled() && !other.is_cancelled());
        assert!(all.lock().running.is_empty(), "no place is left behind");
    }

    #[tokio::test]
    async fn a_cancellation_that_comes_first_is_remembered_for_a_while_only() {
        let all = InFlight::default();
        all.cancel(b"in.1");
        assert_eq!(all.guarded("in.1", &CancellationToken::new(), pending::<()>()).await, None);
        for number in 0..20 * EARLY {
            all.cancel(format!("other.{number}").as_bytes());
        }
        let late = CancellationToken::new();
        assert_eq!(all.guarded("in.1", &late, ready(1)).await, Some(1));
    }

    #[test]
    fn only_operations_of_services_can_be_cancelled() {
        assert_eq!(cancel_subject("svc.orders.place").as_deref(), Some("svc.orders.$cancel"));
        assert_eq!(cancel_subject("$JS.API.INFO"), None);
        assert_eq!(cancel_subject("svc.orders"), None);
    }
}
