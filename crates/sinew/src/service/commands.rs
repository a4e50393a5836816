//! Commands: requests of workflows that wait in a stream until somebody is there, for work whose service may be away for
//! hours. Carried out by the same handlers; the result goes back by the token each command carries.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::{self, Either};
use serde_json::Value;
use sinew_wire::{ContentType, Problem, decode, header};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::task::TaskTracker;

use super::{
    Answer,
    operation::{self, AtWork, Operation, Shop},
};
use crate::{
    COMMANDS, CallError, Completion, Ctx, Deadline, Error,
    bus::{Begin, Delivery, Pull, PullConfig},
    completion::is_final,
    group::Halt,
    telemetry::SpanKind,
    workflow::{CompletionTerms, WorkflowError},
};

/// How long a command may go without a sign of life before another instance of the service begins it.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// How often signs of life are given, to the server and to the workflow.
const BEAT: Duration = Duration::from_secs(5);
/// Deliveries after which a command is taken for one that crashes its process.
const CRASHES: u32 = 10;
/// The server's own limit, above ours.
const MAX_DELIVER: i64 = 30;
/// Pause before the workflow service is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// Carries commands out for a service.
struct Desk {
    shop: Arc<Shop>,
    operations: Vec<Arc<Operation>>,
    halt: Halt,
}

/// Begins to take commands, at most `hands` at once; returns what says whether the server is heard.
pub(super) async fn start(
    shop: Arc<Shop>,
    operations: Vec<Arc<Operation>>,
    hands: usize,
    readers: &TaskTracker,
    halt: Halt,
) -> Result<Arc<AtomicBool>, Error> {
    crate::streams::ensure_commands(&shop.bus).await?;
    let pull = shop.bus.pull(&consumer(&shop.service)).await?;
    let life = pull.life();
    readers.spawn(Arc::new(Desk { shop, operations, halt }).run(pull, hands));
    Ok(life)
}

fn consumer(service: &str) -> PullConfig {
    PullConfig {
        stream: COMMANDS.to_owned(),
        durable: service.to_owned(),
        filter: format!("cmd.{service}.>"),
        ack_wait: ACK_WAIT,
        max_deliver: MAX_DELIVER,
        max_ack_pending: 10_000,
        begin: Begin::First,
    }
}

impl Desk {
    async fn run(self: Arc<Self>, mut pull: Pull, hands: usize) {
        let (stop, slots) = (&self.halt.stop, Arc::new(Semaphore::new(hands)));
        loop {
            let slot = tokio::select! {
                slot = slots.clone().acquire_owned() => slot,
                () = stop.cancelled() => break,
            };
            let Ok(slot) = slot else { break };
            let delivery = tokio::select! {
                delivery = pull.next(slots.available_permits() + 1) => delivery,
                () = stop.cancelled() => break,
            };
            let Some(delivery) = delivery else { break };
            let desk = self.clone();
            self.shop.tasks.spawn(async move {
                desk.take(&delivery).await;
                drop(slot);
            });
        }
        pull.stop().await;
        while let Some(unstarted) = pull.left().await {
            let _ = unstarted.nak(Duration::ZERO).await;
        }
    }

    /// Works on one command, giving signs of life. Handed back when the service stops before it is done.
    async fn take(&self, delivery: &Delivery) {
        let Some(token) = delivery.message.header(header::COMPLETION) else {
            tracing::warn!(subject = delivery.message.subject(), "a command without a token is thrown away");
            return settle(delivery.term().await);
        };
        let completion = Completion::<Value>::resume(&self.shop.bus, token);
        let work = Box::pin(self.carry_out(delivery, &completion));
        let alive = Box::pin(future::select(work, Box::pin(keep(delivery))));
        let ended = tokio::select! {
            ended = alive => Some(ended),
            () = self.halt.abandon.cancelled() => None,
        };
        match ended {
            Some(Either::Left(_)) => settle(delivery.ack().await),
            Some(Either::Right(_)) | None => settle(delivery.nak(Duration::ZERO).await),
        }
    }

    /// Does what is asked, unless nobody waits for it, and brings the result.
    async fn carry_out(&self, delivery: &Delivery, completion: &Completion<Value>) {
        // Asked before anything is begun: what was cancelled while it waited here is not done.
        if let Err(refusal) = until_heard(|| completion.heartbeat()).await {
            return tracing::debug!(error = %refusal.to_problem(), "a command is not waited for any more");
        }
        let Some(answer) = self.answer(delivery, completion).await else { return };
        let told = Told::of(answer);
        let mut brought = until_heard(|| told.bring(completion)).await;
        if let Err(CallError::Incompatible(_) | CallError::NotSent(_)) = &brought {
            // The work is done, and what came of it cannot be sent: the workflow must hear at least that.
            let problem = Problem::new(502, "reply-too-large", "the reply is larger than the bus takes");
            brought = until_heard(|| completion.fail(problem.clone())).await;
        }
        if let Err(refusal) = brought {
            tracing::warn!(error = %refusal.to_problem(), "the result of a command is not wanted any more");
        }
    }

    /// Runs the handler; `None` when the workflow gave the work up meanwhile.
    async fn answer(&self, delivery: &Delivery, completion: &Completion<Value>) -> Option<Answer> {
        let message = &delivery.message;
        let name = message.subject().split('.').nth(2).unwrap_or_default();
        let Some(operation) = self.operations.iter().find(|operation| &*operation.name == name) else {
            return Some(refusal(501, "unknown-operation", "the service has no such operation"));
        };
        if operation.stream || operation.upload {
            return Some(refusal(501, "streaming-operation", "an operation with streams takes no commands"));
        }
        if delivery.attempt > CRASHES {
            return Some(refusal(500, "crashed", "every attempt ended with the process"));
        }
        let Shop { bus, service, .. } = &*self.shop;
        let (began, _at_work) = (Instant::now(), AtWork::begin(&operation.stats));
        operation.stats.requests.fetch_add(1, Ordering::Relaxed);
        let span = bus
            .tracer()
            .span(|| format!("process {service}/{name}"), SpanKind::Consumer, message.trace())
            .with("messaging.system", || "nats")
            .with("messaging.message.delivery_attempt", || delivery.attempt);
        let ctx = Ctx::new(bus, service, message.clone(), Deadline::NONE, span.context(), delivery.attempt);
        let answer = tokio::select! {
            biased;
            answer = operation::run(operation, message, ctx.clone(), Deadline::NONE) => Some(answer),
            _ = completion.refused(BEAT) => None,
        };
        operation.stats.took(began);
        match answer.as_ref().map(|answer| &answer.problem) {
            None => {
                operation.stats.cancelled.fetch_add(1, Ordering::Relaxed);
                ctx.gone().cancel();
                span.fail("the workflow gave it up");
            }
            Some(Some(problem)) => {
                operation.stats.failed(problem);
                span.fail(problem.to_string());
            }
            Some(None) => drop(span),
        }
        answer
    }
}

/// What the workflow is told.
enum Told {
    Done(Value),
    Later(CompletionTerms),
    Failed(Problem),
}

impl Told {
    fn of(answer: Answer) -> Self {
        if let Some(problem) = answer.problem {
            return Self::Failed(problem);
        }
        let codec =
            answer.headers.get(header::CONTENT_TYPE).map_or(Ok(ContentType::Json), ContentType::parse);
        let later = answer.headers.get(header::ACCEPTED).is_some();
        let read = codec.and_then(|codec| match later {
            true => decode(codec, &answer.payload).map(Self::Later),
            false => decode(codec, &answer.payload).map(Self::Done),
        });
        read.unwrap_or_else(|error| {
            tracing::error!(%error, "a reply cannot be handed to a workflow");
            Self::Failed(Problem::new(502, "malformed-reply", "the reply cannot be read"))
        })
    }

    async fn bring(&self, completion: &Completion<Value>) -> Result<(), CallError<WorkflowError>> {
        match self {
            Self::Done(value) => completion.complete_with(value.clone()).await,
            Self::Later(terms) => completion.beat(Some(*terms)).await,
            Self::Failed(problem) => completion.fail(problem.clone()).await,
        }
    }
}

/// Asks until it is known what the workflow says.
async fn until_heard<F, Fut>(ask: F) -> Result<(), CallError<WorkflowError>>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<(), CallError<WorkflowError>>>,
{
    loop {
        match ask().await {
            Err(error) if !is_final(&error) => tokio::time::sleep(AGAIN).await,
            heard => return heard,
        }
    }
}

/// Tells the server that work goes on, for ever.
async fn keep(delivery: &Delivery) {
    let mut beat = tokio::time::interval(BEAT);
    loop {
        beat.tick().await;
        settle(delivery.progress().await);
    }
}

fn refusal(status: u16, code: &str, title: &str) -> Answer {
    Answer::problem(Problem::new(status, code, title), ContentType::MessagePack)
}

fn settle(told: Result<(), Error>) {
    if let Err(error) = told {
        tracing::debug!(%error, "the server could not be told how a command stands");
    }
}
