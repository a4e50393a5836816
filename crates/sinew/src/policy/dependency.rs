//! One dependency: what is known of a service this process calls, shared by all calls to it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sinew_wire::Problem;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use super::{
    CallRetry, Policy,
    breaker::{Circuit, Ticket},
    budget::Budget,
};
use crate::{Error, Kind};

/// Extra calls allowed on top of a hundred, and per second where calls are few.
pub(super) const SHARE: u32 = 20;
pub(super) const FLOOR: u32 = 10;
/// What a caller is told to wait when the bulkhead is full: places become free with every reply.
const BULKHEAD_PAUSE: Duration = Duration::from_millis(50);

/// The state behind a [`Policy`].
#[derive(Debug)]
pub(crate) struct Dependency {
    name: Box<str>,
    born: Instant,
    retry: CallRetry,
    budget: Budget,
    bulkhead: Option<Semaphore>,
    /// A plain lock, held for a few additions and never across an await; only calls with a breaker pass it.
    circuit: Option<Mutex<Circuit>>,
}

/// The right to make one attempt. Dropped unsettled, the attempt says nothing about the dependency.
#[derive(Debug)]
pub struct Pass<'a> {
    dependency: &'a Dependency,
    ticket: Option<Ticket>,
    _place: Option<SemaphorePermit<'a>>,
}

impl Dependency {
    pub(super) fn new(name: &str, policy: &Policy) -> Self {
        Self {
            name: name.into(),
            born: Instant::now(),
            retry: policy.retry.clone(),
            budget: Budget::new(policy.retry_share.unwrap_or(SHARE), policy.retry_floor.unwrap_or(FLOOR)),
            bulkhead: policy.bulkhead.map(|places| Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            circuit: policy.breaker.clone().map(|breaker| Mutex::new(Circuit::new(breaker))),
        }
    }

    pub(crate) fn retry(&self) -> &CallRetry {
        &self.retry
    }

    /// Counts a call, which pays for a part of a retry.
    pub(crate) fn count(&self) {
        self.budget.deposit();
    }

    /// Says whether one more attempt can be afforded, and pays for it.
    pub(crate) fn afford(&self) -> bool {
        self.budget.withdraw(self.born.elapsed())
    }

    /// Lets one attempt through.
    ///
    /// # Errors
    /// [`Kind::CircuitOpen`] and [`Kind::BulkheadFull`], with the time after which it makes sense to come back.
    pub(crate) fn enter(&self) -> Result<Pass<'_>, Error> {
        let mut pass = Pass { dependency: self, ticket: None, _place: None };
        if let Some(circuit) = self.circuit() {
            pass.ticket = Some(self.admit(circuit)?);
        }
        if let Some(places) = &self.bulkhead {
            pass._place = Some(places.try_acquire().map_err(|_| self.full())?);
        }
        Ok(pass)
    }

    fn admit(&self, mut circuit: MutexGuard<'_, Circuit>) -> Result<Ticket, Error> {
        circuit.admit(self.born.elapsed()).map_err(|pause| {
            let text = format!("{} keeps failing: calls to it are suspended for {pause:.0?}", self.name);
            Error::new(Kind::CircuitOpen, text).retry_after(pause)
        })
    }

    fn full(&self) -> Error {
        let text = format!("as many calls to {} are under way as its bulkhead allows", self.name);
        Error::new(Kind::BulkheadFull, text).retry_after(BULKHEAD_PAUSE)
    }

    /// Returns the state of the circuit; closed where there is none.
    pub(super) fn state(&self) -> super::Circuit {
        self.circuit().map_or(super::Circuit::Closed, |circuit| circuit.describe())
    }

    fn circuit(&self) -> Option<MutexGuard<'_, Circuit>> {
        Some(self.circuit.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn settle(&self, ticket: Ticket, passed: Option<bool>) {
        let Some(mut circuit) = self.circuit() else { return };
        let before = circuit.is_broken();
        circuit.settle(ticket, passed, self.born.elapsed());
        let after = circuit.is_broken();
        drop(circuit);
        match (before, after) {
            (false, true) => {
                tracing::warn!(service = &*self.name, "keeps failing: calls to it are suspended")
            }
            (true, false) => tracing::info!(service = &*self.name, "answers again"),
            _ => {}
        }
    }
}

impl Pass<'_> {
    /// Tells how the attempt ended.
    pub fn answered(mut self, problem: Option<&Problem>) {
        let failed =
            problem.is_some_and(|problem| problem.status == 504 || (problem.status >= 500 && problem.retry));
        self.settle(Some(!failed));
    }

    /// Tells that it brought no answer.
    pub fn failed(mut self, error: &Error) {
        let counts = matches!(error.kind(), Kind::TimedOut | Kind::NoResponders);
        self.settle(counts.then_some(false));
    }

    fn settle(&mut self, passed: Option<bool>) {
        if let Some(ticket) = self.ticket.take() {
            self.dependency.settle(ticket, passed);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.settle(None);
    }
}
