//! Policies of calls, one set per dependency: how often to try again, how much at once, when to stop asking.
//!
//! A dependency is a service this process calls. Every call passes the same stations, whoever makes it:
//!
//! 1. the **deadline**: a call waits no longer than its caller does;
//! 2. **retries** and **hedges**, for idempotent operations only, paid for from the dependency's retry budget, so that a
//!    crowd of callers never multiplies the load of a service that is down;
//! 3. for each attempt, the tower layers of [`Calls::layer`];
//! 4. the **circuit breaker**, which stops asking a service that keeps failing;
//! 5. the **bulkhead**, which keeps one slow dependency from taking all of this process's hands.
//!
//! ```no_run
//! use std::time::Duration;
//! use sinew::{Breaker, Bus, CallRetry, Calls, Config, Ctx, Policy};
//!
//! # async fn demo() -> Result<(), sinew::Error> {
//! let calls = Calls::new()
//!     .to("payments", Policy::new().bulkhead(64).breaker(Breaker::default()))
//!     .to("search", Policy::new().retry(CallRetry::times(3).attempt_within(Duration::from_millis(200))));
//! let bus = Bus::connect(Config::default()).await?.with_calls(calls);
//! let ctx = Ctx::detached(&bus, "shop");
//! # Ok(()) }
//! ```
//!
//! A service says the same with [`Service::calls`](crate::Service::calls). Who says nothing gets retries within a
//! budget, and neither bulkhead nor breaker: their numbers depend on the dependency.
//!
//! The breaker and the budget are small state machines of our own. tower's retry budget takes a lock on every call, and
//! none of the circuit breaker crates knows an outcome that says nothing about the dependency, which is what a call
//! dropped by its caller is.

mod breaker;
mod budget;
mod calls;
mod dependency;
mod describe;
mod guard;
mod retry;

pub use breaker::Breaker;
pub use calls::{CallService, Calls, Outgoing};
pub use guard::{Circuit, Guard, Pass};
pub use retry::CallRetry;

pub(crate) use calls::{Dependencies, layer_error};
pub(crate) use dependency::Dependency;
pub(crate) use retry::Again;

/// How this process calls one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    retry: CallRetry,
    retry_share: Option<u32>,
    retry_floor: Option<u32>,
    bulkhead: Option<usize>,
    breaker: Option<Breaker>,
}

impl Policy {
    /// Tries idempotent calls again within a budget; limits and suspends nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how idempotent calls are tried again. Default: [`CallRetry::default`].
    #[must_use]
    pub fn retry(mut self, retry: CallRetry) -> Self {
        self.retry = retry;
        self
    }

    /// Limits retries and hedges of all calls to this service together: `percent` of its calls, and where those are
    /// few, `per_second`. Default: 20 and 10.
    #[must_use]
    pub fn retry_budget(mut self, percent: u32, per_second: u32) -> Self {
        (self.retry_share, self.retry_floor) = (Some(percent.min(100)), Some(per_second));
        self
    }

    /// Has at most `calls` attempts under way at once; what comes on top is refused at once and not sent.
    #[must_use]
    pub fn bulkhead(mut self, calls: usize) -> Self {
        self.bulkhead = Some(calls.max(1));
        self
    }

    /// Stops asking a service that keeps failing.
    #[must_use]
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.breaker = Some(breaker);
        self
    }
}
