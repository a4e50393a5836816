//! Watching a bucket, as it is used: any number of watches in a process share one consumer at the server.
//!
//! A stream allows its server a thousand consumers, and a bucket is a stream. So the first watch of a bucket starts a
//! task that watches it ([`super::watcher`]), later ones read along, and the last one to go ends it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{Kv, view::View, watcher::Watcher};

/// What a watcher sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvChange {
    /// A key has this value now.
    Put(String, Bytes),
    /// A key is gone.
    Gone(String),
}

/// A watch over a bucket: what stands, then what changes, in the order of the changes.
///
/// It tells what a key has become: values that were overwritten before somebody asked are skipped. After a lost
/// connection it tells the difference.
pub struct KvWatch {
    kv: Kv,
    /// Joined with the first question.
    view: Option<watch::Receiver<View>>,
    seen: u64,
    told: BTreeSet<String>,
    gone: Vec<String>,
}

/// The buckets that are watched, by name.
#[derive(Default)]
pub(in crate::bus) struct Watchers {
    /// A plain lock, held for a look at the table and never across an await: joining and ending exclude each other, so
    /// that nobody joins a watcher that has just decided to end.
    running: Mutex<HashMap<String, watch::Sender<View>>>,
}

impl KvWatch {
    pub(super) fn new(kv: Kv) -> Self {
        Self { kv, view: None, seen: 0, told: BTreeSet::new(), gone: Vec::new() }
    }

    /// Returns the next change; `None` once the bus is closed.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<KvChange> {
        let stop = self.kv.bus.shared.stop.clone();
        if stop.is_cancelled() {
            return None;
        }
        if self.view.is_none() {
            self.view = Some(self.kv.bus.shared.watchers.join(&self.kv));
        }
        loop {
            if let Some(change) = self.look() {
                return Some(change);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                changed = self.view.as_mut()?.changed() => changed.ok()?,
            }
        }
    }

    fn look(&mut self) -> Option<KvChange> {
        let view = self.view.as_mut()?.borrow_and_update();
        if self.gone.is_empty() {
            self.gone = view.missed(self.seen, &self.told);
        }
        if let Some(key) = self.gone.pop() {
            self.told.remove(&key);
            return Some(KvChange::Gone(key));
        }
        let (version, change) = view.after(self.seen)?;
        self.seen = version;
        match &change {
            KvChange::Put(key, _) => self.told.insert(key.clone()),
            KvChange::Gone(key) => self.told.remove(key),
        };
        Some(change)
    }
}

impl Watchers {
    /// Reads along with the watcher of a bucket, which begins where there is none.
    fn join(&self, kv: &Kv) -> watch::Receiver<View> {
        let mut running = self.lock();
        if let Some(view) = running.get(&kv.bucket) {
            return view.subscribe();
        }
        let (view, receiver) = watch::channel(View::default());
        running.insert(kv.bucket.clone(), view.clone());
        // Ends with its last reader, or with the bus.
        kv.bus.spawn(Watcher::new(kv.clone(), view).run());
        receiver
    }

    /// Gives a watcher up unless somebody reads along; says whether it is given up.
    pub(super) fn leave(&self, bucket: &str) -> bool {
        let mut running = self.lock();
        let unread = running.get(bucket).is_none_or(|view| view.receiver_count() == 0);
        if unread {
            running.remove(bucket);
        }
        unread
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<View>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
