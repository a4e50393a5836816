//! How operations are asked on a route: retries within a budget, circuit breaker, bulkhead. The same that the SDK has.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use sinew::{
    Error, Policy,
    bus::Message,
    policy::{Circuit, Guard},
    problem_of,
    wire::{Headers, header},
};

use super::State;
use crate::{
    Edge, config,
    observe::{Tally, tally::RETRIES},
    operation::Operation,
};

/// How a route's operations are asked.
#[derive(Debug)]
pub(crate) struct Calls {
    policy: Policy,
    lines: Vec<String>,
    /// Tells it from others: routes that ask the same way share what they learn.
    id: String,
    family: OnceLock<Arc<Family>>,
    retries: Tally,
}

/// Everything that is asked in one way.
#[derive(Debug)]
pub(super) struct Family {
    policy: Policy,
    /// By operation. Held to look one up, never across an await.
    guards: Mutex<HashMap<String, Arc<Guard>>>,
}

/// One request, as it is sent again and again.
pub(crate) struct Sending<'r> {
    pub(crate) operation: &'r Operation,
    pub(crate) headers: Headers,
    pub(crate) payload: Bytes,
    pub(crate) budget: Duration,
    /// Whether asking twice does no harm.
    pub(crate) repeatable: bool,
}

impl Calls {
    /// Reads what is asked for; `None` where operations are simply asked.
    pub(super) fn new(asked: &config::Policies, route: &str) -> Option<Self> {
        let config::Policies { breaker, bulkhead, retry, .. } = asked;
        if breaker.is_none() && bulkhead.is_none() && retry.is_none() {
            return None;
        }
        let mut policy = Policy::new().retry(sinew::CallRetry::never());
        let mut lines = Vec::new();
        if let Some(retry) = retry {
            policy = policy.retry(retry.built());
            policy = policy.retry_budget(retry.budget_percent.into(), retry.budget_per_second);
            lines.push(format!(
                "retry up to {} attempts, {} % of requests",
                retry.attempts, retry.budget_percent
            ));
        }
        if let Some(breaker) = breaker {
            policy = policy.breaker(breaker.built());
            lines.push(format!("circuit opens at {breaker}"));
        }
        if let Some(places) = bulkhead {
            policy = policy.bulkhead(*places as usize);
            lines.push(format!("bulkhead of {places}"));
        }
        let id = format!("{policy:?}");
        let retries = Tally::new(&RETRIES, route);
        Some(Self { policy, lines, id, family: OnceLock::new(), retries })
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.lines.iter().cloned()
    }

    /// Sends a request, again where that may help and can be afforded.
    ///
    /// # Errors
    /// As the last attempt; [`sinew::Kind::CircuitOpen`] and [`sinew::Kind::BulkheadFull`] where there was none.
    pub(crate) async fn send(&self, edge: &Edge, mut sending: Sending<'_>) -> Result<Message, Error> {
        let guard = self.guard(&edge.policies, &sending.operation.name);
        let (began, mut retry) = (Instant::now(), 1);
        guard.count();
        loop {
            let left = sending.budget.saturating_sub(began.elapsed());
            let limit = if sending.repeatable { guard.attempt_within(left) } else { left };
            let outcome = attempt(edge, &guard, &mut sending, limit).await;
            let left = sending.budget.saturating_sub(began.elapsed());
            let pause = sending.repeatable.then(|| guard.retry_after(&outcome, retry, left)).flatten();
            let Some(pause) = pause else { return outcome };
            tracing::debug!(operation = sending.operation.name, retry, ?pause, "an operation is asked again");
            tokio::time::sleep(pause).await;
            self.retries.add(&edge.policies.tallies, 0);
            retry += 1;
        }
    }

    /// Returns what is known of an operation that is asked this way.
    pub(crate) fn guard(&self, state: &State, operation: &str) -> Arc<Guard> {
        let family = self.family.get_or_init(|| state.family(&self.id, &self.policy));
        let mut guards = family.guards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guard) = guards.get(operation) {
            return guard.clone();
        }
        let guard = Arc::new(Guard::new(operation, &family.policy));
        guards.insert(operation.to_owned(), guard.clone());
        guard
    }

    /// Returns the circuits that are not closed.
    pub(crate) fn broken(&self) -> Vec<(String, Circuit)> {
        let Some(family) = self.family.get() else { return Vec::new() };
        let guards = family.guards.lock().unwrap_or_else(PoisonError::into_inner);
        let all = guards.iter().map(|(operation, guard)| (operation.clone(), guard.circuit()));
        all.filter(|(_, circuit)| *circuit != Circuit::Closed).collect()
    }
}

async fn attempt(
    edge: &Edge,
    guard: &Guard,
    sending: &mut Sending<'_>,
    limit: Duration,
) -> Result<Message, Error> {
    let pass = guard.enter()?;
    // A number cannot break a header.
    let _ = sending.headers.set_display(header::TIMEOUT, limit.as_millis().max(1));
    let Sending { operation, headers, payload, .. } = sending;
    match crate::call::deliver(edge, operation, headers, payload.clone(), limit).await {
        Ok(message) => {
            pass.answered(problem_of(&message).as_ref());
            Ok(message)
        }
        Err(error) => {
            pass.failed(&error);
            Err(error)
        }
    }
}

impl State {
    fn family(&self, id: &str, policy: &Policy) -> Arc<Family> {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Family { policy: policy.clone(), guards: Mutex::default() });
        families.entry(id.to_owned()).or_insert_with(new).clone()
    }
}
