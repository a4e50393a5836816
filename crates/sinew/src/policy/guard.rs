//! A policy at work for who sends requests by other ways than a [`Ctx`](crate::Ctx): what hands on those of others, such
//! as the edge.

use std::time::Duration;

use super::{Again, Dependency, Policy};
use crate::{Error, bus::Message, call::problem_of};

pub use super::dependency::Pass;

/// Retry budget, circuit breaker and bulkhead of one dependency, shared by all who send to it.
///
/// ```
/// use std::time::Duration;
/// use sinew::{Breaker, Kind, Policy, policy::{Circuit, Guard}};
///
/// let second = Duration::from_secs(1);
/// let guard = Guard::new("orders.get", &Policy::new().breaker(Breaker::default().opens_after(1)));
/// let pass = guard.enter().unwrap();
/// pass.failed(&sinew::Error::new(Kind::NoResponders, "nobody is there"));
/// assert_eq!(guard.circuit(), Circuit::Open);
/// assert_eq!(guard.enter().err().unwrap().kind(), Kind::CircuitOpen);
/// ```
#[derive(Debug)]
pub struct Guard(Dependency);

/// The state of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// Requests pass.
    Closed,
    /// Nothing passes for a while.
    Open,
    /// A few pass, to find out.
    HalfOpen,
}

impl Guard {
    /// Puts a policy to work; `name` is what errors and logs call the dependency.
    pub fn new(name: &str, policy: &Policy) -> Self {
        Self(Dependency::new(name, policy))
    }

    /// Counts a request, which pays for a part of a retry.
    pub fn count(&self) {
        self.0.count();
    }

    /// Lets one attempt through.
    ///
    /// # Errors
    /// [`Kind::CircuitOpen`](crate::Kind::CircuitOpen) and [`Kind::BulkheadFull`](crate::Kind::BulkheadFull), with the
    /// time after which it makes sense to come back.
    pub fn enter(&self) -> Result<Pass<'_>, Error> {
        self.0.enter()
    }

    /// Returns how long one attempt may take of what is left.
    pub fn attempt_within(&self, left: Duration) -> Duration {
        self.0.retry().share_of(left)
    }

    /// Returns how long to wait before the `retry`-th retry (from 1), and pays for it; `None` where there is to be none:
    /// it cannot help, is one too many, would come after `left`, or cannot be afforded.
    pub fn retry_after(
        &self,
        outcome: &Result<Message, Error>,
        retry: u32,
        left: Duration,
    ) -> Option<Duration> {
        let again = match outcome {
            Ok(message) => Again::after_problem(&problem_of(message)?),
            Err(error) => Again::after_error(error),
        };
        let Again::After(hint) = again else { return None };
        let policy = self.0.retry();
        let pause = policy.pause(retry, hint, fastrand::f64());
        (policy.allows(retry) && pause < left && self.0.afford()).then_some(pause)
    }

    /// Returns the state of the circuit breaker; closed where there is none.
    pub fn circuit(&self) -> Circuit {
        self.0.state()
    }
}
