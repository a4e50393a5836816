//! Who carries effects out: one task for everything under way on behalf of a shard.
//!
//! Nearly all effects are calls that wait for a reply. With a task of the runtime for each, every one of them would be
//! allocated, scheduled and woken by itself; here the replies that come together are taken together. What computes by
//! itself, such as a protocol with its own encodings, is a task of the runtime, and the crew waits for it.

use std::sync::Arc;

use futures::FutureExt;
use sinew_workflow::TaskId;
use tokio::sync::{mpsc, oneshot};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use super::{
    Means,
    under_way::{Name, UnderWay, Work},
};
use crate::shard::Handle;

/// Orders taken before the crew looks at what has ended.
const TAKE: usize = 256;

/// The way to the crew of a shard.
pub(super) struct Crew {
    /// Not bounded: as much is ordered as stands in the log, and that is bounded by the instances.
    orders: mpsc::UnboundedSender<Order>,
    /// Tasks of the runtime, the crew's own among them.
    tasks: TaskTracker,
}

enum Order {
    Begin(Name, Work),
    Stop(String, TaskId, u32),
    Aside(Work),
    Settle(oneshot::Sender<()>),
}

/// The crew itself.
struct Hands {
    means: Arc<Means>,
    handle: Handle,
    orders: mpsc::UnboundedReceiver<Order>,
    under_way: UnderWay,
    /// Whoever waits until nothing is.
    settled: Option<oneshot::Sender<()>>,
}

impl Crew {
    /// Calls a crew together that works until `stop`, in a task that `tasks` waits for.
    pub(super) fn start(
        means: Arc<Means>,
        handle: Handle,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let (orders, inbox) = mpsc::unbounded_channel();
        let hands = Hands { means, handle, orders: inbox, under_way: UnderWay::default(), settled: None };
        tasks.spawn(stop.clone().run_until_cancelled_owned(hands.run()));
        Self { orders, tasks: tasks.clone() }
    }

    /// Begins what may have to be stopped.
    pub(super) fn begin(&self, name: Name, work: Work) {
        self.order(Order::Begin(name, work));
    }

    /// Drops this very attempt, if it is under way; a child it waits for is cancelled.
    pub(super) fn stop(&self, id: String, task: TaskId, attempt: u32) {
        self.order(Order::Stop(id, task, attempt));
    }

    /// Begins what nobody stops.
    pub(super) fn aside(&self, work: Work) {
        self.order(Order::Aside(work));
    }

    /// Ends once everything begun has come to an end by itself.
    pub(super) fn settled(&self) -> impl Future<Output = ()> + Send + use<> {
        let (sender, settled) = oneshot::channel();
        self.order(Order::Settle(sender));
        // A crew that is gone has nothing under way.
        settled.map(drop)
    }

    /// Makes a task of the runtime of what computes by itself. It ends with the crew.
    pub(super) fn task(&self, work: Work) -> Work {
        let task = AbortOnDropHandle::new(self.tasks.spawn(work));
        // One that panicked has no answer, as any other work that does.
        task.map(|told| told.ok().flatten()).boxed()
    }

    fn order(&self, order: Order) {
        // A crew that is gone has an heir that is told everything that stands in the log.
        let _ = self.orders.send(order);
    }
}

impl Hands {
    async fn run(mut self) {
        let mut orders = Vec::with_capacity(TAKE);
        loop {
            tokio::select! {
                taken = self.orders.recv_many(&mut orders, TAKE) => {
                    if taken == 0 {
                        return;
                    }
                    orders.drain(..).for_each(|order| self.take(order));
                }
                told = self.under_way.next() => {
                    if let Some(told) = told {
                        self.handle.tell(told).await;
                    }
                }
            }
            if self.under_way.is_empty()
                && let Some(settled) = self.settled.take()
            {
                // Whoever asked may have stopped waiting.
                let _ = settled.send(());
            }
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Begin(name, work) => self.under_way.begin(name, work),
            Order::Aside(work) => self.under_way.aside(work),
            Order::Settle(settled) => self.settled = Some(settled),
            Order::Stop(id, task, attempt) => {
                let Some(child) = self.under_way.stop(&id, task, attempt) else { return };
                let means = self.means.clone();
                self.under_way
                    .aside(async move { means.children.cancel(&child).map(|()| None).await }.boxed());
            }
        }
    }
}
