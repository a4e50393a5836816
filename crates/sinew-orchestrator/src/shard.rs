//! A shard: one task, one log, all its instances. Everything that can happen to it is one [`Input`].
//!
//! *Invariant*: no effect, reply or answer leaves before the entry that caused it is acknowledged. What is to leave
//! waits as a [`Release`] beside the item it belongs to.

mod batch;
mod clean;
mod command;
mod live;
mod open;

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use sinew::workflow::WorkflowError;
use sinew_workflow::{Effect, Input as Event, Outcome, TaskId, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    calls::Caller,
    journal::{Journal, JournalError},
    owner::Parts,
    record::{Header, Item, join},
    view,
};

use batch::Batch;
use live::{Live, Recent, Timers};

pub(crate) use command::{Answer, Command, Handle, Reply, channel};

/// Inputs taken before the loop looks at the clock and the log again.
const TAKE: usize = 256;
/// Pause before an append is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// Everything that can happen to a shard.
pub(crate) enum Input {
    /// Somebody asks for something.
    Command { command: Command, reply: Reply },
    /// A call or an event of an instance came to an end.
    Reply { id: String, task: TaskId, attempt: u32, outcome: Outcome },
    /// The history of an ended instance is stored.
    Archived { id: String },
}

/// What leaves once the record it waits beside is acknowledged.
pub(super) enum Release {
    /// The instance is in the log from this record on.
    Began { id: String },
    /// Calls, events and timers that became due.
    Effects { id: String, effects: Vec<Effect> },
    /// Somebody is told how an instance stands.
    Tell { id: String, reply: Reply },
    /// An answer that was made when the record was.
    Answer { reply: Reply, answer: Answer },
    /// The instance has ended.
    Closed { id: String },
    /// The instance is owed nothing more.
    Forgotten { id: String },
}

type Appending = BoxFuture<'static, Result<u64, JournalError>>;

/// The state of a shard and the way to its log.
pub(crate) struct Shard<J> {
    parts: Parts,
    journal: J,
    epoch: u64,
    number: u64,
    last: u64,
    cleaned: u64,
    live: HashMap<String, Live>,
    recent: Recent,
    timers: Timers,
    batch: Batch,
    /// What leaves when the append in flight is acknowledged; `None` when there is none.
    flying: Option<Vec<Release>>,
    inbox: mpsc::Receiver<Input>,
    caller: Caller,
    work: TaskTracker,
    clock: i64,
}

impl<J: Journal> Shard<J> {
    /// Returns how many instances live here.
    pub(crate) fn live(&self) -> usize {
        self.live.len()
    }

    /// Runs until `stop` or until another owner is found to have appended.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut appending: Option<Appending> = None;
        let mut inputs = Vec::with_capacity(TAKE);
        loop {
            if appending.is_none() && !self.batch.is_empty() {
                appending = self.append();
            }
            let wake = self.timers.next();
            tokio::select! {
                outcome = until(&mut appending) => match outcome {
                    Ok(sequence) => self.acknowledged(sequence),
                    Err(_) => return self.abandon().await,
                },
                _ = self.inbox.recv_many(&mut inputs, TAKE) => {
                    for input in inputs.drain(..) {
                        self.take(input).await;
                    }
                }
                () = sleep_until(wake, self.clock) => self.fire(),
                () = stop.cancelled() => break,
            }
        }
        self.finish(appending).await;
    }

    async fn take(&mut self, input: Input) {
        match input {
            Input::Command { command, reply } => self.command(command, reply).await,
            Input::Reply { id, task, attempt, outcome } => {
                let at = self.now();
                self.advance(&id, Event::Reply { task, attempt, outcome, at });
            }
            Input::Archived { id } => self.archived(id),
        }
    }

    /// Gives an instance what happened to it; its entries join the batch.
    fn advance(&mut self, id: &str, event: Event) {
        let Some(live) = self.live.get_mut(id) else { return };
        let Some(definition) = live.definition.clone() else {
            tracing::error!(instance = id, "an instance cannot go on: its definition is missing");
            return;
        };
        let was_closed = live.state.is_closed();
        let entries = match sinew_workflow::run(&definition, &mut live.state, event) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(instance = id, %error, "the engine refused an input");
                return;
            }
        };
        if entries.is_empty() {
            return;
        }
        let mut releases = Vec::with_capacity(2);
        let effects = live.state.effects(&entries);
        if !effects.is_empty() {
            releases.push(Release::Effects { id: id.to_owned(), effects });
        }
        if live.state.is_closed() && !was_closed {
            releases.push(Release::Closed { id: id.to_owned() });
        }
        self.push(Item::entries(id, None, entries), releases);
    }

    fn push(&mut self, item: Item, releases: Vec<Release>) {
        match item.encode() {
            Ok(bytes) => self.batch.push(bytes, releases),
            Err(error) => tracing::error!(instance = item.id, %error, "an item of the log cannot be written"),
        }
    }

    /// Lets `release` go when everything decided so far is acknowledged.
    fn after_all(&mut self, release: Release) {
        if !self.batch.is_empty() {
            self.batch.attach(release);
        } else if let Some(flying) = &mut self.flying {
            flying.push(release);
        } else {
            self.release(release, self.last);
        }
    }

    fn append(&mut self) -> Option<Appending> {
        let (items, releases) = self.batch.take(self.parts.config.max_record_bytes);
        self.number += 1;
        let record = join(Header::new(self.epoch, self.number), &items);
        let record = record.inspect_err(|error| tracing::error!(%error, "a record cannot be written")).ok()?;
        self.flying = Some(releases);
        Some(Box::pin(append_until(self.journal.clone(), self.last, record)))
    }

    fn acknowledged(&mut self, sequence: u64) {
        self.last = sequence;
        for release in self.flying.take().unwrap_or_default() {
            self.release(release, sequence);
        }
        self.clean();
    }

    fn release(&mut self, release: Release, sequence: u64) {
        match release {
            Release::Began { id } => {
                if let Some(live) = self.live.get_mut(&id) {
                    live.since = sequence;
                    live.stored = true;
                }
            }
            Release::Effects { id, effects } => self.start(&id, effects),
            Release::Tell { id, reply } => {
                let answer = self.live.get(&id).map_or(Answer::Unknown, |live| Answer::of(view::instance(&live.state)));
                reply.send(Ok(answer));
            }
            Release::Answer { reply, answer } => reply.send(Ok(answer)),
            Release::Closed { id } => self.closed(&id),
            Release::Forgotten { id } => {
                if let Some(live) = self.live.remove(&id) {
                    self.recent.push(&live);
                }
            }
        }
    }

    /// Begins what an instance wants done in the world.
    fn start(&mut self, id: &str, effects: Vec<Effect>) {
        let Some(live) = self.live.get_mut(id) else { return };
        live.export_spans(self.parts.bus.tracer());
        for effect in effects {
            match effect {
                Effect::Timer { task, timer, at } => self.timers.set(at, id, task, timer),
                other => {
                    let carried = self.caller.clone().carry_out(id.to_owned(), live.origin(), other);
                    self.work.spawn(carried);
                }
            }
        }
    }

    fn closed(&mut self, id: &str) {
        let Some(live) = self.live.get_mut(id) else { return };
        live.export_spans(self.parts.bus.tracer());
        let instance = view::instance(&live.state);
        for waiter in live.waiters.drain(..) {
            waiter.send(Ok(Answer::of(instance.clone())));
        }
        let record = live.history(instance);
        self.work.spawn(self.caller.clone().archive(record));
    }

    fn archived(&mut self, id: String) {
        let item = Item { archived: true, ..Item::entries(&id, None, Vec::new()) };
        self.push(item, vec![Release::Forgotten { id }]);
    }

    fn fire(&mut self) {
        let now = self.now();
        while let Some((id, task, timer)) = self.timers.due(now) {
            self.advance(&id, Event::Timer { task, timer, at: now });
        }
    }

    /// Returns the time, never earlier than before: a clock that is set back must not reorder a log.
    fn now(&mut self) -> Timestamp {
        self.clock = self.clock.max(view::now_ms());
        Timestamp::from_millis(self.clock)
    }

    /// A fenced owner lets nothing out: whoever waits is told to ask the new owner.
    async fn abandon(self) {
        tracing::warn!(epoch = self.epoch, "another owner writes this shard's log: stopping");
        self.caller.stop();
        self.work.close();
        self.work.wait().await;
    }

    /// Ends in order: the append in flight, what gathered behind it, then the waiters.
    async fn finish(mut self, appending: Option<Appending>) {
        let mut appending = appending;
        let flush = async {
            loop {
                if appending.is_none() && !self.batch.is_empty() {
                    appending = self.append();
                }
                if appending.is_none() {
                    return;
                }
                match until(&mut appending).await {
                    Ok(sequence) => self.acknowledged(sequence),
                    Err(_) => return,
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(5), flush).await.is_err() {
            tracing::warn!("the last entries of a shard could not be appended in time: the next owner repeats them");
        }
        for live in self.live.values_mut().filter(|live| live.stored) {
            let instance = view::instance(&live.state);
            live.waiters.drain(..).for_each(|waiter| waiter.send(Ok(Answer::of(instance.clone()))));
        }
        self.caller.stop();
        self.work.close();
        self.work.wait().await;
    }
}

/// Appends until it is known whether it succeeded. Repeating is harmless: the fence lets one of the repetitions in, and
/// the journal recognises it.
async fn append_until<J: Journal>(journal: J, expected: u64, record: Bytes) -> Result<u64, JournalError> {
    loop {
        match journal.append(expected, record.clone()).await {
            Err(JournalError::Unavailable | JournalError::Refused) => tokio::time::sleep(RETRY).await,
            decided => return decided,
        }
    }
}

/// Waits for the append in flight; for ever when there is none.
async fn until(appending: &mut Option<Appending>) -> Result<u64, JournalError> {
    match appending {
        Some(future) => {
            let outcome = future.await;
            *appending = None;
            outcome
        }
        None => std::future::pending().await,
    }
}

async fn sleep_until(wake: Option<Timestamp>, clock: i64) {
    match wake {
        Some(at) => {
            let left = at.as_millis() - clock.max(view::now_ms());
            tokio::time::sleep(Duration::from_millis(u64::try_from(left).unwrap_or(0))).await;
        }
        None => std::future::pending().await,
    }
}

/// What a duplicate start is told when its input differs.
fn duplicate(id: &str) -> WorkflowError {
    WorkflowError::DuplicateStart(format!("instance {id} was started with another workflow or input: choose another id"))
}

/// Ends one conversation: dropping it unsent tells the asker that the shard stopped.
type ReplySender = oneshot::Sender<Result<Answer, WorkflowError>>;

type Compiled = Arc<sinew_workflow::Definition>;
