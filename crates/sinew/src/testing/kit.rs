//! Putting a test together: services, stand-ins for what they call, the time it is.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use sinew_wire::Request;

use super::{
    App, fail,
    network::Network,
    stub::{Stand, Stub},
};
use crate::{Bus, Ctx, Error, Running, Service};

/// How long reactions may take by the machine's clock before a test gives up.
const PATIENCE: Duration = Duration::from_secs(10);

type Start = Box<dyn FnOnce(Bus) -> BoxFuture<'static, Result<Running, Error>> + Send>;

/// A test in preparation; awaiting it starts everything. See [the module](super) for an example.
#[must_use = "a kit does nothing until it is awaited"]
pub struct Kit {
    services: Vec<(String, Start)>,
    stands: Vec<Stand>,
    now: Option<Timestamp>,
    patience: Duration,
}

impl Kit {
    /// Begins a kit without any service.
    pub fn new() -> Self {
        Self { services: Vec::new(), stands: Vec::new(), now: None, patience: PATIENCE }
    }

    /// Puts in a service as it runs in production: contracts, groups and layers.
    pub fn service<S: Clone + Send + Sync + 'static>(mut self, service: Service<S>) -> Self {
        let name = service.describe().name;
        let start: Start = Box::new(|bus| Box::pin(async move { service.start(&bus).await }));
        self.services.push((name, start));
        self
    }

    /// Answers `R` in the place of the service that would.
    ///
    /// ```no_run
    /// # use sinew::{Problem, Request, Service};
    /// # #[derive(Request, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    /// # #[sinew(subject = "inventory.reserve", reply = u32)]
    /// # struct Reserve { quantity: u32 }
    /// # async fn demo(service: Service<()>) {
    /// let app = service.test().stub::<Reserve>(|request| Ok(request.quantity)).await;
    /// # }
    /// ```
    pub fn stub<R: Request>(
        self,
        answer: impl Fn(R) -> Result<R::Reply, R::Error> + Send + Sync + 'static,
    ) -> Self {
        self.stub_with(move |request| answer(request).map_or_else(Stub::Refuses, Stub::Replies))
    }

    /// As [`Kit::stub`], for a stand-in that calls or publishes itself, or waits.
    pub fn stub_async<R: Request, F>(mut self, answer: impl Fn(R, Ctx) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<R::Reply, R::Error>> + Send + 'static,
    {
        self.stands.push(Stand::of::<R>(move |request, ctx| {
            let answered = answer(request, ctx);
            Box::pin(async move { answered.await.map_or_else(Stub::Refuses, Stub::Replies) })
        }));
        self
    }

    /// As [`Kit::stub`], for every way a call can end.
    pub fn stub_with<R: Request>(mut self, answer: impl FnMut(R) -> Stub<R> + Send + 'static) -> Self {
        let answer = std::sync::Mutex::new(answer);
        self.stands.push(Stand::of::<R>(move |request, _| {
            // Calls are answered one after the other, so the lock is only for the compiler.
            let mut answer = answer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let stub = answer(request);
            Box::pin(std::future::ready(stub))
        }));
        self
    }

    /// Answers the first call with the first of `answers`, and so on. A call too many is answered with a problem that
    /// says so.
    pub fn in_turn<R: Request>(self, answers: impl IntoIterator<Item = Stub<R>>) -> Self {
        let mut left = answers.into_iter().collect::<std::collections::VecDeque<_>>();
        self.stub_with(move |_| left.pop_front().unwrap_or(Stub::Exhausted))
    }

    /// Never answers `R`: its callers learn at once what they otherwise learn when their time is over, that the outcome
    /// is unknown.
    pub fn times_out<R: Request>(self) -> Self {
        self.stub_with(|_: R| Stub::TimesOut)
    }

    /// Leaves `R` to nobody, which is also what holds where nothing is said: its callers learn that nothing was done.
    /// The calls can be seen all the same.
    pub fn absent<R: Request>(self) -> Self {
        self.stub_with(|_: R| Stub::Absent)
    }

    /// Sets the time the test begins at. Default: this machine's, in whole seconds.
    pub fn starting_at(mut self, now: Timestamp) -> Self {
        self.now = Some(now);
        self
    }

    /// Sets how long reactions may take by the machine's clock before the test fails. Default: ten seconds.
    pub fn patience(mut self, limit: Duration) -> Self {
        self.patience = limit;
        self
    }

    async fn start(self) -> App {
        let now = self.now.unwrap_or_else(|| {
            let now = Timestamp::now();
            Timestamp::from_second(now.as_second()).unwrap_or(now)
        });
        let network = Network::new(now);
        let own = connect(&network, super::TEST).await;
        let mut stands = Vec::new();
        for stand in self.stands {
            stands.push(stand.start(&own, &network).await);
        }
        let mut running = Vec::new();
        for (name, start) in self.services {
            let bus = connect(&network, &name).await;
            match start(bus.clone()).await {
                Ok(started) => running.push((started, bus)),
                Err(error) => fail(&format!("the service {name} does not start: {error}")),
            }
        }
        App::new(network, own, running, stands, self.patience)
    }
}

impl Default for Kit {
    fn default() -> Self {
        Self::new()
    }
}

impl IntoFuture for Kit {
    type Output = App;
    type IntoFuture = Pin<Box<dyn Future<Output = App> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

async fn connect(network: &std::sync::Arc<Network>, name: &str) -> Bus {
    match network.connect(name).await {
        Ok(bus) => bus,
        Err(error) => fail(&format!("the test's own broker refuses {name}: {error}")),
    }
}
