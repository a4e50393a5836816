//! Work that is finished later: a handler takes it on, and whoever holds the token brings the result, in whatever process,
//! however often either side was restarted in between.

mod notice;

use std::{fmt, marker::PhantomData, time::Duration};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use sinew_wire::{Problem, ServiceError, header};
use tokio::time::Instant;

use notice::Notice;

use crate::{
    Bus, CallError, Ctx, Error, FromMessage, Kind, Request,
    workflow::{CompleteTask, CompletionTerms, FailTask, HeartbeatTask, WorkflowError},
};

/// How long a result is held up by a workflow service that cannot be reached.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one attempt to bring it may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Pause before it is brought again, and the longest it grows to.
const PAUSE: Duration = Duration::from_millis(100);
const LONG_PAUSE: Duration = Duration::from_secs(5);
/// How often it is asked whether work is still waited for, where nobody says so.
const ASK: Duration = Duration::from_secs(60);

/// The way to bring the result `T` of a request later: an extractor of handlers, and made again from its token.
///
/// A step of a workflow waits for work that takes minutes or days without holding anything open. The handler puts the
/// token away beside what has to be done and answers [`Accepted`]; whoever has done it [completes](Completion::complete)
/// the step, or says that it [failed](Completion::fail).
///
/// ```no_run
/// # use {schemars::JsonSchema, serde::{Deserialize, Serialize}};
/// # use std::time::Duration;
/// use sinew::{Accepted, Bus, Completion, Problem, Request, State};
///
/// #[derive(Request, Serialize, Deserialize, JsonSchema)]
/// #[sinew(subject = "video.render", reply = Film, idempotent)]
/// pub struct Render { script: String }
///
/// #[derive(Serialize, Deserialize, JsonSchema)]
/// pub struct Film { url: String }
///
/// # #[derive(Clone)] pub struct Queue;
/// # impl Queue { async fn push(&self, _: String, _: &str) -> Result<(), Problem> { Ok(()) } }
/// async fn render(job: Render, film: Completion<Film>, State(queue): State<Queue>) -> Result<Accepted<Film>, Problem> {
///     queue.push(job.script, film.token()).await?;
///     Ok(film.later().heartbeat(Duration::from_secs(60)).within(Duration::from_secs(6 * 3_600)))
/// }
///
/// // In another process, hours later.
/// async fn rendered(bus: &Bus, token: &str, url: String) -> Result<(), Box<dyn std::error::Error>> {
///     Completion::resume(bus, token).complete(&Film { url }).await?;
///     Ok(())
/// }
/// ```
///
/// A handler that takes it refuses callers that wait for a reply, with the problem `no-completion`; one that can serve
/// both takes an `Option<Completion<T>>`. The token is a secret: whoever has it may bring the result, once. A repeated
/// step asks again with the same idempotency key, and with a token of its own.
pub struct Completion<T> {
    bus: Bus,
    token: String,
    result: PhantomData<fn(T)>,
}

/// What a handler answers that takes work on: the result `T` comes later, by the [`Completion`] it is made from.
#[must_use = "a handler takes work on by returning this"]
pub struct Accepted<T> {
    terms: CompletionTerms,
    result: PhantomData<fn(T)>,
}

/// What came of a handler that did not refuse.
#[derive(Debug)]
pub enum Given<T> {
    /// The reply.
    Now(T),
    /// The reply, in MessagePack.
    Encoded(Bytes),
    /// The reply is brought later, on these terms.
    Later(CompletionTerms),
}

impl<T> Completion<T> {
    /// Makes it again from its token. A token that was never given out is refused when it is used.
    pub fn resume(bus: &Bus, token: impl Into<String>) -> Self {
        Self { bus: bus.clone(), token: token.into(), result: PhantomData }
    }

    /// Returns the token: text without spaces, to be kept as a secret.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Says that the result comes later: what a handler answers. Without more, within a day.
    pub fn later(&self) -> Accepted<T> {
        Accepted { terms: CompletionTerms::default(), result: PhantomData }
    }

    /// Brings the result; returns when it is stored. A workflow service that cannot be reached is waited for, up to a
    /// minute.
    ///
    /// # Errors
    /// [`WorkflowError::AlreadyAnswered`] when there was an answer before, [`WorkflowError::NotWaitedFor`] when nobody
    /// waits any more: the step took too long, was cancelled or tried again. What was done for it is then undone by the
    /// workflow where it has a compensation. [`WorkflowError::InvalidToken`] for a token nobody gave out.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it unknown whether the result arrived; bringing it again is harmless.
    pub async fn complete(&self, value: &T) -> Result<(), CallError<WorkflowError>>
    where
        T: Serialize,
    {
        let value =
            serde_json::to_value(value).map_err(|error| CallError::Incompatible(error.to_string()))?;
        self.complete_with(value).await
    }

    /// As [`Completion::complete`], with the result as JSON.
    pub(crate) async fn complete_with(&self, value: Value) -> Result<(), CallError<WorkflowError>> {
        self.bring(CompleteTask { token: self.token.clone(), value }).await
    }

    /// Says that the work failed, as the operation would have refused.
    ///
    /// A problem with status 500, 502 or 504 leaves open how far the work got, so the workflow undoes it; any other says
    /// that nothing was done. Whether the step is tried again is the workflow's to say.
    ///
    /// # Errors
    /// As [`Completion::complete`].
    ///
    /// # Cancel safety
    /// As [`Completion::complete`].
    pub async fn fail(&self, error: impl ServiceError) -> Result<(), CallError<WorkflowError>> {
        let problem = error.to_problem();
        self.bring(FailTask { token: self.token.clone(), problem }).await
    }

    /// Gives a sign of life.
    ///
    /// # Errors
    /// As [`Completion::complete`]; refused, the work should stop. Anything else is about this moment only.
    pub async fn heartbeat(&self) -> Result<(), CallError<WorkflowError>> {
        self.beat(None).await
    }

    /// As [`Completion::heartbeat`], on new terms.
    pub(crate) async fn beat(&self, terms: Option<CompletionTerms>) -> Result<(), CallError<WorkflowError>> {
        self.ctx().call(HeartbeatTask { token: self.token.clone(), terms }).within(ATTEMPT).no_retry().await
    }

    /// Waits until nobody waits for the work any more: the step was cancelled, took too long, was tried again or is
    /// answered. Returns the refusal that any answer would meet.
    ///
    /// Told at once when that happens. It also asks, when it begins, after the connection was lost, and once a minute: each
    /// time a sign of life, so that work that promised a shorter silence needs [heartbeats](Completion::heartbeat) as well,
    /// or [`Completion::during`], which does both.
    ///
    /// ```no_run
    /// # async fn print(_: &str) {}
    /// # async fn demo(book: sinew::Completion<u64>) -> Result<(), Box<dyn std::error::Error>> {
    /// tokio::select! {
    ///     () = print("book.pdf") => book.complete(&7).await?,
    ///     refusal = book.cancelled() => println!("stopped: {}", refusal.to_problem()),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn cancelled(&self) -> CallError<WorkflowError> {
        self.refused(ASK).await
    }

    /// Tells whoever holds the token that nobody waits for the work any more: what a workflow service does. Whoever hears
    /// it asks that service before it stops.
    ///
    /// # Errors
    /// [`Kind::Disconnected`] when the connection stays down, [`Kind::Permission`] as for any subject.
    pub async fn withdraw(&self) -> Result<(), Error> {
        notice::give(&self.bus, &self.token).await
    }

    /// Does `work` and gives a sign of life every `pause`, beginning now. Once nobody waits for the work any more, which it
    /// is told at once, it is dropped at the await it stands at.
    ///
    /// A third of the promised silence is a good `pause`: a heartbeat that is lost, or a workflow service that is away,
    /// does no harm then.
    ///
    /// # Errors
    /// The refusal that ended the work.
    pub async fn during<F: Future>(
        &self,
        pause: Duration,
        work: F,
    ) -> Result<F::Output, CallError<WorkflowError>> {
        tokio::select! {
            biased;
            output = work => Ok(output),
            refusal = self.refused(pause) => Err(refusal),
        }
    }

    /// Gives signs of life until one is refused: every `pause`, and when there is word that nobody waits.
    pub(crate) async fn refused(&self, pause: Duration) -> CallError<WorkflowError> {
        let mut notice = Notice::open(&self.bus, &self.token).await;
        let mut beat = tokio::time::interval(pause.max(Duration::from_millis(1)));
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = notice.heard() => {}
            }
            match self.heartbeat().await {
                Err(refusal) if is_final(&refusal) => return refusal,
                Err(error) => {
                    tracing::debug!(error = %error.to_problem(), "a sign of life did not arrive");
                    beat.reset_after(pause.min(LONG_PAUSE));
                }
                Ok(()) => {}
            }
        }
    }

    /// Brings an answer until it is known to have arrived, or to be in vain.
    async fn bring<R>(&self, request: R) -> Result<(), CallError<WorkflowError>>
    where
        R: Request<Reply = (), Error = WorkflowError> + Clone,
    {
        let (until, mut pause, mut unknown) = (Instant::now() + PATIENCE, PAUSE, false);
        loop {
            let error = match self.ctx().call(request.clone()).within(ATTEMPT).no_retry().await {
                Ok(()) => return Ok(()),
                // An attempt before arrived, and its answer was lost.
                Err(CallError::Refused(WorkflowError::AlreadyAnswered)) if unknown => return Ok(()),
                Err(error) => error,
            };
            if is_final(&error) || Instant::now() + pause > until {
                return Err(error);
            }
            unknown |= matches!(error, CallError::TimedOut);
            tokio::time::sleep(pause).await;
            pause = LONG_PAUSE.min(pause * 2);
        }
    }

    fn ctx(&self) -> Ctx {
        Ctx::detached(&self.bus, self.bus.name())
    }
}

impl<T> Accepted<T> {
    /// Promises a [heartbeat](Completion::heartbeat) at least every `silence`, one second or more: without, the work
    /// counts as lost.
    pub fn heartbeat(mut self, silence: Duration) -> Self {
        self.terms.heartbeat_ms = Some(millis(silence));
        self
    }

    /// Says how long the work may take, at most a year. Default: a day.
    pub fn within(mut self, limit: Duration) -> Self {
        self.terms.within_ms = Some(millis(limit));
        self
    }

    pub(crate) fn given(self) -> Given<T> {
        Given::Later(self.terms)
    }
}

impl<S: Sync, T> FromMessage<S> for Completion<T> {
    async fn from_message(ctx: &Ctx, _: &S) -> Result<Self, Problem> {
        let missing = || {
            Problem::new(400, "no-completion", "the operation finishes its work later")
                .detail("call it as a step of a workflow, which can wait for that")
        };
        ctx.header(header::COMPLETION).map(|token| Self::resume(ctx.bus(), token)).ok_or_else(missing)
    }
}

impl<T> Clone for Completion<T> {
    fn clone(&self) -> Self {
        Self::resume(&self.bus, self.token.clone())
    }
}

impl<T> fmt::Debug for Completion<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is a secret.
        f.debug_struct("Completion").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Accepted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Accepted").field(&self.terms).finish()
    }
}

/// Says whether trying again cannot help.
pub(crate) fn is_final(error: &CallError<WorkflowError>) -> bool {
    // What a busy or late service says of itself is about this moment.
    let lasting = |problem: &Problem| !problem.retry && !matches!(problem.status, 503 | 504);
    match error {
        CallError::Refused(refusal) => lasting(&refusal.to_problem()),
        CallError::Undeclared(problem) => lasting(problem),
        CallError::NotSent(error) => {
            matches!(error.kind(), Kind::Closed | Kind::TooLarge | Kind::Codec | Kind::Permission)
        }
        CallError::NoResponders | CallError::TimedOut => false,
        CallError::Interrupted(_) | CallError::Incompatible(_) => true,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
