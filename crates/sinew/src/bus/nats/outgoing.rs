//! The bytes on their way out: a bounded buffer that many fill and one task empties.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// Bytes that may wait for the socket; whoever has more waits for room.
const LIMIT: usize = 4 << 20;
/// A buffer that had to grow beyond this once is not kept at that size.
const KEPT: usize = 256 << 10;

/// What became of a message that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bus) enum Taken {
    /// It is on its way.
    Yes,
    /// There is no connection, or too much before it.
    NotNow,
}

/// The way out. Closed, it takes nothing: a message is never kept for a connection that may not come.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// A plain lock, held while one message is copied: a channel would cost each an allocation and a hop, and the task
    /// that writes takes all that gathered at once.
    bytes: Mutex<Vec<u8>>,
    /// How often something was appended, since the bytes were taken.
    appended: AtomicUsize,
    open: AtomicBool,
    filled: Notify,
    room: Notify,
}

impl Outgoing {
    /// Appends what `write` writes, if there is a connection and room.
    pub(super) fn push(&self, write: impl FnOnce(&mut Vec<u8>)) -> Taken {
        let mut bytes = self.lock();
        if !self.is_open() || bytes.len() >= LIMIT {
            return Taken::NotNow;
        }
        self.append(&mut bytes, write);
        Taken::Yes
    }

    /// Appends an order to the server, which is small and never refused while there is a connection.
    pub(super) fn order(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.lock();
        if self.is_open() {
            self.append(&mut bytes, write);
        }
    }

    /// Begins anew, with what `write` writes before everything else.
    pub(super) fn open(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.lock();
        bytes.clear();
        self.open.store(true, Ordering::Release);
        self.append(&mut bytes, write);
        drop(bytes);
        self.room.notify_waiters();
    }

    /// Takes nothing any more behind what `write` writes; unlike with [`Outgoing::close`], all of it still leaves.
    pub(super) fn end(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.lock();
        if self.open.swap(false, Ordering::AcqRel) {
            self.append(&mut bytes, write);
        }
    }

    /// Takes nothing any more; what was not written is lost, as is what the socket held.
    pub(super) fn close(&self) {
        let mut bytes = self.lock();
        self.open.store(false, Ordering::Release);
        *bytes = Vec::new();
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Waits until there is a connection and room.
    pub(super) async fn writable(&self) {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // Registered before the look, so that room made in between is not missed.
            room.as_mut().enable();
            if self.is_open() && self.lock().len() < LIMIT {
                return;
            }
            room.await;
        }
    }

    /// Waits for bytes and puts them into `batch`, which must be empty. Returns how often something was appended to them.
    ///
    /// Where `busy`, tasks that are ready to run get a turn first: what they append leaves in the same write, and that is
    /// cheaper for both ends than a write for each.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is taken before it returns.
    pub(super) async fn take(&self, batch: &mut Vec<u8>, busy: bool) -> usize {
        while self.lock().is_empty() {
            // One reader: a permit stored by an earlier `append` only makes it look once more.
            self.filled.notified().await;
        }
        if busy {
            tokio::task::yield_now().await;
        }
        let appended = self.appended.load(Ordering::Relaxed);
        self.take_now(batch);
        appended
    }

    /// As [`Outgoing::take`], without waiting; `false` when there is nothing.
    pub(super) fn take_now(&self, batch: &mut Vec<u8>) -> bool {
        if batch.capacity() > KEPT {
            *batch = Vec::new();
        }
        let mut bytes = self.lock();
        if bytes.is_empty() {
            return false;
        }
        let was_full = bytes.len() >= LIMIT;
        std::mem::swap(&mut *bytes, batch);
        self.appended.store(0, Ordering::Relaxed);
        drop(bytes);
        if was_full {
            self.room.notify_waiters();
        }
        true
    }

    fn append(&self, bytes: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let was_empty = bytes.is_empty();
        write(bytes);
        // Changed under the lock only.
        self.appended.fetch_add(1, Ordering::Relaxed);
        // Whoever finds bytes waiting knows that the writer was told.
        if was_empty {
            self.filled.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_taken_without_a_connection_and_nothing_is_kept_for_the_next() {
        let outgoing = Outgoing::default();
        assert_eq!(outgoing.push(|out| out.push(1)), Taken::NotNow);
        outgoing.open(|out| out.push(2));
        assert_eq!(outgoing.push(|out| out.push(3)), Taken::Yes);
        let mut batch = Vec::new();
        outgoing.take(&mut batch, false).await;
        assert_eq!(batch, [2, 3]);
        outgoing.push(|out| out.push(4));
        outgoing.close();
        outgoing.open(|out| out.push(5));
        batch.clear();
        outgoing.take(&mut batch, false).await;
        assert_eq!(batch, [5]);
    }

    #[tokio::test]
    async fn what_was_taken_before_the_end_still_leaves() {
        let outgoing = Outgoing::default();
        outgoing.open(|_| ());
        outgoing.push(|out| out.push(1));
        outgoing.end(|out| out.push(2));
        assert_eq!(outgoing.push(|out| out.push(3)), Taken::NotNow);
        outgoing.end(|out| out.push(4));
        let mut batch = Vec::new();
        outgoing.take(&mut batch, false).await;
        assert_eq!(batch, [1, 2], "the end comes once");
    }

    #[tokio::test]
    async fn whoever_waits_for_room_gets_it() {
        let outgoing = Outgoing::default();
        outgoing.open(|_| ());
        assert_eq!(outgoing.push(|out| out.resize(LIMIT, 0)), Taken::Yes);
        assert_eq!(outgoing.push(|out| out.push(0)), Taken::NotNow);
        let emptied = async {
            tokio::task::yield_now().await;
            outgoing.take_now(&mut Vec::new())
        };
        let ((), taken) = tokio::join!(outgoing.writable(), emptied);
        assert!(taken);
        assert_eq!(outgoing.push(|out| out.push(0)), Taken::Yes);
    }
}
