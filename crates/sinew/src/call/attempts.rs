//! The attempts of one call: one as a rule, more where that is allowed, may help and can be afforded.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use sinew_wire::{Headers, Problem, header};
use tokio::time::Instant;
use tower::ServiceExt;

use super::{DEFAULT_TIMEOUT, Options, problem_of};
use crate::{
    Bus, CallRetry, Ctx, Error, Kind,
    bus::Message,
    policy::{Again, CallService, Dependency, Outgoing, layer_error},
    telemetry::Span,
};

/// What is asked, and of whom.
pub(super) struct Target {
    pub(super) subject: Cow<'static, str>,
    /// Service and operation, where the contract names them; otherwise they are read from the subject.
    pub(super) names: Option<(&'static str, &'static str)>,
    pub(super) idempotent: bool,
}

/// A call that is ready to be made.
pub(super) struct Plan {
    ctx: Ctx,
    target: Target,
    options: Options,
    payload: Bytes,
}

/// A call being made.
struct Run<'a> {
    plan: &'a Plan,
    began: Instant,
    deadline: Instant,
    retry: CallRetry,
    dependency: Arc<Dependency>,
}

/// How a call ended. The last attempt's span is still open.
pub(super) struct Sent {
    pub(super) result: Result<Reply, Error>,
    pub(super) span: Span,
    /// Whether there was an attempt at all.
    pub(super) begun: bool,
}

/// A reply, and the problem it carries.
pub(super) struct Reply {
    pub(super) message: Message,
    /// Boxed, as few do.
    pub(super) problem: Option<Box<Problem>>,
}

impl Target {
    /// Returns service and operation. Of a subject that is not `svc.<service>.<operation>`, the first token stands for the
    /// service: there are few of those, however many inboxes are called.
    pub(super) fn names(&self) -> (&str, &str) {
        let split = || self.subject.strip_prefix("svc.").unwrap_or(&self.subject).split_once('.');
        self.names.or_else(split).unwrap_or((&self.subject, "request"))
    }
}

impl Plan {
    /// Decides what can be decided before anybody waits.
    pub(super) fn new(
        ctx: Ctx,
        mut target: Target,
        mut options: Options,
        payload: Result<Bytes, Error>,
    ) -> Self {
        target.idempotent |= options.headers.get(header::IDEMPOTENCY_KEY).is_some();
        let again = options.hedge.is_some() || options.retry.as_ref().is_some_and(|retry| retry.allows(1));
        if again && !target.idempotent {
            options.invalid.get_or_insert_with(|| not_idempotent(&target));
        }
        if !target.idempotent {
            options.retry = Some(CallRetry::never());
        }
        let payload = payload.unwrap_or_else(|error| {
            options.invalid.get_or_insert(error);
            Bytes::new()
        });
        Self { ctx, target, options, payload }
    }

    /// Makes the call. Borrows, so that the future of a call holds each part of it once.
    pub(super) async fn run(&mut self) -> Sent {
        let limit = self.ctx.deadline().within(self.options.within.unwrap_or(DEFAULT_TIMEOUT));
        let late = || limit.is_zero().then(Error::too_late);
        if let Some(error) = self.options.invalid.take().or_else(late) {
            return Sent { result: Err(error), span: span(&self.ctx, &self.target), begun: false };
        }
        let mut headers = std::mem::take(&mut self.options.headers);
        Run::new(self, limit).run(&mut headers).await
    }
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, limit: Duration) -> Self {
        let dependency = plan.ctx.bus().dependencies().of(plan.target.names().0);
        let retry = plan.options.retry.as_ref().unwrap_or_else(|| dependency.retry()).clone();
        let began = Instant::now();
        let deadline = began.checked_add(limit).unwrap_or_else(|| began + DEFAULT_TIMEOUT);
        Self { plan, began, deadline, retry, dependency }
    }

    async fn run(&self, headers: &mut Headers) -> Sent {
        self.dependency.count();
        let (mut attempt, mut retry) = (1, 1);
        loop {
            let sent = match self.plan.options.hedge {
                None => self.attempt(attempt, headers).await,
                // Boxed, as it is rare and twice as large: every other call would have to carry its room.
                Some(pause) => Box::pin(self.hedged(&mut attempt, headers, pause)).await,
            };
            let Some(pause) = self.pause(&sent, retry) else { return sent };
            sent.end();
            tokio::time::sleep(pause).await;
            (attempt, retry) = (attempt + 1, retry + 1);
        }
    }

    /// Returns how long to wait for the next attempt, if there is to be one. It is paid for last: what is not made must
    /// not cost.
    fn pause(&self, sent: &Sent, retry: u32) -> Option<Duration> {
        let Again::After(hint) = sent.again() else { return None };
        let pause = self.retry.pause(retry, hint, fastrand::f64());
        (self.retry.allows(retry) && pause < self.left() && self.dependency.afford()).then_some(pause)
    }

    /// Makes an attempt, and a second one beside it when the first takes too long. The one that is not needed is dropped,
    /// which cancels it.
    async fn hedged(&self, attempt: &mut u32, headers: &mut Headers, pause: Duration) -> Sent {
        let mut others = headers.clone();
        let mut first = std::pin::pin!(self.attempt(*attempt, headers));
        tokio::select! {
            biased;
            sent = &mut first => return sent,
            () = tokio::time::sleep(pause) => {}
        }
        if !self.dependency.afford() {
            return first.await;
        }
        *attempt += 1;
        let mut second = std::pin::pin!(self.attempt(*attempt, &mut others));
        let (sent, other) = tokio::select! {
            sent = &mut first => (sent, second),
            sent = &mut second => (sent, first),
        };
        if sent.is_answer() {
            return sent;
        }
        sent.end();
        other.await
    }

    async fn attempt(&self, number: u32, headers: &mut Headers) -> Sent {
        let now = if number == 1 { self.began } else { Instant::now() };
        let limit = self.retry.share_of(self.deadline.saturating_duration_since(now));
        let Plan { ctx, target, payload, .. } = self.plan;
        let span = span(ctx, target).with("attempt", || number);
        ctx.inherit(headers, span.context());
        ctx.sign(headers);
        // A number cannot break a header.
        let _ = headers.set_display(header::TIMEOUT, limit.as_millis().max(1));
        let bus = ctx.bus();
        let result = match bus.dependencies().stack() {
            None => exchange(bus, &self.dependency, &target.subject, headers, payload, now, limit).await,
            Some(stack) => Box::pin(self.through(stack, number, headers.clone(), limit)).await,
        };
        Sent { result, span, begun: true }
    }

    /// Makes an attempt through the layers, which end in [`transmit`].
    async fn through(
        &self,
        stack: &CallService,
        attempt: u32,
        headers: Headers,
        limit: Duration,
    ) -> Result<Reply, Error> {
        let Plan { ctx, target, payload, .. } = self.plan;
        let (service, operation) = target.names();
        let outgoing = Outgoing {
            service: service.to_owned(),
            operation: operation.to_owned(),
            subject: target.subject.clone(),
            headers,
            payload: payload.clone(),
            limit,
            attempt,
            idempotent: target.idempotent,
            bus: ctx.bus().clone(),
            dependency: self.dependency.clone(),
        };
        match tokio::time::timeout(limit, stack.clone().oneshot(outgoing)).await {
            Ok(answered) => answered.map(Reply::new).map_err(layer_error),
            Err(_) => Err(Error::timed_out(&target.subject, limit)),
        }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl Sent {
    fn again(&self) -> Again {
        match &self.result {
            Ok(Reply { problem: None, .. }) => Again::No,
            Ok(Reply { problem: Some(problem), .. }) => Again::after_problem(problem),
            Err(error) => Again::after_error(error),
        }
    }

    /// Says whether another attempt under way need not be waited for.
    fn is_answer(&self) -> bool {
        self.result.is_ok() && self.again() == Again::No
    }

    /// Ends an attempt that another one follows.
    fn end(self) {
        match self.result {
            Ok(Reply { problem: Some(problem), .. }) => self.span.fail(problem.to_string()),
            Ok(_) => drop(self.span),
            Err(error) => self.span.fail(error.to_string()),
        }
    }
}

impl Reply {
    fn new(message: Message) -> Self {
        let problem = problem_of(&message).map(Box::new);
        Self { message, problem }
    }
}

/// The innermost station of every attempt: breaker, bulkhead, bus.
async fn exchange(
    bus: &Bus,
    dependency: &Dependency,
    subject: &str,
    headers: &Headers,
    payload: &Bytes,
    began: Instant,
    limit: Duration,
) -> Result<Reply, Error> {
    let pass = dependency.enter()?;
    match bus.request_within(subject, headers, payload, began, limit).await {
        Ok(message) => {
            let reply = Reply::new(message);
            pass.answered(reply.problem.as_deref());
            Ok(reply)
        }
        Err(error) => {
            pass.failed(&error);
            Err(error)
        }
    }
}

/// Makes the attempt that came through the layers.
pub(crate) async fn transmit(outgoing: &Outgoing) -> Result<Message, Error> {
    let Outgoing { bus, dependency, subject, headers, payload, limit, .. } = outgoing;
    let reply = exchange(bus, dependency, subject, headers, payload, Instant::now(), *limit).await?;
    Ok(reply.message)
}

fn span(ctx: &Ctx, target: &Target) -> Span {
    let (service, operation) = target.names();
    ctx.bus().tracer().call(service, operation, ctx.trace())
}

fn not_idempotent(target: &Target) -> Error {
    let text = format!(
        "{} is not idempotent, so it is never sent twice: give the call an idempotency key, declare the operation \
         idempotent, or leave retry and hedge out",
        target.subject
    );
    Error::new(Kind::Config, text)
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn the_dependency_is_the_service() {
        let names = |subject: &'static str, names| {
            let target = Target { subject: subject.into(), names, idempotent: false };
            let (service, operation) = target.names();
            format!("{service} {operation}")
        };
        assert_eq!(names("svc.orders.place", None), "orders place");
        assert_eq!(names("legacy.time.utc", None), "legacy time.utc");
        assert_eq!(names("time", None), "time request");
        assert_eq!(names("legacy.time", Some(("clock", "time"))), "clock time");
    }
}
