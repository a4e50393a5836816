//! Owning shards: look who lives and who owns what, take a fair share, hand over what is too much, run each shard until
//! its lease is lost or it is handed over.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sinew_protocols::Protocols;
use tokio::{
    sync::{mpsc, watch},
    task::{Id, JoinError, JoinSet},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    calls::{Beside, Caller, Children, Line},
    companions::{Companions, Setting},
    journal::JetStreamJournal,
    lease::{Lease, Leases, Standing},
    lifecycle,
    router::{Router, ShardId},
    shard::{self, Opening, Shard},
    spread::View,
};

/// How often it is looked who owns what.
const LOOK: Duration = Duration::from_millis(250);
/// How long a shard may be left to the replica it falls to; then anybody takes it.
const PATIENCE: Duration = Duration::from_millis(750);

/// What every shard of this process shares.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) line: Line,
    pub(crate) protocols: Protocols,
    pub(crate) children: Children,
}

/// The shards of this replica among those of all.
struct Fleet {
    parts: Parts,
    leases: Leases,
    router: Arc<Router>,
    /// Shards that are owned here, or about to be.
    owned: BTreeMap<ShardId, Owned>,
    tasks: JoinSet<()>,
    /// Since when a shard has had no owner.
    free: BTreeMap<ShardId, Instant>,
}

/// A shard and the task that runs it.
struct Owned {
    task: Id,
    /// Cancelling it hands the shard over.
    ending: CancellationToken,
}

/// Owns a fair share of the shards, until `stop`; then hands all of them over.
pub(crate) async fn run(parts: Parts, leases: Leases, router: Arc<Router>, stop: CancellationToken) {
    let member = tokio::spawn(live(leases.clone(), stop.clone()));
    let (owned, tasks, free) = (BTreeMap::new(), JoinSet::new(), BTreeMap::new());
    let mut fleet = Fleet { parts, leases, router, owned, tasks, free };
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => { stop.run_until_cancelled(fleet.look()).await; }
            Some(ended) = fleet.tasks.join_next_with_id() => fleet.ended(ended),
            () = stop.cancelled() => break,
        }
    }
    // No longer a member before the shards become free: so they fall to the others at once.
    let _ = member.await;
    fleet.end().await;
}

/// Keeps the word that this replica lives, until `stop`.
async fn live(leases: Leases, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match stop.run_until_cancelled(leases.join()).await {
            Some(Ok(Some(mut lease))) => {
                if stop.run_until_cancelled(lease.keep()).await.is_none() {
                    lease.release().await;
                }
            }
            Some(Ok(None)) | None => {}
            Some(Err(error)) => tracing::debug!(%error, "this replica cannot say yet that it lives"),
        }
        stop.run_until_cancelled(tokio::time::sleep(LOOK)).await;
    }
}

impl Fleet {
    /// Looks once, and does what follows.
    async fn look(&mut self) {
        match self.leases.standing().await {
            Ok(standing) => self.act(&standing),
            Err(error) => tracing::warn!(%error, "it cannot be seen who owns the shards"),
        }
    }

    fn act(&mut self, standing: &Standing) {
        let me = self.leases.me().to_owned();
        let mut owners: BTreeMap<ShardId, &str> =
            standing.owners.iter().map(|(shard, owner)| (*shard, owner.as_str())).collect();
        // What is being acquired or handed over here is ours until it is done.
        owners.extend(self.owned.keys().map(|shard| (*shard, me.as_str())));
        let shards: Vec<ShardId> = self.router.shards().collect();
        for shard in &shards {
            let owner = owners.get(shard);
            self.router.elsewhere(*shard, owner.is_some_and(|owner| *owner != me));
            match owner {
                Some(_) => drop(self.free.remove(shard)),
                None => drop(self.free.entry(*shard).or_insert_with(Instant::now)),
            }
        }
        let members = standing.members.iter().map(String::as_str).collect();
        let moves = View { shards, members, owners }.moves(&me);
        let overdue = self.free.iter().filter(|(_, since)| since.elapsed() > PATIENCE);
        let mut take: Vec<ShardId> = overdue.map(|(shard, _)| *shard).chain(moves.take).collect();
        take.sort_unstable();
        take.dedup();
        take.into_iter().for_each(|shard| self.take(shard));
        if let Some(shard) = moves.give {
            tracing::info!(%shard, "handing a shard over to a replica with fewer");
            self.owned.get(&shard).into_iter().for_each(|owned| owned.ending.cancel());
        }
    }

    fn take(&mut self, shard: ShardId) {
        self.free.remove(&shard);
        let ending = CancellationToken::new();
        let handed_over = ending.clone();
        let (parts, leases, router) = (self.parts.clone(), self.leases.clone(), self.router.clone());
        let task = self.tasks.spawn(async move {
            match leases.own(shard).await {
                Ok(Some(lease)) => own(&parts, shard, &router, lease, &handed_over).await,
                Ok(None) => {}
                Err(error) => tracing::warn!(%shard, %error, "the lease of a shard cannot be taken yet"),
            }
        });
        self.owned.insert(shard, Owned { task: task.id(), ending });
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let task = match ended {
            Ok((task, ())) => task,
            Err(error) => {
                tracing::error!(%error, "a shard ended in a panic and is opened anew");
                error.id()
            }
        };
        self.owned.retain(|_, owned| owned.task != task);
    }

    async fn end(mut self) {
        self.owned.values().for_each(|owned| owned.ending.cancel());
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.ended(ended);
        }
    }
}

/// Runs the shard until it is handed over, or until the lease or the fence is lost.
async fn own(parts: &Parts, id: ShardId, router: &Arc<Router>, mut lease: Lease, ending: &CancellationToken) {
    let (epoch, valid) = (lease.epoch(), lease.valid());
    let lost = ending.child_token();
    let running = serve(parts, id, router, (epoch, valid), &lost);
    tokio::pin!(running);
    tokio::select! {
        () = &mut running => lease.release().await,
        () = lease.keep() => {
            tracing::warn!(shard = %id, epoch, "the lease of a shard was lost");
            lost.cancel();
            running.await;
        }
    }
}

async fn serve(
    parts: &Parts,
    id: ShardId,
    router: &Arc<Router>,
    (epoch, lease): (u64, watch::Receiver<Instant>),
    ending: &CancellationToken,
) {
    let (config, line) = (parts.config.clone(), parts.line.clone());
    let journal = JetStreamJournal::new(&line.bus, id.get());
    let library = parts.children.library().clone();
    let (handle, inbox) = shard::channel(library.clone());
    let (listening, told) = mpsc::unbounded_channel();
    let (teller, happened) = lifecycle::channel(config.lifecycle);
    let place = (id.get(), config.shards);
    let world =
        Caller::new(parts.clone(), place, lease.clone(), handle.clone(), Beside { listening, teller });
    let opening = Opening { config, world, lease, epoch, inbox };
    match ending.run_until_cancelled(Shard::open(journal, opening)).await {
        Some(Ok(mut shard)) => {
            tracing::info!(shard = %id, epoch, live = shard.live(), parked = shard.parked(), "owning a shard");
            let setting = Setting {
                line,
                config: &parts.config,
                library,
                router: router.clone(),
                id,
                shard: handle.clone(),
                told,
                happened,
            };
            let companions = Companions::start(setting, &mut shard, ending);
            let served = router.serve(id, handle);
            shard.run(ending.clone()).await;
            companions.end().await;
            served.end().await;
        }
        Some(Err(error)) => {
            tracing::warn!(shard = %id, %error, "a shard cannot be opened yet");
            ending.run_until_cancelled(tokio::time::sleep(LOOK)).await;
        }
        None => {}
    }
}
