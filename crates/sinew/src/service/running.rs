//! A service at work, and the order in which it stops: take nothing new, finish what runs, flush, tell.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tower::{service_fn, util::BoxCloneSyncService};

use super::{
    BoxError, Invocation, Service, commands,
    discovery::Discovery,
    in_flight::{self, InFlight},
    intake,
    operation::{Handle, Inner, Operation, Shop, Stats},
};
use crate::{
    Bus, Ctx, Error, Kind,
    catalogue::Catalogue,
    group::{Halt, Health},
    pace::Pace,
    policy::Dependencies,
    routes::Endpoint,
};

/// How long handing back what is abandoned may take.
const HAND_BACK: std::time::Duration = std::time::Duration::from_secs(1);

/// A started service. Call [`Running::drain`] before the process ends.
#[must_use = "a service that is not drained loses the requests in its hands"]
pub struct Running {
    name: String,
    bus: Bus,
    halt: Halt,
    /// Readers of subscriptions and groups.
    readers: TaskTracker,
    /// Requests in work.
    work: TaskTracker,
    /// Streams in work, which are requests as well.
    streams: TaskTracker,
    groups: Vec<Health>,
    /// Whether the server is heard that holds commands, where they are taken.
    commands: Option<Arc<AtomicBool>>,
    drain: std::time::Duration,
}

pub(super) async fn start<S>(mut service: Service<S>, bus: Bus) -> Result<Running, Error>
where
    S: Clone + Send + Sync + 'static,
{
    let descriptor = service.describe();
    let (halt, readers, work) = (Halt::default(), TaskTracker::new(), TaskTracker::new());
    let streams = TaskTracker::new();
    // What handlers shield is work as they are: draining waits for it.
    let bus = bus.with_dependencies(Dependencies::new(service.calls.clone(), work.clone()));
    // A service that does not start whole does not go on in part.
    let failed = halt.stop.clone().drop_guard();
    let shop = Arc::new(Shop {
        bus: bus.clone(),
        service: service.name.as_str().into(),
        hands: Arc::new(Semaphore::new(service.concurrency)),
        waiting: AtomicUsize::new(0),
        queue: service.queue,
        concurrency: service.concurrency,
        tasks: work.clone(),
        streams: streams.clone(),
        abandon: halt.abandon.clone(),
        in_flight: InFlight::default(),
    });
    let cancellations = bus.subscribe(&in_flight::cancel_subject_of(&service.name), None).await?;
    readers.spawn(shop.in_flight.clone().hear(cancellations, halt.stop.clone()));
    let questions = bus.subscribe(&in_flight::held_subject_of(&service.name), None).await?;
    readers.spawn(shop.in_flight.clone().answer(bus.clone(), questions, halt.stop.clone()));
    let mut operations = Vec::new();
    let mut denials = Vec::new();
    for route in &service.routes {
        let inner = inner(&route.endpoint, &service);
        let name = route.descriptor.name.as_str().into();
        let (stream, upload) = (route.descriptor.stream, route.descriptor.upload.is_some());
        let (stats, pace) = (Stats::default(), Pace::default());
        let subject = route.descriptor.subject.as_str();
        let attributes = [("rpc.system", "sinew"), ("messaging.destination.name", subject)];
        let attributes = attributes.into_iter().collect();
        let operation = Arc::new(Operation { name, stream, upload, inner, stats, pace, attributes });
        let subscription = bus.subscribe(subject, Some(&service.name)).await?;
        denials.push(subscription.denial());
        readers.spawn(intake::serve(shop.clone(), operation.clone(), subscription, halt.stop.clone()));
        operations.push(operation);
    }
    let discovery = Discovery::open(&bus, descriptor.clone(), operations.clone()).await?;
    readers.spawn(discovery.run(halt.stop.clone()));
    let mut groups = Vec::new();
    if !service.groups.is_empty() || !service.schedules.is_empty() {
        crate::ensure_streams(&bus).await?;
    }
    for declare in std::mem::take(&mut service.schedules) {
        declare(Ctx::detached(&bus, &service.name)).await?;
    }
    for group in &service.groups {
        groups.push(group.start(&bus, &shop.service, service.state.clone(), &readers, &halt).await?);
    }
    let mut commands = None;
    if service.commands > 0 {
        let taking = commands::start(shop.clone(), operations, service.commands, &readers, halt.clone());
        commands = Some(taking.await?);
    }
    bus.barrier().await?;
    // The server's refusals come before its answer.
    let denied = denials.iter().zip(&service.routes).find(|(denial, _)| denial.is_set());
    if let Some((_, route)) = denied {
        let subject = &route.descriptor.subject;
        let hint = "ask for subscribe permission, `sinew describe` prints what a service needs";
        let text = format!("the account may not subscribe to {subject}: {hint}");
        return Err(Error::new(Kind::Permission, text));
    }
    announce(&bus, &descriptor).await;
    tracing::info!(service = descriptor.name, version = descriptor.version, "serving");
    failed.disarm();
    let (name, drain) = (service.name, service.drain);
    Ok(Running { name, bus, halt, readers, work, streams, groups, commands, drain })
}

impl Running {
    /// Says whether everything works: the connection is up and every consumer group hears from the server.
    pub fn is_ready(&self) -> bool {
        let taking = self.commands.as_ref().is_none_or(|alive| alive.load(Ordering::Relaxed));
        self.bus.is_connected() && taking && self.groups.iter().all(Health::is_alive)
    }

    /// Stops taking requests and events, finishes what is in work, sends what is queued; bounded in time.
    ///
    /// An event that is still in work when the time is over is handed back, to be begun anew by another member. A
    /// request is left to its handler, and its caller to its deadline. A stream ends with a problem that says to try
    /// again.
    pub async fn drain(self) {
        self.halt.stop.cancel();
        self.readers.close();
        self.work.close();
        let finish = async {
            // Readers first: they may still hand out what the server had already sent.
            self.readers.wait().await;
            self.work.wait().await;
        };
        if tokio::time::timeout(self.drain, finish).await.is_err() {
            let left = self.work.len();
            tracing::warn!(service = self.name, left, "draining took too long: what is in work is abandoned");
            self.halt.abandon.cancel();
            self.streams.close();
            let hand_back = async { tokio::join!(self.readers.wait(), self.streams.wait()) };
            let _ = tokio::time::timeout(HAND_BACK, hand_back).await;
        }
        if let Err(error) = self.bus.barrier().await {
            tracing::warn!(service = self.name, %error, "the last replies may not have left");
        }
        tracing::info!(service = self.name, "drained");
    }
}

/// Tells the catalogue. A service works without it, so a failure is a warning.
async fn announce(bus: &Bus, descriptor: &sinew_wire::ServiceDescriptor) {
    let told = async { Catalogue::open(bus).await?.announce(descriptor).await };
    if let Err(error) = told.await {
        tracing::warn!(service = descriptor.name, %error, "the contract could not be put into the catalogue");
    }
}

fn inner<S>(endpoint: &Arc<dyn Endpoint<S>>, service: &Service<S>) -> Inner
where
    S: Clone + Send + Sync + 'static,
{
    let (endpoint, state) = (endpoint.clone(), service.state.clone());
    let handle: Handle = Box::new(move |message, ctx| endpoint.invoke(message, ctx, state.clone()));
    if service.layers.is_empty() {
        return Inner::Plain(handle);
    }
    let handle = Arc::new(handle);
    let innermost = service_fn(move |invocation: Invocation| -> BoxFuture<'static, Result<_, BoxError>> {
        let answer = handle(invocation.message, invocation.ctx);
        Box::pin(async move { Ok(answer.await) })
    });
    let mut layered = BoxCloneSyncService::new(innermost);
    for layer in service.layers.iter().rev() {
        layered = layer(layered);
    }
    Inner::Layered(layered)
}
