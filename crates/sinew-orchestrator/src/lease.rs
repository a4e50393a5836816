//! Who tries to own a shard: a key with a time to live. For liveness only; the log's fence is what keeps it safe.

use std::time::Duration;

use bytes::Bytes;
use sinew::{Bus, Kind, bus::Kv};
use tokio::time::Instant;

const BUCKET: &str = "WORKFLOW_LEASES";

/// A lease this process holds.
pub(crate) struct Lease {
    kv: Kv,
    key: String,
    holder: Bytes,
    revision: u64,
    ttl: Duration,
    renewed: Instant,
}

impl Lease {
    /// Takes the lease of `shard` if nobody holds it.
    pub(crate) async fn acquire(bus: &Bus, shard: u16, ttl: Duration) -> Result<Option<Self>, sinew::Error> {
        let kv = bus.kv(BUCKET).await?;
        let key = format!("shard.{shard}");
        let revision = match kv.get(&key).await? {
            Some(entry) if entry.value.is_some() => return Ok(None),
            Some(tombstone) => tombstone.revision,
            None => 0,
        };
        // Unique for each acquisition: replicas share a name, and a woken sleeper must not take another's lease for its own.
        let holder = Bytes::from(format!("{} {}", bus.name(), sinew::new_id()));
        let renewed = Instant::now();
        match kv.swap(&key, holder.clone(), revision, Some(ttl)).await {
            Ok(revision) => Ok(Some(Self { kv, key, holder, revision, ttl, renewed })),
            Err(error) if error.kind() == Kind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The revision of the first acquisition rises with every owner: the epoch.
    pub(crate) fn epoch(&self) -> u64 {
        self.revision
    }

    /// Renews the lease until it is lost; then returns.
    ///
    /// # Cancel safety
    /// Cancel safe up to one renewal, whose loss the next renewal would notice.
    pub(crate) async fn keep(&mut self) {
        loop {
            tokio::time::sleep(self.ttl / 3).await;
            let began = Instant::now();
            match self.kv.swap(&self.key, self.holder.clone(), self.revision, Some(self.ttl)).await {
                Ok(revision) => (self.revision, self.renewed) = (revision, began),
                Err(error) if error.kind() == Kind::Conflict => match self.still_ours().await {
                    Some(revision) => (self.revision, self.renewed) = (revision, began),
                    None => return,
                },
                // The bus is away. The fence still holds, so there is no hurry to stop; but past the time to live
                // somebody else may own the shard, and then working on only wastes effort.
                Err(error) => {
                    tracing::debug!(%error, key = self.key, "the lease could not be renewed");
                    if self.renewed.elapsed() > self.ttl {
                        return;
                    }
                }
            }
        }
    }

    /// Gives the lease back, so that the next owner need not wait for it to expire.
    pub(crate) async fn release(self) {
        if let Err(error) = self.kv.delete(&self.key, self.revision).await {
            tracing::debug!(%error, key = self.key, "the lease was not given back and will expire");
        }
    }

    /// A renewal whose acknowledgement was lost looks like a conflict with ourselves.
    async fn still_ours(&self) -> Option<u64> {
        let entry = self.kv.get(&self.key).await.ok()??;
        (entry.value.as_ref() == Some(&self.holder)).then_some(entry.revision)
    }
}
