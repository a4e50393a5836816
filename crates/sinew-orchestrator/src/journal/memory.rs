//! A log in memory, for tests of what stands on it. Keeps the contract, survives nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Appended, Journal, JournalError};

/// A log in memory; clones share it. The lock is held for one vector operation and never across an await.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal {
    log: Arc<Mutex<(u64, Vec<Appended>)>>,
}

impl MemoryJournal {
    fn log(&self) -> MutexGuard<'_, (u64, Vec<Appended>)> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for MemoryJournal {
    fn append(
        &self,
        expected: u64,
        record: Bytes,
    ) -> impl Future<Output = Result<u64, JournalError>> + Send + 'static {
        let mut log = self.log();
        let outcome = if log.0 == expected {
            log.0 += 1;
            let sequence = log.0;
            log.1.push(Appended { sequence, record });
            Ok(sequence)
        } else {
            Err(JournalError::Fenced)
        };
        std::future::ready(outcome)
    }

    async fn last(&self) -> Result<Option<Appended>, JournalError> {
        Ok(self.log().1.last().cloned())
    }

    async fn read(&self, sequence: u64) -> Result<Vec<Appended>, JournalError> {
        Ok(self.log().1.iter().filter(|one| one.sequence >= sequence).cloned().collect())
    }

    fn forget(&self, sequence: u64) -> impl Future<Output = Result<(), JournalError>> + Send + 'static {
        self.log().1.retain(|one| one.sequence >= sequence);
        std::future::ready(Ok(()))
    }
}
