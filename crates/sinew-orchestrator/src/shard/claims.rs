//! What is too large for a record: it is stored beside the log, before the record that names it.

use std::collections::HashSet;

use bytes::Bytes;
use sinew::bus::Object;

use super::{Appending, Shard, World, append_until};
use crate::{
    Error,
    journal::{Journal, JournalError},
    record::{self, Header, Item, join},
};

/// Values to be stored before a record may name them.
type Aside = Vec<(Object, Bytes)>;

impl<J: Journal, W: World> Shard<J, W> {
    /// As [`Shard::append`], where items are too large for the record.
    pub(super) fn append_aside(&mut self, header: Header, mut items: Vec<Bytes>) -> Appending {
        let record = self.set_aside(&mut items).and_then(|aside| Ok((aside, join(header, &items)?)));
        match record {
            Ok((aside, record)) => Box::pin(store_with(self.journal.clone(), aside, self.last, record)),
            Err(error) => {
                tracing::error!(%error, "a record cannot be written");
                Box::pin(std::future::ready(Err(JournalError::Refused)))
            }
        }
    }

    /// Takes items out of a record that it cannot hold, and leaves in their place where they will be.
    fn set_aside(&mut self, items: &mut [Bytes]) -> Result<Aside, Error> {
        let limit = self.config.max_record_bytes;
        let mut aside = Aside::new();
        for (index, item) in items.iter_mut().enumerate().filter(|(_, item)| item.len() > limit) {
            let id = record::id_of(item)?;
            // Owner and number are never drawn again, so no two values have a name in common.
            let name = format!("{:016x}-{}-{index}", self.owner, self.number);
            let claim = self.journal.claim(&name, item);
            if let Some(live) = self.live.get_mut(&id) {
                live.claims.push(claim.clone());
            }
            let named = Item { claim: Some(claim.clone()), ..Item::new(&id) }.encode()?;
            aside.push((claim, std::mem::replace(item, named)));
        }
        Ok(aside)
    }

    /// Forgets values nobody needs any more.
    pub(super) fn discard(&self, claims: Vec<Object>) {
        if claims.is_empty() {
            return;
        }
        let (journal, work) = (self.journal.clone(), &self.work);
        work.spawn(async move {
            for claim in claims {
                if let Err(error) = journal.discard(&claim).await {
                    tracing::debug!(%error, claim = claim.id, "a value is forgotten by the next owner");
                }
            }
        });
    }

    /// Forgets what no instance names: left by an owner that was stopped before the record, or before it had tidied up.
    /// `standing` was listed before the log was taken over: what is in it and not named can never be named any more.
    pub(super) fn sweep(&self, mut standing: Vec<Object>) {
        let named: HashSet<&str> =
            self.live.values().flat_map(|live| &live.claims).map(|claim| claim.id.as_str()).collect();
        standing.retain(|value| !named.contains(value.id.as_str()));
        self.discard(standing);
    }
}

/// Stores what stands beside a record, then the record. Each is tried until it is known how it ended.
async fn store_with<J: Journal>(
    journal: J,
    aside: Aside,
    expected: u64,
    record: Bytes,
) -> Result<u64, JournalError> {
    for (claim, value) in aside {
        while let Err(error) = journal.keep(&claim, value.clone()).await {
            tracing::debug!(%error, claim = claim.id, "a large value is not stored yet");
            tokio::time::sleep(super::RETRY).await;
        }
    }
    append_until(journal, expected, record).await
}
