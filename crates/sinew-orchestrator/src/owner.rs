//! Owning a shard: take the lease, fold the log, run the shard until the lease is lost or the process stops, repeat.

use std::{sync::Arc, time::Duration};

use sinew::Bus;
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    definitions::Definitions,
    directory::Directory,
    journal::JetStreamJournal,
    lease::Lease,
    router::{Router, ShardId},
    shard::{self, Shard},
};

/// How often a free lease is looked for.
const LOOK: Duration = Duration::from_millis(500);

/// What every shard of this process shares.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) bus: Bus,
    pub(crate) config: Config,
    pub(crate) definitions: Definitions,
    pub(crate) directory: Directory,
}

/// Owns `shard` whenever it can, until `stop`.
pub(crate) async fn run(parts: Parts, shard: ShardId, router: Arc<Router>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Some(lease) = acquire(&parts, shard).await {
            own(&parts, shard, &router, lease, &stop).await;
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn acquire(parts: &Parts, shard: ShardId) -> Option<Lease> {
    let ttl = Duration::from_secs(parts.config.lease_seconds);
    match Lease::acquire(&parts.bus, shard.get(), ttl).await {
        Ok(lease) => lease,
        Err(error) => {
            tracing::warn!(%shard, %error, "the lease of a shard cannot be taken yet");
            None
        }
    }
}

async fn own(parts: &Parts, id: ShardId, router: &Router, mut lease: Lease, stop: &CancellationToken) {
    let journal = JetStreamJournal::new(&parts.bus, id.get());
    let (handle, inbox) = shard::channel();
    let ending = stop.child_token();
    let epoch = lease.epoch();
    let running = async {
        let opened = Shard::open(parts.clone(), journal, epoch, handle.clone(), inbox).await;
        match opened {
            Ok(shard) => {
                tracing::info!(shard = %id, epoch, live = shard.live(), "owning a shard");
                let _served = router.serve(id, handle);
                shard.run(ending.clone()).await;
            }
            Err(error) => {
                tracing::warn!(shard = %id, %error, "a shard cannot be opened yet");
                tokio::time::sleep(LOOK).await;
            }
        }
    };
    tokio::pin!(running);
    tokio::select! {
        () = &mut running => {}
        () = lease.keep() => {
            tracing::warn!(shard = %id, epoch, "the lease of a shard was lost");
            ending.cancel();
            running.await;
            return;
        }
    }
    lease.release().await;
}
