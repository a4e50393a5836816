//! What others ask of a shard, and how they are answered.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinew::{
    wire::{ContentType, decode},
    workflow::{CallLimit, InputReference, Operation, WorkflowError, WorkflowInstance, WorkflowTask},
};
use sinew_workflow::{Input as Event, Operate, Parent, Saga, State, TaskId};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{Compiled, Input, Release, Said, Shard, Word, World, live::Live};
use crate::{
    journal::Journal,
    library::Library,
    lifecycle::{Happened, Lifecycle},
    record::Item,
    token::Ticket,
    view,
};

/// Inputs that may wait for the shard before starters are turned away.
const INBOX: usize = 8_192;
/// Bytes that may wait for the log before starters are turned away; what runs already goes on.
const BACKLOG: usize = 16 * 1024 * 1024;

/// What can be asked of a shard, from this process or another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Start an instance.
    Start(Start),
    /// Anything else.
    Ask(Ask),
}

/// Start an instance; with `wait_ms` the answer comes at its end or after so long.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) id: String,
    pub(crate) digest: String,
    pub(crate) workflow: String,
    pub(crate) input: Value,
    /// Where the input is, until the owner of the shard has fetched it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) input_at: Option<InputReference>,
    pub(crate) trace: Option<String>,
    /// Who runs it as a child and waits for it.
    #[serde(default)]
    pub(crate) parent: Option<Parent>,
    pub(crate) wait_ms: Option<u64>,
}

/// What is asked about instances that stand already.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Tell how an instance stands.
    Get { id: String },
    /// List instances.
    List { name: String, status: Option<String>, limit: usize },
    /// Cancel an instance.
    Cancel { id: String, reason: Option<String> },
    /// Undo a child for its parent; the answer comes when it is undone, or after so long.
    Undo { id: String, reason: Option<String>, wait_ms: u64 },
    /// Never start a child that is undone and does not live here; the answer is the instance if it does after all.
    Bury { id: String },
    /// Let a child go whose parent has closed; one that still runs is cancelled.
    Release { id: String },
    /// Decide about a stuck saga.
    Operate { id: String, action: Operation, who: String, why: String },
    /// Let nothing new begin.
    Pause { id: String },
    /// Go on.
    Resume { id: String },
    /// End an instance with nothing undone.
    Terminate { id: String, reason: Option<String> },
    /// List what people are asked.
    Tasks { workflow: Option<String>, candidate: Option<String>, limit: usize },
    /// Tell what one task asks.
    Task { id: String, task: TaskId },
    /// Answer it.
    Said { id: String, task: TaskId, said: Said, who: String },
    /// Give a task to one person, or back to all.
    Claim { id: String, task: TaskId, who: String, for_ms: Option<u64> },
    /// Tell what waits for its turn to be called.
    Limits,
    /// Take somebody's word on work that was taken on.
    Settle { ticket: Ticket, word: Word },
}

/// What a shard answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// How an instance stands.
    Instance(Box<WorkflowInstance>),
    /// How a completed one stands, encoded: what nearly every starter waits for.
    Completed(#[serde(with = "crate::record::binary")] Bytes),
    /// No such instance lives here.
    Unknown,
    /// Several, without their steps.
    List(Vec<WorkflowInstance>),
    /// What people are asked.
    Tasks(Vec<WorkflowTask>),
    /// Limits of calls, with this shard's part of what is under way.
    Limits(Vec<CallLimit>),
    /// It is done, and there is nothing to show.
    Done,
}

/// An answer, or why there is none.
pub(crate) type Answered = Result<Answer, WorkflowError>;

/// The asker's end of a conversation. Dropped unsent, it tells that the shard stopped.
pub(crate) struct Reply(oneshot::Sender<Answered>);

/// The way to a shard of this process.
#[derive(Clone)]
pub(crate) struct Handle {
    inputs: mpsc::Sender<Input>,
    library: Library,
}

/// How an instance begins.
struct Began {
    id: String,
    digest: String,
    state: State,
    item: Bytes,
    effects: Vec<sinew_workflow::Effect>,
    happened: Option<Happened>,
}

/// Makes the way to a shard.
pub(crate) fn channel(library: Library) -> (Handle, mpsc::Receiver<Input>) {
    let (inputs, inbox) = mpsc::channel(INBOX);
    (Handle { inputs, library }, inbox)
}

/// Shows an instance as it stands.
pub(super) fn shown(live: &Live) -> Answer {
    Answer::of(view::instance(&live.state))
}

impl Ask {
    /// Returns the instance it is about, if it is about one.
    pub(super) fn instance(&self) -> Option<&str> {
        match self {
            Self::Get { id }
            | Self::Cancel { id, .. }
            | Self::Undo { id, .. }
            | Self::Bury { id }
            | Self::Release { id }
            | Self::Operate { id, .. }
            | Self::Pause { id }
            | Self::Resume { id }
            | Self::Terminate { id, .. }
            | Self::Task { id, .. }
            | Self::Said { id, .. }
            | Self::Claim { id, .. } => Some(id),
            Self::Settle { ticket, .. } => Some(&ticket.instance),
            Self::List { .. } | Self::Tasks { .. } | Self::Limits => None,
        }
    }
}

impl From<Ask> for Command {
    fn from(ask: Ask) -> Self {
        Self::Ask(ask)
    }
}

impl Answer {
    pub(super) fn of(instance: WorkflowInstance) -> Self {
        Self::Instance(Box::new(instance))
    }

    /// Returns how an instance stands, if that is what was answered.
    pub(crate) fn instance(self) -> Option<WorkflowInstance> {
        match self {
            Self::Instance(instance) => Some(*instance),
            // Written by a shard, and read with the same types.
            Self::Completed(bytes) => decode(ContentType::MessagePack, &bytes).ok(),
            Self::Unknown | Self::List(_) | Self::Tasks(_) | Self::Limits(_) | Self::Done => None,
        }
    }
}

impl Reply {
    /// Makes both ends of a conversation.
    pub(crate) fn pair() -> (Self, oneshot::Receiver<Answered>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    pub(super) fn send(self, answer: Answered) {
        // The asker may have stopped waiting; the answer is then nobody's.
        let _ = self.0.send(answer);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }
}

impl Handle {
    /// Asks the shard. A start that waits too long is answered with how the instance stands.
    pub(crate) async fn ask(&self, command: Command) -> Answered {
        match command {
            Command::Start(start) => self.start(start).await,
            Command::Ask(Ask::Undo { id, reason, wait_ms }) => {
                let ask = Ask::Undo { id: id.clone(), reason, wait_ms };
                let answer = self.exchange(|reply| Input::Ask { ask, reply });
                self.at_most(Duration::from_millis(wait_ms), id, answer).await
            }
            Command::Ask(ask) => self.exchange(|reply| Input::Ask { ask, reply }).await,
        }
    }

    /// Tells the shard what came of an effect; waits for room, because a reply must not be lost.
    pub(crate) async fn tell(&self, input: Input) {
        // A shard that is gone has an heir that asks again.
        let _ = self.inputs.send(input).await;
    }

    async fn start(&self, start: Start) -> Answered {
        // Loaded here and not in the shard, whose other instances must not wait for a bucket.
        let definition = self.library.compiled(&start.digest).await.map_err(|error| {
            tracing::warn!(digest = start.digest, %error, "a definition cannot be read");
            WorkflowError::Other(error.to_problem())
        })?;
        let Some(definition) = definition else {
            return Err(WorkflowError::UnknownWorkflow(format!("definition {} is not stored", start.digest)));
        };
        let (id, wait) = (start.id.clone(), start.wait_ms.map(Duration::from_millis));
        let answer = self.exchange(|reply| Input::Start { start, definition, reply });
        match wait {
            Some(wait) => self.at_most(wait, id, answer).await,
            None => answer.await,
        }
    }

    /// Waits for an answer; after `wait` the answer is how the instance stands.
    async fn at_most(&self, wait: Duration, id: String, answer: impl Future<Output = Answered>) -> Answered {
        match tokio::time::timeout(wait, answer).await {
            Ok(answer) => answer,
            Err(_) => self.exchange(|reply| Input::Ask { ask: Ask::Get { id }, reply }).await,
        }
    }

    async fn exchange(&self, input: impl FnOnce(Reply) -> Input) -> Answered {
        let (reply, answer) = Reply::pair();
        match self.inputs.try_send(input(reply)) {
            Ok(()) => answer.await.unwrap_or(Err(WorkflowError::ShardUnavailable)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(WorkflowError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(WorkflowError::ShardUnavailable),
        }
    }
}

impl<J: Journal, W: World> Shard<J, W> {
    pub(super) fn start(&mut self, start: Start, definition: Compiled, reply: Reply) {
        let Some(reply) = self.repeated(&start, reply) else { return };
        if start.parent.is_some() && self.is_buried(&start.id) {
            let text = format!("{} was undone by its parent before it started", start.id);
            return self.answer(reply, Err(WorkflowError::InvalidStart(text)));
        }
        let full = self.live.len() >= self.config.max_live || self.parked.len() >= self.config.max_parked;
        if full || self.batch.bytes() >= BACKLOG || self.world.is_behind() {
            // Said at once: waiting for the log to say it would make the backlog longer.
            return reply.send(Err(WorkflowError::Overloaded));
        }
        let waits = start.wait_ms.is_some();
        match self.started(start, &definition) {
            Ok(began) => self.accept(began, definition, reply, waits),
            Err(refusal) => self.answer(reply, Err(refusal)),
        }
    }

    pub(super) fn ask(&mut self, ask: Ask, reply: Reply) {
        match ask {
            Ask::Get { id } => self.tell(&id, reply),
            Ask::List { name, status, limit } => self.list(&name, status.as_deref(), limit, reply),
            Ask::Cancel { id, reason } => {
                let at = self.clock.now();
                self.advance_alone(&id, Event::Cancel { reason, at });
                self.tell(&id, reply);
            }
            Ask::Undo { id, reason, .. } => {
                let at = self.clock.now();
                self.advance_alone(&id, Event::Undo { reason, at });
                match self.live.get_mut(&id).filter(|live| !live.state.is_closed()) {
                    Some(live) => live.wait(reply),
                    None => self.tell(&id, reply),
                }
            }
            Ask::Bury { id } => self.bury(&id, reply),
            Ask::Release { id } => {
                let at = self.clock.now();
                let reason = Some("its parent has ended".to_owned());
                // Each is ignored where the other is meant.
                self.advance_alone(&id, Event::Cancel { reason, at });
                self.advance_alone(&id, Event::Release { at });
                self.tell(&id, reply);
            }
            Ask::Limits => reply.send(Ok(Answer::Limits(self.world.limits()))),
            Ask::Settle { ticket, word } => self.settle_by_token(ticket, word, reply),
            Ask::Operate { id, action, who, why } => {
                let (action, at) = (operate(action), self.clock.now());
                match self.advance(&id, Event::Operator { action, who, why, at }) {
                    Ok(()) => self.tell(&id, reply),
                    Err(refusal) => self.answer(reply, Err(WorkflowError::WrongState(refusal.to_string()))),
                }
            }
            Ask::Pause { id } => {
                let at = self.clock.now();
                self.control(id, Event::Pause { at }, reply);
            }
            Ask::Resume { id } => {
                let at = self.clock.now();
                self.control(id, Event::Resume { at }, reply);
            }
            Ask::Terminate { id, reason } => {
                let at = self.clock.now();
                self.control(id, Event::Terminate { reason, at }, reply);
            }
            Ask::Tasks { workflow, candidate, limit } => {
                let tasks = self.tasks(workflow.as_deref(), candidate.as_deref(), limit);
                self.answer(reply, Ok(Answer::Tasks(tasks)));
            }
            Ask::Task { id, task } => {
                let answer = self.task(&id, task);
                self.answer(reply, answer);
            }
            Ask::Said { id, task, said, who } => self.said((id, task), said, who, reply),
            Ask::Claim { id, task, who, for_ms } => self.claim((id, task), who, for_ms, reply),
        }
    }

    /// Lets an answer go when everything decided so far is acknowledged.
    pub(super) fn answer(&mut self, reply: Reply, answer: Answered) {
        let release = Release::Answer { reply, answer };
        if !self.batch.is_empty() {
            self.batch.attach(release);
        } else if let Some(flying) = &mut self.flying {
            flying.push(release);
        } else if self.is_in_doubt() {
            // Somebody else may own the shard by now. An empty record that gets into the log proves the contrary.
            self.batch.push(Bytes::new(), vec![release]);
        } else {
            self.release(release, self.last);
        }
    }

    /// Says whether somebody else may own this shard by now.
    pub(super) fn is_in_doubt(&self) -> bool {
        *self.lease.borrow() <= Instant::now()
    }

    pub(super) fn tell(&mut self, id: &str, reply: Reply) {
        let ended = || self.recent.get(id)?.instance();
        let answer = match self.live.get(id) {
            Some(live) => shown(live),
            None => ended().map_or(Answer::Unknown, Answer::of),
        };
        self.answer(reply, Ok(answer));
    }

    /// Answers a start whose id is known here; gives the reply back when it is not.
    fn repeated(&mut self, start: &Start, reply: Reply) -> Option<Reply> {
        let live = self.live.get_mut(&start.id);
        let same = match &live {
            Some(live) => live.is_same(&start.workflow, &start.input),
            None => match self.recent.is_same(&start.id, &start.workflow, &start.input) {
                Some(same) => same,
                None => return Some(reply),
            },
        };
        match live {
            _ if !same => self.answer(reply, Err(duplicate(&start.id))),
            Some(live) if start.wait_ms.is_some() && live.state.reply().is_none() => live.wait(reply),
            _ => self.tell(&start.id, reply),
        }
        None
    }

    /// Decides how an instance begins.
    fn started(&mut self, start: Start, definition: &Compiled) -> Result<Began, WorkflowError> {
        let Start { id, input, trace, digest, parent, .. } = start;
        let (mut state, at) = (State::default(), self.clock.now());
        let event = match parent {
            Some(parent) => Event::StartChild { id: id.clone(), input, parent, at, trace },
            None => Event::Start { id: id.clone(), input, at, trace },
        };
        let entries = sinew_workflow::run(definition, &mut state, event)
            .map_err(|error| WorkflowError::InvalidStart(error.to_string()))?;
        let effects = state.effects(&entries);
        let level = self.config.lifecycle;
        let before = (level != Lifecycle::None).then(State::default);
        let happened = level.of(before.as_ref(), &entries, &state);
        let item =
            Item { definition: Some(digest.clone()), entries, ..Item::new(&id) }.encode().map_err(|_| {
                WorkflowError::InvalidStart("the input cannot be stored: nest it less deeply".into())
            })?;
        let limit = self.config.max_value_bytes;
        if item.len() > limit {
            let text =
                format!("the input takes {} bytes in the log, at most {limit} are allowed", item.len());
            return Err(WorkflowError::InvalidStart(text));
        }
        Ok(Began { id, digest, state, item, effects, happened })
    }

    fn accept(&mut self, began: Began, definition: Compiled, reply: Reply, waits: bool) {
        let Began { id, digest, state, item, effects, happened } = began;
        let mut live = Live::new(&id, state, Some(definition), Arc::from(digest));
        let mut releases =
            vec![Release::Began { id: id.clone() }, Release::Effects { id: id.clone(), effects }];
        releases.extend(happened.map(|happened| Release::Happened(Box::new(happened))));
        if waits {
            live.wait(reply);
        } else {
            releases.push(Release::Answer { reply, answer: Ok(shown(&live)) });
        }
        if live.state.saga() == Saga::Pending {
            releases.push(Release::Rested { id: id.clone() });
        }
        if live.state.is_closed() {
            releases.push(Release::Closed { id: id.clone() });
        }
        let touched = live.state.started_at().unwrap_or_default();
        self.live.insert(id.clone(), live);
        self.touch(&id, touched);
        self.push(item, releases);
    }
}

fn operate(action: Operation) -> Operate {
    match action {
        Operation::Retry => Operate::Retry,
        Operation::Skip => Operate::Skip,
        Operation::Resolve => Operate::Resolve(Value::Null),
        Operation::Abandon => Operate::Abandon,
    }
}

/// What a duplicate start is told when its input differs.
fn duplicate(id: &str) -> WorkflowError {
    WorkflowError::DuplicateStart(format!(
        "instance {id} was started with another workflow or input: choose another id"
    ))
}
