//! Consumer groups: their settings. How they work is in [`worker`].

pub(crate) mod batch;
pub(crate) mod inlet;
mod lanes;
mod ordered;
mod policy;
mod raw;
mod settings;
mod settle;
mod spill;
mod verify;
mod worker;

use std::{marker::PhantomData, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use sinew_wire::{Event, GroupDescriptor, OperationName, Problem};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Bus, Ctx, Error, EventHandler, Kind,
    bus::{Begin, Message},
};

pub use batch::BatchGroup;
pub use inlet::Redelivery;
pub use policy::Retry;
pub use raw::{Events, Reaction};
pub use settings::{GroupOf, Ordered};
pub(crate) use worker::Health;

/// Longest time a failed event waits among the messages that are out.
const LONGEST_HOLD: Duration = Duration::from_secs(30);

/// The settings of a consumer group.
#[derive(Clone, Debug)]
pub struct Group {
    pub(crate) name: String,
    pub(crate) concurrency: usize,
    pub(crate) retry: Retry,
    pub(crate) ack_wait: Duration,
    pub(crate) hold: Duration,
    pub(crate) begin: Begin,
}

impl Group {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            concurrency: 16,
            retry: Retry::default(),
            ack_wait: Duration::from_secs(30),
            hold: LONGEST_HOLD,
            begin: Begin::First,
        }
    }

    /// Handles up to `limit` events at once in this process. Default: 16.
    #[must_use]
    pub fn concurrency(mut self, limit: usize) -> Self {
        self.concurrency = limit.max(1);
        self
    }

    /// Sets where the group begins when it is new; one that stands goes on where it was. Default: with the first event that
    /// is kept, so that no event is missed between two deployments.
    #[must_use]
    pub fn begin(mut self, begin: Begin) -> Self {
        self.begin = begin;
        self
    }

    /// Sets how a failed event is tried again before it becomes a dead letter.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Sets how long the server waits for a sign of life before it hands the event to another member. Signs are sent
    /// by themselves at a third of it. Default: 30 seconds.
    #[must_use]
    pub fn ack_wait(mut self, wait: Duration) -> Self {
        self.ack_wait = wait.max(Duration::from_millis(100));
        self
    }

    /// Sets how long a failed event may wait for its next attempt at the consumer, where it takes one of the 10,000
    /// places of events in flight. What has to wait longer does so in the group's own inlet. Default, and at most: 30
    /// seconds.
    #[must_use]
    pub fn longest_hold(mut self, limit: Duration) -> Self {
        self.hold = limit.min(LONGEST_HOLD);
        self
    }
}

/// The two words that end a member's work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Halt {
    /// Begin nothing new.
    pub(crate) stop: CancellationToken,
    /// Hand back what is still in work.
    pub(crate) abandon: CancellationToken,
}

/// A group with its types erased.
pub(crate) trait GroupSpec<S>: Send + Sync {
    fn describe(&self) -> GroupDescriptor;
    fn validate(&self) -> Result<(), Error>;
    fn start<'a>(
        &'a self,
        bus: &'a Bus,
        service: &'a Arc<str>,
        state: S,
        tasks: &'a TaskTracker,
        halt: &'a Halt,
    ) -> BoxFuture<'a, Result<Health, Error>>;
}

/// Reacts to one delivery.
pub(crate) type React = Arc<dyn Fn(Message, Ctx) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

/// Why a delivery was not handled.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The payload is not the event: no attempt will ever succeed.
    Poison(String),
    /// The handler says so.
    Handler(Problem),
    /// This process has no time left for it.
    Abandoned,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Poison(reason) => f.write_str(reason),
            Self::Handler(problem) => problem.fmt(f),
            Self::Abandoned => f.write_str("the process stopped in the middle of it"),
        }
    }
}

struct Typed<E, H, M> {
    group: Group,
    order: Option<ordered::Order>,
    handler: H,
    types: PhantomData<fn(E, M)>,
}

pub(crate) fn spec<E, S, H, M>(group: impl GroupOf<E>, handler: H) -> Box<dyn GroupSpec<S>>
where
    E: Event,
    S: Clone + Send + Sync + 'static,
    H: EventHandler<E, S, M>,
    M: Send + Sync + 'static,
{
    let (group, order) = group.into_parts();
    Box::new(Typed { group, order, handler, types: PhantomData::<fn(E, M)> })
}

impl<E, S, H, M> GroupSpec<S> for Typed<E, H, M>
where
    E: Event,
    S: Clone + Send + Sync + 'static,
    H: EventHandler<E, S, M>,
    M: Send + Sync + 'static,
{
    fn describe(&self) -> GroupDescriptor {
        GroupDescriptor { ordered: self.order.is_some(), ..describe::<E>(&self.group) }
    }

    fn validate(&self) -> Result<(), Error> {
        validate(&self.group)
    }

    fn start<'a>(
        &'a self,
        bus: &'a Bus,
        service: &'a Arc<str>,
        state: S,
        tasks: &'a TaskTracker,
        halt: &'a Halt,
    ) -> BoxFuture<'a, Result<Health, Error>> {
        let handler = self.handler.clone();
        let react: React = Arc::new(move |message: Message, ctx| {
            let (handler, state) = (handler.clone(), state.clone());
            Box::pin(async move {
                let event = decode::<E>(&message)?;
                handler.react(event, ctx, state).await.map_err(Failure::Handler)
            })
        });
        let (group, order) = (self.group.clone(), self.order.clone());
        let spec = worker::Spec { group, subject: E::SUBJECT.into(), event: E::NAME.into(), react, order };
        Box::pin(worker::start(spec, bus.clone(), service.clone(), tasks, halt.clone()))
    }
}

fn describe<E: Event>(group: &Group) -> GroupDescriptor {
    GroupDescriptor {
        name: group.name.clone(),
        event: E::descriptor(),
        concurrency: u32::try_from(group.concurrency).unwrap_or(u32::MAX),
        attempts: group.retry.attempts_limit(),
        retry_budget_ms: u64::try_from(group.retry.budget().as_millis()).unwrap_or(u64::MAX),
        batch: None,
        ordered: false,
    }
}

fn validate(group: &Group) -> Result<(), Error> {
    let name = group.name.parse::<OperationName>();
    name.map(|_| ()).map_err(|error| Error::new(Kind::Config, format!("consumer group: {error}")))
}

/// Reads the event, or says that no attempt ever will.
fn decode<E: Event>(message: &Message) -> Result<E, Failure> {
    let codec = message.content_type().map_err(|error| Failure::Poison(error.to_string()))?;
    sinew_wire::decode(codec, message.payload()).map_err(|error| Failure::Poison(error.to_string()))
}
