//! What handlers and streams of a test do, seen from outside: counted as it happens, and when they are dropped.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

use crate::harness::{SOON, eventually};

/// What was seen so far.
#[derive(Default)]
pub(super) struct Seen {
    /// Items made by whoever sends them.
    pub(super) made: AtomicU64,
    /// Items taken by whoever receives them.
    pub(super) taken: AtomicU64,
    /// Streams and handlers that were dropped, at their end or before.
    pub(super) dropped: AtomicU64,
    /// Lets a handler that waits go on.
    pub(super) go: Notify,
}

/// Notes the end of whatever it is moved into.
pub(super) struct Guard(pub(super) Arc<Seen>);

impl Seen {
    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::SeqCst)
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }

    /// Waits until so many were dropped.
    pub(super) async fn dropped(&self, count: u64) {
        eventually(SOON, || std::future::ready(self.dropped.load(Ordering::SeqCst) == count)).await;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}
