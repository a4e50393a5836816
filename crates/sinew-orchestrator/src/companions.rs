//! What works beside a shard, on its behalf: reading events, keeping schedules. Tells the shard, and ends with it.

use std::sync::Arc;

use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Lifecycle,
    calls::Line,
    journal::Journal,
    library::Library,
    lifecycle::{self, Publisher},
    listen::{Ears, Told},
    router::{Router, ShardId},
    schedules::Keeper,
    shard::{Handle, Shard, World},
    starter::Starter,
};

/// The tasks beside one shard.
pub(crate) struct Companions {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// What they work with.
pub(crate) struct Setting<'a> {
    pub(crate) line: Line,
    pub(crate) config: &'a Config,
    pub(crate) library: Library,
    pub(crate) router: Arc<Router>,
    pub(crate) id: ShardId,
    pub(crate) shard: Handle,
    /// Who listens in this shard.
    pub(crate) told: mpsc::UnboundedReceiver<Told>,
    /// What happens to its instances.
    pub(crate) happened: lifecycle::Inlet,
}

impl Companions {
    /// Starts them beside a shard that was opened; they stop by themselves when it is `ending`.
    pub(crate) fn start<J: Journal, W: World>(
        setting: Setting<'_>,
        shard: &mut Shard<J, W>,
        ending: &CancellationToken,
    ) -> Self {
        let Setting { line, config, library, router, id, shard: handle, told, happened } = setting;
        let bus = line.bus.clone();
        let (stop, mut tasks, notes) = (ending.child_token(), JoinSet::new(), shard.notes());
        let ears = Ears::new(bus.clone(), handle.clone(), config.listen.early_window(), told, &notes);
        let ears = ears.with(shard.parked_listeners());
        spawn(&mut tasks, &stop, ears.run());
        let (last, left) = shard.unpublished();
        let publisher = Publisher { line, shard: handle.clone(), inlet: happened };
        match config.lifecycle {
            // What happens from now on is never told, also when it is wanted later.
            Lifecycle::None if notes.contains_key(lifecycle::NOTE) => {
                spawn(&mut tasks, &stop, publisher.rest())
            }
            Lifecycle::None => {}
            Lifecycle::Workflows | Lifecycle::Tasks => spawn(&mut tasks, &stop, publisher.run(last, left)),
        }
        if let Library::Stored(definitions) = library {
            let starter = Starter { bus: bus.clone(), router: router.clone() };
            let settings = config.schedules.clone();
            let keeper = Keeper { bus, shard: handle, starter, definitions, settings };
            let is_mine = move |place: &str| router.shard_of(place) == id;
            spawn(&mut tasks, &stop, keeper.run(notes, is_mine));
        }
        Self { stop, tasks }
    }

    /// Stops them, and returns when nothing of them runs any more.
    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "what works beside a shard ended in a panic");
            }
        }
    }
}

fn spawn(tasks: &mut JoinSet<()>, stop: &CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
    let stop = stop.clone();
    tasks.spawn(async move {
        stop.run_until_cancelled(work).await;
    });
}
