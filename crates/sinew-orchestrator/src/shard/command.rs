//! What others ask of a shard, and how they are answered.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinew::workflow::{Operation, WorkflowError, WorkflowInstance};
use sinew_workflow::{Input as Event, Operate, State};
use tokio::sync::{mpsc, oneshot};

use super::{Input, Release, ReplySender, Shard, duplicate, live::Live};
use crate::{journal::Journal, record::Item, view};

/// Inputs that may wait for the shard before starters are turned away.
const INBOX: usize = 8_192;

/// What can be asked of a shard, from this process or another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Start an instance; with `wait_ms` the answer comes at its end or after so long.
    Start {
        id: String,
        digest: String,
        workflow: String,
        input: Value,
        trace: Option<String>,
        wait_ms: Option<u64>,
    },
    /// Tell how an instance stands.
    Get { id: String },
    /// List instances.
    List { name: String, status: Option<String>, limit: usize },
    /// Cancel an instance.
    Cancel { id: String, reason: Option<String> },
    /// Decide about a stuck saga.
    Operate { id: String, action: Operation, who: String, why: String },
}

/// What a shard answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// How an instance stands.
    Instance(Box<WorkflowInstance>),
    /// No such instance lives here.
    Unknown,
    /// Several, without their steps.
    List(Vec<WorkflowInstance>),
}

/// The asker's end of a conversation. Dropped unsent, it tells that the shard stopped.
pub(crate) struct Reply(ReplySender);

/// The way to a shard of this process.
#[derive(Clone)]
pub(crate) struct Handle {
    inputs: mpsc::Sender<Input>,
}

/// Makes the way to a shard.
pub(crate) fn channel() -> (Handle, mpsc::Receiver<Input>) {
    let (inputs, inbox) = mpsc::channel(INBOX);
    (Handle { inputs }, inbox)
}

impl Answer {
    pub(super) fn of(instance: WorkflowInstance) -> Self {
        Self::Instance(Box::new(instance))
    }
}

impl Reply {
    pub(super) fn send(self, answer: Result<Answer, WorkflowError>) {
        // The asker may have stopped waiting; the answer is then nobody's.
        let _ = self.0.send(answer);
    }
}

impl Handle {
    /// Asks the shard. A start that waits too long is answered with how the instance stands.
    pub(crate) async fn ask(&self, command: Command) -> Result<Answer, WorkflowError> {
        let wait = match &command {
            Command::Start { id, wait_ms: Some(wait), .. } => Some((id.clone(), Duration::from_millis(*wait))),
            _ => None,
        };
        let answer = self.send(command)?;
        let Some((id, wait)) = wait else { return answer.await.unwrap_or(Err(WorkflowError::ShardUnavailable)) };
        match tokio::time::timeout(wait, answer).await {
            Ok(answer) => answer.unwrap_or(Err(WorkflowError::ShardUnavailable)),
            Err(_) => self.send(Command::Get { id })?.await.unwrap_or(Err(WorkflowError::ShardUnavailable)),
        }
    }

    /// Tells the shard what came of an effect; waits for room, because a reply must not be lost.
    pub(crate) async fn tell(&self, input: Input) {
        // A shard that is gone has an heir that asks again.
        let _ = self.inputs.send(input).await;
    }

    fn send(
        &self,
        command: Command,
    ) -> Result<oneshot::Receiver<Result<Answer, WorkflowError>>, WorkflowError> {
        let (sender, receiver) = oneshot::channel();
        let input = Input::Command { command, reply: Reply(sender) };
        match self.inputs.try_send(input) {
            Ok(()) => Ok(receiver),
            Err(mpsc::error::TrySendError::Full(_)) => Err(WorkflowError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(WorkflowError::ShardUnavailable),
        }
    }
}

impl<J: Journal> Shard<J> {
    pub(super) async fn command(&mut self, command: Command, reply: Reply) {
        match command {
            Command::Start { id, digest, workflow, input, trace, wait_ms } => {
                let waits = wait_ms.is_some();
                if let Some(reply) = self.repeated(&id, &workflow, &input, waits, reply) {
                    self.begin(id, &digest, input, trace, waits, reply).await;
                }
            }
            Command::Get { id } => self.tell(&id, reply),
            Command::List { name, status, limit } => {
                let answer = Answer::List(self.list(&name, status.as_deref(), limit));
                self.after_all(Release::Answer { reply, answer });
            }
            Command::Cancel { id, reason } => {
                let at = self.now();
                self.advance(&id, Event::Cancel { reason, at });
                self.tell(&id, reply);
            }
            Command::Operate { id, action, who, why } => {
                let at = self.now();
                let action = match action {
                    Operation::Retry => Operate::Retry,
                    Operation::Skip => Operate::Skip,
                    Operation::Resolve => Operate::Resolve(Value::Null),
                    Operation::Abandon => Operate::Abandon,
                };
                self.advance(&id, Event::Operator { action, who, why, at });
                self.tell(&id, reply);
            }
        }
    }

    fn tell(&mut self, id: &str, reply: Reply) {
        if let Some((instance, _)) = self.recent.get(id).filter(|_| !self.live.contains_key(id)) {
            let answer = Answer::of(instance.clone());
            return self.after_all(Release::Answer { reply, answer });
        }
        self.after_all(Release::Tell { id: id.to_owned(), reply });
    }

    /// Answers a start whose id is known here; gives the reply back when it is not.
    fn repeated(
        &mut self,
        id: &str,
        workflow: &str,
        input: &Value,
        waits: bool,
        reply: Reply,
    ) -> Option<Reply> {
        if let Some(live) = self.live.get_mut(id) {
            if !live.is_same(workflow, input) {
                reply.send(Err(duplicate(id)));
            } else if waits && !live.state.is_closed() {
                live.waiters.push(reply);
            } else {
                self.tell(id, reply);
            }
            return None;
        }
        let Some((ended, digest)) = self.recent.get(id) else { return Some(reply) };
        if ended.name == workflow && *digest == view::digest_of(input) {
            self.tell(id, reply);
        } else {
            reply.send(Err(duplicate(id)));
        }
        None
    }

    async fn begin(
        &mut self,
        id: String,
        digest: &str,
        input: Value,
        trace: Option<String>,
        waits: bool,
        reply: Reply,
    ) {
        if self.live.len() >= self.parts.config.max_live {
            return reply.send(Err(WorkflowError::Overloaded));
        }
        let Some(definition) = self.parts.definitions.compiled(digest).await else {
            return reply.send(Err(WorkflowError::UnknownWorkflow(format!("definition {digest} is not stored"))));
        };
        let (mut state, at) = (State::default(), self.now());
        let event = Event::Start { id: id.clone(), input, at, trace };
        let entries = match sinew_workflow::run(&definition, &mut state, event) {
            Ok(entries) => entries,
            Err(error) => return reply.send(Err(WorkflowError::InvalidStart(error.to_string()))),
        };
        let effects = state.effects(&entries);
        let item = Item::entries(&id, Some(digest.to_owned()), entries);
        let Ok(bytes) = item.encode() else {
            return reply.send(Err(WorkflowError::InvalidStart("the input cannot be stored".into())));
        };
        let limit = self.parts.config.max_record_bytes;
        if bytes.len() > limit {
            let text = format!("the input takes {} bytes in the log, at most {limit} are allowed", bytes.len());
            return reply.send(Err(WorkflowError::InvalidStart(text)));
        }
        let closed = state.is_closed();
        let mut live = Live::new(state, Some(definition), digest.into());
        let mut releases = vec![Release::Began { id: id.clone() }, Release::Effects { id: id.clone(), effects }];
        if waits {
            live.waiters.push(reply);
        } else {
            releases.push(Release::Tell { id: id.clone(), reply });
        }
        if closed {
            releases.push(Release::Closed { id: id.clone() });
        }
        self.live.insert(id, live);
        self.batch.push(bytes, releases);
    }

    fn list(&self, name: &str, status: Option<&str>, limit: usize) -> Vec<WorkflowInstance> {
        let living = self.live.values().map(|live| view::summary(view::instance(&live.state)));
        let ended = self.recent.iter().cloned().map(view::summary);
        let wanted = |instance: &WorkflowInstance| {
            (name.is_empty() || instance.name == name) && status.is_none_or(|status| instance.status == status)
        };
        let mut found: Vec<_> = living.chain(ended).filter(wanted).collect();
        found.sort_by_key(|instance| std::cmp::Reverse(instance.started_ms));
        found.truncate(limit);
        found
    }
}
