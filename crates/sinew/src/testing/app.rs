//! A test at work: calls and events go in, and every method returns when their consequences are drawn.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use sinew_wire::{Event, Request, UploadRequest};
use tokio::task::JoinHandle;

use super::{fail, network::Network, server::Server};
use crate::{Bus, CallError, Ctx, Running, stream::Items};

/// How often the broker says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(4);

/// Services under test. Dropping it ends them undrained, which is what most tests want; [`App::drain`] does it in order.
pub struct App {
    pub(super) network: Arc<Network>,
    ctx: Ctx,
    running: Vec<(Running, Bus)>,
    tasks: Vec<JoinHandle<()>>,
    patience: Duration,
}

impl App {
    pub(super) fn new(
        network: Arc<Network>,
        own: Bus,
        running: Vec<(Running, Bus)>,
        mut tasks: Vec<JoinHandle<()>>,
        patience: Duration,
    ) -> Self {
        tasks.push(tokio::spawn(beat(network.clone())));
        Self { network, ctx: Ctx::detached(&own, super::TEST), running, tasks, patience }
    }

    /// Calls an operation as a client would, and returns once everything it set off has settled.
    ///
    /// # Errors
    /// As awaiting a [`Call`](crate::Call).
    ///
    /// # Panics
    /// As [`App::settled`].
    #[track_caller]
    pub fn call<R: Request>(
        &self,
        request: R,
    ) -> impl Future<Output = Result<R::Reply, CallError<R::Error>>> {
        let call = self.ctx.call(request).into_future();
        let settled = self.settled();
        async move {
            let outcome = call.await;
            settled.await;
            outcome
        }
    }

    /// Sends an upload as a client would, and returns once everything it set off has settled. [`App::ctx`] sends one that
    /// is to be looked at while it goes on.
    ///
    /// # Errors
    /// As awaiting an [`UploadCall`](crate::UploadCall).
    ///
    /// # Panics
    /// As [`App::settled`].
    #[track_caller]
    pub fn upload<R: UploadRequest>(
        &self,
        request: R,
        items: impl Items<R::Item>,
    ) -> impl Future<Output = Result<R::Reply, CallError<R::Error>>> {
        let call = self.ctx.upload(request, items).into_future();
        let settled = self.settled();
        async move {
            let outcome = call.await;
            settled.await;
            outcome
        }
    }

    /// Publishes an event, and returns once every reaction to it, and every reaction to those, has settled:
    /// acknowledged, dead-lettered, or waiting for a later time.
    ///
    /// # Panics
    /// When it cannot be stored, and as [`App::settled`].
    #[track_caller]
    pub fn publish<E: Event>(&self, event: E) -> impl Future<Output = ()> {
        let publish = self.ctx.publish(event).into_future();
        let settled = self.settled();
        async move {
            if let Err(error) = publish.await {
                fail(&format!("{} could not be published: {error}", E::SUBJECT));
            }
            settled.await;
        }
    }

    /// Lets time pass: whatever comes due meanwhile (retries, schedules, times to live) does so in order, at its own
    /// moment, and settles before the next.
    ///
    /// # Panics
    /// As [`App::settled`].
    #[track_caller]
    pub fn advance(&self, by: Duration) -> impl Future<Output = ()> {
        let until = self.after(by);
        let (network, patience, caller) =
            (self.network.clone(), self.patience, std::panic::Location::caller());
        async move {
            loop {
                settle(&network, patience, caller).await;
                let due = network.with(Server::next_due).filter(|due| *due <= until);
                match due {
                    Some(due) => network.advance(due),
                    None => break,
                }
            }
            network.advance(until);
            settle(&network, patience, caller).await;
        }
    }

    /// Moves the clock without waiting for anything to settle: for tests that pull messages themselves, and hold some in
    /// hand.
    pub fn skip(&self, by: Duration) {
        let until = self.after(by);
        while let Some(due) = self.network.with(Server::next_due).filter(|due| *due <= until) {
            self.network.advance(due);
        }
        self.network.advance(until);
    }

    /// Returns the time of the test, which handlers see as [`Ctx::now`].
    pub fn now(&self) -> Timestamp {
        self.network.with(Server::now)
    }

    /// Returns a context outside any handler, for what [`App::call`] and [`App::publish`] do not offer. Follow it with
    /// [`App::settled`].
    pub fn ctx(&self) -> &Ctx {
        &self.ctx
    }

    /// Waits until every reaction has settled.
    ///
    /// # Panics
    /// When they have not after [`Kit::patience`](super::Kit::patience), naming what is still in hand.
    #[track_caller]
    pub fn settled(&self) -> impl Future<Output = ()> + use<> {
        let (network, patience) = (self.network.clone(), self.patience);
        let caller = std::panic::Location::caller();
        async move { settle(&network, patience, caller).await }
    }

    fn after(&self, by: Duration) -> Timestamp {
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        self.now().checked_add(by).unwrap_or(Timestamp::MAX)
    }

    /// Stops every service as SIGTERM does: nothing new is taken, what runs is finished.
    pub async fn drain(mut self) {
        for (running, bus) in self.running.drain(..) {
            running.drain().await;
            bus.close().await;
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // A test that fails must not wait for what it leaves behind.
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn settle(network: &Network, patience: Duration, caller: &std::panic::Location<'_>) {
    if let Err(busy) = network.settled(patience).await {
        let hands = busy.join("\n  ");
        fail(&format!("{caller}: not everything settled within {patience:?}:\n  {hands}"));
    }
}

/// Says that the broker is alive, as consumers expect it by the machine's clock.
async fn beat(network: Arc<Network>) {
    let mut beats = tokio::time::interval(HEARTBEAT);
    // The first one is at once.
    beats.tick().await;
    loop {
        beats.tick().await;
        network.heartbeat(HEARTBEAT);
    }
}
