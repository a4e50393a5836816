//! Taking a shard over: fold its log, write that a new owner is here, ask the states what is due.

use std::{collections::HashMap, sync::Arc};

use sinew_workflow::State;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{
    Input, Shard,
    batch::Batch,
    command::Handle,
    live::{Live, Recent, Timers},
};
use crate::{
    calls::Caller,
    journal::{Journal, JournalError},
    owner::Parts,
    record::{self, Header, Item},
};

/// Why a shard cannot be opened now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Foreign(#[from] crate::Error),
    #[error("the log of instance {0} does not fit its state: {1}")]
    Damaged(String, sinew_workflow::Error),
}

/// What folding the log yields.
#[derive(Default)]
struct Folded {
    last: u64,
    live: HashMap<String, Found>,
    ended: Vec<Found>,
}

#[derive(Default)]
struct Found {
    state: State,
    digest: Arc<str>,
    since: u64,
}

impl<J: Journal> Shard<J> {
    /// Becomes the owner, in `epoch`.
    ///
    /// The log is read until the record that says so could be appended right behind what was read: then nobody else
    /// appended in between, and nobody with an older view can append any more.
    pub(crate) async fn open(
        parts: Parts,
        journal: J,
        epoch: u64,
        handle: Handle,
        inbox: mpsc::Receiver<Input>,
    ) -> Result<Self, OpenError> {
        let mut folded = Folded::default();
        let opened = loop {
            folded.read(&journal).await?;
            let record = record::join(Header::new(epoch, 0), &[])?;
            match journal.append(folded.last, record).await {
                Ok(sequence) => break sequence,
                // Forgotten records may stand at the end of a purged log: the leader knows the true last sequence.
                Err(JournalError::Fenced) => folded.catch_up(&journal).await?,
                Err(error) => return Err(error.into()),
            }
        };
        let caller = Caller::new(&parts, handle);
        let mut shard = Self {
            parts,
            journal,
            epoch,
            number: 0,
            last: opened,
            cleaned: opened,
            live: HashMap::new(),
            recent: Recent::default(),
            timers: Timers::default(),
            batch: Batch::default(),
            flying: None,
            inbox,
            caller,
            work: TaskTracker::new(),
            clock: 0,
        };
        shard.adopt(folded).await;
        Ok(shard)
    }

    /// Takes over what was found, and begins what it says is due.
    async fn adopt(&mut self, folded: Folded) {
        for found in folded.ended {
            self.recent.push(&Live::new(found.state, None, found.digest));
        }
        for (id, found) in folded.live {
            let definition = self.parts.definitions.compiled(&found.digest).await;
            if definition.is_none() {
                tracing::error!(instance = id, "an instance waits: its definition is missing");
            }
            let due = found.state.due();
            let closed = found.state.is_closed();
            let mut live = Live::new(found.state, definition, found.digest);
            (live.since, live.stored) = (found.since, true);
            self.live.insert(id.clone(), live);
            self.start(&id, due);
            if closed {
                self.closed(&id);
            }
        }
    }
}

impl Folded {
    async fn read<J: Journal>(&mut self, journal: &J) -> Result<(), OpenError> {
        loop {
            let batch = journal.read(self.last + 1).await?;
            if batch.is_empty() {
                return Ok(());
            }
            for one in batch {
                let (_, items) = record::read(&one.record)?;
                for item in items {
                    self.fold(item, one.sequence)?;
                }
                self.last = one.sequence;
            }
        }
    }

    /// Waits until everything the leader has can be read, in case a lagging replica answered.
    async fn catch_up<J: Journal>(&mut self, journal: &J) -> Result<(), OpenError> {
        let Some(last) = journal.last().await? else {
            return Ok(());
        };
        while self.last < last.sequence {
            let before = self.last;
            self.read(journal).await?;
            if self.last == before {
                tokio::time::sleep(super::RETRY).await;
            }
        }
        Ok(())
    }

    fn fold(&mut self, item: Item, sequence: u64) -> Result<(), OpenError> {
        if item.archived {
            self.ended.extend(self.live.remove(&item.id));
            return Ok(());
        }
        // Entries of an instance whose start was forgotten belong to one that ended, or stand before its snapshot.
        if item.definition.is_none() && !self.live.contains_key(&item.id) {
            return Ok(());
        }
        let found = self.live.entry(item.id).or_default();
        if let Some(digest) = item.definition {
            found.digest = digest.into();
            found.since = sequence;
        }
        if let Some(snapshot) = item.snapshot {
            found.state = *snapshot;
        }
        for entry in &item.entries {
            sinew_workflow::apply(&mut found.state, entry)
                .map_err(|error| OpenError::Damaged(found.state.id().to_owned(), error))?;
        }
        Ok(())
    }
}
