//! The policies of a process's calls, and the one stack of layers every attempt goes through.

use std::{borrow::Cow, collections::HashMap, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::BoxFuture;
use sinew_wire::Headers;
use tokio_util::task::TaskTracker;
use tower::{Layer, service_fn, util::BoxCloneSyncService};

use super::{Dependency, Policy};
use crate::{BoxError, Bus, Error, bus::Message};

/// One attempt of a call on its way out, as tower layers see it.
pub struct Outgoing {
    /// The service that is asked.
    pub service: String,
    /// Its operation.
    pub operation: String,
    /// Where the request goes.
    pub subject: Cow<'static, str>,
    /// Header fields of the request.
    pub headers: Headers,
    /// The encoded request.
    pub payload: Bytes,
    /// How long this attempt may take.
    pub limit: Duration,
    /// Which attempt of the call it is, from 1.
    pub attempt: u32,
    /// Whether repeating it has no further effect.
    pub idempotent: bool,
    pub(crate) bus: Bus,
    pub(crate) dependency: Arc<Dependency>,
}

/// An attempt with the layers around it, as tower sees it.
pub type CallService = BoxCloneSyncService<Outgoing, Message, BoxError>;

type LayerFn = Arc<dyn Fn(CallService) -> CallService + Send + Sync>;

/// How a process calls others: a [`Policy`] per service, and layers around every attempt.
///
/// ```
/// use sinew::{Breaker, Calls, Policy};
///
/// let calls = Calls::new()
///     .to("payments", Policy::new().bulkhead(64).breaker(Breaker::default()))
///     .otherwise(Policy::new().bulkhead(1_000));
/// ```
#[derive(Clone, Default)]
pub struct Calls {
    policies: HashMap<Box<str>, Policy>,
    otherwise: Policy,
    layers: Vec<LayerFn>,
}

/// The dependencies of one process or service; clones share them.
#[derive(Clone)]
pub(crate) struct Dependencies(Arc<Inner>);

struct Inner {
    calls: Calls,
    /// Grows by one entry for each service that is called; read without a lock.
    known: ArcSwap<HashMap<Box<str>, Arc<Dependency>>>,
    /// `None` without layers, which is the fast way.
    stack: Option<CallService>,
    /// What outlives its handler, for whoever stops to wait for.
    tasks: TaskTracker,
}

impl Calls {
    /// Every service is called by the default policy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how `service` is called.
    #[must_use]
    pub fn to(mut self, service: &str, policy: Policy) -> Self {
        self.policies.insert(service.into(), policy);
        self
    }

    /// Sets how services without a policy of their own are called; each has its own budget, bulkhead and breaker.
    #[must_use]
    pub fn otherwise(mut self, policy: Policy) -> Self {
        self.otherwise = policy;
        self
    }

    /// Puts a tower layer around every attempt of every call; the first one added is the outermost.
    ///
    /// A layer that fails with a [`Problem`](struct@crate::Problem) refuses the attempt in those words, before it is sent; one
    /// that fails with [`Error`] decides its kind.
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<CallService> + Send + Sync + 'static,
        L::Service: tower::Service<Outgoing, Response = Message> + Clone + Send + Sync + 'static,
        <L::Service as tower::Service<Outgoing>>::Future: Send,
        <L::Service as tower::Service<Outgoing>>::Error: Into<BoxError>,
    {
        let wrap = move |inner| {
            let outer = tower::ServiceExt::map_err(layer.layer(inner), Into::into);
            BoxCloneSyncService::new(outer)
        };
        self.layers.push(Arc::new(wrap));
        self
    }
}

impl Calls {
    pub(super) fn policies(&self) -> impl Iterator<Item = (&str, &Policy)> {
        self.policies.iter().map(|(service, policy)| (&**service, policy))
    }

    pub(super) fn for_others(&self) -> &Policy {
        &self.otherwise
    }
}

impl Dependencies {
    pub(crate) fn new(calls: Calls, tasks: TaskTracker) -> Self {
        let stack = (!calls.layers.is_empty()).then(|| {
            let innermost =
                service_fn(|outgoing: Outgoing| -> BoxFuture<'static, Result<Message, BoxError>> {
                    Box::pin(async move { crate::call::transmit(&outgoing).await.map_err(BoxError::from) })
                });
            let innermost = BoxCloneSyncService::new(innermost);
            calls.layers.iter().rev().fold(innermost, |inner, layer| layer(inner))
        });
        Self(Arc::new(Inner { calls, known: ArcSwap::default(), stack, tasks }))
    }

    /// Returns what is known of `service`.
    pub(crate) fn of(&self, service: &str) -> Arc<Dependency> {
        if let Some(known) = self.0.known.load().get(service) {
            return known.clone();
        }
        let policy = self.0.calls.policies.get(service).unwrap_or(&self.0.calls.otherwise);
        let new = Arc::new(Dependency::new(service, policy));
        self.0.known.rcu(|known| {
            let mut known = HashMap::clone(known);
            known.entry(service.into()).or_insert_with(|| new.clone());
            known
        });
        // Somebody else may have been first; then theirs counts.
        self.0.known.load().get(service).cloned().unwrap_or(new)
    }

    /// Returns the layers, if there are any.
    pub(crate) fn stack(&self) -> Option<&CallService> {
        self.0.stack.as_ref()
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls")
            .field("policies", &self.policies)
            .field("otherwise", &self.otherwise)
            .field("layers", &self.layers.len())
            .finish()
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("subject", &self.subject)
            .field("attempt", &self.attempt)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// Reads what a stack of layers failed with.
pub(crate) fn layer_error(error: BoxError) -> Error {
    use crate::{Kind, Problem};
    let error = match error.downcast::<Error>() {
        Ok(own) => return *own,
        Err(error) => error,
    };
    if error.is::<tower::timeout::error::Elapsed>() {
        return Error::new(Kind::TimedOut, "a layer gave the call up: its outcome is unknown");
    }
    let text = match error.downcast_ref::<Problem>() {
        Some(problem) => format!("a layer refused the call: {problem}"),
        None => "a layer refused the call".to_owned(),
    };
    Error::new(Kind::RefusedByLayer, text).because(error)
}
