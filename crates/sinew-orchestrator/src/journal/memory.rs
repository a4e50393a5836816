//! A log in memory, for tests of what stands on it. Keeps the contract, survives nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use sinew::bus::Object;

use super::{Appended, Journal, JournalError};

/// A log in memory; clones share it. The lock is held for one vector operation and never across an await.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal {
    log: Arc<Mutex<(u64, Vec<Appended>)>>,
    /// What is too large for a record; locked in the same way.
    aside: Arc<Mutex<BTreeMap<String, Bytes>>>,
}

impl MemoryJournal {
    fn aside(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

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

    async fn at(&self, sequence: u64) -> Result<Option<Bytes>, JournalError> {
        let log = self.log();
        let place = log.1.binary_search_by_key(&sequence, |one| one.sequence).ok();
        Ok(place.and_then(|place| log.1.get(place)).map(|one| one.record.clone()))
    }

    fn forget(&self, sequence: u64) -> impl Future<Output = Result<(), JournalError>> + Send + 'static {
        self.log().1.retain(|one| one.sequence >= sequence);
        std::future::ready(Ok(()))
    }

    fn claim(&self, name: &str, value: &Bytes) -> Object {
        Object::of(name, value)
    }

    async fn keep(&self, claim: &Object, value: Bytes) -> Result<(), JournalError> {
        self.aside().insert(claim.id.clone(), value);
        Ok(())
    }

    async fn kept(&self, claim: &Object) -> Result<Option<Bytes>, JournalError> {
        Ok(self.aside().get(&claim.id).cloned())
    }

    async fn discard(&self, claim: &Object) -> Result<(), JournalError> {
        self.aside().remove(&claim.id);
        Ok(())
    }

    async fn standing(&self) -> Result<Vec<Object>, JournalError> {
        Ok(self.aside().iter().map(|(id, value)| Object::of(id, value)).collect())
    }
}
