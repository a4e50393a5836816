//! Services: contracts served, events reacted to, one graceful way out.

mod commands;
mod describe;
mod discovery;
mod in_flight;
mod intake;
mod line;
mod operation;
mod running;
mod shed;
mod stream;
mod upload;

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, future::BoxFuture};
use sinew_wire::{ContentType, Event, Headers, Problem, ServiceName, header};
use tower::{Layer, util::BoxCloneSyncService};

use crate::{
    BatchGroup, BatchHandler, Bus, Calls, Complete, Config, Contract, Ctx, Error, EventHandler, Kind,
    bus::{Message, Subscription},
    group::{Group, GroupOf, GroupSpec},
    routes::Route,
    schedule::Recurrence,
};

pub use running::Running;

pub(crate) use in_flight::{cancel_subject, held_subject};

/// Requests that may be in work at once, per service and process.
const CONCURRENCY: usize = 1_024;
/// Requests that may wait for a free hand before more are turned away.
const QUEUE: usize = 8_192;

/// An error of a layer; anything that is no [`Problem`] is answered with 503 and logged.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One operation with its layers, as tower sees it.
pub type OperationService = BoxCloneSyncService<Invocation, Answer, BoxError>;

/// Declares one recurring event.
type Declare = Box<dyn FnOnce(Ctx) -> BoxFuture<'static, Result<(), Error>> + Send + Sync>;

type LayerFn = Arc<dyn Fn(OperationService) -> OperationService + Send + Sync>;

/// A request on its way to a handler.
pub struct Invocation {
    /// The operation's name.
    pub operation: Arc<str>,
    /// The message as it came.
    pub message: Message,
    /// What the handler will see.
    pub ctx: Ctx,
}

/// What is sent back. Of a streaming operation: how the stream opened; its items follow.
#[derive(Debug)]
pub struct Answer {
    /// Header fields of the reply.
    pub headers: Headers,
    /// Encoded reply or problem.
    pub payload: Bytes,
    /// The problem, where it is one; for traces and statistics.
    pub problem: Option<Problem>,
    /// What the stream consists of, where it is one.
    pub(crate) items: Option<Items>,
    /// Where the caller's words about a stream are heard, kept until this has left: a word that finds nobody would tell
    /// the caller, ahead of the end of the stream, that the service is gone.
    pub(crate) line: Option<Box<Subscription>>,
}

/// The items of a stream, encoded; an error is the last one.
pub(crate) struct Items(pub(crate) Pin<Box<dyn Stream<Item = Result<Bytes, Problem>> + Send>>);

/// A service under construction.
///
/// ```no_run
/// use sinew::{Config, Ctx, Request, Service, contract};
/// # use serde::{Serialize, Deserialize};
/// # use schemars::JsonSchema;
///
/// #[derive(Request, Serialize, Deserialize, JsonSchema)]
/// #[sinew(subject = "greeter.hello", reply = String, idempotent)]
/// pub struct Hello { name: String }
///
/// contract! { pub Greeter = "greeter" @ "1.0.0" { hello: Hello } }
///
/// async fn hello(request: Hello) -> Result<String, sinew::Problem> {
///     Ok(format!("hello, {}", request.name))
/// }
///
/// #[tokio::main]
/// async fn main() -> Result<(), sinew::Error> {
///     Service::new("greeter", ()).serve(Greeter, |s| s.hello(hello)).run(Config::default()).await
/// }
/// ```
pub struct Service<S> {
    name: String,
    version: String,
    description: String,
    state: S,
    routes: Vec<Route<S>>,
    groups: Vec<Box<dyn GroupSpec<S>>>,
    schedules: Vec<Declare>,
    layers: Vec<LayerFn>,
    calls: Calls,
    said: describe::Said,
    concurrency: usize,
    queue: usize,
    commands: usize,
    drain: Duration,
}

impl<S: Clone + Send + Sync + 'static> Service<S> {
    /// Begins a service that hands a clone of `state` to every handler that asks for it.
    pub fn new(name: impl Into<String>, state: S) -> Self {
        Self {
            name: name.into(),
            version: "0.0.0".to_owned(),
            description: String::new(),
            state,
            routes: Vec::new(),
            groups: Vec::new(),
            schedules: Vec::new(),
            layers: Vec::new(),
            calls: Calls::new(),
            said: describe::Said::default(),
            concurrency: CONCURRENCY,
            queue: QUEUE,
            commands: 0,
            drain: Duration::from_secs(20),
        }
    }

    /// Puts a tower layer around every operation; the first one added is the outermost.
    ///
    /// Of an operation that streams a layer sees the opening: the items come after its answer, see [`crate::stream`].
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<OperationService> + Send + Sync + 'static,
        L::Service: tower::Service<Invocation, Response = Answer> + Clone + Send + Sync + 'static,
        <L::Service as tower::Service<Invocation>>::Future: Send,
        <L::Service as tower::Service<Invocation>>::Error: Into<BoxError>,
    {
        let wrap = move |inner| {
            let outer = tower::ServiceExt::map_err(layer.layer(inner), Into::into);
            BoxCloneSyncService::new(outer)
        };
        self.layers.push(Arc::new(wrap));
        self
    }

    /// Sets how the service calls others, from its handlers of requests and events alike.
    ///
    /// ```
    /// use sinew::{Breaker, Policy, Service};
    ///
    /// let service = Service::new("orders", ())
    ///     .calls(|calls| calls.to("payments", Policy::new().bulkhead(64).breaker(Breaker::default())));
    /// # drop(service);
    /// ```
    #[must_use]
    pub fn calls(mut self, configure: impl FnOnce(Calls) -> Calls) -> Self {
        self.calls = configure(self.calls);
        self
    }

    /// Serves a contract. Leaving an operation out does not compile.
    #[must_use]
    pub fn serve<C, F, R>(mut self, _contract: C, build: F) -> Self
    where
        C: Contract,
        F: FnOnce(C::Routes<S>) -> R,
        R: Complete<S>,
    {
        let descriptor = C::descriptor();
        self.version = descriptor.version;
        self.description = descriptor.description;
        self.routes.extend(build(C::routes::<S>()).into_routes().routes);
        self
    }

    /// Reacts to an event as consumer group `group`: its members share the events, each event is handled once or
    /// becomes a dead letter. With [`Group::ordered_by`], events of one key are handled one after the other.
    #[must_use]
    pub fn on<E, H, M, G>(mut self, group: &str, handler: H, configure: impl FnOnce(Group) -> G) -> Self
    where
        E: Event,
        H: EventHandler<E, S, M>,
        M: Send + Sync + 'static,
        G: GroupOf<E>,
    {
        self.groups.push(crate::group::spec::<E, S, H, M>(configure(Group::new(group)), handler));
        self
    }

    /// Publishes an event again and again, also while no replica of the service runs; see [`Publish::repeat`].
    ///
    /// It is declared at the start of every replica, which makes one schedule. Leaving the line out of a later version
    /// does not end it: [`schedule::remove`] does.
    ///
    /// [`Publish::repeat`]: crate::Publish::repeat
    /// [`schedule::remove`]: crate::schedule::remove
    #[must_use]
    pub fn repeat<E>(mut self, name: impl Into<String>, recurrence: Recurrence, event: E) -> Self
    where
        E: Event + Sync,
    {
        let name = name.into();
        self.schedules.push(Box::new(move |ctx: Ctx| {
            Box::pin(async move { ctx.publish(event).repeat(name, recurrence).await.map(|_| ()) })
        }));
        self
    }

    /// Reacts to an event as consumer group `group`, many events at once; see [`Batch`](crate::Batch).
    #[must_use]
    pub fn on_batch<E, H, M>(
        mut self,
        group: &str,
        handler: H,
        configure: impl FnOnce(BatchGroup) -> BatchGroup,
    ) -> Self
    where
        E: Event,
        H: BatchHandler<E, S, M>,
        M: Send + Sync + 'static,
    {
        self.groups.push(crate::group::batch::spec::<E, S, H, M>(configure(BatchGroup::new(group)), handler));
        self
    }

    /// Limits how many requests are in work at once, and how many may wait. Default: 1,024 and 8,192.
    ///
    /// What comes on top is turned away at once with a retriable problem.
    #[must_use]
    pub fn limits(mut self, concurrency: usize, queue: usize) -> Self {
        (self.concurrency, self.queue) = (concurrency.max(1), queue);
        self
    }

    /// Takes commands as well, at most `concurrency` at once: calls of workflows with `delivery: command`, which wait in a
    /// stream while no instance of the service runs.
    ///
    /// The same handlers carry them out, one instance each command, and again on another where one dies in the middle: the
    /// idempotency key is the same then. A command has no deadline; its handler is dropped when the workflow gives the
    /// work up. A handler that takes a [`Completion`](crate::Completion) may answer that it is done later.
    #[must_use]
    pub fn commands(mut self, concurrency: usize) -> Self {
        self.commands = concurrency;
        self
    }

    /// Limits how long draining may take. Default: 20 seconds.
    #[must_use]
    pub fn drain_within(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }

    /// Starts serving on `bus` and returns once the server knows every subscription.
    ///
    /// # Errors
    /// [`Kind::Config`] for a bad name, an operation or a group that stands there twice, otherwise what the bus reports.
    pub async fn start(self, bus: &Bus) -> Result<Running, Error> {
        self.validate()?;
        running::start(self, bus.clone()).await
    }

    /// Connects, serves until the process is asked to stop (SIGTERM, Ctrl-C), drains, and closes the connection.
    ///
    /// Where the variable `SINEW_DESCRIBE` is `1` it does none of that: it prints [`Service::describe`] as one line of
    /// JSON on standard output and returns. That is how `sinew describe -- PROGRAM` asks a program what it serves.
    ///
    /// # Errors
    /// As [`Bus::connect`] and [`Service::start`].
    pub async fn run(self, config: Config) -> Result<(), Error> {
        if describe::is_asked() {
            self.validate()?;
            return describe::print(&self.describe());
        }
        // Heard from the first moment: a service must not begin to serve and then be killed undrained.
        let mut stop = std::pin::pin!(crate::shutdown::requested());
        let bus = Bus::connect(config).await?;
        let running = tokio::select! {
            biased;
            () = &mut stop => None,
            running = self.start(&bus) => Some(running?),
        };
        if let Some(running) = running {
            stop.await;
            running.drain().await;
        }
        bus.close().await;
        Ok(())
    }

    fn validate(&self) -> Result<(), Error> {
        let wrong = |text: String| Err(Error::new(Kind::Config, text));
        if let Err(error) = self.name.parse::<ServiceName>() {
            return wrong(error.to_string());
        }
        let mut names: Vec<&str> = self.routes.iter().map(|route| route.descriptor.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return wrong(format!("operation {} is served twice: remove one of the contracts", twice[0]));
        }
        let mut groups: Vec<String> = self.groups.iter().map(|group| group.describe().name).collect();
        groups.sort_unstable();
        if let Some(twice) = groups.windows(2).find(|pair| pair[0] == pair[1]) {
            return wrong(format!(
                "consumer group {} is used twice: give every reaction a group of its own",
                twice[0]
            ));
        }
        let groups = self.groups.iter().find_map(|group| group.validate().err());
        groups.map_or(Ok(()), Err)
    }
}

impl Answer {
    /// Creates the answer that carries an encoded reply.
    pub fn reply(headers: Headers, payload: Bytes) -> Self {
        Self { headers, payload, problem: None, items: None, line: None }
    }

    /// Creates the answer that carries a problem, as other NATS clients expect errors (ADR-32).
    pub fn problem(problem: Problem, to: ContentType) -> Self {
        let mut headers = Headers::new();
        let title: String = problem.title.chars().filter(|c| !c.is_control()).collect();
        let _ = headers.set(header::CONTENT_TYPE, to.as_str());
        let _ = headers.set(header::SERVICE_ERROR, title);
        let _ = headers.set(header::SERVICE_ERROR_CODE, problem.status.to_string());
        let payload = sinew_wire::encode(to, &problem).unwrap_or_default();
        Self { headers, payload, problem: Some(problem), items: None, line: None }
    }
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Items(..)")
    }
}

pub(crate) use operation::panic_text;
