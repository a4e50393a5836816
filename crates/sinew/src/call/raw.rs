//! Calls without types, for edges, orchestrators and tools: the same stations, bytes in and out.

use std::{borrow::Cow, future::IntoFuture, pin::Pin, time::Duration};

use bytes::Bytes;
use sinew_wire::Headers;

use super::{
    Options,
    attempts::{Plan, Sent, Target},
};
use crate::{CallRetry, Ctx, Error, bus::Message};

/// A call of a subject with a payload that is encoded already; awaiting it sends it and returns the reply as it came.
///
/// It passes every policy a typed [`Call`](crate::Call) passes. A reply may carry a problem:
/// [`problem_of`](crate::problem_of) reads it.
///
/// # Errors
/// What the bus reports, and [`Kind::CircuitOpen`](crate::Kind::CircuitOpen),
/// [`Kind::BulkheadFull`](crate::Kind::BulkheadFull) or [`Kind::RefusedByLayer`](crate::Kind::RefusedByLayer) when a
/// policy did not let it through.
#[must_use = "a call does nothing until it is awaited"]
pub struct RawCall {
    ctx: Ctx,
    subject: Cow<'static, str>,
    payload: Bytes,
    idempotent: bool,
    options: Options,
}

impl RawCall {
    pub(crate) fn new(ctx: Ctx, subject: Cow<'static, str>, payload: Bytes) -> Self {
        Self { ctx, subject, payload, idempotent: false, options: Options::default() }
    }

    /// Waits at most `limit`, or what is left of the caller's deadline where that is less. Default: 30 seconds.
    pub fn within(mut self, limit: Duration) -> Self {
        self.options.within = Some(limit);
        self
    }

    /// Sends these headers, `content-type` among them: without it the payload is taken for JSON. Trace and timeout are
    /// written by the call itself.
    pub fn headers(mut self, headers: Headers) -> Self {
        self.options.headers = headers;
        self
    }

    /// Says whether repeating it has no further effect. A call with an idempotency key among its headers is idempotent
    /// anyway.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Tries again in this way, instead of the policy's. Refused where the call is not idempotent.
    pub fn retry(mut self, retry: CallRetry) -> Self {
        self.options.retry = Some(retry);
        self
    }

    /// Asks a second time after `pause`, as [`Call::hedge_after`](crate::Call::hedge_after) does.
    pub fn hedge_after(mut self, pause: Duration) -> Self {
        self.options.hedge = Some(pause);
        self
    }
}

impl IntoFuture for RawCall {
    type Output = Result<Message, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let target = Target { subject: self.subject, names: None, idempotent: self.idempotent };
        let mut plan = Plan::new(self.ctx, target, self.options, Ok(self.payload));
        Box::pin(async move {
            let Sent { result, span, .. } = plan.run().await;
            match result {
                Ok(reply) => {
                    match reply.problem {
                        Some(problem) => span.fail(problem.to_string()),
                        None => drop(span),
                    }
                    Ok(reply.message)
                }
                Err(error) => {
                    span.fail(error.to_string());
                    Err(error)
                }
            }
        })
    }
}
