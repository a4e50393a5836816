//! Owning a shard: take the lease, fold the log, run the shard until the lease is lost or the process stops, repeat.

use std::{sync::Arc, time::Duration};

use sinew_protocols::Protocols;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    calls::{Caller, Children, Line},
    journal::JetStreamJournal,
    lease::Lease,
    router::{Router, ShardId},
    shard::{self, Opening, Shard},
};

/// How often a free lease is looked for.
const LOOK: Duration = Duration::from_millis(500);

/// What every shard of this process shares.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) line: Line,
    pub(crate) protocols: Protocols,
    pub(crate) children: Children,
}

/// Owns `shard` whenever it can, until `stop`.
pub(crate) async fn run(parts: Parts, shard: ShardId, router: Arc<Router>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match acquire(&parts, shard).await {
            Ok(Some(lease)) => {
                router.elsewhere(shard, false);
                own(&parts, shard, &router, lease, &stop).await;
                continue;
            }
            Ok(None) => router.elsewhere(shard, true),
            Err(error) => {
                router.elsewhere(shard, false);
                tracing::warn!(%shard, %error, "the lease of a shard cannot be taken yet");
            }
        }
        stop.run_until_cancelled(tokio::time::sleep(LOOK)).await;
    }
}

async fn acquire(parts: &Parts, shard: ShardId) -> Result<Option<Lease>, sinew::Error> {
    let ttl = Duration::from_secs(parts.config.lease_seconds);
    Lease::acquire(&parts.line.bus, shard.get(), ttl).await
}

/// Runs the shard until `stop`, or until the lease or the fence is lost.
async fn own(parts: &Parts, id: ShardId, router: &Router, mut lease: Lease, stop: &CancellationToken) {
    let (epoch, valid) = (lease.epoch(), lease.valid());
    let ending = stop.child_token();
    let running = serve(parts, id, router, (epoch, valid), &ending);
    tokio::pin!(running);
    tokio::select! {
        () = &mut running => lease.release().await,
        () = lease.keep() => {
            tracing::warn!(shard = %id, epoch, "the lease of a shard was lost");
            ending.cancel();
            running.await;
        }
    }
}

async fn serve(
    parts: &Parts,
    id: ShardId,
    router: &Router,
    (epoch, lease): (u64, watch::Receiver<Instant>),
    ending: &CancellationToken,
) {
    let Parts { config, line, protocols, children } = parts.clone();
    let journal = JetStreamJournal::new(&line.bus, id.get());
    let (handle, inbox) = shard::channel(children.library().clone());
    let world = Caller::new(line, protocols, children, handle.clone());
    let opening = Opening { config, world, lease, epoch, inbox };
    match ending.run_until_cancelled(Shard::open(journal, opening)).await {
        Some(Ok(shard)) => {
            tracing::info!(shard = %id, epoch, live = shard.live(), "owning a shard");
            let served = router.serve(id, handle);
            shard.run(ending.clone()).await;
            served.end().await;
        }
        Some(Err(error)) => {
            tracing::warn!(shard = %id, %error, "a shard cannot be opened yet");
            ending.run_until_cancelled(tokio::time::sleep(LOOK)).await;
        }
        None => {}
    }
}
