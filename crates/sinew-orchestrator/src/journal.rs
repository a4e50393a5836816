//! The log of a shard: append with a fence, read back, forget. One trait, two implementations.

mod jetstream;
mod memory;

use bytes::Bytes;
use sinew::bus::Object;

pub(crate) use jetstream::{JetStreamJournal, ensure_stream};
pub use memory::MemoryJournal;

/// A record as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its place.
    pub sequence: u64,
    /// Its bytes.
    pub record: Bytes,
}

/// Why a log operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Somebody else appended first: this owner must stop.
    #[error("another owner appended to the log: this one stops")]
    Fenced,
    /// The log cannot be reached; it is unknown whether anything was appended.
    #[error("the log cannot be reached: it is tried again")]
    Unavailable,
    /// The log refused for a reason that will not pass by itself.
    #[error("the log refused the record: see the server's log for disk or limits")]
    Refused,
}

/// The log of one shard.
///
/// Contract: `append` succeeds for at most one caller per `expected`; what it acknowledged is returned by `read`, in
/// order, until it is forgotten.
pub trait Journal: Clone + Send + Sync + 'static {
    /// Appends a record if the last one still stands at `expected` (0: the log is empty); returns its place.
    ///
    /// # Errors
    /// [`JournalError::Fenced`] when another record stands there.
    fn append(
        &self,
        expected: u64,
        record: Bytes,
    ) -> impl Future<Output = Result<u64, JournalError>> + Send + 'static;

    /// Returns the last record, as its leader knows it.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`].
    fn last(&self) -> impl Future<Output = Result<Option<Appended>, JournalError>> + Send;

    /// Reads records from `sequence` on, oldest first; empty at the end.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`].
    fn read(&self, sequence: u64) -> impl Future<Output = Result<Vec<Appended>, JournalError>> + Send;

    /// Reads the one record that stands at `sequence`; `None` when there is none.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`].
    fn at(&self, sequence: u64) -> impl Future<Output = Result<Option<Bytes>, JournalError>> + Send;

    /// Forgets everything before `sequence`.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`].
    fn forget(&self, sequence: u64) -> impl Future<Output = Result<(), JournalError>> + Send + 'static;

    /// Says how a value that is too large for a record will be kept. `name` is unique in this log.
    fn claim(&self, name: &str, value: &Bytes) -> Object;

    /// Stores such a value beside the log; again is harmless.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`] when it may be stored in part.
    fn keep(&self, claim: &Object, value: Bytes) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Reads such a value; `None` where it is forgotten.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`].
    fn kept(&self, claim: &Object) -> impl Future<Output = Result<Option<Bytes>, JournalError>> + Send;

    /// Forgets such a value.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`].
    fn discard(&self, claim: &Object) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Lists every such value of this log.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`].
    fn standing(&self) -> impl Future<Output = Result<Vec<Object>, JournalError>> + Send;
}

#[cfg(test)]
mod tests {
    use sinew::{Bus, broker};

    use super::*;
    use crate::{Config, record};

    /// What every journal must do.
    async fn conforms<J: Journal>(journal: J) {
        let record = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert_eq!(journal.last().await, Ok(None));
        assert_eq!(journal.read(0).await.unwrap(), []);
        let first = journal.append(0, record("a")).await.unwrap();
        assert_eq!(journal.append(0, record("b")).await, Err(JournalError::Fenced));
        let second = journal.append(first, record("b")).await.unwrap();
        assert_eq!(journal.append(first, record("c")).await, Err(JournalError::Fenced));
        assert_eq!(journal.last().await.unwrap().unwrap().sequence, second);
        let all = journal.read(0).await.unwrap();
        assert_eq!(all.iter().map(|one| one.record.clone()).collect::<Vec<_>>(), [record("a"), record("b")]);
        assert_eq!(journal.at(first).await, Ok(Some(record("a"))));
        assert_eq!(journal.at(second).await, Ok(Some(record("b"))));
        assert_eq!(journal.at(second + 1).await, Ok(None), "nothing stands there yet");
        journal.forget(second).await.unwrap();
        assert_eq!(journal.at(first).await, Ok(None), "it is forgotten");
        assert_eq!(journal.at(second).await, Ok(Some(record("b"))));
        assert_eq!(journal.read(0).await.unwrap(), [Appended { sequence: second, record: record("b") }]);
        assert_eq!(journal.read(second + 1).await.unwrap(), []);
        assert_eq!(
            journal.append(0, record("c")).await,
            Err(JournalError::Fenced),
            "forgetting opens no fence"
        );
        let large = Bytes::from(vec![7; 1_000_000]);
        let (one, other) = (journal.claim("a-1", &large), journal.claim("a-2", &large));
        assert_ne!(one, other);
        assert_eq!(journal.kept(&one).await, Ok(None));
        for claim in [&one, &one, &other] {
            journal.keep(claim, large.clone()).await.unwrap();
        }
        assert_eq!(journal.kept(&one).await, Ok(Some(large.clone())), "stored twice, it stands there once");
        assert_eq!(journal.standing().await.unwrap(), [one.clone(), other.clone()]);
        journal.discard(&one).await.unwrap();
        assert_eq!(journal.kept(&one).await, Ok(None));
        assert_eq!(journal.kept(&other).await, Ok(Some(large)));
        journal.discard(&other).await.unwrap();
        assert_eq!(journal.standing().await.unwrap(), []);
        let third = journal.append(second, record("c")).await.unwrap();
        journal.forget(third + 1).await.unwrap();
        assert_eq!(journal.read(0).await.unwrap(), []);
    }

    #[tokio::test]
    async fn the_memory_journal_conforms() {
        conforms(MemoryJournal::default()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_jetstream_journal_conforms_and_knows_its_own_record_again() {
        let directory = tempfile::tempdir().unwrap();
        let found = broker::Config::from_env(|name| std::env::var(name).ok());
        let binary = Some(broker::locate(&found, &mut |_| ()).await.unwrap().binary);
        let data_dir = Some(directory.path().to_owned());
        let config = broker::Config { binary, data_dir, ..broker::Config::default() };
        let broker = broker::start(config, |_| ()).await.unwrap();
        let bus = Bus::connect(sinew::Config::new(broker.url(), "journal")).await.unwrap();
        ensure_stream(&bus, &Config::default()).await.unwrap();
        conforms(JetStreamJournal::new(&bus, 0)).await;

        let (journal, mine) = (JetStreamJournal::new(&bus, 1), record::Header::new(1, 7, 0));
        let stored = journal.append(0, record::join(mine, &[]).unwrap()).await.unwrap();
        let again = journal.append(0, record::join(mine, &[]).unwrap()).await;
        assert_eq!(again, Ok(stored), "an acknowledgement was lost");
        let others = record::join(record::Header::new(1, 8, 0), &[]).unwrap();
        assert_eq!(journal.append(0, others).await, Err(JournalError::Fenced), "the epoch alone is no proof");
        bus.close().await;
        broker.stop().await.unwrap();
    }
}
