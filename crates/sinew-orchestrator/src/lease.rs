//! Who lives, and who tries to own a shard: keys with a time to live. For liveness only; the log's fence is what keeps
//! shards safe.

use std::time::Duration;

use bytes::Bytes;
use sinew::{Bus, Kind, bus::Kv};
use tokio::{sync::watch, time::Instant};

use crate::router::ShardId;

const BUCKET: &str = "WORKFLOW_LEASES";
const MEMBER: &str = "member.";
const SHARD: &str = "shard.";

/// The bucket of leases, as one replica uses it.
#[derive(Clone)]
pub(crate) struct Leases {
    kv: Kv,
    /// This replica, unlike any other and unlike itself in another life.
    me: String,
    ttl: Duration,
}

/// A lease this process holds.
pub(crate) struct Lease {
    kv: Kv,
    key: String,
    holder: Bytes,
    revision: u64,
    ttl: Duration,
    /// Until when nobody else can take the lease: counted from before the request, while the server counts from after.
    valid: watch::Sender<Instant>,
}

/// Who lives and who owns what, as the bucket says.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    pub(crate) members: Vec<String>,
    /// Shards and the replicas that own them.
    pub(crate) owners: Vec<(ShardId, String)>,
}

impl Leases {
    pub(crate) async fn open(bus: &Bus, ttl: Duration) -> Result<Self, sinew::Error> {
        Ok(Self { kv: bus.kv(BUCKET).await?, me: sinew::new_id(), ttl })
    }

    pub(crate) fn me(&self) -> &str {
        &self.me
    }

    /// Says to all replicas that this one lives, as long as the lease is kept.
    pub(crate) async fn join(&self) -> Result<Option<Lease>, sinew::Error> {
        self.acquire(format!("{MEMBER}{}", self.me)).await
    }

    /// Takes the lease of `shard` if nobody holds it.
    pub(crate) async fn own(&self, shard: ShardId) -> Result<Option<Lease>, sinew::Error> {
        self.acquire(format!("{SHARD}{shard}")).await
    }

    /// Reads who lives and who owns what.
    pub(crate) async fn standing(&self) -> Result<Standing, sinew::Error> {
        let mut standing = Standing::default();
        for (key, value) in self.kv.entries(">").await? {
            if let Some(member) = key.strip_prefix(MEMBER) {
                standing.members.push(member.to_owned());
            } else if let Some(shard) = key.strip_prefix(SHARD).and_then(|number| number.parse().ok()) {
                let holder = String::from_utf8_lossy(&value);
                let owner = holder.split(' ').next().unwrap_or_default().to_owned();
                standing.owners.push((ShardId::of(shard), owner));
            }
        }
        Ok(standing)
    }

    async fn acquire(&self, key: String) -> Result<Option<Lease>, sinew::Error> {
        let (kv, ttl) = (self.kv.clone(), self.ttl);
        let revision = match kv.get(&key).await? {
            Some(entry) if entry.value.is_some() => return Ok(None),
            Some(tombstone) => tombstone.revision,
            None => 0,
        };
        // Unique for each acquisition: a woken sleeper must not take another's lease for its own, nor its own later one.
        let holder = Bytes::from(format!("{} {}", self.me, sinew::new_id()));
        let valid = watch::Sender::new(Instant::now() + ttl);
        match kv.swap(&key, holder.clone(), revision, Some(ttl)).await {
            Ok(revision) => Ok(Some(Lease { kv, key, holder, revision, ttl, valid })),
            Err(error) if error.kind() == Kind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Lease {
    /// The revision of the first acquisition rises with every owner: the epoch.
    pub(crate) fn epoch(&self) -> u64 {
        self.revision
    }

    /// Tells until when nobody else can own the shard; follows the renewals.
    pub(crate) fn valid(&self) -> watch::Receiver<Instant> {
        self.valid.subscribe()
    }

    /// Renews the lease until it is lost; then returns.
    ///
    /// # Cancel safety
    /// Cancel safe up to one renewal, whose loss the next renewal would notice.
    pub(crate) async fn keep(&mut self) {
        loop {
            tokio::time::sleep(self.ttl / 3).await;
            let began = Instant::now();
            let renewal = self.kv.swap(&self.key, self.holder.clone(), self.revision, Some(self.ttl));
            let renewed = match tokio::time::timeout(self.ttl / 3, renewal).await {
                Ok(Ok(revision)) => Some(revision),
                Ok(Err(error)) if error.kind() == Kind::Conflict => match self.still_ours().await {
                    // An earlier renewal had arrived; it is not known when, so it prolongs nothing.
                    Some(revision) => {
                        self.revision = revision;
                        None
                    }
                    None => return,
                },
                Ok(Err(error)) => {
                    tracing::debug!(%error, key = self.key, "the lease could not be renewed");
                    None
                }
                Err(_) => None,
            };
            match renewed {
                Some(revision) => {
                    self.revision = revision;
                    self.valid.send_replace(began + self.ttl);
                }
                // The bus is away. The fence still holds, so there is no hurry to stop; but past the time to live
                // somebody else may own the shard, and then working on only wastes effort.
                None if *self.valid.borrow() < Instant::now() => return,
                None => {}
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
